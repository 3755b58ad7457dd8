/* What was drawn from q = softmax(logits): one class, or two arms without replacement.

   One class a:  P = q_a.  Two arms in either order (Plackett 1975; Luce 1959):
     P({a, b}) = q_a q_b (1 / (1 - q_a) + 1 / (1 - q_b)).
   With e_j = exp(f_j - top), T = sum e, A = T - e_a, B = T - e_b this is e_a e_b (A + B) / (T A B), and a was drawn
   first with probability r = B / (A + B). Gradient in the logits: 1{j = a} + 1{j = b} - t_j, where t = q + mu and mu
   is the mean over the two orders of q without the arm drawn first. Minus the Hessian:
     diag(t) - q q' - mu mu' - 2 r (1 - r) d d',  d = (q without b) - (q without a).
   A and B are sums of the other terms, never differences, so that nothing cancels where one arm takes all.
   All that was not drawn is e_j times something of its row alone, so that loops over classes ask nothing of a class;
   what was drawn is put right after them. Classes by rows, (k, n): every loop runs over rows. */
#include "softmax.h"
#include "tiles.h"

#define ROWS TILE /* that are worked on at a time */

/* Of each row: the drawn logits, e_a and e_b, and the sum of the other e_j; log P; the factors of e_j: in q (one), in
   mu (two_a + two_b: a first, b first), and with sqrt(w) in the roots of the Hessian: q (root_q), mu (root_a + root_b),
   sqrt(2 r (1 - r)) d (gap_b - gap_a). Of one draw all of b's are 0. */
typedef struct {
    double top[SY_CHUNK], f_a[SY_CHUNK], f_b[SY_CHUNK], e_a[SY_CHUNK], e_b[SY_CHUNK], rest[SY_CHUNK];
    double weight[SY_CHUNK], value[SY_CHUNK], one[SY_CHUNK], two_a[SY_CHUNK], two_b[SY_CHUNK];
    double root_q[SY_CHUNK], root_a[SY_CHUNK], root_b[SY_CHUNK], gap_a[SY_CHUNK], gap_b[SY_CHUNK];
    double factor[SY_CHUNK], shared[SY_CHUNK];
} chunk;

SY_CLONES
static void largest(ptrdiff_t m, ptrdiff_t stride, ptrdiff_t k, const double *f, double *top) {
    for (ptrdiff_t i = 0; i < m; i++)
        top[i] = f[i];
    for (ptrdiff_t j = 1; j < k; j++)
#pragma omp simd
        for (ptrdiff_t i = 0; i < m; i++)
            top[i] = f[j * stride + i] > top[i] ? f[j * stride + i] : top[i];
}

SY_CLONES
static void exponentials(ptrdiff_t m, ptrdiff_t stride, ptrdiff_t k, const double *f, const double *top, double *e) {
    for (ptrdiff_t j = 0; j < k; j++)
#pragma omp simd
        for (ptrdiff_t i = 0; i < m; i++)
            e[j * stride + i] = sy_exp_negative(f[j * stride + i] - top[i]);
}

/* to += sum over classes of e, or of e u. */
SY_CLONES
static void totals(ptrdiff_t m, ptrdiff_t stride, ptrdiff_t k, const double *e, double *to) {
    for (ptrdiff_t j = 0; j < k; j++)
#pragma omp simd
        for (ptrdiff_t i = 0; i < m; i++)
            to[i] += e[j * stride + i];
}

SY_CLONES
static void totals_along(ptrdiff_t m, ptrdiff_t k, const double *e, const double *u, double *to) {
    for (ptrdiff_t j = 0; j < k; j++)
#pragma omp simd
        for (ptrdiff_t i = 0; i < m; i++)
            to[i] += e[j * ROWS + i] * u[j * ROWS + i];
}

SY_CLONES
static void one_drawn(ptrdiff_t m, chunk *s) {
#pragma omp simd
    for (ptrdiff_t i = 0; i < m; i++) {
        const double total = s->rest[i] + s->e_a[i];
        s->value[i] = s->f_a[i] - sy_log(total);
        s->one[i] = 1.0 / total;
        s->root_q[i] = sqrt(s->weight[i]) * s->one[i];
        s->two_a[i] = s->two_b[i] = s->root_a[i] = s->root_b[i] = s->gap_a[i] = s->gap_b[i] = 0.0;
    }
}

