#ifndef STEELYARD_ENCODE_VIEWS_H
#define STEELYARD_ENCODE_VIEWS_H
#include <stddef.h>
#include <stdint.h>

#define SY_VIEW_CACHE 4096 /* slots of view and code, 32 bytes each */

ptrdiff_t sy_encode_views(ptrdiff_t start, ptrdiff_t n, const uint64_t *views, const uint8_t *valid,
                          ptrdiff_t valid_offset, const uint8_t *const *buffers, int learn,
                          ptrdiff_t n_slots, ptrdiff_t capacity, ptrdiff_t arena_capacity,
                          int32_t *slots, uint64_t *hashes, int64_t *offsets, uint8_t *arena,
                          int64_t *count, uint64_t *cache, int32_t *codes);
void sy_rehash(ptrdiff_t count, const uint64_t *hashes, ptrdiff_t n_slots, int32_t *slots);
#endif
