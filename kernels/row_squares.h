#ifndef STEELYARD_ROW_SQUARES_H
#define STEELYARD_ROW_SQUARES_H
#include <stddef.h>
#include <stdint.h>

void sy_row_squares(ptrdiff_t n, ptrdiff_t k, const int64_t *start, const int32_t *place, const double *value,
                    double *sum);
#endif
