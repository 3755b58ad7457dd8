#ifndef STEELYARD_COLUMN_MOMENTS_H
#define STEELYARD_COLUMN_MOMENTS_H
#include <stddef.h>

void sy_column_moments(ptrdiff_t n, const double *column, double origin, const double *weight, double sums[2]);
#endif
