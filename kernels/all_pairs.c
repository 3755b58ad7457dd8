/* What every two arms would have scored against each other in every row, summed over the opponents of each arm, or over
   the arms that two policies would have drawn; and how far each could be off by what was not measured.

   mu_jk = s(f_j - f_k) = u_j / (u_j + u_k) with u_j = exp(f_j - max f): one division a pair, no exponential
   (docs/estimators.md, 5). Nothing of size n x k^2 is written: per row the sums over opponents, per pair the
   sum over rows. Scores more than 708 below a row's largest count as 708 below. 64 rows at a time. */
#include "all_pairs.h"
#include "common.h"

#define ROWS SY_ALL_PAIRS_ROWS
#define LANES 8 /* partial sums in a fixed order: the same bits from every instruction set */

/* u (k x ROWS) of m rows; beyond m it is 1, so that no lane divides by 0. */
SY_CLONES
static void exponentials(ptrdiff_t m, ptrdiff_t k, ptrdiff_t n, const double *score, double *u) {
    double top[ROWS];
    for (ptrdiff_t i = 0; i < ROWS; i++)
        top[i] = i < m ? score[i] : 0.0;
    for (ptrdiff_t j = 1; j < k; j++)
        for (ptrdiff_t i = 0; i < m; i++)
            top[i] = score[j * n + i] > top[i] ? score[j * n + i] : top[i];
    for (ptrdiff_t j = 0; j < k; j++) {
        double *to = u + j * ROWS;
#pragma omp simd
        for (ptrdiff_t i = 0; i < m; i++)
            to[i] = sy_exp_negative(score[j * n + i] - top[i]);
        for (ptrdiff_t i = m; i < ROWS; i++)
            to[i] = 1.0;
    }
}

/* One arm against one other: their shares to both sums, and the weighted sum over rows. */
SY_CLONES
static double pair(double omega, const double *restrict up, const double *restrict down, const double *restrict weight,
                   double *restrict sum_up, double *restrict sum_down) {
    double s[LANES] = {0};
    for (ptrdiff_t i = 0; i < ROWS; i += LANES)
        for (int l = 0; l < LANES; l++) {
            const double p = up[i + l] / (up[i + l] + down[i + l]);
            s[l] += weight[i + l] * p;
            sum_up[i + l] += omega * p;
            sum_down[i + l] += omega * (1.0 - p);
        }
    return sy_eight(s);
}

/* score: k x n, logits of each arm in each row. omega: k x k, symmetric, the weight of each pair, 0: left out.
   weight: n. work: (2 k + 1) x ROWS. Outputs: sums, k x n, of omega mu over the opponents; means, k x k, its upper
   triangle: plus the sum over rows of weight mu. */
void sy_all_pairs(ptrdiff_t n, ptrdiff_t k, const double *score, const double *omega, const double *weight,
                  double *work, double *sums, double *means) {
    double *u = sy_aligned(work), *total = u + k * ROWS, w[ROWS];
    for (ptrdiff_t at = 0; at < n; at += ROWS) {
        const ptrdiff_t m = n - at < ROWS ? n - at : ROWS;
        exponentials(m, k, n, score + at, u);
        memset(total, 0, (size_t)(k * ROWS) * sizeof(double));
        for (ptrdiff_t i = 0; i < ROWS; i++)
            w[i] = i < m ? weight[at + i] : 0.0;
        for (ptrdiff_t j = 0; j < k; j++)
            for (ptrdiff_t l = j + 1; l < k; l++)
                if (omega[j * k + l] != 0.0)
                    means[j * k + l] += pair(omega[j * k + l], u + j * ROWS, u + l * ROWS, w, total + j * ROWS,
                                             total + l * ROWS);
        for (ptrdiff_t j = 0; j < k; j++)
            memcpy(sums + j * n + at, total + j * ROWS, (size_t)m * sizeof(double));
    }
}

