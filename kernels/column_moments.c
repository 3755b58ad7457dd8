/* Sums of columns and of their squares about an origin, weighted, and of their products with the outcome. */
#include "column_moments.h"
#include "common.h"

#define LANES 8 /* partial sums in a fixed order: the same bits from every instruction set */

enum { WEIGHTED, KNOWN, WITH_OUTCOME, WEIGHTED_SQUARE, KNOWN_SQUARE, SUMS };

/* n, a multiple of LANES. */
SY_CLONES
static void add_lanes(ptrdiff_t n, const double *restrict column, double origin, const double *restrict weight,
                      const double *restrict known, const double *restrict y, double (*restrict lanes)[LANES]) {
    double s[SUMS][LANES] = {{0}};
    for (ptrdiff_t i = 0; i < n; i += LANES)
#pragma omp simd
        for (int l = 0; l < LANES; l++) {
            const double x = column[i + l] - origin, weighted = weight[i + l] * x, present = known[i + l] * x;
            s[WEIGHTED][l] += weighted;
            s[KNOWN][l] += present;
            s[WITH_OUTCOME][l] += y[i + l] * x;
            s[WEIGHTED_SQUARE][l] += weighted * x;
            s[KNOWN_SQUARE][l] += present * x;
        }
    memcpy(lanes, s, sizeof s);
}

static void add_column(ptrdiff_t n, const double *column, double origin, const double *weight, const double *known,
                       const double *y, double *sums) {
    double lanes[SUMS][LANES];
    const ptrdiff_t whole = n - n % LANES;
    add_lanes(whole, column, origin, weight, known, y, lanes);
    for (ptrdiff_t i = whole; i < n; i++) {
        const double x = column[i] - origin, weighted = weight[i] * x, present = known[i] * x;
        lanes[WEIGHTED][i - whole] += weighted;
        lanes[KNOWN][i - whole] += present;
        lanes[WITH_OUTCOME][i - whole] += y[i] * x;
        lanes[WEIGHTED_SQUARE][i - whole] += weighted * x;
        lanes[KNOWN_SQUARE][i - whole] += present * x;
    }
    for (int j = 0; j < SUMS; j++) {
        const double *l = lanes[j];
        sums[j] += sy_eight(l);
    }
}

/* columns: d x n. origin: d. weight, known (1 or 0), y (0 where not known): n. sums: d x 5, added to: of weight x,
   known x, y x, weight x^2 and known x^2, x the column less its origin. */
void sy_column_moments(ptrdiff_t n, ptrdiff_t d, const double *columns, const double *origin, const double *weight,
                       const double *known, const double *y, double *sums) {
    for (ptrdiff_t c = 0; c < d; c++)
        add_column(n, columns + c * n, origin[c], weight, known, y, sums + c * SUMS);
}
