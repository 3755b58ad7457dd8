/* Arm scores linear in context: log-likelihood, score and Hessian of one block, at several parameters in one reading.

   eta = (theta_a - theta_b)' x + beta' z, a tie half a win: k arms with q coefficients each (context x), d columns z
   that change sign with the sides. A parameter is theta (k x q, arm by arm), then beta; k = 0: beta alone.
   Rows of one pair that stand together are one run: one difference theta_low - theta_high, and sums that go to the
   two arms once, however many rows they are of. */
#include "contextual.h"
#include "tiles.h"

#define LANES 8 /* partial sums in a fixed order, over the rows of a tile */

/* What a run is made of, and what has been summed over it. wide: q + d. */
typedef struct {
    ptrdiff_t low, high;
    double *delta;  /* vectors x wide: theta_low - theta_high, beta */
    double *slopes; /* vectors x wide lanes */
    double *grams;  /* wide x wide lanes, upper triangle */
} run;

/* The answers of a tile from the lower arm's side: w y and w (1 - y), 0 beyond its rows. */
typedef struct {
    double up[TILE], down[TILE], curve[TILE];
} answers;

/* Sum of the log-likelihood at margins eta; slope: its derivative in them. plain: all weights are 1, and the product of
   1 + e^-|eta| over rows takes one logarithm; less 1, so that it is as exact where all of them are small. */
SY_CLONES
static double log_likelihood(ptrdiff_t rows, int plain, const double *restrict eta, answers *restrict s, double *restrict slope) {
    double gain[TILE], loss[TILE], sum[LANES] = {0}, more[LANES] = {0}, total = 0.0, all = 0.0;
#pragma omp simd
    for (ptrdiff_t i = 0; i < rows; i++) {
        const double x = eta[i], e = sy_exp_negative(-fabs(x)), big = 1.0 / (1.0 + e), small = e * big;
        const double up = s->up[i], down = s->down[i];
        gain[i] = up * (x < 0.0 ? x : 0.0) - down * (x < 0.0 ? 0.0 : x);
        loss[i] = e;
        slope[i] = up * (x < 0.0 ? big : small) - down * (x < 0.0 ? small : big);
        s->curve[i] = (up + down) * (big * small);
    }
    if (plain)
        for (ptrdiff_t i = 0; i < rows; i += LANES)
            for (int l = 0; l < LANES; l++)
                more[l] += (s->up[i + l] + s->down[i + l]) * loss[i + l] * (1.0 + more[l]);
    else
#pragma omp simd
        for (ptrdiff_t i = 0; i < rows; i++)
            gain[i] -= (s->up[i] + s->down[i]) * sy_log1p_unit(loss[i]);
    for (ptrdiff_t i = 0; i < rows; i += LANES)
        for (int l = 0; l < LANES; l++)
            sum[l] += gain[i + l];
    for (int l = 0; l < LANES; l++) {
        total += sum[l];
        all += more[l] * (1.0 + all);
    }
    return total - log1p(all); /* of 0, where not plain */
}

/* To the lanes of the upper triangle: the sum over rows of curve x x'. work: TILE_TOGETHER x TILE. */
static void grams_of(ptrdiff_t rows, ptrdiff_t wide, const double *curve, const double *x, double *work,
                     double *grams) {
    for (ptrdiff_t j = 0; j < wide; j += TILE_TOGETHER) {
        const ptrdiff_t some = wide - j < TILE_TOGETHER ? wide - j : TILE_TOGETHER;
        for (ptrdiff_t v = 0; v < some; v++)
            for (ptrdiff_t i = 0; i < rows; i++)
                work[v * TILE + i] = curve[i] * x[(j + v) * TILE + i];
        tile_sums(some, rows, j, wide, work, x, grams + j * wide * TILE_LANES);
    }
}

/* Rows of one pair from `at` on, as many as go into a tile. */
static ptrdiff_t together(const sy_contextual_rows *rows, ptrdiff_t k, ptrdiff_t at, ptrdiff_t *low, ptrdiff_t *high) {
    const ptrdiff_t most = rows->n - at < TILE ? rows->n - at : TILE;
    if (!k)
        return *low = *high = 0, most;
    const int32_t *a = rows->a + at, *b = rows->b + at;
    ptrdiff_t m = 1;
    *low = a[0] < b[0] ? a[0] : b[0];
    *high = a[0] < b[0] ? b[0] : a[0];
    while (m < most && ((a[m] == *low && b[m] == *high) || (a[m] == *high && b[m] == *low)))
        m++;
    return m;
}

