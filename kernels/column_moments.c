/* The weighted sums of a column and of its squares about an origin; sums of squares of what two sides differ by. */
#include "column_moments.h"
#include "common.h"

#define LANES SY_LANES /* partial sums in a fixed order: the same bits from every instruction set */

/* sums: of weight x and of weight x^2, x the column (n) less its origin. */
SY_CLONES
void sy_column_moments(ptrdiff_t n, const double *column, double origin, const double *weight, double sums[2]) {
    double first[LANES] = {0}, second[LANES] = {0};
    ptrdiff_t i = 0;
    for (; i + LANES <= n; i += LANES)
#pragma omp simd
        for (int l = 0; l < LANES; l++) {
            const double x = column[i + l] - origin, weighted = weight[i + l] * x;
            first[l] += weighted;
            second[l] += weighted * x;
        }
    for (int l = 0; i + l < n; l++) {
        const double x = column[i + l] - origin, weighted = weight[i + l] * x;
        first[l] += weighted;
        second[l] += weighted * x;
    }
    sums[0] = sy_eight(first);
    sums[1] = sy_eight(second);
}

/* Rows of d numbers, a's less b's in their own type, or (b NULL) a's alone: to squares (d) each column's sum of
   squares, in the order in which the sums over a column are made, so that they have its bits. work: SY_SIDES_WORK(d)
   numbers, 0. */
#define SIDES_SQUARES(name, number)                                                                                    \
    SY_CLONES                                                                                                          \
    void name(ptrdiff_t n, ptrdiff_t d, const number *a, const number *b, double *work, double *squares) {             \
        for (ptrdiff_t i = 0; i < n; i++) {                                                                            \
            double *restrict lane = work + i % LANES * d;                                                              \
            const number *left = a + i * d, *right = b ? b + i * d : NULL;                                             \
            for (ptrdiff_t j = 0; j < d; j++) {                                                                        \
                const number less = right ? left[j] - right[j] : left[j];                                              \
                lane[j] += (double)less * (double)less;                                                                \
            }                                                                                                          \
        }                                                                                                              \
        for (ptrdiff_t j = 0; j < d; j++) {                                                                            \
            double s[LANES];                                                                                           \
            for (int l = 0; l < LANES; l++)                                                                            \
                s[l] = work[l * d + j];                                                                                \
            squares[j] = sy_eight(s);                                                                                  \
        }                                                                                                              \
    }
SIDES_SQUARES(sy_sides_squares_double, double)
SIDES_SQUARES(sy_sides_squares_float, float)
