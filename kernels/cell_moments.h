#ifndef STEELYARD_CELL_MOMENTS_H
#define STEELYARD_CELL_MOMENTS_H
#include <stddef.h>
#include <stdint.h>

#define SY_CELL_LANES 8 /* numbers that are added together */

void sy_cell_moments(ptrdiff_t n, ptrdiff_t d, const int32_t *cell, const double *columns, const double *weight,
                     double *second, double *work);
#endif
