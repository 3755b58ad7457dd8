/* The outcome models, 256 rows at a time: log-likelihood and its derivatives in eta and the tie parameter.

   Outcomes are (win, tie, loss) weights of a row or a cell:
   - Bradley-Terry (1952), a tie as half a win:  win log s(eta) + loss log s(-eta)
   - Davidson (1970), tie = log nu:  (win, tie, loss) proportional to (e^{eta/2}, nu, e^{-eta/2})
   - Rao and Kupper (1967), tie = tau > 0:  P(win) = s(eta - tau), P(loss) = s(-eta - tau)
   - Thurstone (1927) and Mosteller (1951), a tie as half a win:  P(win) = Phi(eta)
   h_* are minus the second derivatives, so that they are positive where the model is concave.
   d_tie, h_cross, h_tie are written only for Davidson and Rao-Kupper. */
#ifndef STEELYARD_LIKELIHOOD_H
#define STEELYARD_LIKELIHOOD_H
#include "common.h"

/* The sum of a chunk, whose entries beyond its rows are 0: eight partial ones, the same bits from every instruction set. */
SY_CLONES
static double sy_chunk_sum(const double *x) {
    double s[8] = {0};
    for (ptrdiff_t i = 0; i < SY_CHUNK; i += 8)
        for (int l = 0; l < 8; l++)
            s[l] += x[i + l];
    return sy_eight(s);
}

/* log s(x) and s(x) without overflow: e = exp(-|x|), log s(x) = min(x, 0) - log1p(e). */
static inline void logistic(double x, double *log_up, double *log_down, double *p, double *q) {
    const double e = sy_exp_negative(-fabs(x)), l = sy_log1p_unit(e), big = 1.0 / (1.0 + e), small = e * big;
    *log_up = (x < 0.0 ? x : 0.0) - l;
    *log_down = (x < 0.0 ? 0.0 : -x) - l;
    *p = x < 0.0 ? small : big;
    *q = x < 0.0 ? big : small;
}

/* log Phi(x) and the Mills ratio phi(x) / Phi(x). Below -30 the continued fraction
   phi / Phi = t + 1/(t + 2/(t + 3/(t + ...))), t = -x (Abramowitz and Stegun 26.2.14) has converged. */
static void normal(double x, double *log_cdf, double *mills) {
    const double log_density = -0.5 * x * x - 0.91893853320467274178;
    if (x > -30.0) {
        *log_cdf = x > 0.0 ? log1p(-0.5 * erfc(x * 0.70710678118654752440))
                           : log(0.5 * erfc(-x * 0.70710678118654752440));
        *mills = exp(log_density - *log_cdf);
    } else {
        double fraction = -x;
        for (int depth = 20; depth > 0; depth--)
            fraction = -x + depth / fraction;
        *mills = fraction;
        *log_cdf = log_density - log(fraction);
    }
}

SY_CLONES
static void bradley_terry(ptrdiff_t n, const double *eta, const double *outcomes, double *value, double *d_eta,
                          double *h_eta) {
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++) {
        const double half = 0.5 * outcomes[3 * i + 1], up = outcomes[3 * i] + half, down = outcomes[3 * i + 2] + half;
        double log_up, log_down, p, q;
        logistic(eta[i], &log_up, &log_down, &p, &q);
        value[i] = up * log_up + down * log_down;
        d_eta[i] = up * q - down * p;
        h_eta[i] = (up + down) * p * q;
    }
}

/* With e = exp(-|eta|) and v = nu e^{-|eta|/2}: the better one's, tie's and worse one's shares are
   (1, v, e) / (1 + v + e); tie > 0 large is kept finite by dividing by the largest term. */
