/* What was drawn from q = softmax(logits): one class, or two arms without replacement.

   One class a:  P = q_a.  Two arms in either order (Plackett 1975; Luce 1959):
     P({a, b}) = q_a q_b (1 / (1 - q_a) + 1 / (1 - q_b)).
   With e_j = exp(f_j - top), T = sum e, A = T - e_a, B = T - e_b this is e_a e_b (A + B) / (T A B), and a was drawn
   first with probability r = B / (A + B). Gradient in the logits: 1{j = a} + 1{j = b} - t_j, where t = q + mu and mu
   is the mean over the two orders of q without the arm drawn first. Minus the Hessian:
     diag(t) - q q' - mu mu' - 2 r (1 - r) d d',  d = (q without b) - (q without a).
   A and B are sums of the other terms, never differences, so that nothing cancels where one arm takes all.
   Classes by rows, (k, n): every loop runs over rows. */
#include "softmax.h"
#include "common.h"

typedef struct {
    double top[SY_CHUNK], rest[SY_CHUNK], e_a[SY_CHUNK], e_b[SY_CHUNK], value[SY_CHUNK];
    double one[SY_CHUNK], two_a[SY_CHUNK], two_b[SY_CHUNK], weight[SY_CHUNK];
    double root_q[SY_CHUNK], root_a[SY_CHUNK], root_b[SY_CHUNK], gap_a[SY_CHUNK], gap_b[SY_CHUNK];
} chunk;

SY_CLONES
static void largest(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const double *logits, double *top) {
    for (ptrdiff_t i = 0; i < m; i++)
        top[i] = logits[i];
    for (ptrdiff_t j = 1; j < k; j++)
#pragma omp simd
        for (ptrdiff_t i = 0; i < m; i++)
            top[i] = logits[j * n + i] > top[i] ? logits[j * n + i] : top[i];
}

/* e_j to `out` where there is one, and the sum of those that were not drawn. */
SY_CLONES
static void exponentials(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const int32_t *a, const int32_t *b,
                         const double *logits, chunk *s, double *out) {
    for (ptrdiff_t j = 0; j < k; j++) {
        const double *f = logits + j * n;
        double *to = out ? out + j * n : s->value;
#pragma omp simd
        for (ptrdiff_t i = 0; i < m; i++) {
            const double e = sy_exp_negative(f[i] - s->top[i]);
            const int drawn_a = a[i] == (int32_t)j, drawn_b = b[i] == (int32_t)j;
            to[i] = e;
            s->rest[i] += drawn_a || drawn_b ? 0.0 : e;
            s->e_a[i] = drawn_a ? e : s->e_a[i];
            s->e_b[i] = drawn_b ? e : s->e_b[i];
        }
    }
}

/* Log-probability of what was drawn, and the factors of e_j: in q (one), in mu (two_a + two_b: a first, b first), and
   with sqrt(w) in the roots of the Hessian: q (root_q), mu (root_a + root_b), sqrt(2 r (1 - r)) d (gap_b - gap_a). */
static void probabilities(ptrdiff_t m, ptrdiff_t n, int draws, const int32_t *a, const int32_t *b,
                          const double *logits, chunk *s) {
    for (ptrdiff_t i = 0; i < m; i++) {
        const double f_a = logits[a[i] * n + i] - s->top[i];
        if (draws == 1) {
            const double total = s->rest[i] + s->e_a[i];
            s->value[i] = f_a - log(total);
            s->one[i] = 1.0 / total;
            s->root_q[i] = sqrt(s->weight[i]) * s->one[i];
            s->two_a[i] = s->two_b[i] = 0.0;
            continue;
        }
        const double f_b = logits[b[i] * n + i] - s->top[i];
        const double total = s->rest[i] + s->e_a[i] + s->e_b[i];
        const double without_a = s->rest[i] + s->e_b[i], without_b = s->rest[i] + s->e_a[i];
        const double both = without_a + without_b, first_a = without_b / both, first_b = without_a / both;
        s->value[i] = f_a + f_b + log(both / (total * without_a * without_b));
        s->one[i] = 1.0 / total;
        s->two_a[i] = first_a / without_a;
        s->two_b[i] = first_b / without_b;
        const double root = sqrt(s->weight[i]), mixed = root * sqrt(2.0 * first_a * first_b);
        s->root_q[i] = root * s->one[i];
        s->root_a[i] = root * s->two_a[i];
        s->root_b[i] = root * s->two_b[i];
        s->gap_a[i] = mixed / without_a;
        s->gap_b[i] = mixed / without_b;
    }
}

/* e_j of one class to its gradient w (1{drawn} - t_j). */
SY_CLONES
static void slopes(ptrdiff_t m, int32_t j, const int32_t *a, const int32_t *b, const chunk *s, double *e) {
#pragma omp simd
    for (ptrdiff_t i = 0; i < m; i++) {
        const int drawn_a = a[i] == j, drawn_b = b[i] == j;
        const double t = e[i] * (s->one[i] + (drawn_a ? 0.0 : s->two_a[i]) + (drawn_b ? 0.0 : s->two_b[i]));
        e[i] = s->weight[i] * ((drawn_a || drawn_b ? 1.0 : 0.0) - t);
    }
}

