# cython: language_level=3, boundscheck=False, wraparound=False
"""Rows with covariates: log-likelihood, score, Hessian and meat of one block (kernels/row_likelihood.c)."""

from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int32_t

import numpy as np

cdef extern from "row_likelihood.h":
    ctypedef void (*sy_own)(
        ptrdiff_t n, const double *eta, const double *y, const double *weight, double *value, double *d_eta,
        double *h_eta) noexcept nogil
    double sy_row_likelihood(
        ptrdiff_t n, int model, sy_own own, ptrdiff_t k, ptrdiff_t d, const int32_t *a, const int32_t *b,
        const double *const *columns, const double *origin, const double *offset, const double *y,
        const double *weight, const double *count, int meat, const double *parameter, double *by_eta, double *score,
        double *hessian) nogil


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


def row_likelihood(
    int model, size_t own, ptrdiff_t k, const int32_t[::1] a, const int32_t[::1] b, columns,
    const double[::1] offset, const double[::1] y, const double[::1] weight, const double[::1] count, bint meat,
    const double[::1] parameter, double[:, ::1] by_eta, double[::1] score, double[:, ::1] hessian,
    const double[::1] origin=None,
):
    cdef ptrdiff_t n = y.shape[0], d = len(columns), i, p = score.shape[0]
    cdef const double *offset_at = one_each(offset, n, "offset")
    cdef const double *weight_at = one_each(weight, n, "weight")
    cdef const double *count_at = one_each(count, n, "count")
    cdef ptrdiff_t[::1] columns_at = addresses(columns, n)
    cdef const int32_t *a_at = NULL
    cdef const int32_t *b_at = NULL
    cdef double *by_eta_at = NULL
    cdef double *hessian_at = NULL
    cdef double value = 0.0
    cdef bint bad = False
    if k and (a.shape[0] != n or b.shape[0] != n):
        raise ValueError("a and b must have one entry a row")
    if parameter.shape[0] != p or p < k + d or p > k + d + 1 or p != k + d + (model in (1, 2)):
        raise ValueError("parameter and score must have k arms, then the columns, then tie")
    if hessian is not None and (hessian.shape[0] != p or hessian.shape[1] != p):
        raise ValueError("hessian must be p x p")
    if by_eta is not None and (by_eta.shape[0] != 4 or by_eta.shape[1] != n):
        raise ValueError("by_eta must be 4 x n: d_eta d_tie h_eta h_cross")
    origin = np.zeros(d) if origin is None else origin
    if origin.shape[0] != d:
        raise ValueError("origin must have one entry a column")
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
    if hessian is not None and p:
        hessian_at = &hessian[0, 0]
    with nogil:
        value = sy_row_likelihood(
            n, model, <sy_own>own, k, d, a_at, b_at, <const double *const *>&columns_at[0],
            &origin[0] if d else NULL, offset_at, &y[0], weight_at, count_at, meat, &parameter[0] if p else NULL,
            by_eta_at, &score[0] if p else NULL, hessian_at)
    return value
