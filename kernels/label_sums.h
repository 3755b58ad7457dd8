#ifndef STEELYARD_LABEL_SUMS_H
#define STEELYARD_LABEL_SUMS_H
#include <stddef.h>
#include <stdint.h>

void sy_label_sums(ptrdiff_t n, ptrdiff_t d, ptrdiff_t stride, const double *columns, ptrdiff_t factors,
                   const double *factor, ptrdiff_t members, const int32_t *codes, double *work, double *sums);
#endif