SY_CLONES
static void two_drawn(ptrdiff_t m, chunk *s) {
#pragma omp simd
    for (ptrdiff_t i = 0; i < m; i++) {
        const double total = s->rest[i] + s->e_a[i] + s->e_b[i], w = sqrt(s->weight[i]);
        const double without_a = s->rest[i] + s->e_b[i], without_b = s->rest[i] + s->e_a[i];
        const double both = without_a + without_b, first_a = without_b / both, first_b = without_a / both;
        const double mixed = w * sqrt(2.0 * first_a * first_b);
        s->value[i] = s->f_a[i] + s->f_b[i] + sy_log(both / (total * without_a * without_b));
        s->one[i] = 1.0 / total;
        s->two_a[i] = first_a / without_a;
        s->two_b[i] = first_b / without_b;
        s->root_q[i] = w * s->one[i];
        s->root_a[i] = w * s->two_a[i];
        s->root_b[i] = w * s->two_b[i];
        s->gap_a[i] = mixed / without_a;
        s->gap_b[i] = mixed / without_b;
    }
}

/* Logits f to e, which may be in their place, and all of a chunk that hangs on them. e is 0 where a class was drawn. */
static void drawn(ptrdiff_t m, ptrdiff_t stride, ptrdiff_t k, const int32_t *a, const int32_t *b, const double *weight,
                  const double *f, double *e, chunk *s) {
    largest(m, stride, k, f, s->top);
    for (ptrdiff_t i = 0; i < m; i++) {
        s->weight[i] = weight ? weight[i] : 1.0;
        s->f_a[i] = f[a[i] * stride + i] - s->top[i];
        s->f_b[i] = b ? f[b[i] * stride + i] - s->top[i] : 0.0;
        s->rest[i] = s->e_b[i] = 0.0;
    }
    exponentials(m, stride, k, f, s->top, e);
    for (ptrdiff_t i = 0; i < m; i++) {
        s->e_a[i] = e[a[i] * stride + i];
        e[a[i] * stride + i] = 0.0;
        if (b) {
            s->e_b[i] = e[b[i] * stride + i];
            e[b[i] * stride + i] = 0.0;
        }
    }
    totals(m, stride, k, e, s->rest);
    b ? two_drawn(m, s) : one_drawn(m, s);
}

/* e times something of its row, then its weight. Where one class takes all but e^-700,
   the factor is near the end of all numbers: what comes before it is not. */
SY_CLONES
static void weighted(ptrdiff_t m, ptrdiff_t stride, ptrdiff_t k, const double *factor, const double *weight,
                     double *e) {
    for (ptrdiff_t j = 0; j < k; j++)
#pragma omp simd
        for (ptrdiff_t i = 0; i < m; i++)
            e[j * stride + i] = weight[i] * (e[j * stride + i] * factor[i]);
}

SY_CLONES
static void scaled(ptrdiff_t m, ptrdiff_t stride, ptrdiff_t k, const double *factor, const double *e, double *to) {
    for (ptrdiff_t j = 0; j < k; j++)
#pragma omp simd
        for (ptrdiff_t i = 0; i < m; i++)
            to[j * stride + i] = e[j * stride + i] * factor[i];
}

SY_CLONES
static void bent(ptrdiff_t m, ptrdiff_t k, const double *factor, const double *less, const double *e, double *u) {
    for (ptrdiff_t j = 0; j < k; j++)
#pragma omp simd
        for (ptrdiff_t i = 0; i < m; i++)
            u[j * ROWS + i] = e[j * ROWS + i] * (factor[i] * u[j * ROWS + i] - less[i]);
}

/* e to the gradient w (1{drawn} - t). */
static void slopes(ptrdiff_t m, ptrdiff_t stride, ptrdiff_t k, const int32_t *a, const int32_t *b, chunk *s,
                   double *e) {
    for (ptrdiff_t i = 0; i < m; i++)
        s->factor[i] = -(s->one[i] + s->two_a[i] + s->two_b[i]);
    weighted(m, stride, k, s->factor, s->weight, e);
    for (ptrdiff_t i = 0; i < m; i++) {
        e[a[i] * stride + i] = s->weight[i] * (1.0 - s->e_a[i] * (s->one[i] + s->two_b[i]));
        if (b)
            e[b[i] * stride + i] = s->weight[i] * (1.0 - s->e_b[i] * (s->one[i] + s->two_a[i]));
    }
}

