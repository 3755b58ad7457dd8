# cython: language_level=3, boundscheck=False, wraparound=False
"""Outer products of sparse rows, summed (kernels/row_squares.c)."""

from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int32_t, int64_t

cdef extern from "row_squares.h":
    void sy_row_squares(
        ptrdiff_t n, ptrdiff_t k, const int64_t *start, const int32_t *place, const double *value, double *sum) nogil


def row_squares(const int64_t[::1] start, const int32_t[::1] place, const double[::1] value, double[:, ::1] sum):
    cdef ptrdiff_t n = start.shape[0] - 1, k = sum.shape[0], entries = place.shape[0], i
    cdef bint bad = n < 0 or sum.shape[1] != k or value.shape[0] != entries
    if not bad:
        bad = start[0] != 0 or start[n] != entries
        for i in range(n):
            bad |= start[i + 1] < start[i]
        for i in range(entries):
            bad |= place[i] < 0 or place[i] >= k
    if bad:
        raise ValueError("start must rise from 0 to the entries, a place and a value each; places below k, sum k x k")
    if entries:
        with nogil:
            sy_row_squares(n, k, &start[0], &place[0], &value[0], &sum[0, 0])
