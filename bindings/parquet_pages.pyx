# cython: language_level=3, boundscheck=False, wraparound=False
"""Parquet's pages: headers, words and the numbers of words (kernels/parquet_pages.c)."""

from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t

cdef extern from "parquet_pages.h":
    enum:
        SY_PAGE_FIELDS
        SY_RUN_LEFT
        SY_RUN_PACKED
        SY_RUN_FIELDS
    ptrdiff_t sy_page_header(ptrdiff_t n_bytes, const uint8_t *bytes, int64_t *fields) nogil
    ptrdiff_t sy_page_words(ptrdiff_t n_bytes, const uint8_t *bytes, ptrdiff_t n, uint64_t *views) nogil
    ptrdiff_t sy_page_numbers(
        ptrdiff_t n_bytes, const uint8_t *bytes, int width, ptrdiff_t n, int64_t *state, int32_t *numbers) nogil

PAGE_FIELDS = SY_PAGE_FIELDS
RUN_LEFT, RUN_PACKED, RUN_FIELDS = SY_RUN_LEFT, SY_RUN_PACKED, SY_RUN_FIELDS


def page_header(const uint8_t[::1] data, int64_t[::1] fields):
    if fields.shape[0] != SY_PAGE_FIELDS:
        raise ValueError("fields must have length PAGE_FIELDS")
    return sy_page_header(data.shape[0], &data[0], &fields[0]) if data.shape[0] else 0


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
