/* Weighted sums of columns over the rows of each label, several labels a row. */
#include "label_sums.h"
#include "common.h"
#include "tile_size.h"

/* The rows of a tile one after the other, x (m x d), so that what one adds to a label stands side by side. */
SY_CLONES
static void add_tile(ptrdiff_t m, ptrdiff_t n, ptrdiff_t d, ptrdiff_t stride, const double *columns, ptrdiff_t factors,
                     const double *factor, ptrdiff_t members, const int32_t *codes, double *restrict x, double *sums) {
    for (ptrdiff_t c = 0; c < d; c++)
        for (ptrdiff_t i = 0; i < m; i++)
            x[i * d + c] = columns[c * stride + i];
    for (ptrdiff_t i = 0; i < m; i++)
        for (ptrdiff_t j = 0; j < members; j++)
            for (ptrdiff_t f = 0; f < factors; f++) {
                double *restrict to = sums + (codes[j * n + i] * factors + f) * d;
                const double times = factor[f * n + i], *restrict row = x + i * d;
#pragma omp simd
                for (ptrdiff_t c = 0; c < d; c++)
                    to[c] += times * row[c];
            }
}

/* Whether the rows of a tile have the same labels, as those of a sorted log have. */
static int alike(ptrdiff_t n, ptrdiff_t members, const int32_t *codes) {
    int32_t other = 0;
    for (ptrdiff_t j = 0; j < members; j++)
        for (ptrdiff_t i = 1; i < TILE; i++)
            other |= codes[j * n + i] ^ codes[j * n];
    return !other;
}

/* A whole tile of rows with the same labels: its sums are made once, and without turning it. */
SY_CLONES
static void add_alike(ptrdiff_t n, ptrdiff_t d, ptrdiff_t stride, const double *columns, ptrdiff_t factors,
                      const double *factor, ptrdiff_t members, const int32_t *codes, double *sums) {
    for (ptrdiff_t f = 0; f < factors; f++)
        for (ptrdiff_t c = 0; c < d; c++) {
            const double *restrict times = factor + f * n, *restrict column = columns + c * stride;
            double s[2 * TILE_LANES] = {0};
            for (ptrdiff_t i = 0; i < TILE; i += 2 * TILE_LANES)
#pragma omp simd
                for (int l = 0; l < 2 * TILE_LANES; l++)
                    s[l] += times[i + l] * column[i + l];
            const double sum = sy_eight(s);
            for (ptrdiff_t j = 0; j < members; j++)
                sums[(codes[j * n] * factors + f) * d + c] += sum;
        }
}

/* columns: d x n, one every `stride` numbers. factor: factors x n. codes: members x n, labels of a row. work: TILE x d.
   sums: labels x factors x d, added to: of factor times column over the rows that have the label, once for each time. */
void sy_label_sums(ptrdiff_t n, ptrdiff_t d, ptrdiff_t stride, const double *columns, ptrdiff_t factors,
                   const double *factor, ptrdiff_t members, const int32_t *codes, double *work, double *sums) {
    for (ptrdiff_t at = 0; at < n; at += TILE) {
        const ptrdiff_t m = n - at < TILE ? n - at : TILE;
        if (m == TILE && alike(n, members, codes + at))
            add_alike(n, d, stride, columns + at, factors, factor + at, members, codes + at, sums);
        else
            add_tile(m, n, d, stride, columns + at, factors, factor + at, members, codes + at, work, sums);
    }
}
