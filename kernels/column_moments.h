#ifndef STEELYARD_COLUMN_MOMENTS_H
#define STEELYARD_COLUMN_MOMENTS_H
#include <stddef.h>

void sy_column_moments(ptrdiff_t n, ptrdiff_t d, const double *columns, const double *origin, const double *weight,
                       const double *known, const double *y, double *sums);
#endif
