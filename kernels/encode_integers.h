#ifndef STEELYARD_ENCODE_INTEGERS_H
#define STEELYARD_ENCODE_INTEGERS_H
#include <stddef.h>
#include <stdint.h>

#define SY_UNSEEN (-3) /* in a table: an integer that has no code yet */

ptrdiff_t sy_encode_int32(ptrdiff_t n, const int32_t *values, ptrdiff_t size, const int32_t *table, int32_t *codes);
ptrdiff_t sy_encode_int64(ptrdiff_t n, const int64_t *values, ptrdiff_t size, const int32_t *table, int32_t *codes);
#endif
