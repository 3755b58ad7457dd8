# cython: language_level=3, boundscheck=False, wraparound=False
"""One class, or two arms without replacement, drawn from a softmax: one block of rows (kernels/softmax.c)."""

from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int32_t

cdef extern from "tile_size.h":
    enum:
        TILE
        TILE_LANES

cdef extern from "softmax.h":
    void sy_softmax(
        ptrdiff_t n, ptrdiff_t k, const int32_t *a, const int32_t *b, const double *weight, const double *logits,
        double *gradient, double *roots) nogil
    double sy_softmax_sums(
        ptrdiff_t n, ptrdiff_t k, ptrdiff_t d, const int32_t *a, const int32_t *b, const double *weight,
        ptrdiff_t stride, const double *columns, const double *gamma, double *work, double *value,
        double *gradient) nogil
    void sy_softmax_product(
        ptrdiff_t n, ptrdiff_t k, ptrdiff_t d, const int32_t *a, const int32_t *b, const double *weight,
        ptrdiff_t stride, const double *columns, const double *gamma, const double *direction, double *work,
        double *product) nogil


def work_size(ptrdiff_t k, ptrdiff_t d):
    """Numbers that softmax_sums and softmax_product work on."""
    return (2 * k + d) * TILE + k * d * TILE_LANES + 8


cdef _check_drawn(ptrdiff_t n, ptrdiff_t k, const int32_t[::1] a, const int32_t[::1] b, const double[::1] weight):
    cdef ptrdiff_t i
    cdef bint bad = False
    if a.shape[0] != n or (b is not None and b.shape[0] != n):
        raise ValueError("a and b must have one entry a row")
    if weight is not None and weight.shape[0] != n:
        raise ValueError("weight must have one entry a row")
    for i in range(n):
        bad |= a[i] < 0 or a[i] >= k
    if b is not None:
        for i in range(n):
            bad |= b[i] < 0 or b[i] >= k or b[i] == a[i]
    if bad:
        raise ValueError("a and b must be different codes below k")


cdef _check_design(const double[:, :] columns, const double[:, ::1] gamma, double[::1] work):
    cdef ptrdiff_t k = gamma.shape[0], d = gamma.shape[1]
    if d == 0 or columns.shape[0] != d or (columns.shape[1] > 1 and columns.strides[1] != sizeof(double)):
        raise ValueError("columns must be d x n, each in one piece, for gamma k x d, d > 0")
    if work.shape[0] != work_size(k, d):
        raise ValueError("work must have work_size(k, d) numbers")


def softmax(
    const int32_t[::1] a, const int32_t[::1] b, const double[::1] weight, const double[:, ::1] logits,
    double[:, ::1] gradient, double[:, :, ::1] roots,
):
    cdef ptrdiff_t k = logits.shape[0], n = logits.shape[1]
    _check_drawn(n, k, a, b, weight)
    if gradient.shape[0] != k or gradient.shape[1] != n:
        raise ValueError("gradient must be k x n, as the logits")
    if roots is not None and (
        roots.shape[0] != (2 if b is None else 4) or roots.shape[1] != k or roots.shape[2] != n
    ):
        raise ValueError("roots must be 2 x k x n, 4 x k x n for two draws")
    if n == 0:
        return
    cdef const int32_t *b_at = NULL if b is None else &b[0]
    cdef const double *weight_at = NULL if weight is None else &weight[0]
    cdef double *roots_at = NULL if roots is None else &roots[0, 0, 0]
    with nogil:
        sy_softmax(n, k, &a[0], b_at, weight_at, &logits[0, 0], &gradient[0, 0], roots_at)


def softmax_sums(
    const int32_t[::1] a, const int32_t[::1] b, const double[::1] weight, const double[:, :] columns,
    const double[:, ::1] gamma, double[::1] work, double[::1] value, double[:, ::1] gradient,
):
    cdef ptrdiff_t k = gamma.shape[0], d = gamma.shape[1], n = columns.shape[1]
    cdef double total
    _check_drawn(n, k, a, b, weight)
    _check_design(columns, gamma, work)
    if value is not None and value.shape[0] != n:
        raise ValueError("value must have one entry a row")
    if gradient is not None and (gradient.shape[0] != k or gradient.shape[1] != d):
        raise ValueError("gradient must be k x d, as gamma")
    if n == 0:
        return 0.0
    cdef const int32_t *b_at = NULL if b is None else &b[0]
    cdef const double *weight_at = NULL if weight is None else &weight[0]
    cdef double *value_at = NULL if value is None else &value[0]
    cdef double *gradient_at = NULL if gradient is None else &gradient[0, 0]
    cdef ptrdiff_t stride = columns.strides[0] // <ptrdiff_t>sizeof(double)
    with nogil:
        total = sy_softmax_sums(
            n, k, d, &a[0], b_at, weight_at, stride, &columns[0, 0], &gamma[0, 0], &work[0], value_at, gradient_at)
    return total


def softmax_product(
    const int32_t[::1] a, const int32_t[::1] b, const double[::1] weight, const double[:, :] columns,
    const double[:, ::1] gamma, const double[:, ::1] direction, double[::1] work, double[:, ::1] product,
):
    cdef ptrdiff_t k = gamma.shape[0], d = gamma.shape[1], n = columns.shape[1]
    _check_drawn(n, k, a, b, weight)
    _check_design(columns, gamma, work)
    if direction.shape[0] != k or direction.shape[1] != d or product.shape[0] != k or product.shape[1] != d:
        raise ValueError("direction and product must be k x d, as gamma")
    if n == 0:
        return
    cdef const int32_t *b_at = NULL if b is None else &b[0]
    cdef const double *weight_at = NULL if weight is None else &weight[0]
    cdef ptrdiff_t stride = columns.strides[0] // <ptrdiff_t>sizeof(double)
    with nogil:
        sy_softmax_product(
            n, k, d, &a[0], b_at, weight_at, stride, &columns[0, 0], &gamma[0, 0], &direction[0, 0], &work[0],
            &product[0, 0])
