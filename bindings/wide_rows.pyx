# cython: language_level=3, boundscheck=False, wraparound=False
"""Rows of many features times a vector, and a vector times them (kernels/wide_rows.c)."""

from libc.stddef cimport ptrdiff_t

cdef extern from "wide_rows.h":
    void sy_rows_times_float(ptrdiff_t n, ptrdiff_t d, const float *x, const double *v, double *out) nogil
    void sy_rows_times_double(ptrdiff_t n, ptrdiff_t d, const double *x, const double *v, double *out) nogil
    void sy_times_rows_float(ptrdiff_t n, ptrdiff_t d, const float *x, const double *w, double *out) nogil
    void sy_times_rows_double(ptrdiff_t n, ptrdiff_t d, const double *x, const double *w, double *out) nogil

ctypedef fused real:
    float
    double


def rows_times(const real[:, ::1] x, const double[::1] v, double[::1] out):
    cdef ptrdiff_t n = x.shape[0], d = x.shape[1]
    if v.shape[0] != d or out.shape[0] != n:
        raise ValueError("v must have one entry a column of x, and out one a row")
    with nogil:
        if real is float:
            sy_rows_times_float(n, d, &x[0, 0], &v[0], &out[0])
        else:
            sy_rows_times_double(n, d, &x[0, 0], &v[0], &out[0])


def times_rows(const real[:, ::1] x, const double[::1] w, double[::1] out):
    cdef ptrdiff_t n = x.shape[0], d = x.shape[1]
    if w.shape[0] != n or out.shape[0] != d:
        raise ValueError("w must have one entry a row of x, and out one a column")
    with nogil:
        if real is float:
            sy_times_rows_float(n, d, &x[0, 0], &w[0], &out[0])
        else:
            sy_times_rows_double(n, d, &x[0, 0], &w[0], &out[0])