/* Two arms of both policies: their part of the value, and of the share where the pair is supported. */
SY_CLONES
static void pair_value(double supported, const double *restrict up, const double *restrict down,
                       const double *restrict win, const double *restrict lose, const double *restrict win_other,
                       const double *restrict lose_other, double *restrict value, double *restrict share) {
#pragma omp simd
    for (ptrdiff_t i = 0; i < ROWS; i++) {
        const double p = up[i] / (up[i] + down[i]), ahead = win[i] * lose_other[i], behind = win_other[i] * lose[i];
        value[i] += ahead * p + behind * (1.0 - p);
        share[i] += supported * (ahead + behind);
    }
}

/* Chances (k x ROWS) that a policy gives each arm in m rows from `at`, and their sum, NaN where one is negative. */
static void chances(ptrdiff_t at, ptrdiff_t m, ptrdiff_t k, const sy_policy *policy, double *own, double *total) {
    memset(total, 0, ROWS * sizeof(double));
    for (ptrdiff_t j = 0; j < k; j++) {
        const double *from = policy->at[j] < 0 ? NULL : policy->columns + policy->at[j] * policy->stride + at;
        double *to = own + j * ROWS;
        if (!from && policy->fixed[j] == 0.0)
            continue; /* `own` has been 0 there from the start */
        for (ptrdiff_t i = 0; i < m; i++) {
            to[i] = from ? from[i] : policy->fixed[j];
            total[i] += to[i] < 0.0 ? NAN : to[i];
        }
        for (ptrdiff_t i = m; i < ROWS; i++)
            to[i] = 0.0;
    }
}

static int draws(const sy_policy *policy, ptrdiff_t j) { return policy->at[j] >= 0 || policy->fixed[j] != 0.0; }

/* An arm drawn from one policy against one drawn from another, the same arm counting half.
   score: k x n, logits, an arm every `stride` numbers. a, b: the arms shown. supported: k x k.
   work: (3 k + 1) x ROWS. terms: 7 x n: the chance that the policy's arm wins; the chance that both draw a supported
   pair, and that they draw the same arm; that they draw a and b, and b and a; the sums of their chances, NaN where one
   is negative. */
void sy_policy_terms(ptrdiff_t n, ptrdiff_t k, ptrdiff_t stride, const double *score, sy_policy policy,
                     sy_policy reference, const uint8_t *supported, const int32_t *a, const int32_t *b, double *work,
                     double *terms) {
    double *u = sy_aligned(work), *own = u + k * ROWS, *other = own + k * ROWS;
    memset(own, 0, (size_t)(2 * k * ROWS) * sizeof(double));
    for (ptrdiff_t at = 0; at < n; at += ROWS) {
        const ptrdiff_t m = n - at < ROWS ? n - at : ROWS;
        double row[7][ROWS] = {{0}}, *value = row[0], *share = row[1], *same = row[2];
        exponentials(m, k, stride, score + at, u);
        chances(at, m, k, &policy, own, row[5]);
        chances(at, m, k, &reference, other, row[6]);
        for (ptrdiff_t j = 0; j < k; j++) {
            const int here = draws(&policy, j), there = draws(&reference, j);
            if (here && there)
                for (ptrdiff_t i = 0; i < ROWS; i++)
                    same[i] += own[j * ROWS + i] * other[j * ROWS + i];
            for (ptrdiff_t l = j + 1; l < k; l++)
                if ((here && draws(&reference, l)) || (there && draws(&policy, l)))
                    pair_value(supported[j * k + l], u + j * ROWS, u + l * ROWS, own + j * ROWS, other + j * ROWS,
                               own + l * ROWS, other + l * ROWS, value, share);
        }
        for (ptrdiff_t i = 0; i < m; i++) {
            const ptrdiff_t left = a[at + i] * ROWS + i, right = b[at + i] * ROWS + i;
            value[i] += 0.5 * same[i];
            row[3][i] = own[left] * other[right];
            row[4][i] = own[right] * other[left];
        }
        for (ptrdiff_t t = 0; t < 7; t++)
            memcpy(terms + t * n + at, row[t], (size_t)m * sizeof(double));
    }
}

