#ifndef STEELYARD_WEIGHT_SUMS_H
#define STEELYARD_WEIGHT_SUMS_H
#include <stddef.h>
#include <stdint.h>

/* Places in totals. */
enum { SY_ROWS, SY_SAMPLED, SY_CLIPPED, SY_CUT, SY_WEIGHT, SY_SQUARES, SY_LARGEST, SY_TOTALS };

void sy_weight_sums(ptrdiff_t n, const double *raw, const double *log_propensity, const double *sampling,
                    const double *count, double limit, ptrdiff_t members, const int32_t *codes, double *weight,
                    double *totals, double *by_label, ptrdiff_t bins, double per_octave, double *histogram);
void sy_log_counts(ptrdiff_t n, const double *values, const double *count, double per_octave, double low,
                   ptrdiff_t bins, double *counts);
#endif
