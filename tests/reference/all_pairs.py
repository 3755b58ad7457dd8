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


def policy_value(score, policy, reference, drawn, work, value):
    """Writes the chance (n,) that the policy's arm beats the reference's; the same arm counts half."""
    value[:] = 0.5 * (policy * reference).sum(axis=0)
    for j in range(len(score)):
        for k in range(len(score)):
            if j != k:
                value += policy[j] * reference[k] / (1.0 + np.exp(score[k] - score[j]))


def pair_ends(score, wanted, along, weight, lambda_, work, ends, value):
    """Adds the weighted sums over rows of the least and largest means (2, k, k); writes each row's value (n,)."""
    value[:] = 0.0
    for j in range(len(score)):
        for k in range(j + 1, len(score)):
            if wanted[j, k] == 0:
                continue
            mu = 1.0 / (1.0 + np.exp(score[k] - score[j]))
            low = np.maximum(mu / lambda_, 1.0 - lambda_ * (1.0 - mu))
            high = np.minimum(lambda_ * mu, 1.0 - (1.0 - mu) / lambda_)
            ends[:, j, k] += [weight @ low, weight @ high]
            value += along[j, k] * (high if along[j, k] > 0 else low)