/* One pair: the weighted sums over rows of the least and the largest mean. */
SY_CLONES
static void pair_ends(double lambda, const double *restrict up, const double *restrict down,
                      const double *restrict weight, double *least, double *most) {
    const double inverse = 1.0 / lambda;
    double few[ROWS], many[ROWS], low[LANES] = {0}, high[LANES] = {0};
#pragma omp simd
    for (ptrdiff_t i = 0; i < ROWS; i++) {
        const double p = up[i] / (up[i] + down[i]), q = 1.0 - p;
        const double near = p * inverse, far = 1.0 - q * inverse, steep = lambda * p, back = 1.0 - lambda * q;
        few[i] = weight[i] * (near > back ? near : back);
        many[i] = weight[i] * (steep < far ? steep : far);
    }
    for (ptrdiff_t i = 0; i < ROWS; i += LANES)
        for (int l = 0; l < LANES; l++) {
            low[l] += few[i + l];
            high[l] += many[i + l];
        }
    *least += sy_eight(low);
    *most += sy_eight(high);
}

/* The ends of what the mean outcome may be where the pair was not shown, if the odds of its being shown are off by at
   most lambda >= 1 (docs/estimators.md, 7): max(mu / lambda, 1 - lambda (1 - mu)), min(lambda mu,
   1 - (1 - mu) / lambda).
   score: k x n, logits. wanted: k x k, 0: pair left out. weight: n. work: (k + 1) x ROWS. ends: 2 x k x k, upper
   triangles: plus the sums over rows of weight times the least and the largest mean. */
void sy_pair_ends(ptrdiff_t n, ptrdiff_t k, const double *score, const double *wanted, const double *weight,
                  double lambda, double *work, double *ends) {
    double *u = sy_aligned(work), w[ROWS];
    for (ptrdiff_t at = 0; at < n; at += ROWS) {
        const ptrdiff_t m = n - at < ROWS ? n - at : ROWS;
        exponentials(m, k, n, score + at, u);
        for (ptrdiff_t i = 0; i < ROWS; i++)
            w[i] = i < m ? weight[at + i] : 0.0;
        for (ptrdiff_t j = 0; j < k; j++)
            for (ptrdiff_t l = j + 1; l < k; l++)
                if (wanted[j * k + l] != 0.0)
                    pair_ends(lambda, u + j * ROWS, u + l * ROWS, w, ends + j * k + l, ends + k * k + j * k + l);
    }
}

/* The largest mean times along > 0. The least is 1 less the largest of the other arm. */
SY_CLONES
static void pair_along(double lambda, double along, const double *restrict up, const double *restrict down,
                       double *restrict value) {
    const double inverse = 1.0 / lambda;
#pragma omp simd
    for (ptrdiff_t i = 0; i < ROWS; i++) {
        const double p = up[i] / (up[i] + down[i]);
        const double steep = lambda * p, far = 1.0 - (1.0 - p) * inverse;
        value[i] += along * (steep < far ? steep : far);
    }
}

/* Each row's sum over pairs of along times the largest mean where along > 0, the least where along < 0 (see above).
   score: k x n, logits. along: k x k, its upper triangle. work: (k + 1) x ROWS. value: n. */
void sy_pair_along(ptrdiff_t n, ptrdiff_t k, const double *score, const double *along, double lambda, double *work,
                   double *value) {
    double *u = sy_aligned(work);
    for (ptrdiff_t at = 0; at < n; at += ROWS) {
        const ptrdiff_t m = n - at < ROWS ? n - at : ROWS;
        double total[ROWS] = {0}, taken = 0.0;
        exponentials(m, k, n, score + at, u);
        for (ptrdiff_t j = 0; j < k; j++)
            for (ptrdiff_t l = j + 1; l < k; l++) {
                const double by = along[j * k + l];
                if (by > 0.0)
                    pair_along(lambda, by, u + j * ROWS, u + l * ROWS, total);
                else if (by < 0.0) {
                    pair_along(lambda, -by, u + l * ROWS, u + j * ROWS, total);
                    taken += by;
                }
            }
        for (ptrdiff_t i = 0; i < m; i++)
            value[at + i] = total[i] + taken;
    }
}
