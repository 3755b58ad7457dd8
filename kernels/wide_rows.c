/* Rows of many features, as they lie, times a vector, and a vector times them; feature_rows.h has how. */
#include "wide_rows.h"
#include "feature_rows.h"

void sy_rows_times_float(ptrdiff_t n, ptrdiff_t d, const float *x, const double *v, double *out) {
    rows_times_float(n, d, x, v, out);
}

void sy_rows_times_double(ptrdiff_t n, ptrdiff_t d, const double *x, const double *v, double *out) {
    rows_times_double(n, d, x, v, out);
}

void sy_times_rows_float(ptrdiff_t n, ptrdiff_t d, const float *x, const double *w, double *out) {
    times_rows_float(n, d, x, w, out);
}

void sy_times_rows_double(ptrdiff_t n, ptrdiff_t d, const double *x, const double *w, double *out) {
    times_rows_double(n, d, x, w, out);
}
