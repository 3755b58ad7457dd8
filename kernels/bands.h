#ifndef STEELYARD_BANDS_H
#define STEELYARD_BANDS_H
#include <stddef.h>

void sy_largest_contrast(ptrdiff_t n, ptrdiff_t k, const double *draws, const double *precision, double *largest);
#endif
