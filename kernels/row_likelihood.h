#ifndef STEELYARD_ROW_LIKELIHOOD_H
#define STEELYARD_ROW_LIKELIHOOD_H
#include <stddef.h>
#include <stdint.h>

double sy_row_likelihood(ptrdiff_t n, int model, ptrdiff_t k, ptrdiff_t q, ptrdiff_t d, const int32_t *a,
                         const int32_t *b, const double *context, const double *columns, const double *offset,
                         const double *y, const double *weight, const double *count, int meat,
                         const double *parameter, double *by_eta, double *score, double *hessian);
#endif
