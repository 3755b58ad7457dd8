# cython: language_level=3, boundscheck=False, wraparound=False
"""Arrow string views to codes (kernels/encode_views.c)."""

from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t

cdef extern from "encode_views.h":
    enum:
        SY_VIEW_CACHE
    ptrdiff_t sy_encode_views(
        ptrdiff_t start, ptrdiff_t n, const uint64_t *views, const uint8_t *valid, ptrdiff_t valid_offset,
        const uint8_t *const *buffers, int learn, ptrdiff_t n_slots, ptrdiff_t capacity,
        ptrdiff_t arena_capacity, int32_t *slots, uint64_t *hashes, int64_t *offsets, uint8_t *arena,
        int64_t *count, uint64_t *cache, int32_t *codes) nogil
    void sy_rehash(ptrdiff_t count, const uint64_t *hashes, ptrdiff_t n_slots, int32_t *slots) nogil

CACHE_WORDS = 4 * SY_VIEW_CACHE


def encode_views(
    ptrdiff_t start, const uint64_t[:, ::1] views, const uint8_t[::1] valid, ptrdiff_t valid_offset,
    list buffers, bint learn, int32_t[::1] slots, uint64_t[::1] hashes, int64_t[::1] offsets,
    uint8_t[::1] arena, int64_t[::1] count, uint64_t[::1] cache, int32_t[::1] codes,
):
    cdef ptrdiff_t n = views.shape[0], n_slots = slots.shape[0], capacity = hashes.shape[0], done, i
    cdef const uint8_t[::1] buffer
    cdef const uint8_t *valid_at = NULL
    cdef const uint8_t **pointers
    if views.shape[1] != 2 or codes.shape[0] != n or not 0 <= start <= n:
        raise ValueError("views must be n x 2, codes of length n, and start within 0..n")
    if n_slots < 1 or n_slots < 2 * capacity or n_slots & (n_slots - 1) or offsets.shape[0] != capacity + 1:
        raise ValueError("slots must be a power of two of at least 2 x capacity; offsets of capacity + 1")
    if count.shape[0] != 1 or cache.shape[0] != CACHE_WORDS:
        raise ValueError("count must have length 1 and cache CACHE_WORDS")
    if valid is not None:
        if valid.shape[0] * 8 < valid_offset + n:
            raise ValueError("the validity bitmap is shorter than the views")
        valid_at = &valid[0]
    pointers = <const uint8_t **>PyMem_Malloc((len(buffers) + 1) * sizeof(void *))
    if not pointers:
        raise MemoryError()
    try:
        for i in range(len(buffers)):
            buffer = buffers[i]
            pointers[i] = &buffer[0]
        with nogil:
            done = sy_encode_views(
                start, n, &views[0, 0], valid_at, valid_offset, pointers, learn, n_slots, capacity,
                arena.shape[0], &slots[0], &hashes[0], &offsets[0], &arena[0], &count[0], &cache[0], &codes[0])
    finally:
        PyMem_Free(pointers)
    return done


def rehash(ptrdiff_t count, const uint64_t[::1] hashes, int32_t[::1] slots):
    if count > hashes.shape[0] or slots.shape[0] < 2 * count or slots.shape[0] & (slots.shape[0] - 1):
        raise ValueError("slots must be a power of two of at least 2 x count, hashes at least count")
    with nogil:
        sy_rehash(count, &hashes[0], slots.shape[0], &slots[0])