/* The same, before it is overwritten, to t and the roots of the Hessian, each k x n: w t, then sqrt(w) times
   q, mu and sqrt(2 r (1 - r)) d. */
SY_CLONES
static void curvatures(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, int draws, int32_t j, const int32_t *a, const int32_t *b,
                       const chunk *s, const double *e, double *roots) {
    double *t = roots, *q = roots + k * n, *mu = roots + 2 * k * n, *gap = roots + 3 * k * n;
#pragma omp simd
    for (ptrdiff_t i = 0; i < m; i++) {
        const int drawn_a = a[i] == j, drawn_b = b[i] == j;
        t[i] = s->weight[i] * e[i] * (s->one[i] + (drawn_a ? 0.0 : s->two_a[i]) + (drawn_b ? 0.0 : s->two_b[i]));
        q[i] = e[i] * s->root_q[i];
    }
    if (draws == 1)
        return;
#pragma omp simd
    for (ptrdiff_t i = 0; i < m; i++) {
        const int drawn_a = a[i] == j, drawn_b = b[i] == j;
        mu[i] = e[i] * ((drawn_a ? 0.0 : s->root_a[i]) + (drawn_b ? 0.0 : s->root_b[i]));
        gap[i] = e[i] * ((drawn_b ? 0.0 : s->gap_b[i]) - (drawn_a ? 0.0 : s->gap_a[i]));
    }
}

/* n rows. a: class, or the arm drawn together with b; b: NULL for one draw. Codes below k. weight: n or NULL.
   logits: k x n. value: n, log P. gradient: k x n, w d log P / d logits; NULL: none. roots: NULL, or 2 x k x n (4 for
   two draws): w t, then the roots of w (diag(t) - minus the Hessian). */
void sy_softmax(ptrdiff_t n, ptrdiff_t k, const int32_t *a, const int32_t *b, const double *weight,
                const double *logits, double *value, double *gradient, double *roots) {
    const int draws = b ? 2 : 1;
    int32_t none[SY_CHUNK];
    chunk s;
    for (ptrdiff_t i = 0; i < SY_CHUNK; i++)
        none[i] = -1;
    for (ptrdiff_t at = 0; at < n; at += SY_CHUNK) {
        const ptrdiff_t m = n - at < SY_CHUNK ? n - at : SY_CHUNK;
        const int32_t *left = a + at, *right = b ? b + at : none;
        const double *f = logits + at;
        memset(s.rest, 0, sizeof s.rest);
        memset(s.e_a, 0, sizeof s.e_a);
        memset(s.e_b, 0, sizeof s.e_b);
        for (ptrdiff_t i = 0; i < m; i++)
            s.weight[i] = weight ? weight[at + i] : 1.0;
        largest(m, n, k, f, s.top);
        exponentials(m, n, k, left, right, f, &s, gradient ? gradient + at : NULL);
        probabilities(m, n, draws, left, right, f, &s);
        memcpy(value + at, s.value, (size_t)m * sizeof(double));
        if (!gradient)
            continue;
        for (ptrdiff_t j = 0; j < k; j++) {
            double *e = gradient + j * n + at;
            if (roots)
                curvatures(m, n, k, draws, (int32_t)j, left, right, &s, e, roots + j * n + at);
            slopes(m, (int32_t)j, left, right, &s, e);
        }
    }
}

/* Minus the Hessian times a direction: u_j -> t_j u_j - sum_v root_vj (root_v' u), row by row. direction: k x n. */
SY_CLONES
void sy_softmax_product(ptrdiff_t n, ptrdiff_t k, ptrdiff_t r, const double *roots, double *direction) {
    double along[3][SY_CHUNK];
    for (ptrdiff_t at = 0; at < n; at += SY_CHUNK) {
        const ptrdiff_t m = n - at < SY_CHUNK ? n - at : SY_CHUNK;
        memset(along, 0, sizeof along);
        for (ptrdiff_t v = 0; v < r; v++)
            for (ptrdiff_t j = 0; j < k; j++) {
                const double *root = roots + ((v + 1) * k + j) * n + at, *u = direction + j * n + at;
#pragma omp simd
                for (ptrdiff_t i = 0; i < m; i++)
                    along[v][i] += root[i] * u[i];
            }
        for (ptrdiff_t j = 0; j < k; j++) {
            double *u = direction + j * n + at;
            const double *t = roots + j * n + at;
#pragma omp simd
            for (ptrdiff_t i = 0; i < m; i++)
                u[i] *= t[i];
            for (ptrdiff_t v = 0; v < r; v++) {
                const double *root = roots + ((v + 1) * k + j) * n + at;
#pragma omp simd
                for (ptrdiff_t i = 0; i < m; i++)
                    u[i] -= root[i] * along[v][i];
            }
        }
    }
}
