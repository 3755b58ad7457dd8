#ifndef STEELYARD_LAPLACIAN_H
#define STEELYARD_LAPLACIAN_H
#include <stddef.h>
#include <stdint.h>

void sy_laplacian_product(ptrdiff_t k, ptrdiff_t r, const int64_t *start, const int32_t *neighbour,
                          const double *edge, const double *diagonal, const double *x, double *out);
#endif
