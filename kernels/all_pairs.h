#ifndef STEELYARD_ALL_PAIRS_H
#define STEELYARD_ALL_PAIRS_H
#include <stddef.h>
#include <stdint.h>

#define SY_ALL_PAIRS_ROWS 64 /* rows whose arms stay in the cache between two arms' loops */

void sy_all_pairs(ptrdiff_t n, ptrdiff_t k, const double *score, const double *omega, const double *weight,
                  double *work, double *sums, double *means);

/* Chances of k arms: that of arm j is fixed[j], or where at[j] >= 0 a number a row, in that column of a block's. */
typedef struct {
    const int64_t *at;
    const double *fixed, *columns;
    ptrdiff_t stride;
} sy_policy;

void sy_policy_terms(ptrdiff_t n, ptrdiff_t k, ptrdiff_t stride, const double *score, sy_policy policy,
                     sy_policy reference, const uint8_t *supported, const int32_t *a, const int32_t *b, double *work,
                     double *terms);
void sy_pair_ends(ptrdiff_t n, ptrdiff_t k, const double *score, const double *wanted, const double *weight,
                  double lambda, double *work, double *ends);
void sy_pair_along(ptrdiff_t n, ptrdiff_t k, const double *score, const double *along, double lambda, double *work,
                   double *value);
#endif
