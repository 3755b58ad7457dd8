#ifndef STEELYARD_PAIR_TABLE_H
#define STEELYARD_PAIR_TABLE_H
#include <stddef.h>
#include <stdint.h>

#define SY_WIDEST_COUNT 16384 /* arms whose cells 32 bits can number */

ptrdiff_t sy_pair_cells(ptrdiff_t start, ptrdiff_t n, const int32_t *a, const int32_t *b, const uint8_t *first,
                        ptrdiff_t n_slots, ptrdiff_t capacity, int32_t *slots, int64_t *keys, int64_t *count,
                        int32_t *cell);
void sy_pair_slots(ptrdiff_t count, const int64_t *keys, ptrdiff_t n_slots, int32_t *slots);
ptrdiff_t sy_plain_keys(ptrdiff_t n, const int32_t *a, const int32_t *b, const int32_t *label,
                        const uint8_t *label_place, ptrdiff_t n_labels, const double *y, int64_t *keys);
ptrdiff_t sy_pair_count(ptrdiff_t n, const int32_t *a, const int32_t *b, const int32_t *label,
                        const uint8_t *label_place, ptrdiff_t n_labels, const double *y, ptrdiff_t k,
                        uint8_t *count, uint32_t *carry);
ptrdiff_t sy_square_cells(ptrdiff_t k, const double *count, const int32_t *order, const int32_t *name, int32_t *a,
                          int32_t *b, double *sums);
ptrdiff_t sy_sorted_cells(ptrdiff_t n, const int64_t *keys, const int64_t *count, int32_t *a, int32_t *b,
                          double *sums);
ptrdiff_t sy_folded_cells(ptrdiff_t n, ptrdiff_t width, const int32_t *a, const int32_t *b, const double *values,
                          int32_t *low, int32_t *high, double *folded);
ptrdiff_t sy_pair_table(ptrdiff_t n, const int32_t *cell, const double *y, const double *weight, const double *count,
                        double *sums, double *squares, double *rows);
#endif
