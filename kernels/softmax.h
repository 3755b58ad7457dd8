#ifndef STEELYARD_SOFTMAX_H
#define STEELYARD_SOFTMAX_H
#include <stddef.h>
#include <stdint.h>

void sy_softmax(ptrdiff_t n, ptrdiff_t k, const int32_t *a, const int32_t *b, const double *weight,
                const double *logits, double *value, double *gradient, double *roots);
void sy_softmax_product(ptrdiff_t n, ptrdiff_t k, ptrdiff_t r, const double *roots, double *direction);
#endif
