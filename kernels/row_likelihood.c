/* Rows with covariates: log-likelihood, score, Hessian and meat of one block in one pass.

   eta = theta_a - theta_b + sum_j beta_j z_j + offset: k arms, d antisymmetric columns z (covariates, feature
   differences, the position). Parameters in this order: theta (k), beta (d), then the tie parameter where the model has
   one; p in all. 256 rows at a time, so that between the steps nothing leaves the cache. Where matrices are
   wanted, or features of two sides are read, the columns of these rows become a tile, STRIDE numbers a column. */
#include "likelihood.h"
#include "row_likelihood.h"

#define LANES 8 /* partial sums in a fixed order: the same bits from every instruction set */
#define TOGETHER 4 /* columns whose sums stay in registers together */
#define STRIDE SY_ROW_STRIDE

typedef struct {
    double eta[SY_CHUNK], outcomes[3 * SY_CHUNK], value[SY_CHUNK];
    double d_eta[SY_CHUNK], d_tie[SY_CHUNK], h_eta[SY_CHUNK], h_cross[SY_CHUNK], h_tie[SY_CHUNK], weight[SY_CHUNK];
} chunk;

/* The columns of a chunk: where they lie, from `at` on and less their origin, or (columns NULL) in a tile. */
typedef struct {
    const double *const *columns, *origin, *tile;
    ptrdiff_t at;
} view;

static inline const double *column_of(const view *z, ptrdiff_t j) {
    return z->columns ? z->columns[j] + z->at : z->tile + j * STRIDE;
}

static inline double origin_of(const view *z, ptrdiff_t j) { return z->columns ? z->origin[j] : 0.0; }

/* To `to` the sums over m rows of f times some columns from j on. Several at a time: the sums of one alone would wait
   for each other. */
SY_WITHIN void dots_of(int columns, ptrdiff_t m, const double *f, const view *z, ptrdiff_t j, double *to) {
    const double *y[TOGETHER];
    double s[TOGETHER][LANES] = {{0}}, o[TOGETHER];
    ptrdiff_t i = 0;
    for (int c = 0; c < columns; c++) {
        y[c] = column_of(z, j + c);
        o[c] = origin_of(z, j + c);
    }
    for (; i + LANES <= m; i += LANES)
        for (int c = 0; c < columns; c++)
#pragma omp simd
            for (int l = 0; l < LANES; l++)
                s[c][l] += f[i + l] * (y[c][i + l] - o[c]);
    for (int c = 0; c < columns; c++) {
        for (int l = 0; i + l < m; l++)
            s[c][l] += f[i + l] * (y[c][i + l] - o[c]);
        to[c] += sy_eight(s[c]);
    }
}

SY_CLONES
static void dots(ptrdiff_t m, ptrdiff_t d, const double *f, const view *z, double *to) {
    ptrdiff_t j = 0;
    for (; j + TOGETHER <= d; j += TOGETHER)
        dots_of(TOGETHER, m, f, z, j, to + j);
    for (; j < d; j++)
        dots_of(1, m, f, z, j, to + j);
}

/* To `to` (m) some columns from j on times their factors; column by column, whatever the number at a time. */
SY_WITHIN void add_scaled_of(int columns, ptrdiff_t m, const double *factor, const view *z, ptrdiff_t j, double *to) {
    const double *x[TOGETHER];
    double f[TOGETHER], o[TOGETHER];
    for (int c = 0; c < columns; c++) {
        x[c] = column_of(z, j + c);
        f[c] = factor[j + c];
        o[c] = origin_of(z, j + c);
        for (ptrdiff_t i = 0; z->columns && i < m; i += LANES)
            SY_PREFETCH(x[c], SY_CHUNK + i);
    }
#pragma omp simd
    for (ptrdiff_t i = 0; i < m; i++) {
        double sum = to[i];
        for (int c = 0; c < columns; c++)
            sum += f[c] * (x[c][i] - o[c]);
        to[i] = sum;
    }
}

SY_CLONES
static void add_scaled(ptrdiff_t m, ptrdiff_t d, const double *factor, const view *z, double *to) {
    ptrdiff_t j = 0;
    for (; j + TOGETHER <= d; j += TOGETHER)
        add_scaled_of(TOGETHER, m, factor, z, j, to);
    for (; j < d; j++)
        add_scaled_of(1, m, factor, z, j, to);
}

