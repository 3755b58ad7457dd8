/* Weighted second moments of some columns, cell by cell: rows of all cells as they come. */
#include "cell_moments.h"
#include "tiles.h"

/* The tile x (d x TILE) row by row, `wide` numbers a row; those from d on stay as they are. */
static void turned(ptrdiff_t rows, ptrdiff_t d, ptrdiff_t wide, const double *restrict x, double *restrict z) {
    for (ptrdiff_t c = 0; c < d; c++)
        for (ptrdiff_t i = 0; i < rows; i++)
            z[i * wide + c] = x[c * TILE + i];
}

/* To the sum of each row's cell: weight z z' from the diagonal on; before it only what whole lanes bring along. */
SY_CLONES
static void add_squares(ptrdiff_t rows, ptrdiff_t d, ptrdiff_t wide, const int32_t *cell, const double *weight,
                        const double *restrict z, double *restrict second) {
    for (ptrdiff_t i = 0; i < rows; i++, z += wide) {
        double *sum = second + cell[i] * d * wide;
        for (ptrdiff_t c = 0; c < d; c++) {
            const double scaled = weight[i] * z[c];
            for (ptrdiff_t e = c / SY_CELL_LANES * SY_CELL_LANES; e < wide; e += SY_CELL_LANES)
#pragma omp simd
                for (int l = 0; l < SY_CELL_LANES; l++)
                    sum[c * wide + e + l] += scaled * z[e + l];
        }
    }
}

/* cell: n, below the number of cells. columns: d x n. second: cells x d x wide, wide the next multiple of SY_CELL_LANES,
   added to: of each cell the sum of weight z z' over its rows, z the columns there; only its upper triangle means
   anything. work: TILE (d + wide) + 8. */
void sy_cell_moments(ptrdiff_t n, ptrdiff_t d, const int32_t *cell, const double *columns, const double *weight,
                     double *second, double *work) {
    const ptrdiff_t wide = (d + SY_CELL_LANES - 1) / SY_CELL_LANES * SY_CELL_LANES;
    double *x = sy_aligned(work), *z = x + d * TILE;
    memset(z, 0, (size_t)(TILE * wide) * sizeof(double));
    for (ptrdiff_t at = 0; at < n; at += TILE) {
        const ptrdiff_t m = n - at < TILE ? n - at : TILE;
        tile_of(m, d, n, columns + at, x);
        turned(m, d, wide, x, z);
        add_squares(m, d, wide, cell + at, weight + at, z, second);
    }
}
