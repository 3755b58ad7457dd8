/* Rows with covariates: log-likelihood, score and Hessian of one block in one pass.

   eta = theta_a - theta_b + sum_j beta_j z_j + offset: k arms, d antisymmetric columns z (covariates, feature
   differences, the position). Parameters in this order: theta (k), beta (d), then the tie parameter where the model has
   one; p in all. 256 rows at a time, so that between the steps nothing leaves the cache. */
#include "likelihood.h"
#include "row_likelihood.h"

#define LANES 8 /* partial sums in a fixed order: the same bits from every instruction set */

typedef struct {
    double eta[SY_CHUNK], outcomes[3 * SY_CHUNK], value[SY_CHUNK];
    double d_eta[SY_CHUNK], d_tie[SY_CHUNK], h_eta[SY_CHUNK], h_cross[SY_CHUNK], h_tie[SY_CHUNK], work[SY_CHUNK];
} chunk;

/* sum over m rows of x y; x is 0 beyond m, y is not read there. */
SY_CLONES
static double dot(ptrdiff_t m, const double *x, const double *y) {
    double s[LANES] = {0};
    ptrdiff_t i = 0;
    for (; i + LANES <= m; i += LANES)
        for (int l = 0; l < LANES; l++)
            s[l] += x[i + l] * y[i + l];
    for (int l = 0; i + l < m; l++)
        s[l] += x[i + l] * y[i + l];
    return sy_eight(s);
}

SY_CLONES
static void add_scaled(ptrdiff_t m, double factor, const double *x, double *to) {
    for (ptrdiff_t i = 0; i < m; i += LANES)
        SY_PREFETCH(x, SY_CHUNK + i);
#pragma omp simd
    for (ptrdiff_t i = 0; i < m; i++)
        to[i] += factor * x[i];
}

SY_CLONES
static void multiply(ptrdiff_t m, const double *x, const double *y, double *to) {
#pragma omp simd
    for (ptrdiff_t i = 0; i < m; i++)
        to[i] = x[i] * y[i];
}

/* A soft label is y wins and 1 - y losses; the models with ties take hard labels only. */
static void outcomes_of(ptrdiff_t m, int model, const double *y, const double *weight, const double *count,
                        double *outcomes) {
    const int ties = model == SY_DAVIDSON || model == SY_RAO_KUPPER;
    for (ptrdiff_t i = 0; i < m; i++) {
        const double w = (weight ? weight[i] : 1.0) * (count ? count[i] : 1.0);
        const double tie = ties && y[i] == 0.5 ? w : 0.0;
        outcomes[3 * i] = (w - tie) * y[i];
        outcomes[3 * i + 1] = tie;
        outcomes[3 * i + 2] = (w - tie) * (1.0 - y[i]);
    }
}

static void arms_margin(ptrdiff_t m, const int32_t *a, const int32_t *b, const double *theta, double *eta) {
    for (ptrdiff_t i = 0; i < m; i++)
        eta[i] += theta[a[i]] - theta[b[i]];
}

static void arms_score(ptrdiff_t m, const int32_t *a, const int32_t *b, const double *d_eta, double *score) {
    for (ptrdiff_t i = 0; i < m; i++) {
        score[a[i]] += d_eta[i];
        score[b[i]] -= d_eta[i];
    }
}

/* Upper triangle of the arms' own block: h on (a, a) and (b, b), its negative on (a, b). */
static void arms_hessian(ptrdiff_t m, ptrdiff_t p, const int32_t *a, const int32_t *b, const double *h,
                         double *hessian) {
    for (ptrdiff_t i = 0; i < m; i++) {
        const ptrdiff_t low = a[i] < b[i] ? a[i] : b[i], high = a[i] < b[i] ? b[i] : a[i];
        hessian[low * p + low] += h[i];
        hessian[high * p + high] += h[i];
        hessian[low * p + high] -= h[i];
    }
}

/* The arms' rows of the columns' block, and of the tie parameter's column. */
static inline void arms_columns(ptrdiff_t m, ptrdiff_t k, ptrdiff_t d, ptrdiff_t p, const int32_t *a, const int32_t *b,
                                ptrdiff_t n, const double *columns, const double *h, const double *h_cross,
                                double *hessian) {
    for (ptrdiff_t i = 0; i < m; i++) {
        double *up = hessian + a[i] * p + k, *down = hessian + b[i] * p + k;
        for (ptrdiff_t j = 0; j < d; j++) {
            const double term = h[i] * columns[j * n + i];
            up[j] += term;
            down[j] -= term;
        }
        if (h_cross) {
            up[d] += h_cross[i];
            down[d] -= h_cross[i];
        }
    }
}

