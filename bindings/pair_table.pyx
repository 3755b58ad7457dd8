# cython: language_level=3, boundscheck=False, wraparound=False
"""Rows to a table of pairs (kernels/pair_table.c)."""

from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t

cdef extern from "pair_table.h":
    enum:
        SY_WIDEST_COUNT
    ptrdiff_t sy_pair_cells(
        ptrdiff_t start, ptrdiff_t n, const int32_t *a, const int32_t *b, const uint8_t *first,
        ptrdiff_t n_slots, ptrdiff_t capacity, int32_t *slots, int64_t *keys, int64_t *count,
        int32_t *cell) nogil
    void sy_pair_slots(ptrdiff_t count, const int64_t *keys, ptrdiff_t n_slots, int32_t *slots) nogil
    ptrdiff_t sy_plain_keys(
        ptrdiff_t n, const int32_t *a, const int32_t *b, const int32_t *label, const uint8_t *label_place,
        ptrdiff_t n_labels, const double *y, int64_t *keys) nogil
    ptrdiff_t sy_pair_count(
        ptrdiff_t n, const int32_t *a, const int32_t *b, const int32_t *label,
        const uint8_t *label_place, ptrdiff_t n_labels, const double *y, ptrdiff_t k,
        uint8_t *count, uint32_t *carry) nogil
    ptrdiff_t sy_square_cells(
        ptrdiff_t k, const double *count, const int32_t *order, const int32_t *name, int32_t *a, int32_t *b,
        double *sums) nogil
    ptrdiff_t sy_sorted_cells(
        ptrdiff_t n, const int64_t *keys, const int64_t *count, int32_t *a, int32_t *b, double *sums) nogil
    ptrdiff_t sy_folded_cells(
        ptrdiff_t n, ptrdiff_t width, const int32_t *a, const int32_t *b, const double *values, int32_t *low,
        int32_t *high, double *folded) nogil
    ptrdiff_t sy_pair_table(
        ptrdiff_t n, const int32_t *cell, const double *y, const double *weight, const double *count, double *sums,
        double *squares, double *rows) nogil


def pair_cells(
    ptrdiff_t start, const int32_t[::1] a, const int32_t[::1] b, const uint8_t[::1] first,
    int32_t[::1] slots, int64_t[::1] keys, int64_t[::1] count, int32_t[::1] cell,
):
    cdef ptrdiff_t n = a.shape[0], n_slots = slots.shape[0], capacity = keys.shape[0], done
    cdef const uint8_t *first_at = NULL
    if b.shape[0] != n or cell.shape[0] != n or not 0 <= start <= n:
        raise ValueError("a, b and cell must have one length, and start lie within it")
    if n_slots < 1 or n_slots < 2 * capacity or n_slots & (n_slots - 1) or count.shape[0] != 1:
        raise ValueError("slots must be a power of two of at least 2 x capacity, count of length 1")
    if first is not None:
        if first.shape[0] != n:
            raise ValueError("first must have one entry a row")
        first_at = &first[0]
    with nogil:
        done = sy_pair_cells(
            start, n, &a[0], &b[0], first_at, n_slots, capacity, &slots[0], &keys[0], &count[0], &cell[0])
    return done


def pair_slots(ptrdiff_t count, const int64_t[::1] keys, int32_t[::1] slots):
    if count > keys.shape[0] or slots.shape[0] < 2 * count or slots.shape[0] & (slots.shape[0] - 1):
        raise ValueError("slots must be a power of two of at least 2 x count, keys at least count")
    with nogil:
        sy_pair_slots(count, &keys[0], slots.shape[0], &slots[0])


cdef struct outcome_columns:
    const int32_t *label
    const uint8_t *place
    ptrdiff_t n_labels
    const double *y


cdef int read_outcomes(
    ptrdiff_t n, const int32_t[::1] label, const uint8_t[::1] label_place, const double[::1] y, outcome_columns *to,
) except -1:
    """Outcomes of n rows, either as labels with their places or as numbers."""
    to[0] = outcome_columns(NULL, NULL, 0, NULL)
    if (label is None) == (y is None) or (label is None) != (label_place is None):
        raise ValueError("give either label with label_place, or y")
    if label is not None:
        if label.shape[0] != n:
            raise ValueError("label must have one entry a row")
        to[0] = outcome_columns(&label[0], &label_place[0], label_place.shape[0], NULL)
    else:
        if y.shape[0] != n:
            raise ValueError("y must have one entry a row")
        to.y = &y[0]
    return 0


def plain_keys(
    const int32_t[::1] a, const int32_t[::1] b, const int32_t[::1] label, const uint8_t[::1] label_place,
    const double[::1] y, int64_t[::1] keys,
):
    cdef ptrdiff_t n = a.shape[0], done
    cdef outcome_columns told
    if b.shape[0] != n or keys.shape[0] != n:
        raise ValueError("a, b and keys must have one length")
    read_outcomes(n, label, label_place, y, &told)
    with nogil:
        done = sy_plain_keys(n, &a[0], &b[0], told.label, told.place, told.n_labels, told.y, &keys[0])
    return done


