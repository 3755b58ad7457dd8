/* What weights do to the rows of a block: sums, and by label how many rows, how much weight and which propensities. */
#include "weight_sums.h"
#include "common.h"

/* The bin of x, in bins from 0 on: its whole part, the ends for what lies beyond. */
static inline int32_t bin_of(double x, double last) {
    x = x < 0.0 ? 0.0 : x;
    return (int32_t)(x > last ? last : x);
}

/* Weights times the log's own, what each comparison has of them, and the bins of propensities. */
SY_CLONES
static void weigh(ptrdiff_t m, const double *raw, const double *log_propensity, const double *sampling,
                  const double *count, double limit, double per, double last, double *weight, double *each,
                  int32_t *bin) {
#pragma omp simd
    for (ptrdiff_t i = 0; i < m; i++) {
        weight[i] = (raw[i] < limit ? raw[i] : limit) * (sampling ? sampling[i] : 1.0);
        each[i] = weight[i] / (count ? count[i] : 1.0);
        bin[i] = bin_of(log_propensity[i] * per, last);
    }
}

/* raw, log_propensity, and sampling and count (NULL: 1): n. codes: members x n, labels of a row. weight: n, written:
   raw, at most limit, times sampling. totals: SY_TOTALS, added to, the largest of a comparison kept. by_label: labels
   x 2, added to: comparisons, and their squared weights. histogram: labels x bins, added to: comparisons, in bins of
   propensities, `per_octave` to a factor of two from 1 down. */
void sy_weight_sums(ptrdiff_t n, const double *raw, const double *log_propensity, const double *sampling,
                    const double *count, double limit, ptrdiff_t members, const int32_t *codes, double *weight,
                    double *totals, double *by_label, ptrdiff_t bins, double per_octave, double *histogram) {
    const double per = -per_octave * 0x1.71547652b82fep0;
    double each[SY_CHUNK];
    int32_t bin[SY_CHUNK];
    for (ptrdiff_t at = 0; at < n; at += SY_CHUNK) {
        const ptrdiff_t m = n - at < SY_CHUNK ? n - at : SY_CHUNK;
        weigh(m, raw + at, log_propensity + at, sampling ? sampling + at : NULL, count ? count + at : NULL, limit, per,
              (double)(bins - 1), weight + at, each, bin);
        for (ptrdiff_t i = 0; i < m; i++) {
            const double own = raw[at + i], w = weight[at + i], s = sampling ? sampling[at + i] : 1.0;
            const double comparisons = count ? count[at + i] : 1.0, square = w * each[i];
            totals[SY_ROWS] += own > 0.0 ? comparisons : 0.0;
            totals[SY_SAMPLED] += own > 0.0 ? s : 0.0;
            totals[SY_CLIPPED] += own > limit ? comparisons : 0.0;
            totals[SY_CUT] += own > limit ? (own - limit) * s : 0.0;
            totals[SY_WEIGHT] += w;
            totals[SY_SQUARES] += square;
            totals[SY_LARGEST] = each[i] > totals[SY_LARGEST] ? each[i] : totals[SY_LARGEST];
            for (ptrdiff_t j = 0; j < members; j++) {
                const ptrdiff_t label = codes[j * n + at + i];
                by_label[2 * label] += comparisons;
                by_label[2 * label + 1] += square;
                histogram[label * bins + bin[i]] += comparisons;
            }
        }
    }
}

SY_CLONES
static void log_bins(ptrdiff_t m, const double *values, double per, double low, double last, int32_t *bin) {
#pragma omp simd
    for (ptrdiff_t i = 0; i < m; i++)
        bin[i] = bin_of((sy_log(values[i] > 0x1p-1000 ? values[i] : 0x1p-1000) * 0x1.71547652b82fep0 - low) * per, last);
}

/* counts: bins, added to: how many of the positive values are in each, `per_octave` to a factor of two, from 2^low; a
   value as often as count (NULL: 1) says. */
void sy_log_counts(ptrdiff_t n, const double *values, const double *count, double per_octave, double low,
                   ptrdiff_t bins, double *counts) {
    int32_t bin[SY_CHUNK];
    for (ptrdiff_t at = 0; at < n; at += SY_CHUNK) {
        const ptrdiff_t m = n - at < SY_CHUNK ? n - at : SY_CHUNK;
        log_bins(m, values + at, per_octave, low, (double)(bins - 1), bin);
        for (ptrdiff_t i = 0; i < m; i++)
            counts[bin[i]] += values[at + i] > 0.0 ? (count ? count[at + i] : 1.0) : 0.0;
    }
}
