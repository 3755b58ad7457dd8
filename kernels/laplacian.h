#ifndef STEELYARD_LAPLACIAN_H
#define STEELYARD_LAPLACIAN_H
#include <stddef.h>
#include <stdint.h>

void sy_laplacian_product(ptrdiff_t m, ptrdiff_t k, ptrdiff_t r, const int32_t *a, const int32_t *b,
                          const double *weight, double ridge, const double *x, double *out);
#endif
