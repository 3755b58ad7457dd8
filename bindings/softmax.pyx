# cython: language_level=3, boundscheck=False, wraparound=False
"""One class, or two arms without replacement, drawn from a softmax: one block of rows (kernels/softmax.c)."""

from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int32_t

cdef extern from "softmax.h":
    void sy_softmax(
        ptrdiff_t n, ptrdiff_t k, const int32_t *a, const int32_t *b, const double *weight, const double *logits,
        double *value, double *gradient, double *roots) nogil
    void sy_softmax_product(ptrdiff_t n, ptrdiff_t k, ptrdiff_t r, const double *roots, double *direction) nogil


def softmax(
    const int32_t[::1] a, const int32_t[::1] b, const double[::1] weight, const double[:, ::1] logits,
    double[::1] value, double[:, ::1] gradient, double[:, :, ::1] roots,
):
    cdef ptrdiff_t k = logits.shape[0], n = logits.shape[1], i
    cdef const int32_t *b_at = NULL
    cdef const double *weight_at = NULL
    cdef double *gradient_at = NULL
    cdef double *roots_at = NULL
    cdef bint bad = False
    if a.shape[0] != n or value.shape[0] != n or (b is not None and b.shape[0] != n):
        raise ValueError("a, b and value must have one entry a row")
    if weight is not None and weight.shape[0] != n:
        raise ValueError("weight must have one entry a row")
    if gradient is not None and (gradient.shape[0] != k or gradient.shape[1] != n):
        raise ValueError("gradient must be k x n, as the logits")
    if roots is not None and (
        gradient is None or roots.shape[0] != (2 if b is None else 4) or roots.shape[1] != k or roots.shape[2] != n
    ):
        raise ValueError("roots must be 2 x k x n, 4 x k x n for two draws, and go with a gradient")
    if n == 0:
        return
    for i in range(n):
        bad |= a[i] < 0 or a[i] >= k
    if b is not None:
        for i in range(n):
            bad |= b[i] < 0 or b[i] >= k or b[i] == a[i]
    if bad:
        raise ValueError("a and b must be different codes below k")
    if b is not None:
        b_at = &b[0]
    if weight is not None:
        weight_at = &weight[0]
    if gradient is not None:
        gradient_at = &gradient[0, 0]
    if roots is not None:
        roots_at = &roots[0, 0, 0]
    with nogil:
        sy_softmax(n, k, &a[0], b_at, weight_at, &logits[0, 0], &value[0], gradient_at, roots_at)


def softmax_product(const double[:, :, ::1] roots, double[:, ::1] direction):
    cdef ptrdiff_t r = roots.shape[0] - 1, k = direction.shape[0], n = direction.shape[1]
    if r < 0 or r > 3 or roots.shape[1] != k or roots.shape[2] != n:
        raise ValueError("roots must be (1 + r) x k x n with r up to 3, and direction k x n")
    if n == 0 or k == 0:
        return
    with nogil:
        sy_softmax_product(n, k, r, &roots[0, 0, 0], &direction[0, 0])
