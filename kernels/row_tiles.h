/* Columns of 256 rows at a time: sums over them where they lie, or in a tile, STRIDE numbers a column, which is made of
   columns that lie apart or of the features of two sides. */
#ifndef STEELYARD_ROW_TILES_H
#define STEELYARD_ROW_TILES_H
#include "common.h"
#include "row_likelihood.h"

#define LANES 8 /* partial sums in a fixed order: the same bits from every instruction set */
#define TOGETHER SY_ROW_TOGETHER
#define STRIDE SY_ROW_STRIDE
_Static_assert(STRIDE >= SY_CHUNK, "a tile's column holds a chunk");

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
#endif
