# cython: language_level=3, boundscheck=False, wraparound=False
"""Elo ratings, one comparison after the other (kernels/elo.c)."""

from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int32_t, int64_t

cdef extern from "elo.h":
    void sy_elo(
        ptrdiff_t n, const int32_t *a, const int32_t *b, const double *y, const double *weight,
        const int64_t *order, double step, double scale, double *rating) nogil


def elo(
    const int32_t[::1] a, const int32_t[::1] b, const double[::1] y, const double[::1] weight,
    const int64_t[::1] order, double step, double scale, double[::1] rating,
):
    cdef ptrdiff_t n = a.shape[0]
    cdef const double *weight_at = NULL
    cdef const int64_t *order_at = NULL
    if b.shape[0] != n or y.shape[0] != n:
        raise ValueError("a, b and y must have one length")
    if weight is not None:
        if weight.shape[0] != n:
            raise ValueError("weight must have one entry a row")
        weight_at = &weight[0]
    if order is not None:
        if order.shape[0] != n:
            raise ValueError("order must have one entry a row")
        order_at = &order[0]
    with nogil:
        sy_elo(n, &a[0], &b[0], &y[0], weight_at, order_at, step, scale, &rating[0])