/* One root of the Hessian: e times a factor, and what it is of the drawn classes. */
static void root(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const int32_t *a, const int32_t *b, const chunk *s,
                 const double *factor, const double *of_a, const double *of_b, double sign_b, const double *e,
                 double *to) {
    scaled(m, n, k, factor, e, to);
    for (ptrdiff_t i = 0; i < m; i++) {
        to[a[i] * n + i] = s->e_a[i] * of_a[i];
        if (b)
            to[b[i] * n + i] = sign_b * s->e_b[i] * of_b[i];
    }
}

/* w t, then the roots of w (diag(t) - minus the Hessian): sqrt(w) times q, mu and sqrt(2 r (1 - r)) d, each k x n. */
static void curvatures(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const int32_t *a, const int32_t *b, chunk *s,
                       const double *e, double *roots) {
    double of_a[SY_CHUNK], of_b[SY_CHUNK];
    for (ptrdiff_t i = 0; i < m; i++) {
        s->factor[i] = s->weight[i] * (s->one[i] + s->two_a[i] + s->two_b[i]);
        of_a[i] = s->weight[i] * (s->one[i] + s->two_b[i]);
        of_b[i] = s->weight[i] * (s->one[i] + s->two_a[i]);
    }
    root(m, n, k, a, b, s, s->factor, of_a, of_b, 1.0, e, roots);
    root(m, n, k, a, b, s, s->root_q, s->root_q, s->root_q, 1.0, e, roots + k * n);
    if (!b)
        return;
    for (ptrdiff_t i = 0; i < m; i++) {
        s->factor[i] = s->root_a[i] + s->root_b[i];
        s->shared[i] = s->gap_b[i] - s->gap_a[i];
    }
    root(m, n, k, a, b, s, s->factor, s->root_b, s->root_a, 1.0, e, roots + 2 * k * n);
    root(m, n, k, a, b, s, s->shared, s->gap_b, s->gap_a, -1.0, e, roots + 3 * k * n);
}

/* n rows. a: class, or the arm drawn together with b; b: NULL for one draw. Codes below k. weight: n or NULL.
   logits: k x n. gradient: k x n, w d log P / d logits. roots: NULL, or 2 x k x n (4 for two draws): w t, then the
   roots of w (diag(t) - minus the Hessian). */
void sy_softmax(ptrdiff_t n, ptrdiff_t k, const int32_t *a, const int32_t *b, const double *weight,
                const double *logits, double *gradient, double *roots) {
    chunk s;
    for (ptrdiff_t at = 0; at < n; at += SY_CHUNK) {
        const ptrdiff_t m = n - at < SY_CHUNK ? n - at : SY_CHUNK;
        const int32_t *left = a + at, *right = b ? b + at : NULL;
        double *e = gradient + at;
        drawn(m, n, k, left, right, weight ? weight + at : NULL, logits + at, e, &s);
        if (roots)
            curvatures(m, n, k, left, right, &s, e, roots + at);
        slopes(m, n, k, left, right, &s, e);
    }
}

static void added(ptrdiff_t n, const double *lanes, double *to) {
    for (ptrdiff_t i = 0; i < n; i++)
        to[i] += tile_total(lanes + i * TILE_LANES);
}

/* The same with logits gamma x, from the design to sums over rows; nothing of a row leaves the cache.
   columns: d x n, the design, a column every `stride` numbers. gamma: k x d. work: (2 k + d) ROWS + k d TILE_LANES +
   8. value: n, log P, or NULL. gradient: k x d, added to, or NULL. Returns the sum of w log P. */
