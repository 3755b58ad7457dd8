#ifndef STEELYARD_CLEAN_ROWS_H
#define STEELYARD_CLEAN_ROWS_H
#include <stddef.h>
#include <stdint.h>

/* What can be wrong with a row, in the order in which it is looked for; 0 is a good row. */
enum sy_status {
    SY_GOOD, SY_UNLABELLED, SY_NULL_ARM, SY_UNKNOWN_ARM, SY_EQUAL_ARMS, SY_BAD_OUTCOME, SY_BAD_WEIGHT, SY_BAD_COUNT,
    SY_EMPTY, /* weight or count 0: a good row that counts for nothing */
    SY_STATUSES
};

ptrdiff_t sy_clean_rows(ptrdiff_t n, const int32_t *a, const int32_t *b, const int32_t *label, const double *value,
                        ptrdiff_t n_values, const double *outcome, const double *weight, const double *count,
                        double *y, uint8_t *status);
#endif
