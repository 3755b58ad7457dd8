# cython: language_level=3, boundscheck=False, wraparound=False
"""Products with a weighted graph Laplacian (kernels/laplacian.c)."""

from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int32_t

cdef extern from "laplacian.h":
    void sy_laplacian_product(
        ptrdiff_t m, ptrdiff_t k, ptrdiff_t r, const int32_t *a, const int32_t *b, const double *weight,
        double ridge, const double *x, double *out) nogil


def laplacian_product(
    const int32_t[::1] a, const int32_t[::1] b, const double[::1] weight, double ridge, const double[:, ::1] x,
    double[:, ::1] out,
):
    cdef ptrdiff_t m = a.shape[0]
    if b.shape[0] != m or weight.shape[0] != m:
        raise ValueError("a, b and weight must have one length")
    if x.shape[0] != out.shape[0] or x.shape[1] != out.shape[1]:
        raise ValueError("x and out must have the same rows and columns")
    with nogil:
        sy_laplacian_product(
            m, x.shape[0], x.shape[1], &a[0], &b[0], &weight[0], ridge, &x[0, 0], &out[0, 0])
