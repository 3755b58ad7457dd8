# cython: language_level=3, boundscheck=False, wraparound=False
"""Products with a weighted graph Laplacian (kernels/laplacian.c)."""

from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int32_t, int64_t

cdef extern from "laplacian.h":
    void sy_laplacian_edges(
        ptrdiff_t m, ptrdiff_t k, const int32_t *a, const int32_t *b, const double *weight, double ridge,
        const double *x, double *out) nogil
    void sy_laplacian_rows(
        ptrdiff_t k, ptrdiff_t r, const int64_t *start, const int32_t *neighbour, const double *edge,
        const double *diagonal, const double *x, double *out) nogil


def laplacian_edges(
    const int32_t[::1] a, const int32_t[::1] b, const double[::1] weight, double ridge, const double[::1] x,
    double[::1] out,
):
    cdef ptrdiff_t m = a.shape[0], k = x.shape[0]
    if b.shape[0] != m or weight.shape[0] != m:
        raise ValueError("a, b and weight must have one length")
    if out.shape[0] != k:
        raise ValueError("x and out must have one length")
    with nogil:
        sy_laplacian_edges(m, k, &a[0], &b[0], &weight[0], ridge, &x[0], &out[0])


def laplacian_rows(
    const int64_t[::1] start, const int32_t[::1] neighbour, const double[::1] edge, const double[::1] diagonal,
    const double[:, ::1] x, double[:, ::1] out,
):
    cdef ptrdiff_t k = diagonal.shape[0]
    if start.shape[0] != k + 1 or neighbour.shape[0] != edge.shape[0]:
        raise ValueError("start must have k + 1 entries, and each neighbour one edge weight")
    if x.shape[0] != k or out.shape[0] != k or x.shape[1] != out.shape[1]:
        raise ValueError("x and out must have k rows and the same columns")
    with nogil:
        sy_laplacian_rows(
            k, x.shape[1], &start[0], &neighbour[0], &edge[0], &diagonal[0], &x[0, 0], &out[0, 0])
