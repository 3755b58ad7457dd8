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

/* columns: d x n, one every `stride` numbers. factor: factors x n. codes: members x n, labels of a row. work: TILE x d.
   sums: labels x factors x d, added to: of factor times column over the rows that have the label, once for each time. */
void sy_label_sums(ptrdiff_t n, ptrdiff_t d, ptrdiff_t stride, const double *columns, ptrdiff_t factors,
                   const double *factor, ptrdiff_t members, const int32_t *codes, double *work, double *sums) {
    for (ptrdiff_t at = 0; at < n; at += TILE)
        add_tile(n - at < TILE ? n - at : TILE, n, d, stride, columns + at, factors, factor + at, members, codes + at,
                 work, sums);
}
