/* Rows with covariates: log-likelihood, score, Hessian and meat of one block in one pass.

   eta = theta_a - theta_b + sum_j beta_j z_j + offset: k arms, d antisymmetric columns z (covariates, feature
   differences, the position). Parameters in this order: theta (k), beta (d), then the tie parameter where the model has
   one; p in all. 256 rows at a time, so that between the steps nothing leaves the cache. Where matrices are
   wanted, or features of two sides are read, the columns of these rows become a tile, STRIDE numbers a column. */
#include "feature_rows.h"
#include "likelihood.h"
#include "row_tiles.h"

FEATURE_ROWS(static, float)
FEATURE_ROWS(static, double)

typedef struct {
    double eta[SY_CHUNK], outcomes[3 * SY_CHUNK], value[SY_CHUNK];
    double d_eta[SY_CHUNK], d_tie[SY_CHUNK], h_eta[SY_CHUNK], h_cross[SY_CHUNK], h_tie[SY_CHUNK], weight[SY_CHUNK];
} chunk;

/* What each row counts; weight, count: n or NULL. */
SY_CLONES
static void weights_of(ptrdiff_t m, ptrdiff_t at, const double *weight, const double *count, double *w) {
    for (ptrdiff_t i = 0; i < m; i++)
        w[i] = weight ? weight[at + i] : 1.0;
    for (ptrdiff_t i = 0; count && i < m; i++)
        w[i] *= count[at + i];
}

/* Bradley and Terry's model of rows: y in [0, 1] from a's side, w what they count. */
SY_CLONES
static void logistic_rows(ptrdiff_t m, const double *eta, const double *y, const double *w, double *value,
                          double *d_eta, double *h_eta) {
#pragma omp simd
    for (ptrdiff_t i = 0; i < m; i++) {
        const double up = w[i] * y[i], down = w[i] * (1.0 - y[i]);
        double log_up, log_down, p, q;
        logistic(eta[i], &log_up, &log_down, &p, &q);
        value[i] = up * log_up + down * log_down;
        d_eta[i] = up * q - down * p;
        h_eta[i] = (up + down) * p * q;
    }
}