static void davidson(ptrdiff_t n, const double *eta, const double *outcomes, double tie, double *value, double *d_eta,
                     double *d_tie, double *h_eta, double *h_cross, double *h_tie) {
    for (ptrdiff_t i = 0; i < n; i++) {
        const double win = outcomes[3 * i], draw = outcomes[3 * i + 1], lose = outcomes[3 * i + 2], half = 0.5 * eta[i];
        const double top = fmax(fabs(half), tie);
        const double e_win = exp(half - top), e_tie = exp(tie - top), e_lose = exp(-half - top);
        const double total = e_win + e_tie + e_lose, log_total = top + log(total), all = win + draw + lose;
        const double p_win = e_win / total, p_tie = e_tie / total, p_lose = e_lose / total, lead = p_win - p_lose;
        value[i] = win * (half - log_total) + lose * (-half - log_total) + (draw != 0.0 ? draw * (tie - log_total) : 0.0);
        d_eta[i] = 0.5 * (win * (p_tie + 2.0 * p_lose) - lose * (p_tie + 2.0 * p_win) - draw * lead);
        d_tie[i] = draw * (p_win + p_lose) - (win + lose) * p_tie;
        h_eta[i] = 0.25 * all * (p_tie * (p_win + p_lose) + 4.0 * p_win * p_lose);
        h_cross[i] = -0.5 * all * lead * p_tie;
        h_tie[i] = all * p_tie * (p_win + p_lose);
    }
}

/* Two logistic terms, at eta - tau and -eta - tau, because
   P(tie) = s(eta + tau) - s(eta - tau) = s(eta + tau) s(tau - eta) (1 - e^{-2 tau}).
   Cells without ties keep 0 * infinity out at tau = 0. */
SY_CLONES
static void rao_kupper(ptrdiff_t n, const double *eta, const double *outcomes, double tie, double *value,
                       double *d_eta, double *d_tie, double *h_eta, double *h_cross, double *h_tie) {
    const double grow = expm1(2.0 * tie), log_gap = log(-expm1(-2.0 * tie));
    const double gap_slope = 2.0 / grow, gap_curve = gap_slope * (gap_slope + 2.0);
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++) {
        const double win = outcomes[3 * i], draw = outcomes[3 * i + 1], lose = outcomes[3 * i + 2];
        double up_win, down_win, p_win, q_win, up_lose, down_lose, p_lose, q_lose;
        logistic(eta[i] - tie, &up_win, &down_win, &p_win, &q_win);
        logistic(-eta[i] - tie, &up_lose, &down_lose, &p_lose, &q_lose);
        const double g_win = win * q_win - draw * p_win, g_lose = lose * q_lose - draw * p_lose;
        const double h_win = (win + draw) * p_win * q_win, h_lose = (lose + draw) * p_lose * q_lose;
        value[i] = win * up_win + lose * up_lose + draw * (down_win + down_lose) + (draw == 0.0 ? 0.0 : draw * log_gap);
        d_eta[i] = g_win - g_lose;
        d_tie[i] = (draw == 0.0 ? 0.0 : draw * gap_slope) - g_win - g_lose;
        h_eta[i] = h_win + h_lose;
        h_cross[i] = h_lose - h_win;
        h_tie[i] = h_win + h_lose + (draw == 0.0 ? 0.0 : draw * gap_curve);
    }
}

static void probit(ptrdiff_t n, const double *eta, const double *outcomes, double *value, double *d_eta, double *h_eta) {
    for (ptrdiff_t i = 0; i < n; i++) {
        const double half = 0.5 * outcomes[3 * i + 1], up = outcomes[3 * i] + half, down = outcomes[3 * i + 2] + half;
        double log_up, log_down, mills_up, mills_down;
        normal(eta[i], &log_up, &mills_up);
        normal(-eta[i], &log_down, &mills_down);
        value[i] = up * log_up + down * log_down;
        d_eta[i] = up * mills_up - down * mills_down;
        h_eta[i] = up * mills_up * (mills_up + eta[i]) + down * mills_down * (mills_down - eta[i]);
    }
}

/* m rows or cells; eta: m; o: m x 3; tie: log nu or tau. Outputs, m each. */
static inline void sy_likelihood(ptrdiff_t m, int model, const double *eta, const double *o, double tie, double *value,
                                 double *d_eta, double *d_tie, double *h_eta, double *h_cross, double *h_tie) {
    switch (model) {
    case SY_BRADLEY_TERRY:
        bradley_terry(m, eta, o, value, d_eta, h_eta);
        break;
    case SY_DAVIDSON:
        davidson(m, eta, o, tie, value, d_eta, d_tie, h_eta, h_cross, h_tie);
        break;
    case SY_RAO_KUPPER:
        rao_kupper(m, eta, o, tie, value, d_eta, d_tie, h_eta, h_cross, h_tie);
        break;
    default:
        probit(m, eta, o, value, d_eta, h_eta);
    }
}

#endif
