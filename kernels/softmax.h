#ifndef STEELYARD_SOFTMAX_H
#define STEELYARD_SOFTMAX_H
#include <stddef.h>
#include <stdint.h>

void sy_softmax(ptrdiff_t n, ptrdiff_t k, const int32_t *a, const int32_t *b, const double *weight,
                const double *logits, double *gradient, double *roots);
double sy_softmax_sums(ptrdiff_t n, ptrdiff_t k, ptrdiff_t d, const int32_t *a, const int32_t *b, const double *weight,
                       ptrdiff_t stride, const double *columns, const double *gamma, double *work, double *value,
                       double *gradient);
void sy_softmax_product(ptrdiff_t n, ptrdiff_t k, ptrdiff_t d, const int32_t *a, const int32_t *b,
                        const double *weight, ptrdiff_t stride, const double *columns, const double *gamma,
                        const double *direction, double *work, double *product);
#endif