/* A soft label is y wins and 1 - y losses; the models with ties take hard labels only. */
static void outcomes_of(ptrdiff_t m, int ties, const double *y, const double *w, double *outcomes) {
    for (ptrdiff_t i = 0; i < m; i++) {
        const double tie = ties && y[i] == 0.5 ? w[i] : 0.0;
        outcomes[3 * i] = (w[i] - tie) * y[i];
        outcomes[3 * i + 1] = tie;
        outcomes[3 * i + 2] = (w[i] - tie) * (1.0 - y[i]);
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

/* The arms' own block of the upper triangle: h on (a, a) and (b, b), its negative on (a, b). */
static void arms_hessian(ptrdiff_t m, ptrdiff_t p, const int32_t *a, const int32_t *b, const double *h,
                         double *hessian) {
    for (ptrdiff_t i = 0; i < m; i++) {
        const ptrdiff_t low = a[i] < b[i] ? a[i] : b[i], high = a[i] < b[i] ? b[i] : a[i];
        hessian[low * p + low] += h[i];
        hessian[high * p + high] += h[i];
        hessian[low * p + high] -= h[i];
    }
}

/* The arms' rows of the columns' block. x: d columns, row by row, so that a row is added as vectors. */
SY_CLONES
static void arms_columns(ptrdiff_t m, ptrdiff_t d, ptrdiff_t p, const int32_t *a, const int32_t *b, const double *h,
                         const double *restrict x, double *restrict to) {
    for (ptrdiff_t i = 0; i < m; i++, x += d) {
        double *up = to + a[i] * p, *down = to + b[i] * p;
#pragma omp simd
        for (ptrdiff_t j = 0; j < d; j++) {
            const double term = h[i] * x[j];
            up[j] += term;
            down[j] -= term;
        }
    }
}

static void arms_tie(ptrdiff_t m, ptrdiff_t p, const int32_t *a, const int32_t *b, const double *h_cross, double *to) {
    for (ptrdiff_t i = 0; i < m; i++) {
        to[a[i] * p] += h_cross[i];
        to[b[i] * p] -= h_cross[i];
    }
}

/* To the upper triangle the sums over a chunk of h z z', z all p columns of a row: of curvatures, or of moments. */
static void second(ptrdiff_t m, int ties, ptrdiff_t k, ptrdiff_t d, const int32_t *a, const int32_t *b, const chunk *s,
                   const double *x, const double *by_row, double *fx, double *to) {
    const ptrdiff_t p = k + d + ties;
    if (k) {
        arms_hessian(m, p, a, b, s->h_eta, to);
        arms_columns(m, d, p, a, b, s->h_eta, by_row, to + k);
        if (ties)
            arms_tie(m, p, a, b, s->h_cross, to + k + d);
    }
    grams(m, d, p, s->h_eta, x, fx, to + k * p + k);
    if (ties) {
        for (ptrdiff_t j = 0; j < d; j++)
            dots(m, 1, s->h_cross, &(view){.tile = x + j * STRIDE}, to + (k + j) * p + k + d);
        to[p * p - 1] += sy_chunk_sum(s->h_tie);
    }
}

/* The margins of m rows from `at` on, and their score, of features that lie row by row: the rows are read from memory
   once, for the score from near the core. margin: room for m. */
static void rows_margin(ptrdiff_t m, ptrdiff_t d, ptrdiff_t at, const sy_design *design, const double *factor,
                        double *margin, double *eta) {
    if (design->single)
        sy_rows_times_float(m, d, (const float *)design->left + at * d, factor, margin);
    else
        sy_rows_times_double(m, d, (const double *)design->left + at * d, factor, margin);
    for (ptrdiff_t i = 0; i < m; i++)
        eta[i] += margin[i];
}

static void rows_score(ptrdiff_t m, ptrdiff_t d, ptrdiff_t at, const sy_design *design, const double *d_eta,
                       double *score) {
    if (design->single)
        sy_times_rows_float(m, d, (const float *)design->left + at * d, d_eta, score);
    else
        sy_times_rows_double(m, d, (const double *)design->left + at * d, d_eta, score);
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

/* What a chunk says to each of its rows, (4 x n): d_eta, d_tie, h_eta, h_cross. */
static void told(ptrdiff_t m, ptrdiff_t n, const chunk *s, double *by_eta) {
    memcpy(by_eta, s->d_eta, (size_t)m * sizeof(double));
    memcpy(by_eta + n, s->d_tie, (size_t)m * sizeof(double));
    memcpy(by_eta + 2 * n, s->h_eta, (size_t)m * sizeof(double));
    memcpy(by_eta + 3 * n, s->h_cross, (size_t)m * sizeof(double));
}

/* One block of n rows. own: called in place of the model's likelihood, or NULL. a, b: arm codes below k. d columns, as
   the design has them. offset: n or NULL. y: outcome in [0, 1] from a's side. weight, count: n or NULL. parameter: p.
   by_eta: 4 x n or NULL, gets d_eta, d_tie, h_eta, h_cross row by row. score: p, added to. hessian, meat: p x p, their
   upper triangles added to, or NULL; meat: of second moments of the row scores. work: SY_ROW_WORK(k, d) numbers.
   Returns the log-likelihood. */
double sy_row_likelihood(ptrdiff_t n, int model, sy_own own, ptrdiff_t k, ptrdiff_t d, const int32_t *a,
                         const int32_t *b, const sy_design *design, const double *offset, const double *y,
                         const double *weight, const double *count, const double *parameter, double *by_eta,
                         double *score, double *hessian, double *meat, double *work) {
    const int ties = model == SY_DAVIDSON || model == SY_RAO_KUPPER, lying = !design->columns && !design->right;
    const ptrdiff_t p = k + d + ties;
    const double tie = ties ? parameter[p - 1] : 0.0;
    double total = 0.0, *x = sy_aligned(work), *fx = x + d * STRIDE, *by_row = fx + TOGETHER * STRIDE;
    chunk s;
    memset(&s, 0, sizeof s);
    for (ptrdiff_t at = 0; at < n; at += SY_CHUNK) {
        const ptrdiff_t m = n - at < SY_CHUNK ? n - at : SY_CHUNK;
        const int32_t *left = k ? a + at : NULL, *right = k ? b + at : NULL;
        if (m < SY_CHUNK)
            memset(&s, 0, sizeof s);
        view z = {design->columns, design->origin, x, at};
        if (!lying && (!z.columns || hessian || meat)) {
            tile_of(m, d, at, design, x);
            z.columns = NULL;
        }
        for (ptrdiff_t i = 0; i < m; i++)
            s.eta[i] = offset ? offset[at + i] : 0.0;
        if (k)
            arms_margin(m, left, right, parameter, s.eta);
        if (lying)
            rows_margin(m, d, at, design, parameter + k, s.value, s.eta);
        else
            add_scaled(m, d, parameter + k, &z, s.eta);
        weights_of(m, at, weight, count, s.weight);
        if (own) {
            own(m, s.eta, y + at, s.weight, s.value, s.d_eta, s.h_eta);
        } else if (model == SY_BRADLEY_TERRY) {
            logistic_rows(m, s.eta, y + at, s.weight, s.value, s.d_eta, s.h_eta);
        } else {
            outcomes_of(m, ties, y + at, s.weight, s.outcomes);
            sy_likelihood(m, model, s.eta, s.outcomes, tie, s.value, s.d_eta, s.d_tie, s.h_eta, s.h_cross, s.h_tie);
        }
        total += sy_chunk_sum(s.value);
        if (by_eta)
            told(m, n, &s, by_eta + at);
        if (k)
            arms_score(m, left, right, s.d_eta, score);
        if (lying)
            rows_score(m, d, at, design, s.d_eta, score + k);
        else
            dots(m, d, s.d_eta, &z, score + k);
        if (ties)
            score[p - 1] += sy_chunk_sum(s.d_tie);
        if (k && (hessian || meat))
            turned(m, d, x, by_row);
        if (hessian)
            second(m, ties, k, d, left, right, &s, x, by_row, fx, hessian);
        if (meat) {
            moments(m, ties, count ? count + at : NULL, &s);
            second(m, ties, k, d, left, right, &s, x, by_row, fx, meat);
        }
    }
    return total;
}
