/* Elo (1978): ratings updated one comparison after the other, so the result depends on their order. */
#include "common.h"
#include "elo.h"

/* order: n row numbers, or NULL for the rows as they stand. step: the K factor; scale: 400 / ln 10 for the
   usual units. rating: updated in place. */
void sy_elo(ptrdiff_t n, const int32_t *a, const int32_t *b, const double *y, const double *weight,
            const int64_t *order, double step, double scale, double *rating) {
    for (ptrdiff_t j = 0; j < n; j++) {
        const ptrdiff_t i = order ? order[j] : j;
        const double x = (rating[a[i]] - rating[b[i]]) / scale, e = sy_exp_negative(-fabs(x));
        const double p = x < 0.0 ? e / (1.0 + e) : 1.0 / (1.0 + e);
        const double move = step * (weight ? weight[i] : 1.0) * (y[i] - p);
        rating[a[i]] += move;
        rating[b[i]] -= move;
    }
}
