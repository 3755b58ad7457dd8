# cython: language_level=3, boundscheck=False, wraparound=False
"""Weighted sums of columns by label: one block of rows (kernels/label_sums.c)."""

from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int32_t

cdef extern from "tile_size.h":
    enum:
        TILE

cdef extern from "label_sums.h":
    void sy_label_sums(
        ptrdiff_t n, ptrdiff_t d, ptrdiff_t stride, const double *columns, ptrdiff_t factors, const double *factor,
        ptrdiff_t members, const int32_t *codes, double *work, double *sums) nogil


def work_size(ptrdiff_t d):
    """Numbers that label_sums works on."""
    return TILE * d


def label_sums(
    const double[:, :] columns, const double[:, ::1] factor, const int32_t[:, ::1] codes, double[::1] work,
    double[:, :, ::1] sums,
):
    cdef ptrdiff_t d = columns.shape[0], n = columns.shape[1], i, j
    cdef bint bad = False
    if n > 1 and columns.strides[1] != sizeof(double):
        raise ValueError("the numbers of a column must stand side by side")
    if factor.shape[1] != n or codes.shape[1] != n:
        raise ValueError("factor and codes must have one entry a row")
    if sums.shape[1] != factor.shape[0] or sums.shape[2] != d:
        raise ValueError("sums must be labels x factors x columns")
    if work.shape[0] != work_size(d):
        raise ValueError("work must have work_size(d) numbers")
    for j in range(codes.shape[0]):
        for i in range(n):
            bad |= codes[j, i] < 0 or codes[j, i] >= sums.shape[0]
    if bad:
        raise ValueError("codes must be below the number of labels")
    if n == 0 or d == 0 or factor.shape[0] == 0 or codes.shape[0] == 0:
        return
    with nogil:
        sy_label_sums(
            n, d, columns.strides[0] // sizeof(double), &columns[0, 0], factor.shape[0], &factor[0, 0],
            codes.shape[0], &codes[0, 0], &work[0], &sums[0, 0, 0],
        )
