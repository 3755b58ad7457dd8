/* How many studentised contrasts of each draw are beyond a limit: what makes all pairwise intervals hold at once. */
#include "common.h"
#include "bands.h"

/* draws: n x k, arm errors; precision: k x k, 1 / standard error of the contrast, 0 where there is none.
   count: n, of j < i with |draw_i - draw_j| precision_ij > limit. All are numbers. */
SY_CLONES
void sy_contrasts_beyond(ptrdiff_t n, ptrdiff_t k, const double *draws, const double *precision, double limit,
                         int64_t *count) {
    for (ptrdiff_t r = 0; r < n; r += 4) { /* four draws share one reading of the precisions */
        const ptrdiff_t m = n - r < 4 ? n - r : 4;
        const double *d0 = draws + r * k, *d1 = d0 + (m > 1) * k, *d2 = d1 + (m > 2) * k, *d3 = d2 + (m > 3) * k;
        int64_t beyond0 = 0, beyond1 = 0, beyond2 = 0, beyond3 = 0;
        for (ptrdiff_t i = 1; i < k; i++) {
            const double *row = precision + i * k, at0 = d0[i], at1 = d1[i], at2 = d2[i], at3 = d3[i];
#pragma omp simd reduction(+ : beyond0, beyond1, beyond2, beyond3)
            for (ptrdiff_t j = 0; j < i; j++) {
                beyond0 += fabs(at0 - d0[j]) * row[j] > limit;
                beyond1 += fabs(at1 - d1[j]) * row[j] > limit;
                beyond2 += fabs(at2 - d2[j]) * row[j] > limit;
                beyond3 += fabs(at3 - d3[j]) * row[j] > limit;
            }
        }
        const int64_t beyond[4] = {beyond0, beyond1, beyond2, beyond3};
        memcpy(count + r, beyond, (size_t)m * sizeof *beyond);
    }
}
