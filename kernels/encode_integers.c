/* Small integers to codes, by position in a table. */
#include "common.h"
#include "encode_integers.h"

/* codes: n entries of table (size) at values. Returns n, or the first row whose value lies outside the
   table or is unseen; the rows before it are done. */
#define ENCODE(name, integer)                                                                                    \
    ptrdiff_t name(ptrdiff_t n, const integer *values, ptrdiff_t size, const int32_t *table, int32_t *codes) {   \
        for (ptrdiff_t i = 0; i < n; i++) {                                                                      \
            if ((uint64_t)(int64_t)values[i] >= (uint64_t)size || table[values[i]] == SY_UNSEEN)                 \
                return i;                                                                                        \
            codes[i] = table[values[i]];                                                                         \
        }                                                                                                        \
        return n;                                                                                                \
    }

ENCODE(sy_encode_int32, int32_t)
ENCODE(sy_encode_int64, int64_t)
