/* Rows of features times a vector, and a vector times such rows: float or double features, sums in double.

   Nothing is widened in memory. Every sum has its own fixed order, whichever rows stand in a call together. */
#ifndef STEELYARD_FEATURE_ROWS_H
#define STEELYARD_FEATURE_ROWS_H
#include "common.h"

#define ROW_LANES 8 /* partial sums in a fixed order: the same bits from every instruction set */

/* sy_rows_times: out (n) = x v, x n x d. sy_times_rows: out (d) += w x, w n; rows one after the other, four in a
   reading of out. linkage: static, or none. */
#define FEATURE_ROWS(linkage, real)                                                                                 \
    SY_CLONES                                                                                                       \
    linkage void sy_rows_times_##real(ptrdiff_t n, ptrdiff_t d, const real *x, const double *v, double *out) {      \
        for (ptrdiff_t i = 0; i < n; i++) {                                                                         \
            const real *row = x + i * d;                                                                            \
            double s[ROW_LANES] = {0};                                                                              \
            ptrdiff_t j = 0;                                                                                        \
            for (; j + ROW_LANES <= d; j += ROW_LANES)                                                              \
                for (int l = 0; l < ROW_LANES; l++)                                                                 \
                    s[l] += (double)row[j + l] * v[j + l];                                                          \
            for (int l = 0; j + l < d; l++)                                                                         \
                s[l] += (double)row[j + l] * v[j + l];                                                              \
            out[i] = sy_eight(s);                                                                                   \
        }                                                                                                           \
    }                                                                                                               \
    SY_CLONES                                                                                                       \
    linkage void sy_times_rows_##real(ptrdiff_t n, ptrdiff_t d, const real *x, const double *w, double *out) {      \
        ptrdiff_t i = 0;                                                                                            \
        for (; i + 4 <= n; i += 4) {                                                                                \
            const real *x0 = x + i * d, *x1 = x0 + d, *x2 = x1 + d, *x3 = x2 + d;                                   \
            const double w0 = w[i], w1 = w[i + 1], w2 = w[i + 2], w3 = w[i + 3];                                    \
            _Pragma("omp simd") for (ptrdiff_t j = 0; j < d; j++)                                                   \
                out[j] = (((out[j] + w0 * (double)x0[j]) + w1 * (double)x1[j]) + w2 * (double)x2[j]) +              \
                         w3 * (double)x3[j];                                                                        \
        }                                                                                                           \
        for (; i < n; i++)                                                                                          \
            _Pragma("omp simd") for (ptrdiff_t j = 0; j < d; j++)                                                   \
                out[j] += w[i] * (double)x[i * d + j];                                                              \
    }
#endif
