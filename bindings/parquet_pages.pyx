# cython: language_level=3, boundscheck=False, wraparound=False
"""Parquet's pages: headers, words and the numbers of words (kernels/parquet_pages.c)."""

from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t

import numpy as np

cdef extern from "parquet_pages.h":
    enum:
        SY_PAGE_FIELDS
        SY_PAGE_PLACES
        SY_RUN_LEFT
        SY_RUN_PACKED
        SY_RUN_FIELDS
    ptrdiff_t sy_page_headers(
        ptrdiff_t n_bytes, const uint8_t *bytes, int nullable, ptrdiff_t at, int64_t rows, ptrdiff_t most,
        int64_t *table) nogil
    ptrdiff_t sy_page_words(ptrdiff_t n_bytes, const uint8_t *bytes, ptrdiff_t n, uint64_t *views) nogil
    ptrdiff_t sy_page_numbers(
        ptrdiff_t n_bytes, const uint8_t *bytes, int width, ptrdiff_t n, int64_t *state, int32_t *numbers) nogil
    ctypedef struct sy_stretch:
        const uint8_t *bytes
        ptrdiff_t n_bytes
        int width
        ptrdiff_t before
        ptrdiff_t count
        const int32_t *known
        ptrdiff_t n_known
    ptrdiff_t sy_page_codes(ptrdiff_t m, const sy_stretch *stretches, int32_t *codes) nogil

PAGE_FIELDS, PAGE_PLACES = SY_PAGE_FIELDS, SY_PAGE_PLACES
RUN_LEFT, RUN_PACKED, RUN_FIELDS = SY_RUN_LEFT, SY_RUN_PACKED, SY_RUN_FIELDS


def page_headers(const uint8_t[::1] data, bint nullable, ptrdiff_t at, int64_t rows, int64_t[:, ::1] table):
    if table.shape[1] != SY_PAGE_PLACES or at < 0:
        raise ValueError("table must be n x PAGE_PLACES, and at no less than 0")
    if not data.shape[0] or not table.shape[0]:
        return 0
    return sy_page_headers(data.shape[0], &data[0], nullable, at, rows, table.shape[0], &table[0, 0])


def page_words(const uint8_t[::1] data, uint64_t[:, ::1] views):
    cdef ptrdiff_t n = views.shape[0]
    if views.shape[1] != 2:
        raise ValueError("views must be n x 2")
    return sy_page_words(data.shape[0], &data[0], n, &views[0, 0]) if n else 0


def page_numbers(const uint8_t[::1] data, int width, int64_t[::1] state, ptrdiff_t n, int32_t[::1] numbers):
    cdef ptrdiff_t done
    if numbers is not None and numbers.shape[0] != n:
        raise ValueError("numbers must have length n")
    if not 0 <= width <= 31 or state.shape[0] != SY_RUN_FIELDS:
        raise ValueError("width must lie in 0..31, and state have length RUN_FIELDS")
    if n <= 0 or data.shape[0] == 0:
        return 0
    with nogil:
        done = sy_page_numbers(data.shape[0], &data[0], width, n, &state[0], NULL if numbers is None else &numbers[0])
    return done


def page_codes(stretches, int32_t[::1] codes):
    """stretches: of (bytes, width, before, count, known) each, as kernels/parquet_pages.h has them."""
    cdef ptrdiff_t m = len(stretches), i, rows = 0, done
    cdef unsigned char[::1] room = np.empty(max(m, 1) * sizeof(sy_stretch), np.uint8)
    cdef sy_stretch *each = <sy_stretch *>&room[0]
    cdef const uint8_t[::1] data
    cdef const int32_t[::1] known
    for i in range(m):
        data, each[i].width, each[i].before, each[i].count, known = stretches[i]
        if not 0 <= each[i].width <= 31 or each[i].before < 0 or each[i].count < 0:
            raise ValueError("width must lie in 0..31, and counts be no less than 0")
        each[i].bytes, each[i].n_bytes = &data[0] if data.shape[0] else NULL, data.shape[0]
        each[i].known, each[i].n_known = &known[0] if known.shape[0] else NULL, known.shape[0]
        rows += each[i].count
    if rows > codes.shape[0]:
        raise ValueError("codes must have room for all rows")
    with nogil:
        done = sy_page_codes(m, each, &codes[0] if codes.shape[0] else NULL)
    return done
