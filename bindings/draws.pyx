# cython: language_level=3, boundscheck=False, wraparound=False
"""Counter-based random draws (kernels/draws.c)."""

from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int64_t, uint64_t

cdef extern from "draws.h":
    void sy_multinomial(
        ptrdiff_t m, const double *counts, const double *cumulative, const int64_t *guide, uint64_t seed,
        uint64_t replicate, double *drawn) nogil
    void sy_normals(ptrdiff_t m, uint64_t seed, uint64_t replicate, double *drawn) nogil


def multinomial(
    const double[::1] counts, const double[::1] cumulative, const int64_t[::1] guide, uint64_t seed,
    uint64_t replicate, double[::1] drawn,
):
    cdef ptrdiff_t j, m = counts.shape[0]
    if cumulative.shape[0] != m or guide.shape[0] != m or drawn.shape[0] != m:
        raise ValueError("counts, cumulative, guide and drawn must have one length")
    for j in range(m):
        if not 0 <= guide[j] < m:
            raise ValueError("guide must name cells")
    with nogil:
        sy_multinomial(m, &counts[0], &cumulative[0], &guide[0], seed, replicate, &drawn[0])


def normals(uint64_t seed, uint64_t first_replicate, double[:, ::1] drawn):
    cdef ptrdiff_t r, m = drawn.shape[1]
    with nogil:
        for r in range(drawn.shape[0]):
            sy_normals(m, seed, first_replicate + <uint64_t>r, &drawn[r, 0])
