# cython: language_level=3, boundscheck=False, wraparound=False
"""Sums of columns and of squares: one about an origin, or rows, or two sides (kernels/column_moments.c)."""

from libc.stddef cimport ptrdiff_t

import numpy as np

cdef extern from "column_moments.h":
    void sy_column_moments(
        ptrdiff_t n, const double *column, double origin, const double *weight, double *sums) nogil
    ptrdiff_t SY_SIDES_WORK(ptrdiff_t d) nogil
    void sy_sides_squares_double(
        ptrdiff_t n, ptrdiff_t d, const double *a, const double *b, double *work, double *squares) nogil
    void sy_sides_squares_float(
        ptrdiff_t n, ptrdiff_t d, const float *a, const float *b, double *work, double *squares) nogil

ctypedef fused real:
    float
    double


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


def sides_squares(const real[:, ::1] a, const real[:, ::1] b=None):
    cdef ptrdiff_t n = a.shape[0], d = a.shape[1]
    cdef double[::1] work = np.zeros(SY_SIDES_WORK(d))
    squares = np.zeros(d)
    cdef double[::1] to = squares
    cdef const real *right = NULL
    if b is not None and (b.shape[0] != n or b.shape[1] != d):
        raise ValueError("both sides must have as many rows and columns")
    if n and d:
        if b is not None:
            right = &b[0, 0]
        with nogil:
            if real is float:
                sy_sides_squares_float(n, d, &a[0, 0], right, &work[0], &to[0])
            else:
                sy_sides_squares_double(n, d, &a[0, 0], right, &work[0], &to[0])
    return squares
