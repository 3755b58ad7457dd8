# cython: language_level=3, boundscheck=False, wraparound=False
"""Small integers to codes (kernels/encode_integers.c)."""

from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int32_t, int64_t

cdef extern from "encode_integers.h":
    enum:
        SY_UNSEEN
    ptrdiff_t sy_encode_int32(
        ptrdiff_t n, const int32_t *values, ptrdiff_t size, const int32_t *table, int32_t *codes) nogil
    ptrdiff_t sy_encode_int64(
        ptrdiff_t n, const int64_t *values, ptrdiff_t size, const int32_t *table, int32_t *codes) nogil

ctypedef fused integer:
    int32_t
    int64_t

UNSEEN = SY_UNSEEN


def encode_integers(const integer[::1] values, const int32_t[::1] table, int32_t[::1] codes):
    cdef ptrdiff_t n = values.shape[0], done
    if codes.shape[0] != n:
        raise ValueError("values and codes must have one length")
    with nogil:
        if integer is int32_t:
            done = sy_encode_int32(n, &values[0], table.shape[0], &table[0], &codes[0])
        else:
            done = sy_encode_int64(n, &values[0], table.shape[0], &table[0], &codes[0])
    return done
