#ifndef STEELYARD_ROW_LIKELIHOOD_H
#define STEELYARD_ROW_LIKELIHOOD_H
#include <stddef.h>
#include <stdint.h>

/* A likelihood of one's own: at n eta, y and weights the weighted log-likelihood, its first derivative in eta, and
   minus its second. */
typedef void (*sy_own)(ptrdiff_t n, const double *eta, const double *y, const double *weight, double *value,
                       double *d_eta, double *h_eta);

double sy_row_likelihood(ptrdiff_t n, int model, sy_own own, ptrdiff_t k, ptrdiff_t d, const int32_t *a,
                         const int32_t *b, const double *const *columns, const double *origin, const double *offset,
                         const double *y, const double *weight, const double *count, int meat,
                         const double *parameter, double *by_eta, double *score, double *hessian);
#endif
