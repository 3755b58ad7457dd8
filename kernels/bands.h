#ifndef STEELYARD_BANDS_H
#define STEELYARD_BANDS_H
#include <stddef.h>

void sy_largest_contrast(ptrdiff_t n, ptrdiff_t k, const float *draws, const float *precision, float *largest);
#endif
