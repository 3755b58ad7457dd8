/* Shared by every kernel: clones per instruction set, bit casts, branch-free exp and log1p. */
#ifndef STEELYARD_COMMON_H
#define STEELYARD_COMMON_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* One compiled copy of a loop per instruction set, chosen when the module loads. Contraction into
   fused multiply-add is off for all of them (setup.py), so every copy returns the same bits. */
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12
#define SY_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define SY_CLONES
#endif

/* Loops of fixed lengths are worth little unless they become a part of the clone that calls them. */
#ifdef __GNUC__
#define SY_WITHIN static inline __attribute__((always_inline))
#else
#define SY_WITHIN static inline
#endif

enum sy_model { SY_BRADLEY_TERRY, SY_DAVIDSON, SY_RAO_KUPPER, SY_PROBIT };

#define SY_CHUNK 256 /* rows kept in stack buffers between two vector loops */

/* The first place in `work` from which vectors do not cross cache lines; 8 numbers at most are skipped. */
static inline double *sy_aligned(double *work) { return (double *)(((uintptr_t)work + 63) & ~(uintptr_t)63); }

/* Of eight partial sums, in a fixed order. */
static inline double sy_eight(const double *s) {
    return ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
}

/* Asks for number `at` of x before it is read: of many columns, far apart, the processor foresees none. It may be past
   the end, so that no pointer to it is made. */
#ifdef __GNUC__
#define SY_PREFETCH(x, at) __builtin_prefetch((const void *)((uintptr_t)(x) + (uintptr_t)(at) * sizeof *(x)))
#else
#define SY_PREFETCH(x, at) ((void)0)
#endif

static inline double sy_double(uint64_t bits) {
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline uint64_t sy_bits(double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* exp(x) for x <= 0, relative error below 2.3e-16 (tested against mpmath); x < -708 returns exp(-708).
   Cody and Waite reduction x = k ln2 + r, |r| <= ln2 / 2, then 1 + r + r^2 / 2 + r^3 q(r), q through (e^r - 1 - r -
   r^2 / 2) / r^3 at the Chebyshev nodes of that interval, which leaves 3.4e-17. Its terms are added in pairs, so that
   no long chain of them waits for one another. */
static inline double sy_exp_negative(double x) {
    const double shift = 0x1.8p52;
    x = x < -708.0 ? -708.0 : x;
    double k = x * 0x1.71547652b82fep0 + shift;
    uint64_t scale = (sy_bits(k) + 1023) << 52;
    k -= shift;
    const double r = (x - k * 0x1.62e42fee00000p-1) - k * 0x1.a39ef35793c76p-33, z = r * r;
    const double low = (0.5 + r * 0x1.5555555555555p-3) + z * (0x1.5555555554cb7p-5 + r * 0x1.1111111110e6ap-7);
    const double mid = (0x1.6c16c1738ff55p-10 + r * 0x1.a01a01a4b322fp-13) +
                       z * (0x1.a019c9a5652d3p-16 + r * 0x1.71de17e40edfep-19);
    const double high = 0x1.2880411bad1aap-22 + r * 0x1.af236aac51d05p-26;
    const double p = low + (z * z) * (mid + (z * z) * high);
    return (1.0 + (r + z * p)) * sy_double(scale);
}

/* 2 atanh(s) = log((1 + s) / (1 - s)) for |s| <= 0.172, by its series. */
static inline double sy_twice_atanh(double s) {
    const double z = s * s;
    double p = 1.0 / 25.0;
    p = p * z + 1.0 / 23.0;
    p = p * z + 1.0 / 21.0;
    p = p * z + 1.0 / 19.0;
    p = p * z + 1.0 / 17.0;
    p = p * z + 1.0 / 15.0;
    p = p * z + 1.0 / 13.0;
    p = p * z + 1.0 / 11.0;
    p = p * z + 1.0 / 9.0;
    p = p * z + 1.0 / 7.0;
    p = p * z + 1.0 / 5.0;
    p = p * z + 1.0 / 3.0;
    return 2.0 * s + (2.0 * s) * (z * p);
}

/* log x for a positive normal x, NaN of NaN: x = 2^e f with f in [0.70, 1.41), log f = 2 atanh((f - 1) / (f + 1)),
   absolute error 3e-16 relative to the larger of log x and log f. */
static inline double sy_log(double x) {
    const uint64_t bits = sy_bits(x), above = (bits & 0xfffffffffffffu) > 0x6a09e667f3bccu;
    const double f = sy_double((bits & 0xfffffffffffffu) | ((1023 - above) << 52));
    const double e = sy_double(((bits >> 52) + above) | 0x4330000000000000u) - (0x1p52 + 1023.0);
    return x - x == 0.0 ? e * 0x1.62e42fefa39efp-1 + sy_twice_atanh((f - 1.0) / (f + 1.0)) : x;
}

/* log(1 + e) for 0 <= e <= 1, relative error below 5e-16 (tested against mpmath).
   log(1 + e) = 2 atanh(e / (2 + e)); above sqrt(2) - 1 one factor of two is taken out first, so that
   the argument of the series stays below 0.172. */
static inline double sy_log1p_unit(double e) {
    const int above = e > 0.41421356237309503;
    const double f = above ? 0.5 * e - 0.5 : e; /* exact: 1 + f = (1 + e) / 2 */
    const double series = sy_twice_atanh(f / (2.0 + f));
    return above ? 0x1.62e42fefa39efp-1 + (0x1.abc9e3b39803fp-56 + series) : series;
}

/* One round of a 64-bit finaliser (Stafford's variant 13 of MurmurHash3's mix). */
static inline uint64_t sy_mix(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

#endif
