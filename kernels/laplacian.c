/* Products with a weighted graph Laplacian (plus a diagonal): of one vector edge by edge, of several row by row. */
#include "common.h"
#include "laplacian.h"

/* out = ridge x + sum over m edges of weight (x_a - x_b) (e_a - e_b), for x of k. The weights are read as they are; for
   rows they would first be sorted into a matrix, which costs as much as several products. */
SY_CLONES
void sy_laplacian_edges(ptrdiff_t m, ptrdiff_t k, const int32_t *a, const int32_t *b, const double *weight,
                        double ridge, const double *x, double *out) {
    for (ptrdiff_t i = 0; i < k; i++)
        out[i] = ridge * x[i];
    for (ptrdiff_t e = 0; e < m; e++) {
        const double pull = weight[e] * (x[a[e]] - x[b[e]]);
        out[a[e]] += pull;
        out[b[e]] -= pull;
    }
}

/* out = diagonal * x - edges x, for x of k rows and r columns. Row i's neighbours are neighbour[start[i]..start[i + 1])
   with weights edge[...]; r columns share one reading of the graph, and out is written once. */
SY_CLONES
void sy_laplacian_rows(ptrdiff_t k, ptrdiff_t r, const int64_t *start, const int32_t *neighbour, const double *edge,
                       const double *diagonal, const double *x, double *out) {
    for (ptrdiff_t i = 0; i < k; i++) {
        double *to = out + i * r;
        for (ptrdiff_t c = 0; c < r; c++)
            to[c] = diagonal[i] * x[i * r + c];
        for (ptrdiff_t e = start[i]; e < start[i + 1]; e++) {
            const double weight = edge[e], *from = x + (ptrdiff_t)neighbour[e] * r;
#pragma omp simd
            for (ptrdiff_t c = 0; c < r; c++)
                to[c] -= weight * from[c];
        }
    }
}
