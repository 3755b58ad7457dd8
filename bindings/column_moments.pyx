# cython: language_level=3, boundscheck=False, wraparound=False
"""Weighted sums of a column and of its squares about an origin: one block of rows (kernels/column_moments.c)."""

from libc.stddef cimport ptrdiff_t

cdef extern from "column_moments.h":
    void sy_column_moments(
        ptrdiff_t n, const double *column, double origin, const double *weight, double *sums) nogil


def column_moments(const double[::1] column, double origin, const double[::1] weight):
    cdef ptrdiff_t n = column.shape[0]
    cdef double[2] sums
    if weight.shape[0] != n:
        raise ValueError("weight must have one entry a row")
    sums[0] = sums[1] = 0.0
    if n:
        with nogil:
            sy_column_moments(n, &column[0], origin, &weight[0], sums)
    return sums[0], sums[1]
