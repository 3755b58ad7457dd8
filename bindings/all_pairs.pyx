# cython: language_level=3, boundscheck=False, wraparound=False
"""Every two arms against each other in every row of one block (kernels/all_pairs.c)."""

from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int32_t, int64_t, uint8_t

cdef extern from "all_pairs.h":
    enum:
        SY_ALL_PAIRS_ROWS
    void sy_all_pairs(
        ptrdiff_t n, ptrdiff_t k, const double *score, const double *omega, const double *weight, double *work,
        double *sums, double *means) nogil
    ctypedef struct sy_policy:
        const int64_t *at
        const double *fixed
        const double *columns
        ptrdiff_t stride
    void sy_policy_terms(
        ptrdiff_t n, ptrdiff_t k, ptrdiff_t stride, const double *score, sy_policy policy, sy_policy reference,
        const uint8_t *supported, const int32_t *a, const int32_t *b, double *work, double *terms) nogil
    void sy_pair_ends(
        ptrdiff_t n, ptrdiff_t k, const double *score, const double *wanted, const double *weight, double lambda_,
        double *work, double *ends) nogil
    void sy_pair_along(
        ptrdiff_t n, ptrdiff_t k, const double *score, const double *along, double lambda_, double *work,
        double *value) nogil

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
    if work.shape[0] != 2 * k + 1 or work.shape[1] != SY_ALL_PAIRS_ROWS:
        raise ValueError("work must be (2 k + 1) x ROWS")
    if n == 0 or k == 0:
        return
    with nogil:
        sy_all_pairs(n, k, &score[0, 0], &omega[0, 0], &weight[0], &work[0, 0], &sums[0, 0], &means[0, 0])


def policy_terms(
    const double[:, :] score, const double[:, :] columns, const int64_t[::1] policy_at, const double[::1] policy,
    const int64_t[::1] reference_at, const double[::1] reference, const uint8_t[:, ::1] supported,
    const int32_t[::1] a, const int32_t[::1] b, double[:, ::1] work, double[:, ::1] terms,
):
    cdef ptrdiff_t k = score.shape[0], n = score.shape[1], i, stride = score.strides[0] // <ptrdiff_t>sizeof(double)
    cdef sy_policy own, other
    cdef bint bad = False
    if columns.shape[1] != n or a.shape[0] != n or b.shape[0] != n:
        raise ValueError("columns, a and b must have one entry a row, as the scores")
    if policy_at.shape[0] != k or policy.shape[0] != k or reference_at.shape[0] != k or reference.shape[0] != k:
        raise ValueError("policy and reference must have one entry an arm")
    if supported.shape[0] != k or supported.shape[1] != k:
        raise ValueError("supported must be k x k, for the k arms of score")
    if work.shape[0] != 3 * k + 1 or work.shape[1] != SY_ALL_PAIRS_ROWS:
        raise ValueError("work must be (3 k + 1) x ROWS")
    if terms.shape[0] != 7 or terms.shape[1] != n:
        raise ValueError("terms must be 7 x n")
    if n == 0 or k == 0:
        return
    if (score.strides[1] != sizeof(double) or score.strides[0] % sizeof(double)
            or (columns.shape[0] and columns.strides[1] != sizeof(double)) or columns.strides[0] % sizeof(double)):
        raise ValueError("the numbers of an arm, or of a column, must stand side by side")
    for i in range(k):
        bad |= policy_at[i] >= columns.shape[0] or reference_at[i] >= columns.shape[0]
    for i in range(n):
        bad |= a[i] < 0 or a[i] >= k or b[i] < 0 or b[i] >= k
    if bad:
        raise ValueError("a and b must be arm codes below k, and places those of columns")
    own.at, own.fixed, own.stride = &policy_at[0], &policy[0], columns.strides[0] // <ptrdiff_t>sizeof(double)
    other.at, other.fixed, other.stride = &reference_at[0], &reference[0], own.stride
    own.columns = other.columns = &columns[0, 0] if columns.shape[0] else NULL
    with nogil:
        sy_policy_terms(
            n, k, stride, &score[0, 0], own, other, &supported[0, 0], &a[0], &b[0], &work[0, 0], &terms[0, 0])


def pair_ends(
    const double[:, ::1] score, const double[:, ::1] wanted, const double[::1] weight, double lambda_,
    double[:, ::1] work, double[:, :, ::1] ends,
):
    cdef ptrdiff_t k = score.shape[0], n = score.shape[1]
    if wanted.shape[0] != k or wanted.shape[1] != k:
        raise ValueError("wanted must be k x k, for the k arms of score")
    if ends.shape[0] != 2 or ends.shape[1] != k or ends.shape[2] != k:
        raise ValueError("ends must be 2 x k x k")
    if weight.shape[0] != n:
        raise ValueError("weight must have one entry a row")
    if work.shape[0] != k + 1 or work.shape[1] != SY_ALL_PAIRS_ROWS:
        raise ValueError("work must be (k + 1) x ROWS")
    if not lambda_ >= 1.0:
        raise ValueError("lambda must be at least 1")
    if n == 0 or k == 0:
        return
    with nogil:
        sy_pair_ends(n, k, &score[0, 0], &wanted[0, 0], &weight[0], lambda_, &work[0, 0], &ends[0, 0, 0])


def pair_along(
    const double[:, ::1] score, const double[:, ::1] along, double lambda_, double[:, ::1] work, double[::1] value,
):
    cdef ptrdiff_t k = score.shape[0], n = score.shape[1]
    if along.shape[0] != k or along.shape[1] != k:
        raise ValueError("along must be k x k, for the k arms of score")
    if value.shape[0] != n:
        raise ValueError("value must have one entry a row")
    if work.shape[0] != k + 1 or work.shape[1] != SY_ALL_PAIRS_ROWS:
        raise ValueError("work must be (k + 1) x ROWS")
    if not lambda_ >= 1.0:
        raise ValueError("lambda must be at least 1")
    if n == 0 or k == 0:
        return
    with nogil:
        sy_pair_along(n, k, &score[0, 0], &along[0, 0], lambda_, &work[0, 0], &value[0])
