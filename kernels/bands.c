/* The largest studentised contrast of each draw: what makes all pairwise intervals hold at once. */
#include "common.h"
#include "bands.h"

/* draws: n x k, arm errors; precision: k x k, 1 / standard error of the contrast, 0 where there is none.
   largest: n, max over j < i of |draw_i - draw_j| precision_ij. */
SY_CLONES
void sy_largest_contrast(ptrdiff_t n, ptrdiff_t k, const double *draws, const double *precision, double *largest) {
    for (ptrdiff_t r = 0; r < n; r++) {
        const double *d = draws + r * k;
        double top = 0.0;
        for (ptrdiff_t i = 1; i < k; i++) {
            const double *row = precision + i * k, at = d[i];
#pragma omp simd reduction(max : top)
            for (ptrdiff_t j = 0; j < i; j++) {
                const double t = fabs(at - d[j]) * row[j];
                top = t <= top ? top : t; /* a NaN stays: it must not pass for a small error */
            }
        }
        largest[r] = top;
    }
}