def pair_count(
    const int32_t[::1] a, const int32_t[::1] b, const int32_t[::1] label, const uint8_t[::1] label_place,
    const double[::1] y, uint8_t[:, :, ::1] count, uint32_t[:, :, ::1] carry,
):
    cdef ptrdiff_t n = a.shape[0], k = count.shape[0], done
    cdef outcome_columns told
    if b.shape[0] != n or k > SY_WIDEST_COUNT or count.shape[1] != k or count.shape[2] != 3:
        raise ValueError(f"a and b must have one length, and count k x k x 3, k up to {SY_WIDEST_COUNT}")
    if carry.shape[0] != k or carry.shape[1] != k or carry.shape[2] != 3:
        raise ValueError("carry must be as count")
    read_outcomes(n, label, label_place, y, &told)
    with nogil:
        done = sy_pair_count(
            n, &a[0], &b[0], told.label, told.place, told.n_labels, told.y, k, &count[0, 0, 0], &carry[0, 0, 0])
    return done


def square_cells(
    const double[:, :, ::1] count, const int32_t[::1] order, const int32_t[::1] name, int32_t[::1] a, int32_t[::1] b,
    double[:, ::1] sums,
):
    cdef ptrdiff_t k = order.shape[0], room = k * (k - 1), i, cells
    cdef bint bad = count.shape[0] != k or count.shape[1] != k or count.shape[2] != 3 or name.shape[0] != k
    for i in range(k):
        bad |= order[i] < 0 or order[i] >= k
    if bad or a.shape[0] != room or b.shape[0] != room or sums.shape[0] != room or sums.shape[1] != 3:
        raise ValueError("count must be k x k x 3, order and name of k arms, and a, b and sums have room for k (k - 1)")
    if not room:
        return 0
    with nogil:
        cells = sy_square_cells(k, &count[0, 0, 0], &order[0], &name[0], &a[0], &b[0], &sums[0, 0])
    return cells


def sorted_cells(
    const int64_t[::1] keys, const int64_t[::1] count, int32_t[::1] a, int32_t[::1] b, double[:, ::1] sums,
):
    cdef ptrdiff_t n = keys.shape[0], cells
    cdef const int64_t *count_at = NULL
    if a.shape[0] != n or b.shape[0] != n or sums.shape[0] != n or sums.shape[1] != 3:
        raise ValueError("a, b and sums (n x 3) must have room for one cell a key")
    if count is not None:
        if count.shape[0] != n:
            raise ValueError("count must have one entry a key")
        count_at = &count[0]
    with nogil:
        cells = sy_sorted_cells(n, &keys[0], count_at, &a[0], &b[0], &sums[0, 0])
    return cells


def folded_cells(
    const int32_t[::1] a, const int32_t[::1] b, const double[:, ::1] values, int32_t[::1] low, int32_t[::1] high,
    double[:, ::1] folded,
):
    cdef ptrdiff_t n = a.shape[0], pairs
    if b.shape[0] != n or values.shape[0] != n or low.shape[0] != n or high.shape[0] != n:
        raise ValueError("a, b, values, low and high must have one length")
    if folded.shape[0] != n or folded.shape[1] != values.shape[1]:
        raise ValueError("folded must be as values")
    with nogil:
        pairs = sy_folded_cells(n, values.shape[1], &a[0], &b[0], &values[0, 0], &low[0], &high[0], &folded[0, 0])
    return pairs


def pair_table(
    const int32_t[::1] cell, const double[::1] y, const double[::1] weight, const double[::1] count,
    double[:, ::1] sums, double[:, ::1] squares, double[::1] rows,
):
    cdef ptrdiff_t n = cell.shape[0], cells = sums.shape[0], soft
    cdef const double *weight_at = NULL
    cdef const double *count_at = NULL
    if y.shape[0] != n:
        raise ValueError("cell and y must have one length")
    if sums.shape[1] != 3 or squares.shape[0] != cells or squares.shape[1] != 3 or rows.shape[0] != cells:
        raise ValueError("sums and squares must be cells x 3, and rows have one entry a cell")
    if weight is not None:
        if weight.shape[0] != n:
            raise ValueError("weight must have one entry a row")
        weight_at = &weight[0]
    if count is not None:
        if count.shape[0] != n:
            raise ValueError("count must have one entry a row")
        count_at = &count[0]
    with nogil:
        soft = sy_pair_table(
            n, &cell[0], &y[0], weight_at, count_at, &sums[0, 0], &squares[0, 0], &rows[0])
    return soft