/* Squares and products of the rows' scores where curvatures stood: the meat of the sandwich. A row that stands for
   count comparisons has a score of count times one's, so its square counts 1 / count. */
static void moments(ptrdiff_t m, int ties, const double *count, chunk *s) {
    for (ptrdiff_t i = 0; i < m; i++) {
        const double c = count ? 1.0 / count[i] : 1.0;
        s->h_eta[i] = c * s->d_eta[i] * s->d_eta[i];
        s->h_cross[i] = ties ? c * s->d_eta[i] * s->d_tie[i] : 0.0;
        s->h_tie[i] = ties ? c * s->d_tie[i] * s->d_tie[i] : 0.0;
    }
}

/* One block of n rows. own: called in place of the model's likelihood, or NULL. a, b: arm codes below k.
   columns: d x n. offset: n or NULL. y: outcome in [0, 1] from a's side. weight, count: n or NULL. parameter: p.
   by_eta: 4 x n or NULL, gets d_eta, d_tie, h_eta, h_cross row by row. score: p, added to. hessian: p x p, its upper
   triangle added to; NULL: none. meat: the Hessian's place takes the second moments of the row scores instead.
   Returns the log-likelihood. */
double sy_row_likelihood(ptrdiff_t n, int model, sy_own own, ptrdiff_t k, ptrdiff_t d, const int32_t *a,
                         const int32_t *b, const double *columns, const double *offset, const double *y,
                         const double *weight, const double *count, int meat, const double *parameter, double *by_eta,
                         double *score, double *hessian) {
    const int ties = model == SY_DAVIDSON || model == SY_RAO_KUPPER;
    const ptrdiff_t p = k + d + ties;
    const double tie = ties ? parameter[p - 1] : 0.0;
    double total = 0.0;
    chunk s;
    memset(&s, 0, sizeof s);
    for (ptrdiff_t at = 0; at < n; at += SY_CHUNK) {
        const ptrdiff_t m = n - at < SY_CHUNK ? n - at : SY_CHUNK;
        const int32_t *left = k ? a + at : NULL, *right = k ? b + at : NULL;
        const double *z = columns + at;
        if (m < SY_CHUNK)
            memset(&s, 0, sizeof s);
        for (ptrdiff_t i = 0; i < m; i++)
            s.eta[i] = offset ? offset[at + i] : 0.0;
        if (k)
            arms_margin(m, left, right, parameter, s.eta);
        for (ptrdiff_t j = 0; j < d; j++)
            add_scaled(m, parameter[k + j], z + j * n, s.eta);
        if (own) {
            for (ptrdiff_t i = 0; i < m; i++)
                s.work[i] = (weight ? weight[at + i] : 1.0) * (count ? count[at + i] : 1.0);
            own(m, s.eta, y + at, s.work, s.value, s.d_eta, s.h_eta);
        } else {
            outcomes_of(m, model, y + at, weight ? weight + at : NULL, count ? count + at : NULL, s.outcomes);
            sy_likelihood(m, model, s.eta, s.outcomes, tie, s.value, s.d_eta, s.d_tie, s.h_eta, s.h_cross, s.h_tie);
        }
        total += sy_chunk_sum(s.value);
        if (meat)
            moments(m, ties, count ? count + at : NULL, &s);
        if (by_eta) {
            memcpy(by_eta + at, s.d_eta, (size_t)m * sizeof(double));
            memcpy(by_eta + n + at, s.d_tie, (size_t)m * sizeof(double));
            memcpy(by_eta + 2 * n + at, s.h_eta, (size_t)m * sizeof(double));
            memcpy(by_eta + 3 * n + at, s.h_cross, (size_t)m * sizeof(double));
        }
        if (k)
            arms_score(m, left, right, s.d_eta, score);
        for (ptrdiff_t j = 0; j < d; j++)
            score[k + j] += dot(m, s.d_eta, z + j * n);
        if (ties)
            score[p - 1] += sy_chunk_sum(s.d_tie);
        if (!hessian)
            continue;
        if (k) {
            arms_hessian(m, p, left, right, s.h_eta, hessian);
            arms_columns(m, k, d, p, left, right, n, z, s.h_eta, ties ? s.h_cross : NULL, hessian);
        }
        for (ptrdiff_t j = 0; j < d; j++) {
            double *row = hessian + (k + j) * p + k;
            multiply(m, s.h_eta, z + j * n, s.work);
            for (ptrdiff_t l = j; l < d; l++)
                row[l] += dot(m, s.work, z + l * n);
            if (ties)
                row[d] += dot(m, s.h_cross, z + j * n);
        }
        if (ties)
            hessian[p * p - 1] += sy_chunk_sum(s.h_tie);
    }
    return total;
}
