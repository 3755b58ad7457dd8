# cython: language_level=3, boundscheck=False, wraparound=False
"""Paired-comparison likelihoods on a table of pairs (kernels/pair_likelihood.c)."""

from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int32_t

cdef extern from "common.h":
    enum:
        SY_BRADLEY_TERRY
        SY_DAVIDSON
        SY_RAO_KUPPER
        SY_PROBIT

cdef extern from "pair_likelihood.h":
    void sy_pair_likelihood(
        ptrdiff_t n, int model, const int32_t *a, const int32_t *b, const double *first,
        const double *outcomes, const double *theta, double kappa, double tie, double *value,
        double *d_eta, double *d_tie, double *h_eta, double *h_cross, double *h_tie) nogil
    double sy_pair_sums(
        ptrdiff_t n, int model, ptrdiff_t k, int has_position, const int32_t *a, const int32_t *b,
        const double *first, const double *outcomes, const double *theta, double kappa, double tie,
        double *score, double *diagonal, double *border, double *corner, double *h_eta) nogil
    void sy_pair_outcomes(
        ptrdiff_t n, int model, const double *eta, double tie, double *p_a, double *p_tie) nogil
    void sy_pair_score(
        ptrdiff_t n, ptrdiff_t k, int has_position, int has_tie, const int32_t *a, const int32_t *b,
        const double *first, const double *d_eta, const double *d_tie, double *score) nogil
    void sy_pair_hessian(
        ptrdiff_t n, ptrdiff_t k, ptrdiff_t p, int has_position, int has_tie, const int32_t *a, const int32_t *b,
        const double *first, const double *h_eta, const double *h_cross, const double *h_tie,
        double *hessian) nogil

MODELS = {
    "bradley-terry": SY_BRADLEY_TERRY,
    "davidson": SY_DAVIDSON,
    "rao-kupper": SY_RAO_KUPPER,
    "probit": SY_PROBIT,
}


def pair_likelihood(
    int model, const int32_t[::1] a, const int32_t[::1] b, const double[::1] first,
    const double[:, ::1] outcomes, const double[::1] theta, double kappa, double tie,
    double[:, ::1] out,
):
    cdef ptrdiff_t n = a.shape[0]
    if b.shape[0] != n or first.shape[0] != n or outcomes.shape[0] != n or outcomes.shape[1] != 3:
        raise ValueError("a, b, first and outcomes (n x 3) must have one length")
    if out.shape[0] != 6 or out.shape[1] != n:
        raise ValueError("out must be 6 x n: value d_eta d_tie h_eta h_cross h_tie")
    with nogil:
        sy_pair_likelihood(
            n, model, &a[0], &b[0], &first[0], &outcomes[0, 0], &theta[0], kappa, tie, &out[0, 0],
            &out[1, 0], &out[2, 0], &out[3, 0], &out[4, 0], &out[5, 0])


def pair_sums(
    int model, bint has_position, const int32_t[::1] a, const int32_t[::1] b, const double[::1] first,
    const double[:, ::1] outcomes, const double[::1] theta, double kappa, double tie, double[::1] score,
    double[::1] diagonal, double[:, ::1] border, double[:, ::1] corner, double[::1] h_eta,
):
    cdef ptrdiff_t n = a.shape[0], k = theta.shape[0], q = has_position + (model in (1, 2))
    cdef double value
    if b.shape[0] != n or first.shape[0] != n or h_eta.shape[0] != n:
        raise ValueError("a, b, first and h_eta must have one length")
    if outcomes.shape[0] != n or outcomes.shape[1] != 3:
        raise ValueError("outcomes must be n x 3")
    if score.shape[0] != k + q or diagonal.shape[0] != k:
        raise ValueError("score must have k arms, then position, then tie, and diagonal k")
    if border.shape[0] != k or border.shape[1] != q or corner.shape[0] != q or corner.shape[1] != q:
        raise ValueError("border must be k x q and corner q x q, of position and tie")
    with nogil:
        value = sy_pair_sums(
            n, model, k, has_position, &a[0], &b[0], &first[0], &outcomes[0, 0], &theta[0], kappa, tie, &score[0],
            &diagonal[0], &border[0, 0] if q else NULL, &corner[0, 0] if q else NULL, &h_eta[0])
    return value


def pair_outcomes(int model, const double[::1] eta, double tie, double[::1] p_a, double[::1] p_tie):
    cdef ptrdiff_t n = eta.shape[0]
    if p_a.shape[0] != n or p_tie.shape[0] != n:
        raise ValueError("eta, p_a and p_tie must have one length")
    with nogil:
        sy_pair_outcomes(n, model, &eta[0], tie, &p_a[0], &p_tie[0])


def pair_score(
    ptrdiff_t k, bint has_position, bint has_tie, const int32_t[::1] a, const int32_t[::1] b,
    const double[::1] first, const double[:, ::1] derivatives, double[::1] score,
):
    cdef ptrdiff_t n = a.shape[0]
    if b.shape[0] != n or first.shape[0] != n or derivatives.shape[0] != 6 or derivatives.shape[1] != n:
        raise ValueError("a, b, first and derivatives (6 x n) must have one length")
    if score.shape[0] != k + has_position + has_tie:
        raise ValueError("score must have k arms, then position, then tie")
    with nogil:
        sy_pair_score(
            n, k, has_position, has_tie, &a[0], &b[0], &first[0], &derivatives[1, 0], &derivatives[2, 0],
            &score[0])


def pair_hessian(
    ptrdiff_t k, bint has_position, bint has_tie, const int32_t[::1] a, const int32_t[::1] b,
    const double[::1] first, const double[:, ::1] derivatives, double[:, ::1] hessian,
):
    cdef ptrdiff_t n = a.shape[0], p = hessian.shape[0]
    if b.shape[0] != n or first.shape[0] != n or derivatives.shape[0] != 6 or derivatives.shape[1] != n:
        raise ValueError("a, b, first and derivatives (6 x n) must have one length")
    if p != k + has_position + has_tie or hessian.shape[1] != p:
        raise ValueError("hessian must have k arms, then position, then tie")
    with nogil:
        sy_pair_hessian(
            n, k, p, has_position, has_tie, &a[0], &b[0], &first[0], &derivatives[3, 0], &derivatives[4, 0],
            &derivatives[5, 0], &hessian[0, 0])
