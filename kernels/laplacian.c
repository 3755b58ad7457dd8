/* Products with a weighted graph Laplacian (plus a ridge) for many vectors at once. */
#include "common.h"
#include "laplacian.h"

/* out = ridge x + sum over m edges of weight (x_a - x_b) (e_a - e_b), for x of k rows and r columns. Edge by edge: a
   graph in compressed rows would be read twice as long, and turned around before every step. */
SY_CLONES
void sy_laplacian_product(ptrdiff_t m, ptrdiff_t k, ptrdiff_t r, const int32_t *a, const int32_t *b,
                          const double *weight, double ridge, const double *x, double *out) {
    for (ptrdiff_t i = 0; i < k * r; i++)
        out[i] = ridge * x[i];
    if (r == 1) {
        for (ptrdiff_t e = 0; e < m; e++) {
            const double pull = weight[e] * (x[a[e]] - x[b[e]]);
            out[a[e]] += pull;
            out[b[e]] -= pull;
        }
        return;
    }
    for (ptrdiff_t e = 0; e < m; e++) {
        const double *from = x + a[e] * r, *to = x + b[e] * r;
        double *up = out + a[e] * r, *down = out + b[e] * r;
        for (ptrdiff_t c = 0; c < r; c++) {
            const double pull = weight[e] * (from[c] - to[c]);
            up[c] += pull;
            down[c] -= pull;
        }
    }
}
