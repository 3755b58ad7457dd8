"""Weighted Bradley-Terry with an estimated propensity, by brute force: one stack of estimating equations.

Written from the definitions: log-likelihoods of rows in plain NumPy, their derivatives by complex or finite steps,
and the sandwich of the whole stack.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import approx_fprime


def pair_log_probability(gamma: Any, x: Any, a: Any, b: Any) -> Any:
    """(n,) log P({a, b} | x) of two draws without replacement; gamma: (K, D), x: (n, D)."""
    q = np.exp(x @ gamma.T)
    q = q / q.sum(axis=1, keepdims=True)
    i = np.arange(len(a))
    return np.log(q[i, a] * q[i, b] * (1 / (1 - q[i, a]) + 1 / (1 - q[i, b])))


def class_log_probability(gamma: Any, x: Any, c: Any) -> Any:
    """(n,) log P(c | x) of one draw."""
    eta = x @ gamma.T
    return eta[np.arange(len(c)), c] - np.log(np.exp(eta).sum(axis=1))


def rows_jacobian(function: Callable[[Any], Any], at: Any, step: float = 1e-5) -> Any:
    """(n, q) derivative of a function with values (n,), by central differences of fourth order."""
    columns = []
    for j in range(len(at)):
        e = np.zeros(len(at))
        e[j] = step
        columns.append((8 * (function(at + e) - function(at - e)) - function(at + 2 * e) + function(at - 2 * e))
                       / (12 * step))  # fmt: skip
    return np.stack(columns, axis=1)


def stacked_covariance(
    log_p: Callable[[Any], Any], log_w: Callable[[Any], Any], gamma: Any, penalty: Any, design: Any, y: Any, theta: Any,
    cluster: Any = None,
) -> Any:  # fmt: skip
    """(p, p) covariance of theta, which solves sum_i w_i(gamma) (y_i - s(design_i' theta)) design_i = 0.

    log_p, log_w: (n,) as functions of the flat gamma. penalty: (q,) ridge on gamma. y: NaN where the row has no
    outcome: it counts for gamma only.
    """
    used = np.isfinite(y)
    p_hat = 1 / (1 + np.exp(-design @ theta))
    residual = np.where(used, np.nan_to_num(y) - p_hat, 0.0)
    u, slope, w = rows_jacobian(log_p, gamma), rows_jacobian(log_w, gamma), np.exp(log_w(gamma))

    def gradient(g: Any) -> Any:
        return rows_jacobian(log_p, g).sum(axis=0) - penalty * g

    bread_gamma = -np.stack([approx_fprime(gamma, lambda g, j=j: gradient(g)[j], 1e-5) for j in range(len(gamma))])
    inverse = np.linalg.pinv((bread_gamma + bread_gamma.T) / 2, rcond=1e-7)
    scores = (w * residual)[:, None] * design
    scores = scores + u @ inverse @ (slope.T @ scores)
    hessian = (design * (used * w * p_hat * (1 - p_hat))[:, None]).T @ design
    psi = scores @ np.linalg.pinv(hessian, rcond=1e-10)
    if cluster is not None:
        names, place = np.unique(cluster, return_inverse=True)
        sums = np.zeros((len(names), psi.shape[1]))
        np.add.at(sums, place, psi)
        return sums.T @ sums * len(names) / (len(names) - 1)
    return psi.T @ psi
