#ifndef STEELYARD_CONTEXTUAL_H
#define STEELYARD_CONTEXTUAL_H
#include <stddef.h>
#include <stdint.h>

/* n rows as sy_contextual reads them; columns, as of a matrix, one every `stride` numbers. */
typedef struct {
    ptrdiff_t n, context_stride, columns_stride;
    const int32_t *a, *b;
    const double *context, *columns, *y, *weight, *count;
} sy_contextual_rows;

void sy_contextual(const sy_contextual_rows *rows, ptrdiff_t k, ptrdiff_t q, ptrdiff_t d, ptrdiff_t vectors,
                   const double *parameter, double *value, double *score, double *hessian, double *work);
#endif
