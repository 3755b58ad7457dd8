/* Judges every row of a block and turns outcome labels into numbers, in one pass.

   Outcome: either label codes with a table of values (NaN = unknown label, code < 0 = not labelled),
   or numbers (NaN = not labelled; the engine has told nulls from NaNs before). */
#include "common.h"
#include "clean_rows.h"

static uint8_t judge(int32_t a, int32_t b, int labelled, double y, double weight, double count) {
    if (a == -1 || b == -1) return SY_NULL_ARM;
    if (a < 0 || b < 0) return SY_UNKNOWN_ARM;
    if (a == b) return SY_EQUAL_ARMS;
    if (labelled & !((y >= 0.0) & (y <= 1.0))) return SY_BAD_OUTCOME; /* no branch on labels, which come in any order */
    if (!(weight == 0.0 || (weight >= 1e-50 && weight <= 1e50))) return SY_BAD_WEIGHT; /* squares stay finite */
    if (!(count >= 0.0 && count <= 9007199254740992.0 && count == floor(count))) return SY_BAD_COUNT;
    if (weight == 0.0 || count == 0.0) return SY_EMPTY;
    return labelled ? SY_GOOD : SY_UNLABELLED;
}

/* y: n outcomes from a's side; status: n verdicts, written only where some row is not good.
   weight, count: n or NULL (all ones). Returns the number of rows that are not good. */
SY_CLONES
ptrdiff_t sy_clean_rows(ptrdiff_t n, const int32_t *a, const int32_t *b, const int32_t *label, const double *value,
                        ptrdiff_t n_values, const double *outcome, const double *weight, const double *count,
                        double *y, uint8_t *status) {
    int32_t odd = 0;
    if (label) {
        for (ptrdiff_t i = 0; i < n; i++) {
            y[i] = (uint32_t)label[i] < (uint32_t)n_values ? value[label[i]] : NAN;
            odd |= !(y[i] >= 0.0) | (y[i] > 1.0);
        }
    } else {
#pragma omp simd reduction(| : odd)
        for (ptrdiff_t i = 0; i < n; i++) {
            y[i] = outcome[i];
            odd |= !(y[i] >= 0.0) | (y[i] > 1.0);
        }
    }
#pragma omp simd reduction(| : odd)
    for (ptrdiff_t i = 0; i < n; i++)
        odd |= (a[i] < 0) | (b[i] < 0) | (a[i] == b[i]);
    if (!odd && !weight && !count)
        return 0;
    ptrdiff_t bad = 0;
    for (ptrdiff_t i = 0; i < n; i++) {
        const int labelled = label ? label[i] >= 0 : !isnan(outcome[i]);
        status[i] = judge(a[i], b[i], labelled, y[i], weight ? weight[i] : 1.0, count ? count[i] : 1.0);
        bad += status[i] != SY_GOOD;
    }
    return bad;
}
