/* Log-likelihood, score and Hessian of the paired-comparison models (likelihood.h) on a table of pairs.

   eta = theta_a - theta_b + kappa first. */
#include "likelihood.h"
#include "pair_likelihood.h"

/* n cells. a, b: arms; first: 1, or 0 where kappa does not apply; outcomes: n x 3 (win, tie, loss);
   theta: arm scores; tie: log nu or tau. Outputs, n each: log-likelihood (value) and its derivatives;
   d_tie, h_cross, h_tie only for Davidson and Rao-Kupper. */
void sy_pair_likelihood(ptrdiff_t n, int model, const int32_t *a, const int32_t *b, const double *first,
                        const double *outcomes, const double *theta, double kappa, double tie, double *value,
                        double *d_eta, double *d_tie, double *h_eta, double *h_cross, double *h_tie) {
    double eta[SY_CHUNK];
    for (ptrdiff_t at = 0; at < n; at += SY_CHUNK) {
        const ptrdiff_t m = n - at < SY_CHUNK ? n - at : SY_CHUNK;
        for (ptrdiff_t i = 0; i < m; i++)
            eta[i] = theta[a[at + i]] - theta[b[at + i]] + kappa * first[at + i];
        sy_likelihood(m, model, eta, outcomes + 3 * at, tie, value + at, d_eta + at, d_tie + at, h_eta + at,
                      h_cross + at, h_tie + at);
    }
}

/* The same cells as sums at once, for a graph of many arms: score (p), added to; the Hessian as h_eta (n), the curvature
   between a and b, the sums of it by arm (diagonal, k), and the columns and corner of the q = p - k other parameters
   (border, k x q; corner, q x q, its upper triangle), all added to. Returns the log-likelihood. */
double sy_pair_sums(ptrdiff_t n, int model, ptrdiff_t k, int has_position, const int32_t *a, const int32_t *b,
                    const double *first, const double *outcomes, const double *theta, double kappa, double tie,
                    double *score, double *diagonal, double *border, double *corner, double *h_eta) {
    const int has_tie = model == SY_DAVIDSON || model == SY_RAO_KUPPER, q = has_position + has_tie;
    double eta[SY_CHUNK], value[SY_CHUNK], d_eta[SY_CHUNK], d_tie[SY_CHUNK], h_cross[SY_CHUNK], h_tie[SY_CHUNK];
    double total = 0.0;
    for (ptrdiff_t at = 0; at < n; at += SY_CHUNK) {
        const ptrdiff_t m = n - at < SY_CHUNK ? n - at : SY_CHUNK;
        const int32_t *up = a + at, *down = b + at;
        const double *h = h_eta + at;
        for (ptrdiff_t i = 0; i < m; i++)
            eta[i] = theta[up[i]] - theta[down[i]] + kappa * first[at + i];
        memset(value, 0, sizeof value);
        sy_likelihood(m, model, eta, outcomes + 3 * at, tie, value, d_eta, d_tie, h_eta + at, h_cross, h_tie);
        total += sy_chunk_sum(value);
        for (ptrdiff_t i = 0; i < m; i++) {
            score[up[i]] += d_eta[i];
            score[down[i]] -= d_eta[i];
            diagonal[up[i]] += h[i];
            diagonal[down[i]] += h[i];
        }
        if (has_position)
            for (ptrdiff_t i = 0; i < m; i++) {
                const double f = first[at + i], hf = h[i] * f;
                score[k] += d_eta[i] * f;
                border[up[i] * q] += hf;
                border[down[i] * q] -= hf;
                corner[0] += hf * f;
                if (has_tie)
                    corner[1] += h_cross[i] * f;
            }
        if (has_tie)
            for (ptrdiff_t i = 0; i < m; i++) {
                score[k + q - 1] += d_tie[i];
                border[up[i] * q + q - 1] += h_cross[i];
                border[down[i] * q + q - 1] -= h_cross[i];
                corner[q * q - 1] += h_tie[i];
            }
    }
    return total;
}

/* P(a wins) and P(tie) at n linear predictors; P(b wins) is what is left. */
void sy_pair_outcomes(ptrdiff_t n, int model, const double *eta, double tie, double *p_a, double *p_tie) {
    for (ptrdiff_t i = 0; i < n; i++) {
        double up, down, q, other, p_lose;
        p_tie[i] = 0.0;
        if (model == SY_BRADLEY_TERRY)
            logistic(eta[i], &up, &down, &p_a[i], &q);
        else if (model == SY_PROBIT)
            p_a[i] = 0.5 * erfc(-eta[i] * 0.70710678118654752440);
        else if (model == SY_DAVIDSON) {
            const double half = 0.5 * eta[i], top = fmax(fabs(half), tie);
            const double e_win = exp(half - top), e_tie = exp(tie - top), total = e_win + e_tie + exp(-half - top);
            p_a[i] = e_win / total;
            p_tie[i] = e_tie / total;
        } else {
            logistic(eta[i] - tie, &up, &down, &p_a[i], &q);
            logistic(-eta[i] - tie, &up, &down, &p_lose, &other);
            p_tie[i] = q * other * -expm1(-2.0 * tie);
        }
    }
}

/* Adds n cells' derivatives to the score (p); parameters are the k arms, then position, then tie where the
   model has them. */
void sy_pair_score(ptrdiff_t n, ptrdiff_t k, int has_position, int has_tie, const int32_t *a, const int32_t *b,
                   const double *first, const double *d_eta, const double *d_tie, double *score) {
    double position = 0.0, tie = 0.0;
    for (ptrdiff_t i = 0; i < n; i++) {
        score[a[i]] += d_eta[i];
        score[b[i]] -= d_eta[i];
        position += d_eta[i] * first[i];
        tie += d_tie[i];
    }
    if (has_position)
        score[k] += position;
    if (has_tie)
        score[k + (has_position ? 1 : 0)] += tie;
}

/* Adds n cells' curvatures to the dense Hessian (p x p, both triangles). */
void sy_pair_hessian(ptrdiff_t n, ptrdiff_t k, ptrdiff_t p, int has_position, int has_tie, const int32_t *a,
                     const int32_t *b, const double *first, const double *h_eta, const double *h_cross,
                     const double *h_tie, double *hessian) {
    const ptrdiff_t position = k, tie = k + (has_position ? 1 : 0);
    for (ptrdiff_t i = 0; i < n; i++) {
        const ptrdiff_t x = a[i], y = b[i];
        const double h = h_eta[i];
        hessian[x * p + x] += h;
        hessian[y * p + y] += h;
        hessian[x * p + y] -= h;
        hessian[y * p + x] -= h;
        if (has_position) {
            const double hf = h * first[i];
            hessian[x * p + position] += hf;
            hessian[y * p + position] -= hf;
            hessian[position * p + position] += hf * first[i];
        }
        if (has_tie) {
            hessian[x * p + tie] += h_cross[i];
            hessian[y * p + tie] -= h_cross[i];
            hessian[tie * p + tie] += h_tie[i];
            if (has_position)
                hessian[position * p + tie] += h_cross[i] * first[i];
        }
    }
    for (ptrdiff_t row = k; row < p; row++) /* the arm and position rows above were filled as columns */
        for (ptrdiff_t column = 0; column < row; column++)
            hessian[row * p + column] = hessian[column * p + row];
}
