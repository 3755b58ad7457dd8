/* The sum over the rows of a sparse matrix of each row's outer product with itself. */
#include "row_squares.h"

/* n compressed rows: where each starts (n + 1), places below k, each once a row, and values. sum: k x k, added to; of a
   pair of places the product goes to one of its two entries. */
void sy_row_squares(ptrdiff_t n, ptrdiff_t k, const int64_t *start, const int32_t *place, const double *value,
                    double *sum) {
    for (ptrdiff_t row = 0; row < n; row++)
        for (int64_t i = start[row]; i < start[row + 1]; i++)
            for (int64_t j = i; j < start[row + 1]; j++)
                sum[place[i] * k + place[j]] += value[i] * value[j];
}
