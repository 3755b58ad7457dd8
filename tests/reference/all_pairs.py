"""Twin of bindings/all_pairs.pyx: every pair of arms in every row, one by one."""

import numpy as np

ROWS = 64


def all_pairs(score, omega, weight, work, sums, means):
    """Writes sums over opponents (k, n), adds to the weighted sums over rows (k, k), upper triangle."""
    sums[:] = 0.0
    for j in range(len(score)):
        for k in range(j + 1, len(score)):
            mu = 1.0 / (1.0 + np.exp(score[k] - score[j]))
            sums[j] += omega[j, k] * mu
            sums[k] += omega[j, k] * (1.0 - mu)
            means[j, k] += (omega[j, k] != 0) * (weight @ mu)


def policy_terms(score, columns, policy_at, policy, reference_at, reference, supported, a, b, work, terms):
    """Writes terms (7, n): the chance that the policy's arm beats the reference's, the same arm counting half; that
    both draw a supported pair; the same arm; a and b; b and a; the sums of their chances, NaN with a negative one."""
    k, n = score.shape
    pi, rho = (np.array([columns[at[j]] if at[j] >= 0 else np.full(n, fixed[j]) for j in range(k)]).reshape(k, n)
               for at, fixed in ((policy_at, policy), (reference_at, reference)))  # fmt: skip
    same, rows = (pi * rho).sum(axis=0), np.arange(n)
    value, share = 0.5 * same, np.zeros(n)
    for j in range(k):
        for other in range(k):
            if j != other:
                value += pi[j] * rho[other] / (1.0 + np.exp(score[other] - score[j]))
                share += supported[j, other] * pi[j] * rho[other]
    totals = [np.where((chance < 0).any(axis=0), np.nan, chance.sum(axis=0)) for chance in (pi, rho)]
    terms[:] = [value, share, same, pi[a, rows] * rho[b, rows], pi[b, rows] * rho[a, rows], *totals]


def _ends(score, j, k, lambda_):
    mu = 1.0 / (1.0 + np.exp(score[k] - score[j]))
    return np.maximum(mu / lambda_, 1.0 - lambda_ * (1.0 - mu)), np.minimum(lambda_ * mu, 1.0 - (1.0 - mu) / lambda_)


def pair_ends(score, wanted, weight, lambda_, work, ends):
    """Adds the weighted sums over rows of the least and largest means (2, k, k)."""
    for j in range(len(score)):
        for k in range(j + 1, len(score)):
            if wanted[j, k] != 0:
                ends[:, j, k] += [weight @ end for end in _ends(score, j, k, lambda_)]


def pair_along(score, along, lambda_, work, value):
    """Writes each row's sum (n,) of along times the largest mean where it is positive, the least where negative."""
    value[:] = 0.0
    for j in range(len(score)):
        for k in range(j + 1, len(score)):
            value += along[j, k] * _ends(score, j, k, lambda_)[int(along[j, k] > 0)]