/* The design (wide x TILE) and the answers of m rows, from the side of the arm `low`. Returns whether all weigh 1. */
static int read_rows(const sy_contextual_rows *rows, ptrdiff_t k, ptrdiff_t q, ptrdiff_t d, ptrdiff_t at, ptrdiff_t m,
                     ptrdiff_t low, double *x, answers *s) {
    const double *weight = rows->weight ? rows->weight + at : NULL, *count = rows->count ? rows->count + at : NULL;
    double *z = x + q * TILE;
    if (q)
        tile_of(m, q, rows->context_stride, rows->context + at, x);
    if (d)
        tile_of(m, d, rows->columns_stride, rows->columns + at, z);
    memset(s, 0, sizeof *s);
    for (ptrdiff_t i = 0; i < m; i++) {
        const double w = (weight ? weight[i] : 1.0) * (count ? count[i] : 1.0), y = rows->y[at + i];
        const int other = k && rows->a[at + i] != low;
        s->up[i] = w * (other ? 1.0 - y : y);
        s->down[i] = w * (other ? y : 1.0 - y);
        for (ptrdiff_t c = 0; other && c < d; c++)
            z[c * TILE + i] = -z[c * TILE + i];
    }
    return !weight && !count;
}

static void started(run *now, ptrdiff_t k, ptrdiff_t q, ptrdiff_t d, ptrdiff_t vectors, const double *parameter,
                    int curved) {
    const ptrdiff_t p = k * q + d, wide = q + d;
    for (ptrdiff_t v = 0; v < vectors; v++) {
        const double *from = parameter + v * p;
        for (ptrdiff_t c = 0; c < q; c++)
            now->delta[v * wide + c] = from[now->low * q + c] - from[now->high * q + c];
        memcpy(now->delta + v * wide + q, from + k * q, (size_t)d * sizeof(double));
    }
    memset(now->slopes, 0, (size_t)(vectors * wide * TILE_LANES) * sizeof(double));
    if (curved)
        memset(now->grams, 0, (size_t)(wide * wide * TILE_LANES) * sizeof(double));
}

/* Sums over a run to the two arms and the columns; of the Hessian its upper triangle. */
static void ended(const run *now, ptrdiff_t k, ptrdiff_t q, ptrdiff_t d, ptrdiff_t vectors, double *score,
                  double *hessian) {
    const ptrdiff_t p = k * q + d, wide = q + d, low = now->low * q, high = now->high * q, rest = k * q - q;
    for (ptrdiff_t v = 0; v < vectors; v++)
        for (ptrdiff_t c = 0; c < wide; c++) {
            const double sum = tile_total(now->slopes + (v * wide + c) * TILE_LANES);
            score[v * p + (c < q ? low : rest) + c] += sum;
            if (c < q)
                score[v * p + high + c] -= sum;
        }
    for (ptrdiff_t c = 0; hessian && c < wide; c++)
        for (ptrdiff_t e = c; e < wide; e++) {
            const double g = tile_total(now->grams + (c * wide + e) * TILE_LANES);
            if (c >= q) {
                hessian[(rest + c) * p + rest + e] += g;
            } else if (e >= q) {
                hessian[(low + c) * p + rest + e] += g;
                hessian[(high + c) * p + rest + e] -= g;
            } else {
                hessian[(low + c) * p + low + e] += g;
                hessian[(high + c) * p + high + e] += g;
                hessian[(low + c) * p + high + e] -= g;
                if (e > c)
                    hessian[(low + e) * p + high + c] -= g;
            }
        }
}

/* parameter: vectors x p, p = k q + d. work, wide = q + d: wide (TILE + TILE_LANES wide) + vectors (2 TILE + wide
   (TILE_LANES + 1)) + TILE_TOGETHER TILE + 8. Outputs are added to. value: vectors, log-likelihoods. score: vectors x
   p. hessian: p x p, minus the second derivatives at the last parameter, upper triangle; or NULL. */
void sy_contextual(const sy_contextual_rows *rows, ptrdiff_t k, ptrdiff_t q, ptrdiff_t d, ptrdiff_t vectors,
                   const double *parameter, double *value, double *score, double *hessian, double *work) {
    const ptrdiff_t wide = q + d;
    double *x = sy_aligned(work), *eta = x + wide * TILE, *slope = eta + vectors * TILE;
    double *scaled = slope + vectors * TILE, *slopes = scaled + TILE_TOGETHER * TILE;
    double *grams = slopes + vectors * wide * TILE_LANES;
    run now = {-1, -1, grams + wide * wide * TILE_LANES, slopes, grams};
    answers s;
    for (ptrdiff_t at = 0, m = 0; at < rows->n; at += m) {
        ptrdiff_t low, high;
        m = together(rows, k, at, &low, &high);
        if (low != now.low || high != now.high) {
            if (at)
                ended(&now, k, q, d, vectors, score, hessian);
            now.low = low;
            now.high = high;
            started(&now, k, q, d, vectors, parameter, hessian != NULL);
        }
        const ptrdiff_t full = (m + LANES - 1) / LANES * LANES;
        const int plain = read_rows(rows, k, q, d, at, m, low, x, &s);
        tile_margins(vectors, full, wide, now.delta, x, eta);
        for (ptrdiff_t v = 0; v < vectors; v++)
            value[v] += log_likelihood(full, plain, eta + v * TILE, &s, slope + v * TILE);
        tile_sums(vectors, full, 0, wide, slope, x, slopes);
        if (hessian)
            grams_of(full, wide, s.curve, x, scaled, grams);
    }
    if (rows->n)
        ended(&now, k, q, d, vectors, score, hessian);
}
