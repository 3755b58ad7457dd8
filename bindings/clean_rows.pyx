# cython: language_level=3, boundscheck=False, wraparound=False
"""Verdicts on rows and outcome labels to numbers (kernels/clean_rows.c)."""

from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int32_t, uint8_t

cdef extern from "clean_rows.h":
    ptrdiff_t sy_clean_rows(
        ptrdiff_t n, const int32_t *a, const int32_t *b, const int32_t *label, const double *value,
        ptrdiff_t n_values, const double *outcome, const double *weight, const double *count, double *y,
        uint8_t *status) nogil


def clean_rows(
    const int32_t[::1] a, const int32_t[::1] b, const int32_t[::1] label, const double[::1] value,
    const double[::1] outcome, const double[::1] weight, const double[::1] count, double[::1] y,
    uint8_t[::1] status,
):
    cdef ptrdiff_t n = a.shape[0], bad
    cdef const int32_t *label_at = NULL
    cdef const double *value_at = NULL
    cdef const double *outcome_at = NULL
    cdef const double *weight_at = NULL
    cdef const double *count_at = NULL
    cdef ptrdiff_t n_values = 0
    if b.shape[0] != n or y.shape[0] != n or status.shape[0] != n:
        raise ValueError("a, b, y and status must have one length")
    if (label is None) == (outcome is None) or (label is None) != (value is None):
        raise ValueError("give either label with value, or outcome")
    if label is not None:
        if label.shape[0] != n:
            raise ValueError("label must have one entry a row")
        label_at, value_at, n_values = &label[0], &value[0], value.shape[0]
    else:
        if outcome.shape[0] != n:
            raise ValueError("outcome must have one entry a row")
        outcome_at = &outcome[0]
    if weight is not None:
        if weight.shape[0] != n:
            raise ValueError("weight must have one entry a row")
        weight_at = &weight[0]
    if count is not None:
        if count.shape[0] != n:
            raise ValueError("count must have one entry a row")
        count_at = &count[0]
    with nogil:
        bad = sy_clean_rows(
            n, &a[0], &b[0], label_at, value_at, n_values, outcome_at, weight_at, count_at, &y[0], &status[0])
    return bad
