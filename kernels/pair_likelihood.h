#ifndef STEELYARD_PAIR_LIKELIHOOD_H
#define STEELYARD_PAIR_LIKELIHOOD_H
#include <stddef.h>
#include <stdint.h>

void sy_pair_likelihood(ptrdiff_t n, int model, const int32_t *a, const int32_t *b, const double *first,
                        const double *outcomes, const double *theta, double kappa, double tie, double *value,
                        double *d_eta, double *d_tie, double *h_eta, double *h_cross, double *h_tie);
double sy_pair_sums(ptrdiff_t n, int model, ptrdiff_t k, int has_position, const int32_t *a, const int32_t *b,
                    const double *first, const double *outcomes, const double *theta, double kappa, double tie,
                    double *score, double *diagonal, double *border, double *corner, double *h_eta);
void sy_pair_outcomes(ptrdiff_t n, int model, const double *eta, double tie, double *p_a, double *p_tie);
void sy_pair_score(ptrdiff_t n, ptrdiff_t k, int has_position, int has_tie, const int32_t *a, const int32_t *b,
                   const double *first, const double *d_eta, const double *d_tie, double *score);
void sy_pair_hessian(ptrdiff_t n, ptrdiff_t k, ptrdiff_t p, int has_position, int has_tie, const int32_t *a,
                     const int32_t *b, const double *first, const double *h_eta, const double *h_cross,
                     const double *h_tie, double *hessian);
#endif
