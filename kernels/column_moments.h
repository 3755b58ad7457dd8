#ifndef STEELYARD_COLUMN_MOMENTS_H
#define STEELYARD_COLUMN_MOMENTS_H
#include <stddef.h>

#define SY_LANES 8
#define SY_SIDES_WORK(d) (SY_LANES * (d))

void sy_column_moments(ptrdiff_t n, const double *column, double origin, const double *weight, double sums[2]);
void sy_sides_squares_double(ptrdiff_t n, ptrdiff_t d, const double *a, const double *b, double *work,
                             double *squares);
void sy_sides_squares_float(ptrdiff_t n, ptrdiff_t d, const float *a, const float *b, double *work, double *squares);
#endif
