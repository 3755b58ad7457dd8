/* Products with a weighted graph Laplacian (plus diagonal) for many vectors at once. */
#include "common.h"
#include "laplacian.h"

/* out = diagonal * x - edges x, for x of k rows and r columns. Row i's neighbours are
   neighbour[start[i]..start[i + 1]) with weights edge[...]; r columns share one reading of the graph. */
SY_CLONES
void sy_laplacian_product(ptrdiff_t k, ptrdiff_t r, const int64_t *start, const int32_t *neighbour,
                          const double *edge, const double *diagonal, const double *x, double *out) {
    for (ptrdiff_t i = 0; i < k; i++) {
        if (r == 1) {
            double sum = diagonal[i] * x[i];
            for (int64_t e = start[i]; e < start[i + 1]; e++)
                sum -= edge[e] * x[neighbour[e]];
            out[i] = sum;
            continue;
        }
        double *to = out + i * r;
        for (ptrdiff_t c = 0; c < r; c++)
            to[c] = diagonal[i] * x[i * r + c];
        for (int64_t e = start[i]; e < start[i + 1]; e++) {
            const double weight = edge[e], *from = x + (ptrdiff_t)neighbour[e] * r;
#pragma omp simd
            for (ptrdiff_t c = 0; c < r; c++)
                to[c] -= weight * from[c];
        }
    }
}
