#ifndef STEELYARD_ROW_LIKELIHOOD_H
#define STEELYARD_ROW_LIKELIHOOD_H
#include <stddef.h>
#include <stdint.h>

/* A likelihood of one's own: at n eta, y and weights the weighted log-likelihood, its first derivative in eta, and
   minus its second. */
typedef void (*sy_own)(ptrdiff_t n, const double *eta, const double *y, const double *weight, double *value,
                       double *d_eta, double *h_eta);

/* d columns of n rows: either each apart, read less its origin; or (columns NULL) features row by row, floats where
   single: those of both sides, read as the left ones less the right ones, or (right NULL) these themselves, which go
   with no matrices. */
typedef struct {
    const double *const *columns;
    const double *origin;
    const void *left, *right;
    int single;
} sy_design;

#define SY_ROW_STRIDE 264 /* numbers from one column of 256 rows to the next: not all begin in one set of the cache */
#define SY_ROW_TOGETHER 4 /* columns whose sums stay in registers together */
#define SY_ROW_WORK(k, d) (((d) + SY_ROW_TOGETHER) * SY_ROW_STRIDE + ((k) ? SY_ROW_STRIDE * (d) : 0) + 8)

double sy_row_likelihood(ptrdiff_t n, int model, sy_own own, ptrdiff_t k, ptrdiff_t d, const int32_t *a,
                         const int32_t *b, const sy_design *design, const double *offset, const double *y,
                         const double *weight, const double *count, const double *parameter, double *by_eta,
                         double *score, double *hessian, double *meat, double *work);
#endif
