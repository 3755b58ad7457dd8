#ifndef STEELYARD_WIDE_ROWS_H
#define STEELYARD_WIDE_ROWS_H
#include <stddef.h>

void sy_rows_times_float(ptrdiff_t n, ptrdiff_t d, const float *x, const double *v, double *out);
void sy_rows_times_double(ptrdiff_t n, ptrdiff_t d, const double *x, const double *v, double *out);
void sy_times_rows_float(ptrdiff_t n, ptrdiff_t d, const float *x, const double *w, double *out);
void sy_times_rows_double(ptrdiff_t n, ptrdiff_t d, const double *x, const double *w, double *out);
#endif
