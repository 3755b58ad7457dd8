#ifndef STEELYARD_BANDS_H
#define STEELYARD_BANDS_H
#include <stddef.h>
#include <stdint.h>

void sy_contrasts_beyond(ptrdiff_t n, ptrdiff_t k, const double *draws, const double *precision, double limit,
                         int64_t *count);
#endif
