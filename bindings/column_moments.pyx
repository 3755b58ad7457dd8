# cython: language_level=3, boundscheck=False, wraparound=False
"""Weighted sums of columns and of their squares about an origin: one block of rows (kernels/column_moments.c)."""

from libc.stddef cimport ptrdiff_t

cdef extern from "column_moments.h":
    void sy_column_moments(
        ptrdiff_t n, ptrdiff_t d, const double *columns, const double *origin, const double *weight,
        const double *known, const double *y, double *sums) nogil


def column_moments(
    const double[:, ::1] columns, const double[::1] origin, const double[::1] weight, const double[::1] known,
    const double[::1] y, double[:, ::1] sums,
):
    cdef ptrdiff_t d = columns.shape[0], n = columns.shape[1]
    if weight.shape[0] != n or known.shape[0] != n or y.shape[0] != n:
        raise ValueError("weight, known and y must have one entry a row")
    if origin.shape[0] != d or sums.shape[0] != d or sums.shape[1] != 5:
        raise ValueError("origin must have an entry, and sums 5, a column")
    if n == 0 or d == 0:
        return
    with nogil:
        sy_column_moments(n, d, &columns[0, 0], &origin[0], &weight[0], &known[0], &y[0], &sums[0, 0])
