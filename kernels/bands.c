/* The largest studentised contrast of each draw: what makes all pairwise intervals hold at once. */
#include "common.h"
#include "bands.h"

/* draws: n x k, arm errors; precision: k x k, 1 / standard error of the contrast, 0 where there is none.
   largest: n, max over j < i of |draw_i - draw_j| precision_ij. */
SY_CLONES
void sy_largest_contrast(ptrdiff_t n, ptrdiff_t k, const double *draws, const double *precision, double *largest) {
    for (ptrdiff_t r = 0; r < n; r += 4) { /* four draws share one reading of the precisions */
        const ptrdiff_t last = n - 1 - r;
        const double *d0 = draws + r * k, *d1 = d0 + (last < 1 ? 0 : 1) * k, *d2 = d0 + (last < 2 ? 0 : 2) * k,
                     *d3 = d0 + (last < 3 ? 0 : 3) * k;
        double top0 = 0.0, top1 = 0.0, top2 = 0.0, top3 = 0.0;
        for (ptrdiff_t i = 1; i < k; i++) {
            const double *row = precision + i * k, at0 = d0[i], at1 = d1[i], at2 = d2[i], at3 = d3[i];
#pragma omp simd reduction(max : top0, top1, top2, top3)
            for (ptrdiff_t j = 0; j < i; j++) {
                const double t0 = fabs(at0 - d0[j]) * row[j], t1 = fabs(at1 - d1[j]) * row[j];
                const double t2 = fabs(at2 - d2[j]) * row[j], t3 = fabs(at3 - d3[j]) * row[j];
                top0 = t0 <= top0 ? top0 : t0; /* a NaN stays: it must not pass for a small error */
                top1 = t1 <= top1 ? top1 : t1;
                top2 = t2 <= top2 ? top2 : t2;
                top3 = t3 <= top3 ? top3 : t3;
            }
        }
        const double top[4] = {top0, top1, top2, top3};
        memcpy(largest + r, top, (size_t)(last < 3 ? last + 1 : 4) * sizeof *top);
    }
}
