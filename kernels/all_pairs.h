#ifndef STEELYARD_ALL_PAIRS_H
#define STEELYARD_ALL_PAIRS_H
#include <stddef.h>
#include <stdint.h>

#define SY_ALL_PAIRS_ROWS 64 /* rows whose arms stay in the cache between two arms' loops */

void sy_all_pairs(ptrdiff_t n, ptrdiff_t k, const double *score, const double *omega, const double *weight,
                  double *work, double *sums, double *means);
void sy_policy_value(ptrdiff_t n, ptrdiff_t k, const double *score, const double *policy, const double *reference,
                     const uint8_t *drawn, double *work, double *value);
void sy_pair_ends(ptrdiff_t n, ptrdiff_t k, const double *score, const double *wanted, const double *weight,
                  double lambda, double *work, double *ends);
void sy_pair_along(ptrdiff_t n, ptrdiff_t k, const double *score, const double *along, double lambda, double *work,
                   double *value);
#endif
