# cython: language_level=3, boundscheck=False, wraparound=False
"""The largest studentised contrast of each draw (kernels/bands.c)."""

from libc.stddef cimport ptrdiff_t

cdef extern from "bands.h":
    void sy_largest_contrast(
        ptrdiff_t n, ptrdiff_t k, const double *draws, const double *precision, double *largest) nogil


def largest_contrast(const double[:, ::1] draws, const double[:, ::1] precision, double[::1] largest):
    cdef ptrdiff_t n = draws.shape[0], k = draws.shape[1]
    if precision.shape[0] != k or precision.shape[1] != k or largest.shape[0] != n:
        raise ValueError("precision must be k x k for draws of n x k, and largest of length n")
    with nogil:
        sy_largest_contrast(n, k, &draws[0, 0], &precision[0, 0], &largest[0])
