# cython: language_level=3, boundscheck=False, wraparound=False
"""Rows with covariates: log-likelihood, score, Hessian and meat of one block (kernels/row_likelihood.c)."""

from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int32_t

import numpy as np

cdef extern from "row_likelihood.h":
    ctypedef void (*sy_own)(
        ptrdiff_t n, const double *eta, const double *y, const double *weight, double *value, double *d_eta,
        double *h_eta) noexcept nogil
    ctypedef struct sy_design:
        const double *const *columns
        const double *origin
        const void *left
        const void *right
        int single
    ptrdiff_t SY_ROW_WORK(ptrdiff_t k, ptrdiff_t d) nogil
    double sy_row_likelihood(
        ptrdiff_t n, int model, sy_own own, ptrdiff_t k, ptrdiff_t d, const int32_t *a, const int32_t *b,
        const sy_design *design, const double *offset, const double *y, const double *weight, const double *count,
        const double *parameter, double *by_eta, double *score, double *hessian, double *meat, double *work) nogil

cdef const double *one_each(const double[::1] values, ptrdiff_t n, str name) except? NULL:
    if values is None or n == 0:
        return NULL
    if values.shape[0] != n:
        raise ValueError(f"{name} must have one entry a row")
    return &values[0]


cdef ptrdiff_t[::1] addresses(columns, ptrdiff_t n):
    """Where the columns (n,) lie, each for itself."""
    cdef ptrdiff_t[::1] found = np.zeros(len(columns) + 1, np.intp)
    cdef const double[::1] column
    cdef ptrdiff_t j
    for j in range(len(columns)):
        column = columns[j]
        if column.shape[0] != n:
            raise ValueError("columns must have one entry a row")
        if n:
            found[j] = <ptrdiff_t>&column[0]
    return found


cdef const void *doubles(const double[:, ::1] side, ptrdiff_t n, ptrdiff_t d) except? NULL:
    if side.shape[0] != n or side.shape[1] != d:
        raise ValueError("sides must have as many features in each row")
    return &side[0, 0] if n and d else NULL


cdef const void *singles(const float[:, ::1] side, ptrdiff_t n, ptrdiff_t d) except? NULL:
    if side.shape[0] != n or side.shape[1] != d:
        raise ValueError("sides must have as many features in each row")
    return &side[0, 0] if n and d else NULL


cdef double *matrix(double[:, ::1] values, ptrdiff_t p, str name) except? NULL:
    if values is None or p == 0:
        return NULL
    if values.shape[0] != p or values.shape[1] != p:
        raise ValueError(f"{name} must be p x p")
    return &values[0, 0]


def row_likelihood(
    int model, size_t own, ptrdiff_t k, const int32_t[::1] a, const int32_t[::1] b, columns,
    const double[::1] offset, const double[::1] y, const double[::1] weight, const double[::1] count,
    const double[::1] parameter, double[:, ::1] by_eta, double[::1] score, double[:, ::1] hessian,
    double[:, ::1] meat=None, const double[::1] origin=None, sides=None,
):
    """sides: features of a and of b (n, d), read as their difference; or one array, read as it is, without matrices."""
    cdef ptrdiff_t n = y.shape[0], d = len(columns) if sides is None else sides[0].shape[1], i, p = score.shape[0]
    cdef const double *offset_at = one_each(offset, n, "offset")
    cdef const double *weight_at = one_each(weight, n, "weight")
    cdef const double *count_at = one_each(count, n, "count")
    cdef double *hessian_at = matrix(hessian, p, "hessian")
    cdef double *meat_at = matrix(meat, p, "meat")
    cdef ptrdiff_t[::1] columns_at
    cdef double[::1] work = np.empty(SY_ROW_WORK(k, d))
    cdef const int32_t *a_at = NULL
    cdef const int32_t *b_at = NULL
    cdef double *by_eta_at = NULL
    cdef double value = 0.0
    cdef bint bad = False
    cdef sy_design design
    if k and (a.shape[0] != n or b.shape[0] != n):
        raise ValueError("a and b must have one entry a row")
    if parameter.shape[0] != p or p < k + d or p > k + d + 1 or p != k + d + (model in (1, 2)):
        raise ValueError("parameter and score must have k arms, then the columns, then tie")
    if by_eta is not None and (by_eta.shape[0] != 4 or by_eta.shape[1] != n):
        raise ValueError("by_eta must be 4 x n: d_eta d_tie h_eta h_cross")
    origin = np.zeros(d) if origin is None else origin
    if origin.shape[0] != d:
        raise ValueError("origin must have one entry a column")
    if sides is None:
        columns_at = addresses(columns, n)
        design.columns, design.origin = <const double *const *>&columns_at[0], &origin[0] if d else NULL
    else:
        if len(sides) == 1 and (hessian is not None or meat is not None):
            raise ValueError("sides must be two where matrices are asked for")
        design.columns, design.single = NULL, sides[0].dtype == np.float32
        design.left = singles(sides[0], n, d) if design.single else doubles(sides[0], n, d)
        design.right = NULL
        if len(sides) > 1:
            design.right = singles(sides[1], n, d) if design.single else doubles(sides[1], n, d)
    if n == 0:
        return 0.0
    if k:
        for i in range(n):
            bad |= a[i] < 0 or a[i] >= k or b[i] < 0 or b[i] >= k
        if bad:
            raise ValueError("a and b must be arm codes below k")
        a_at, b_at = &a[0], &b[0]
    if by_eta is not None:
        by_eta_at = &by_eta[0, 0]
    with nogil:
        value = sy_row_likelihood(
            n, model, <sy_own>own, k, d, a_at, b_at, &design, offset_at, &y[0], weight_at, count_at,
            &parameter[0] if p else NULL, by_eta_at, &score[0] if p else NULL, hessian_at, meat_at, &work[0])
    return value
