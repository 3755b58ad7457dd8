# cython: language_level=3, boundscheck=False, wraparound=False
"""How many studentised contrasts of each draw are beyond a limit (kernels/bands.c)."""

from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int64_t

cdef extern from "bands.h":
    void sy_contrasts_beyond(
        ptrdiff_t n, ptrdiff_t k, const double *draws, const double *precision, double limit, int64_t *count) nogil


def contrasts_beyond(const double[:, ::1] draws, const double[:, ::1] precision, double limit, int64_t[::1] count):
    cdef ptrdiff_t n = draws.shape[0], k = draws.shape[1]
    if precision.shape[0] != k or precision.shape[1] != k or count.shape[0] != n:
        raise ValueError("precision must be k x k for draws of n x k, and count of length n")
    with nogil:
        sy_contrasts_beyond(n, k, &draws[0, 0], &precision[0, 0], limit, &count[0])
