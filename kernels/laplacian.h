#ifndef STEELYARD_LAPLACIAN_H
#define STEELYARD_LAPLACIAN_H
#include <stddef.h>
#include <stdint.h>

void sy_laplacian_edges(ptrdiff_t m, ptrdiff_t k, const int32_t *a, const int32_t *b, const double *weight,
                        double ridge, const double *x, double *out);
void sy_laplacian_rows(ptrdiff_t k, ptrdiff_t r, const int64_t *start, const int32_t *neighbour, const double *edge,
                       const double *diagonal, const double *x, double *out);
#endif
