/* Loops over a tile: 64 rows of some columns, (columns x TILE), that stay in the cache while sums are made of them. */
#ifndef STEELYARD_TILES_H
#define STEELYARD_TILES_H
#include "common.h"
#include "tile_size.h"

#define TILE_TOGETHER 4 /* vectors of parameters or of slopes whose sums stay in registers together */

/* m rows of d columns, one every `stride` numbers; 0 beyond m. */
SY_CLONES
static void tile_of(ptrdiff_t m, ptrdiff_t d, ptrdiff_t stride, const double *columns, double *x) {
    if (m < TILE)
        memset(x, 0, (size_t)(d * TILE) * sizeof(double));
    for (ptrdiff_t c = 0; c < d; c++) {
        memcpy(x + c * TILE, columns + c * stride, (size_t)m * sizeof(double));
        for (ptrdiff_t i = TILE; i < 2 * TILE; i += 8)
            SY_PREFETCH(columns, c * stride + i);
    }
}

/* Margins of `rows` rows from x, by some parameters gamma (vectors x d). */
SY_WITHIN void tile_margins_of(int vectors, ptrdiff_t rows, ptrdiff_t d, const double *restrict gamma,
                               const double *restrict x, double *restrict margin) {
    for (ptrdiff_t i = 0; i < rows; i += 2 * TILE_LANES) {
        double s[TILE_TOGETHER][2 * TILE_LANES] = {{0}};
        for (ptrdiff_t c = 0; c < d; c++)
            for (int j = 0; j < vectors; j++)
#pragma omp simd
                for (int l = 0; l < 2 * TILE_LANES; l++)
                    s[j][l] += gamma[j * d + c] * x[c * TILE + i + l];
        for (int j = 0; j < vectors; j++)
            for (int l = 0; l < 2 * TILE_LANES; l++)
                margin[j * TILE + i + l] = s[j][l];
    }
}

/* margin (k x TILE) of x (d x TILE) by gamma (k x d), of the first `rows`, a multiple of 8. */
SY_CLONES
static void tile_margins(ptrdiff_t k, ptrdiff_t rows, ptrdiff_t d, const double *gamma, const double *x,
                         double *margin) {
    ptrdiff_t j = 0;
    for (; j + TILE_TOGETHER <= k; j += TILE_TOGETHER)
        tile_margins_of(TILE_TOGETHER, rows, d, gamma + j * d, x, margin + j * TILE);
    for (; j < k; j++)
        tile_margins_of(1, rows, d, gamma + j * d, x, margin + j * TILE);
}

/* To the lanes of some slopes (vectors x TILE) and columns: the sums over rows of slope times x. */
SY_WITHIN void tile_sums_of(int vectors, int columns, ptrdiff_t rows, ptrdiff_t d, const double *restrict slope,
                            const double *restrict x, double *restrict lanes) {
    double s[TILE_TOGETHER][2][TILE_LANES] = {{{0}}};
    for (ptrdiff_t i = 0; i < rows; i += TILE_LANES)
        for (int j = 0; j < vectors; j++)
            for (int c = 0; c < columns; c++)
#pragma omp simd
                for (int l = 0; l < TILE_LANES; l++)
                    s[j][c][l] += slope[j * TILE + i + l] * x[c * TILE + i + l];
    for (int j = 0; j < vectors; j++)
        for (int c = 0; c < columns; c++)
            for (int l = 0; l < TILE_LANES; l++)
                lanes[(j * d + c) * TILE_LANES + l] += s[j][c][l];
}

/* To lanes (k x d x TILE_LANES), from column `first` on: the sums over rows of slope (k x TILE) times x (d x TILE). */
SY_CLONES
static void tile_sums(ptrdiff_t k, ptrdiff_t rows, ptrdiff_t first, ptrdiff_t d, const double *slope, const double *x,
                      double *lanes) {
    ptrdiff_t j = 0;
    for (; j + TILE_TOGETHER <= k; j += TILE_TOGETHER) {
        ptrdiff_t c = first;
        for (; c + 2 <= d; c += 2)
            tile_sums_of(TILE_TOGETHER, 2, rows, d, slope + j * TILE, x + c * TILE, lanes + (j * d + c) * TILE_LANES);
        if (c < d)
            tile_sums_of(TILE_TOGETHER, 1, rows, d, slope + j * TILE, x + c * TILE, lanes + (j * d + c) * TILE_LANES);
    }
    for (; j < k; j++) {
        ptrdiff_t c = first;
        for (; c + 2 <= d; c += 2)
            tile_sums_of(1, 2, rows, d, slope + j * TILE, x + c * TILE, lanes + (j * d + c) * TILE_LANES);
        if (c < d)
            tile_sums_of(1, 1, rows, d, slope + j * TILE, x + c * TILE, lanes + (j * d + c) * TILE_LANES);
    }
}

static inline double tile_total(const double *s) { return (s[0] + s[1]) + (s[2] + s[3]); }
#endif
