/* The largest studentised contrast of each draw: what makes all pairwise intervals hold at once. */
#include "common.h"
#include "bands.h"

SY_WITHIN int all_finite(ptrdiff_t n, const double *x) {
    int odd = 0;
#pragma omp simd reduction(| : odd)
    for (ptrdiff_t i = 0; i < n; i++)
        odd |= x[i] - x[i] != 0.0;
    return !odd;
}

/* Of one draw, whatever its numbers: a NaN stays, since it must not pass for a small error. */
static double largest_of(ptrdiff_t k, const double *draw, const double *precision) {
    double top = 0.0;
    for (ptrdiff_t i = 1; i < k; i++)
        for (ptrdiff_t j = 0; j < i; j++) {
            const double t = fabs(draw[i] - draw[j]) * precision[i * k + j];
            if (t != t)
                return t;
            top = t > top ? t : top;
        }
    return top;
}

/* draws: n x k, arm errors; precision: k x k, 1 / standard error of the contrast, 0 where there is none.
   largest: n, max over j < i of |draw_i - draw_j| precision_ij, NaN where one of these is. */
SY_CLONES
void sy_largest_contrast(ptrdiff_t n, ptrdiff_t k, const double *draws, const double *precision, double *largest) {
    const int known = all_finite(k * k, precision);
    for (ptrdiff_t r = 0; r < n; r += 4) { /* four draws share one reading of the precisions */
        const ptrdiff_t m = n - r < 4 ? n - r : 4;
        const double *d0 = draws + r * k, *d1 = d0 + (m > 1) * k, *d2 = d1 + (m > 2) * k, *d3 = d2 + (m > 3) * k;
        if (!known || !all_finite(m * k, d0)) {
            for (ptrdiff_t i = 0; i < m; i++)
                largest[r + i] = largest_of(k, d0 + i * k, precision);
            continue;
        }
        double top0 = 0.0, top1 = 0.0, top2 = 0.0, top3 = 0.0;
        for (ptrdiff_t i = 1; i < k; i++) {
            const double *row = precision + i * k, at0 = d0[i], at1 = d1[i], at2 = d2[i], at3 = d3[i];
#pragma omp simd reduction(max : top0, top1, top2, top3)
            for (ptrdiff_t j = 0; j < i; j++) {
                const double t0 = fabs(at0 - d0[j]) * row[j], t1 = fabs(at1 - d1[j]) * row[j];
                const double t2 = fabs(at2 - d2[j]) * row[j], t3 = fabs(at3 - d3[j]) * row[j];
                top0 = t0 > top0 ? t0 : top0;
                top1 = t1 > top1 ? t1 : top1;
                top2 = t2 > top2 ? t2 : top2;
                top3 = t3 > top3 ? t3 : top3;
            }
        }
        const double top[4] = {top0, top1, top2, top3};
        memcpy(largest + r, top, (size_t)m * sizeof *top);
    }
}
