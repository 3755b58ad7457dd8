# cython: language_level=3, boundscheck=False, wraparound=False
"""What weights do to the rows of one block: sums, and by label (kernels/weight_sums.c)."""

from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int32_t

cdef extern from "weight_sums.h":
    enum:
        SY_TOTALS

    void sy_weight_sums(
        ptrdiff_t n, const double *raw, const double *log_propensity, const double *sampling, const double *count,
        double limit, ptrdiff_t members, const int32_t *codes, double *weight, double *totals, double *by_label,
        ptrdiff_t bins, double per_octave, double *histogram) nogil
    void sy_log_counts(
        ptrdiff_t n, const double *values, const double *count, double per_octave, double low, ptrdiff_t bins,
        double *counts) nogil

TOTALS = SY_TOTALS


def weight_sums(
    const double[::1] raw, const double[::1] log_propensity, const double[::1] sampling, const double[::1] count,
    double limit, const int32_t[:, ::1] codes, double[::1] weight, double[::1] totals, double[:, ::1] by_label,
    double per_octave, double[:, ::1] histogram,
):
    cdef ptrdiff_t n = raw.shape[0], i, j
    cdef bint bad = False
    if log_propensity.shape[0] != n or weight.shape[0] != n or codes.shape[1] != n:
        raise ValueError("log_propensity, weight and codes must have one entry a row")
    if (sampling is not None and sampling.shape[0] != n) or (count is not None and count.shape[0] != n):
        raise ValueError("sampling and count must have one entry a row")
    if totals.shape[0] != SY_TOTALS or by_label.shape[1] != 2 or histogram.shape[0] != by_label.shape[0]:
        raise ValueError("totals must have TOTALS entries, by_label 2 a label, and histogram a row a label")
    if histogram.shape[1] == 0:
        raise ValueError("histogram must have bins")
    for j in range(codes.shape[0]):
        for i in range(n):
            bad |= codes[j, i] < 0 or codes[j, i] >= by_label.shape[0]
    for i in range(n):
        bad |= raw[i] != raw[i] or log_propensity[i] != log_propensity[i]
    if bad:
        raise ValueError("codes must be below the number of labels, and raw and log_propensity numbers")
    if n == 0 or codes.shape[0] == 0:
        return
    cdef const double *sampling_at = NULL if sampling is None else &sampling[0]
    cdef const double *count_at = NULL if count is None else &count[0]
    with nogil:
        sy_weight_sums(
            n, &raw[0], &log_propensity[0], sampling_at, count_at, limit, codes.shape[0], &codes[0, 0], &weight[0],
            &totals[0], &by_label[0, 0], histogram.shape[1], per_octave, &histogram[0, 0],
        )


def log_counts(
    const double[::1] values, const double[::1] count, double per_octave, double low, double[::1] counts,
):
    cdef ptrdiff_t n = values.shape[0], i
    cdef bint bad = False
    if counts.shape[0] == 0 or (count is not None and count.shape[0] != n):
        raise ValueError("counts must have bins, and count one entry a value")
    for i in range(n):
        bad |= values[i] - values[i] != 0.0
    if bad:
        raise ValueError("values must be finite numbers")
    if n == 0:
        return
    cdef const double *count_at = NULL if count is None else &count[0]
    with nogil:
        sy_log_counts(n, &values[0], count_at, per_octave, low, counts.shape[0], &counts[0])