double sy_softmax_sums(ptrdiff_t n, ptrdiff_t k, ptrdiff_t d, const int32_t *a, const int32_t *b, const double *weight,
                       ptrdiff_t stride, const double *columns, const double *gamma, double *work, double *value,
                       double *gradient) {
    double *e = sy_aligned(work), *x = e + k * ROWS, *lanes = x + d * ROWS, total = 0.0;
    chunk s;
    memset(lanes, 0, (size_t)(k * d * TILE_LANES) * sizeof(double));
    for (ptrdiff_t at = 0; at < n; at += ROWS) {
        const ptrdiff_t m = n - at < ROWS ? n - at : ROWS;
        const int32_t *left = a + at, *right = b ? b + at : NULL;
        tile_of(m, d, stride, columns + at, x);
        tile_margins(k, TILE, d, gamma, x, e);
        drawn(m, ROWS, k, left, right, weight ? weight + at : NULL, e, e, &s);
        for (ptrdiff_t i = 0; i < m; i++)
            total += s.weight[i] * s.value[i];
        if (value)
            memcpy(value + at, s.value, (size_t)m * sizeof(double));
        if (gradient) {
            slopes(m, ROWS, k, left, right, &s, e);
            tile_sums(k, TILE, 0, d, e, x, lanes);
        }
    }
    if (gradient)
        added(k * d, lanes, gradient);
    return total;
}

/* u to w times minus the Hessian times u, row by row; e as drawn() leaves it. Finite while w u is below 1e40 where one
   class takes all but e^-600. */
static void product(ptrdiff_t m, ptrdiff_t k, const int32_t *a, const int32_t *b, const double *e, chunk *s,
                    double *u) {
    double of_a[SY_CHUNK], of_b[SY_CHUNK];
    memset(s->shared, 0, sizeof s->shared);
    totals_along(m, k, e, u, s->shared);
    for (ptrdiff_t i = 0; i < m; i++) {
        const double u_a = u[a[i] * ROWS + i], u_b = b ? u[b[i] * ROWS + i] : 0.0, along = s->shared[i];
        const double q = s->root_q[i] * (along + s->e_a[i] * u_a + s->e_b[i] * u_b);
        const double mu = (s->root_a[i] + s->root_b[i]) * along + s->root_b[i] * s->e_a[i] * u_a +
                          s->root_a[i] * s->e_b[i] * u_b;
        const double gap = (s->gap_b[i] - s->gap_a[i]) * along + s->gap_b[i] * s->e_a[i] * u_a -
                           s->gap_a[i] * s->e_b[i] * u_b;
        const double w = s->weight[i], less = s->root_q[i] * q;
        s->factor[i] = w * (s->one[i] + s->two_a[i] + s->two_b[i]);
        s->shared[i] = less + (s->root_a[i] + s->root_b[i]) * mu + (s->gap_b[i] - s->gap_a[i]) * gap;
        of_a[i] = s->e_a[i] * (w * (s->one[i] + s->two_b[i]) * u_a - less - s->root_b[i] * mu - s->gap_b[i] * gap);
        of_b[i] = s->e_b[i] * (w * (s->one[i] + s->two_a[i]) * u_b - less - s->root_a[i] * mu + s->gap_a[i] * gap);
    }
    bent(m, k, s->factor, s->shared, e, u);
    for (ptrdiff_t i = 0; i < m; i++) {
        u[a[i] * ROWS + i] = of_a[i];
        if (b)
            u[b[i] * ROWS + i] = of_b[i];
    }
}

/* The sum over rows of w times minus the Hessian in gamma, times a direction (k x d). to: k x d, added to. The rest
   as of sy_softmax_sums. */
void sy_softmax_product(ptrdiff_t n, ptrdiff_t k, ptrdiff_t d, const int32_t *a, const int32_t *b,
                        const double *weight, ptrdiff_t stride, const double *columns, const double *gamma,
                        const double *direction, double *work, double *to) {
    double *e = sy_aligned(work), *u = e + k * ROWS, *x = u + k * ROWS, *lanes = x + d * ROWS;
    chunk s;
    memset(lanes, 0, (size_t)(k * d * TILE_LANES) * sizeof(double));
    for (ptrdiff_t at = 0; at < n; at += ROWS) {
        const ptrdiff_t m = n - at < ROWS ? n - at : ROWS;
        const int32_t *left = a + at, *right = b ? b + at : NULL;
        tile_of(m, d, stride, columns + at, x);
        tile_margins(k, TILE, d, gamma, x, e);
        tile_margins(k, TILE, d, direction, x, u);
        drawn(m, ROWS, k, left, right, weight ? weight + at : NULL, e, e, &s);
        product(m, k, left, right, e, &s, u);
        tile_sums(k, TILE, 0, d, u, x, lanes);
    }
    added(k * d, lanes, to);
}
