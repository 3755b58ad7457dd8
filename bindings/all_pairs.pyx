# cython: language_level=3, boundscheck=False, wraparound=False
"""Every two arms against each other in every row of one block (kernels/all_pairs.c)."""

from libc.stddef cimport ptrdiff_t

cdef extern from "all_pairs.h":
    enum:
        SY_ALL_PAIRS_ROWS
    void sy_all_pairs(
        ptrdiff_t n, ptrdiff_t k, const double *score, const double *omega, const double *weight, double *work,
        double *sums, double *means) nogil

ROWS = SY_ALL_PAIRS_ROWS


def all_pairs(
    const double[:, ::1] score, const double[:, ::1] omega, const double[::1] weight, double[:, ::1] work,
    double[:, ::1] sums, double[:, ::1] means,
):
    cdef ptrdiff_t k = score.shape[0], n = score.shape[1]
    if omega.shape[0] != k or omega.shape[1] != k or means.shape[0] != k or means.shape[1] != k:
        raise ValueError("omega and means must be k x k, for the k arms of score")
    if weight.shape[0] != n or sums.shape[0] != k or sums.shape[1] != n:
        raise ValueError("weight must have one entry a row, and sums be k x n, as the scores")
    if work.shape[0] != 2 * k or work.shape[1] != SY_ALL_PAIRS_ROWS:
        raise ValueError("work must be 2 k x ROWS")
    if n == 0 or k == 0:
        return
    with nogil:
        sy_all_pairs(n, k, &score[0, 0], &omega[0, 0], &weight[0], &work[0, 0], &sums[0, 0], &means[0, 0])
