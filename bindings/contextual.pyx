# cython: language_level=3, boundscheck=False, wraparound=False
"""Arm scores linear in context: one block at one or several parameters (kernels/contextual.c)."""

from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int32_t

cdef extern from "tile_size.h":
    enum:
        TILE
        TILE_LANES

cdef extern from "contextual.h":
    ctypedef struct sy_contextual_rows:
        ptrdiff_t n
        ptrdiff_t context_stride
        ptrdiff_t columns_stride
        const int32_t *a
        const int32_t *b
        const double *context
        const double *columns
        const double *y
        const double *weight
        const double *count
    void sy_contextual(
        const sy_contextual_rows *rows, ptrdiff_t k, ptrdiff_t q, ptrdiff_t d, ptrdiff_t vectors,
        const double *parameter, double *value, double *score, double *hessian, double *work) nogil


def work_size(ptrdiff_t wide, ptrdiff_t vectors):
    """Numbers that contextual works on. wide: contexts and columns together."""
    return (wide * (TILE + TILE_LANES * wide)
            + vectors * (2 * TILE + wide * (TILE_LANES + 1)) + 4 * TILE + 8)


def contextual(
    ptrdiff_t k, const int32_t[::1] a, const int32_t[::1] b, const double[:, :] context, const double[:, :] columns,
    const double[::1] y, const double[::1] weight, const double[::1] count, const double[:, ::1] parameter,
    double[::1] work, double[::1] value, double[:, ::1] score, double[:, ::1] hessian,
):
    cdef ptrdiff_t n = y.shape[0], q = context.shape[0], d = columns.shape[0], vectors = parameter.shape[0], i
    cdef ptrdiff_t p = parameter.shape[1]
    cdef sy_contextual_rows rows
    cdef bint bad = False
    if context.shape[1] != n or columns.shape[1] != n:
        raise ValueError("context and columns must have one entry a row")
    if (n > 1 and ((q and context.strides[1] != sizeof(double)) or (d and columns.strides[1] != sizeof(double)))
            or context.strides[0] % sizeof(double) or columns.strides[0] % sizeof(double)):
        raise ValueError("the numbers of a context, or of a column, must stand side by side")
    if (weight is not None and weight.shape[0] != n) or (count is not None and count.shape[0] != n):
        raise ValueError("weight and count must have one entry a row")
    if (k == 0) != (q == 0) or (k and (a.shape[0] != n or b.shape[0] != n)):
        raise ValueError("a and b must have one entry a row, where there is a context")
    if p != k * q + d or p == 0 or vectors == 0:
        raise ValueError("parameter must be vectors x (k q + d)")
    if value.shape[0] != vectors or score.shape[0] != vectors or score.shape[1] != p:
        raise ValueError("value must have one entry a vector, and score be as the parameter")
    if hessian is not None and (hessian.shape[0] != p or hessian.shape[1] != p):
        raise ValueError("hessian must be p x p")
    if work.shape[0] != work_size(q + d, vectors):
        raise ValueError("work must have work_size(q + d, vectors) numbers")
    if n == 0:
        return
    if k:
        for i in range(n):
            bad |= a[i] < 0 or a[i] >= k or b[i] < 0 or b[i] >= k or a[i] == b[i]
        if bad:
            raise ValueError("a and b must be different arm codes below k")
    rows.n, rows.y = n, &y[0]
    rows.context_stride = context.strides[0] // <ptrdiff_t>sizeof(double)
    rows.columns_stride = columns.strides[0] // <ptrdiff_t>sizeof(double)
    rows.a = &a[0] if k else NULL
    rows.b = &b[0] if k else NULL
    rows.context = &context[0, 0] if q else NULL
    rows.columns = &columns[0, 0] if d else NULL
    rows.weight = NULL if weight is None else &weight[0]
    rows.count = NULL if count is None else &count[0]
    with nogil:
        sy_contextual(
            &rows, k, q, d, vectors, &parameter[0, 0], &value[0], &score[0, 0],
            NULL if hessian is None else &hessian[0, 0], &work[0])
