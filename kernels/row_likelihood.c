/* Rows with covariates: log-likelihood, score and Hessian of one block in one pass.

   eta = theta_a - theta_b + sum_j beta_j z_j + offset: k arms, d antisymmetric columns z (covariates, feature
   differences, the position). Parameters in this order: theta (k), beta (d), then the tie parameter where the model has
   one; p in all. 256 rows at a time, so that between the steps nothing leaves the cache. */
#include "likelihood.h"
#include "row_likelihood.h"

#define LANES 8 /* partial sums in a fixed order: the same bits from every instruction set */
#define TOGETHER 4 /* columns whose sums stay in registers together */

typedef struct {
    double eta[SY_CHUNK], outcomes[3 * SY_CHUNK], value[SY_CHUNK];
    double d_eta[SY_CHUNK], d_tie[SY_CHUNK], h_eta[SY_CHUNK], h_cross[SY_CHUNK], h_tie[SY_CHUNK], work[SY_CHUNK];
} chunk;

/* To `to` (d) the sums over m rows, from `at` on, of x times each column less its origin. x is 0 beyond m, the columns
   are not read there. Several columns at a time: the sums of one alone would wait for each other. */
SY_WITHIN void dots_of(int columns, ptrdiff_t m, ptrdiff_t at, const double *x, const double *const *z,
                       const double *origin, double *to) {
    const double *y[TOGETHER];
    double s[TOGETHER][LANES] = {{0}}, o[TOGETHER];
    ptrdiff_t i = 0;
    for (int j = 0; j < columns; j++) {
        y[j] = z[j] + at;
        o[j] = origin[j];
    }
    for (; i + LANES <= m; i += LANES)
        for (int j = 0; j < columns; j++)
#pragma omp simd
            for (int l = 0; l < LANES; l++)
                s[j][l] += x[i + l] * (y[j][i + l] - o[j]);
    for (int j = 0; j < columns; j++) {
        for (int l = 0; i + l < m; l++)
            s[j][l] += x[i + l] * (y[j][i + l] - o[j]);
        to[j] += sy_eight(s[j]);
    }
}

SY_CLONES
static void dots(ptrdiff_t m, ptrdiff_t d, ptrdiff_t at, const double *x, const double *const *z, const double *origin,
                 double *to) {
    ptrdiff_t j = 0;
    for (; j + TOGETHER <= d; j += TOGETHER)
        dots_of(TOGETHER, m, at, x, z + j, origin + j, to + j);
    for (; j < d; j++)
        dots_of(1, m, at, x, z + j, origin + j, to + j);
}

/* To `to` (m) each column less its origin times its factor; column by column, whatever the number at a time. */
SY_WITHIN void add_scaled_of(int columns, ptrdiff_t m, ptrdiff_t at, const double *factor, const double *const *z,
                             const double *origin, double *to) {
    const double *x[TOGETHER];
    double f[TOGETHER], o[TOGETHER];
    for (int j = 0; j < columns; j++) {
        x[j] = z[j] + at;
        f[j] = factor[j];
        o[j] = origin[j];
        for (ptrdiff_t i = 0; i < m; i += LANES)
            SY_PREFETCH(x[j], SY_CHUNK + i);
    }
#pragma omp simd
    for (ptrdiff_t i = 0; i < m; i++) {
        double sum = to[i];
        for (int j = 0; j < columns; j++)
            sum += f[j] * (x[j][i] - o[j]);
        to[i] = sum;
    }
}

SY_CLONES
static void add_scaled(ptrdiff_t m, ptrdiff_t d, ptrdiff_t at, const double *factor, const double *const *z,
                       const double *origin, double *to) {
    ptrdiff_t j = 0;
    for (; j + TOGETHER <= d; j += TOGETHER)
        add_scaled_of(TOGETHER, m, at, factor + j, z + j, origin + j, to);
    for (; j < d; j++)
        add_scaled_of(1, m, at, factor + j, z + j, origin + j, to);
}

SY_CLONES
static void multiply(ptrdiff_t m, const double *x, const double *y, double origin, double *to) {
#pragma omp simd
    for (ptrdiff_t i = 0; i < m; i++)
        to[i] = x[i] * (y[i] - origin);
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
                                ptrdiff_t at, const double *const *columns, const double *origin, const double *h,
                                const double *h_cross, double *hessian) {
    for (ptrdiff_t i = 0; i < m; i++) {
        double *up = hessian + a[i] * p + k, *down = hessian + b[i] * p + k;
        for (ptrdiff_t j = 0; j < d; j++) {
            const double term = h[i] * (columns[j][at + i] - origin[j]);
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
   columns: d of n numbers, each read less its origin. offset: n or NULL. y: outcome in [0, 1] from a's side. weight, count: n or NULL. parameter: p.
   by_eta: 4 x n or NULL, gets d_eta, d_tie, h_eta, h_cross row by row. score: p, added to. hessian: p x p, its upper
   triangle added to; NULL: none. meat: the Hessian's place takes the second moments of the row scores instead.
   Returns the log-likelihood. */
double sy_row_likelihood(ptrdiff_t n, int model, sy_own own, ptrdiff_t k, ptrdiff_t d, const int32_t *a,
                         const int32_t *b, const double *const *columns, const double *origin, const double *offset,
                         const double *y, const double *weight, const double *count, int meat,
                         const double *parameter, double *by_eta, double *score, double *hessian) {
    const int ties = model == SY_DAVIDSON || model == SY_RAO_KUPPER;
    const ptrdiff_t p = k + d + ties;
    const double tie = ties ? parameter[p - 1] : 0.0;
    double total = 0.0;
    chunk s;
    memset(&s, 0, sizeof s);
    for (ptrdiff_t at = 0; at < n; at += SY_CHUNK) {
        const ptrdiff_t m = n - at < SY_CHUNK ? n - at : SY_CHUNK;
        const int32_t *left = k ? a + at : NULL, *right = k ? b + at : NULL;
        if (m < SY_CHUNK)
            memset(&s, 0, sizeof s);
        for (ptrdiff_t i = 0; i < m; i++)
            s.eta[i] = offset ? offset[at + i] : 0.0;
        if (k)
            arms_margin(m, left, right, parameter, s.eta);
        add_scaled(m, d, at, parameter + k, columns, origin, s.eta);
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
        dots(m, d, at, s.d_eta, columns, origin, score + k);
        if (ties)
            score[p - 1] += sy_chunk_sum(s.d_tie);
        if (!hessian)
            continue;
        if (k) {
            arms_hessian(m, p, left, right, s.h_eta, hessian);
            arms_columns(m, k, d, p, left, right, at, columns, origin, s.h_eta, ties ? s.h_cross : NULL, hessian);
        }
        for (ptrdiff_t j = 0; j < d; j++) {
            double *row = hessian + (k + j) * p + k;
            multiply(m, s.h_eta, columns[j] + at, origin[j], s.work);
            dots(m, d - j, at, s.work, columns + j, origin + j, row + j);
            if (ties)
                dots(m, 1, at, s.h_cross, columns + j, origin + j, row + d);
        }
        if (ties)
            hessian[p * p - 1] += sy_chunk_sum(s.h_tie);
    }
    return total;
}
