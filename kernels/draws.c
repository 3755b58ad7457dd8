/* Counter-based random draws: number j of replicate r depends on (seed, r, j) alone, so any division of
   the work over threads, blocks or machines draws the same numbers.

   Multinomial counts at full size: independent Poisson counts conditioned on their total are multinomial.
   Draw Poisson counts a little thin, then top up to n one categorical draw at a time; overshoot, once
   in 700 times, draws again. Exact, and a few nanoseconds per cell where binomials take a hundred. */
#include "common.h"
#include "draws.h"

typedef struct {
    uint64_t key;
} stream;

static inline stream open_stream(uint64_t seed, uint64_t replicate, uint64_t cell) {
    const uint64_t key = sy_mix(seed + 0x9e3779b97f4a7c15u * (replicate + 1));
    return (stream){sy_mix(key ^ sy_mix(0xd1b54a32d192ed03u * (cell + 1)))};
}

/* Uniform in (0, 1), 52 bits: splitmix64 (Steele, Lea and Flood 2014) on the stream's own counter. */
static inline double uniform(stream *s) {
    s->key += 0x9e3779b97f4a7c15u;
    return ((double)(sy_mix(s->key) >> 12) + 0.5) * 0x1p-52;
}

/* log k! - (k log k - k + log(2 pi k) / 2) for k >= 10, to 1e-11: Stirling's series. */
static inline double stirling_rest(double k) {
    const double x = 1.0 / k, xx = x * x;
    return x * (1.0 / 12.0 - xx * (1.0 / 360.0 - xx * (1.0 / 1260.0 - xx / 1680.0)));
}

/* Poisson: inversion by multiplication below 10, else the transformed rejection PTRS of Hoermann (1993). */
static double poisson(double mean, stream *s) {
    if (mean < 10.0) {
        const double floor_product = exp(-mean);
        double product = uniform(s), k = 0.0;
        for (; product > floor_product; k++)
            product *= uniform(s);
        return k;
    }
    const double b = 0.931 + 2.53 * sqrt(mean), a = -0.059 + 0.02483 * b;
    const double v_r = 0.9277 - 3.6224 / (b - 2.0);
    for (;;) {
        const double u = uniform(s) - 0.5, v = uniform(s), us = 0.5 - fabs(u);
        const double k = floor((2.0 * a / us + b) * u + mean + 0.43);
        if (us >= 0.07 && v <= v_r)
            return k;
        if (k < 0.0 || (us < 0.013 && v > us))
            continue;
        const double inverse_alpha = 1.1239 + 1.1328 / (b - 3.4);
        const double height = v * inverse_alpha / (a / (us * us) + b);
        if (k < 10.0 ? log(height) <= k * log(mean) - mean - lgamma(k + 1.0)
                     : log(height * sqrt(6.283185307179586477 * k)) <= k * log(mean / k) + k - mean - stirling_rest(k))
            return k;
    }
}

/* First cell whose running sum lies above u n, found from guide[floor(u m)] (Chen and Asau 1974). */
static inline ptrdiff_t cell_of(double u, ptrdiff_t m, const double *cumulative, const int64_t *guide) {
    const double x = u * cumulative[m - 1];
    ptrdiff_t j = (ptrdiff_t)guide[(ptrdiff_t)(u * (double)m)];
    while (j > 0 && cumulative[j - 1] > x) /* the guide's own rounding */
        j--;
    while (j < m - 1 && cumulative[j] <= x)
        j++;
    return j;
}

/* drawn: m whole numbers, multinomial(n, counts / n) with n the sum of counts (whole numbers below 2^53);
   cumulative: running sums of counts; guide: for each j < m the first cell whose running sum lies above j n / m. */
void sy_multinomial(ptrdiff_t m, const double *counts, const double *cumulative, const int64_t *guide, uint64_t seed,
                    uint64_t replicate, double *drawn) {
    const double n = m ? cumulative[m - 1] : 0.0;
    const double thin = n > 64.0 ? 1.0 - 3.0 / sqrt(n) : 0.0;
    for (uint64_t attempt = 0;; attempt++) {
        double total = 0.0;
        for (ptrdiff_t j = 0; j < m; j++) {
            stream s = open_stream(seed + attempt * 0xa0761d6478bd642fu, replicate, (uint64_t)j);
            drawn[j] = counts[j] > 0.0 && thin > 0.0 ? poisson(thin * counts[j], &s) : 0.0;
            total += drawn[j];
        }
        if (total > n)
            continue;
        stream s = open_stream(seed + attempt * 0xa0761d6478bd642fu, replicate, (uint64_t)m);
        for (; total < n; total += 1.0)
            drawn[cell_of(uniform(&s), m, cumulative, guide)] += 1.0;
        return;
    }
}

/* cos and sin of 2 pi v for 0 < v < 1: whole quarter turns come off exactly, Taylor's series for the eighth that is
   left at most; absolute error below 3e-16. */
static inline void turn(double v, double *cosine, double *sine) {
    const double shifted = 4.0 * v + 0x1.8p52, quarter = shifted - 0x1.8p52;
    const uint64_t quarters = sy_bits(shifted);
    const double x = 6.283185307179586477 * (v - 0.25 * quarter), z = x * x;
    double s = -1.0 / 1307674368000.0, c = 1.0 / 20922789888000.0;
    s = s * z + 1.0 / 6227020800.0;
    s = s * z - 1.0 / 39916800.0;
    s = s * z + 1.0 / 362880.0;
    s = s * z - 1.0 / 5040.0;
    s = s * z + 1.0 / 120.0;
    s = s * z - 1.0 / 6.0;
    s = x + x * (z * s);
    c = c * z - 1.0 / 87178291200.0;
    c = c * z + 1.0 / 479001600.0;
    c = c * z - 1.0 / 3628800.0;
    c = c * z + 1.0 / 40320.0;
    c = c * z - 1.0 / 720.0;
    c = c * z + 1.0 / 24.0;
    c = c * z - 0.5;
    c = 1.0 + c * z;
    const double along = quarters & 1 ? s : c, across = quarters & 1 ? c : s;
    *cosine = (quarters + 1) & 2 ? -along : along;
    *sine = quarters & 2 ? -across : across;
}

/* drawn: m standard normals (Box and Muller 1958, one pair of uniforms for each two cells). */
SY_CLONES
void sy_normals(ptrdiff_t m, uint64_t seed, uint64_t replicate, double *drawn) {
    double u[SY_CHUNK], v[SY_CHUNK], first[SY_CHUNK], second[SY_CHUNK];
    for (ptrdiff_t at = 0; at < m; at += 2 * SY_CHUNK) {
        const ptrdiff_t left = m - at, pairs = left < 2 * SY_CHUNK ? (left + 1) / 2 : SY_CHUNK;
        for (ptrdiff_t i = 0; i < pairs; i++) {
            stream s = open_stream(seed, replicate, (uint64_t)(at + 2 * i));
            u[i] = uniform(&s);
            v[i] = uniform(&s);
        }
#pragma omp simd
        for (ptrdiff_t i = 0; i < pairs; i++) {
            double cosine, sine;
            const double radius = sqrt(-2.0 * sy_log(u[i]));
            turn(v[i], &cosine, &sine);
            first[i] = radius * cosine;
            second[i] = radius * sine;
        }
        for (ptrdiff_t i = 0; i < pairs; i++) {
            drawn[at + 2 * i] = first[i];
            if (2 * i + 1 < left)
                drawn[at + 2 * i + 1] = second[i];
        }
    }
}