/* m rows of columns that lie apart, less their origin. */
SY_CLONES
static void tile_of_columns(ptrdiff_t m, ptrdiff_t d, ptrdiff_t at, const double *const *columns, const double *origin,
                            double *x) {
    for (ptrdiff_t j = 0; j < d; j++) {
        const double *z = columns[j] + at, less = origin[j];
        double *to = x + j * STRIDE;
        for (ptrdiff_t i = 0; i < m; i += LANES)
            SY_PREFETCH(z, SY_CHUNK + i);
#pragma omp simd
        for (ptrdiff_t i = 0; i < m; i++)
            to[i] = z[i] - less;
    }
}

/* 8 x 8 numbers turned, in registers where the compiler knows of vectors. */
#if defined(__clang__) || (defined(__GNUC__) && __GNUC__ >= 12)
typedef double vector __attribute__((vector_size(8 * sizeof(double))));
#define MIXED(x, y, ...) __builtin_shufflevector(x, y, __VA_ARGS__)

SY_WITHIN void turn(const double x[8][8], double *to, ptrdiff_t stride) {
    vector r[8], s[8];
    memcpy(r, x, sizeof r);
    for (int i = 0; i < 8; i += 2) {
        s[i] = MIXED(r[i], r[i + 1], 0, 8, 2, 10, 4, 12, 6, 14);
        s[i + 1] = MIXED(r[i], r[i + 1], 1, 9, 3, 11, 5, 13, 7, 15);
    }
    for (int i = 0; i < 8; i += 4)
        for (int k = i; k < i + 2; k++) {
            r[k] = MIXED(s[k], s[k + 2], 0, 1, 8, 9, 4, 5, 12, 13);
            r[k + 2] = MIXED(s[k], s[k + 2], 2, 3, 10, 11, 6, 7, 14, 15);
        }
    for (int k = 0; k < 4; k++) {
        s[k] = MIXED(r[k], r[k + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        s[k + 4] = MIXED(r[k], r[k + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
    for (int k = 0; k < 8; k++)
        memcpy(to + k * stride, s + k, sizeof(vector));
}
#else
SY_WITHIN void turn(const double x[8][8], double *to, ptrdiff_t stride) {
    for (int k = 0; k < 8; k++)
        for (int i = 0; i < 8; i++)
            to[k * stride + i] = x[i][k];
}
#endif

/* m rows of d features of both sides, a's less b's, turned; the difference is taken in the numbers' own type. The last
   eight columns may be some that are done already. */
#define TILE_OF_SIDES(name, number)                                                                                    \
    SY_CLONES                                                                                                          \
    static void name(ptrdiff_t m, ptrdiff_t d, const number *left, const number *right, double *x) {                   \
        ptrdiff_t i = 0;                                                                                               \
        for (; i + 8 <= m && d >= 8; i += 8) {                                                                         \
            for (ptrdiff_t at = 0; at < 8 * d; at += 64 / (ptrdiff_t)sizeof(number)) {                                 \
                SY_PREFETCH(left, (SY_CHUNK + i) * d + at);                                                            \
                SY_PREFETCH(right, (SY_CHUNK + i) * d + at);                                                           \
            }                                                                                                          \
            for (ptrdiff_t j = 0; j < d; j += 8) {                                                                     \
                const ptrdiff_t from = j + 8 <= d ? j : d - 8;                                                         \
                double rows[8][8];                                                                                     \
                for (int l = 0; l < 8; l++)                                                                            \
                    for (int c = 0; c < 8; c++)                                                                        \
                        rows[l][c] = left[(i + l) * d + from + c] - right[(i + l) * d + from + c];                     \
                turn((const double(*)[8])rows, x + from * STRIDE + i, STRIDE);                                         \
            }                                                                                                          \
        }                                                                                                              \
        for (; i < m; i++)                                                                                             \
            for (ptrdiff_t j = 0; j < d; j++)                                                                          \
                x[j * STRIDE + i] = left[i * d + j] - right[i * d + j];                                                \
    }
TILE_OF_SIDES(tile_of_doubles, double)
TILE_OF_SIDES(tile_of_singles, float)

static void tile_of(ptrdiff_t m, ptrdiff_t d, ptrdiff_t at, const sy_design *design, double *x) {
    if (m < SY_CHUNK)
        memset(x, 0, (size_t)(d * STRIDE) * sizeof(double));
    if (design->columns)
        tile_of_columns(m, d, at, design->columns, design->origin, x);
    else if (design->single)
        tile_of_singles(m, d, (const float *)design->left + at * d, (const float *)design->right + at * d, x);
    else
        tile_of_doubles(m, d, (const double *)design->left + at * d, (const double *)design->right + at * d, x);
}

/* To `to`, a row every `stride` numbers, the sums over m rows of some vectors f times some columns of a tile; all are 0
   beyond m. Several together: the sums of one alone would wait for each other. ahead: how far the first column stands
   beyond the first vector; what lies below the diagonal is left out. */
SY_WITHIN void products_of(int vectors, int columns, ptrdiff_t ahead, ptrdiff_t m, const double *restrict f,
                           const double *restrict x, double *restrict to, ptrdiff_t stride) {
    double s[TOGETHER][2][LANES] = {{{0}}};
    for (ptrdiff_t i = 0; i < m; i += LANES)
        for (int v = 0; v < vectors; v++)
            for (int c = 0; c < columns; c++)
#pragma omp simd
                for (int l = 0; l < LANES; l++)
                    s[v][c][l] += f[v * STRIDE + i + l] * x[c * STRIDE + i + l];
    for (int v = 0; v < vectors; v++)
        for (int c = 0; c < columns; c++)
            if (ahead + c >= v)
                to[v * stride + c] += sy_eight(s[v][c]);
}

/* To the upper triangle (rows of p numbers) the sums over m rows of h x x'. fx: room for TOGETHER columns. */
SY_CLONES
static void grams(ptrdiff_t m, ptrdiff_t d, ptrdiff_t p, const double *h, const double *x, double *fx, double *to) {
    for (ptrdiff_t j = 0; j < d; j += TOGETHER) {
        const int some = d - j < TOGETHER ? (int)(d - j) : TOGETHER;
        for (int v = 0; v < some; v++)
#pragma omp simd
            for (ptrdiff_t i = 0; i < SY_CHUNK; i++)
                fx[v * STRIDE + i] = h[i] * x[(j + v) * STRIDE + i];
        ptrdiff_t c = j;
        for (; some == TOGETHER && c + 2 <= d; c += 2)
            products_of(TOGETHER, 2, c - j, m, fx, x + c * STRIDE, to + j * p + c, p);
        for (; c < d; c++)
            for (int v = 0; v < some && j + v <= c; v++)
                products_of(1, 1, 0, m, fx + v * STRIDE, x + c * STRIDE, to + (j + v) * p + c, p);
    }
}

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
        h_eta[i] = w[i] * p * q;
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

/* A tile row by row. */
SY_CLONES
static void turned(ptrdiff_t m, ptrdiff_t d, const double *restrict x, double *restrict to) {
    ptrdiff_t j = 0;
    for (; j + 8 <= d; j += 8)
        for (ptrdiff_t i = 0; i < SY_CHUNK; i += 8) {
            double columns[8][8];
            for (int c = 0; c < 8; c++)
                memcpy(columns[c], x + (j + c) * STRIDE + i, sizeof columns[c]);
            turn((const double(*)[8])columns, to + i * d + j, d);
        }
    for (ptrdiff_t i = 0; i < m; i++)
        for (ptrdiff_t c = j; c < d; c++)
            to[i * d + c] = x[c * STRIDE + i];
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
    const int ties = model == SY_DAVIDSON || model == SY_RAO_KUPPER;
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
        if (!z.columns || hessian || meat) {
            tile_of(m, d, at, design, x);
            z.columns = NULL;
        }
        for (ptrdiff_t i = 0; i < m; i++)
            s.eta[i] = offset ? offset[at + i] : 0.0;
        if (k)
            arms_margin(m, left, right, parameter, s.eta);
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
