#ifndef STEELYARD_PARQUET_PAGES_H
#define STEELYARD_PARQUET_PAGES_H
#include <stddef.h>
#include <stdint.h>

/* What a header says: the type of the page (0 data, 2 dictionary, 3 data of version 2), its size and the size it is
   stored in, how many values it has and how they are encoded; how levels are encoded or, in version 2, how many bytes
   those of nulls and of repeats take, and whether the rest is compressed. */
enum sy_page_field {
    SY_PAGE_TYPE, SY_PAGE_SIZE, SY_PAGE_STORED, SY_PAGE_VALUES, SY_PAGE_ENCODING, SY_PAGE_LEVEL_ENCODING,
    SY_PAGE_LEVELS, SY_PAGE_REPEATS, SY_PAGE_COMPRESSED, SY_PAGE_FIELDS
};
/* Behind the fields of its header where the body of a page begins and ends, and whether it is one of words, or of
   numbers of words, that is read here. */
enum sy_page_place { SY_PAGE_BEGIN = SY_PAGE_FIELDS, SY_PAGE_END, SY_PAGE_SOUND, SY_PAGE_PLACES };
/* Where a page is read: the byte of the next run; of this one how many numbers are left and taken, its first byte where
   it is packed (else -1), and its number where it repeats one. */
enum sy_run_field { SY_RUN_NEXT, SY_RUN_LEFT, SY_RUN_TAKEN, SY_RUN_PACKED, SY_RUN_VALUE, SY_RUN_FIELDS };

/* Some rows of a page whose values are all there: its numbers, of `width` bits, how many come before them and how many
   they are; and the codes of its words, SY_UNSEEN where there is none yet. */
typedef struct {
    const uint8_t *bytes;
    ptrdiff_t n_bytes;
    int width;
    ptrdiff_t before, count;
    const int32_t *known;
    ptrdiff_t n_known;
} sy_stretch;

ptrdiff_t sy_page_headers(ptrdiff_t n_bytes, const uint8_t *bytes, int nullable, ptrdiff_t at, int64_t rows,
                          ptrdiff_t most, int64_t *table);
ptrdiff_t sy_page_words(ptrdiff_t n_bytes, const uint8_t *bytes, ptrdiff_t n, uint64_t *views);
ptrdiff_t sy_page_numbers(ptrdiff_t n_bytes, const uint8_t *bytes, int width, ptrdiff_t n, int64_t *state,
                          int32_t *numbers);
ptrdiff_t sy_page_codes(ptrdiff_t m, const sy_stretch *stretches, int32_t *codes);
#endif
