"""Brute-force twin of the doubly robust estimator: every pair of every row in one array, fits by dense Newton."""

from __future__ import annotations

from itertools import combinations
from typing import Any, NamedTuple

import numpy as np


class Estimate(NamedTuple):
    win: Any
    rate: Any
    theta: Any
    influence: Any  # (n, K) on theta
    rate_influence: Any


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def effective(h: Any) -> float:
    return h.sum() ** 2 / (h**2).sum() if h.any() else 0.0


def contextual(a: Any, b: Any, y: Any, w: Any, x: Any, k: int, ridge: float, extra: Any = None) -> Any:
    """(K, q) coefficients of arm scores linear in x (n, q), then those of extra columns (n, d)."""
    n, q = x.shape
    design = np.zeros((n, k, q))
    design[np.arange(n), a] += x
    design[np.arange(n), b] -= x
    flat = design.reshape(n, k * q)
    flat = flat if extra is None else np.hstack([flat, extra])
    beta = np.zeros(flat.shape[1])
    for _ in range(100):
        p = sigmoid(flat @ beta)
        gradient = flat.T @ (w * (y - p)) - ridge * beta
        hessian = (flat * (w * p * (1 - p))[:, None]).T @ flat + ridge * np.eye(len(beta))
        beta = beta + (np.linalg.solve(hessian, gradient) if ridge else np.linalg.pinv(hessian) @ gradient)
    return beta[: k * q].reshape(k, q), beta[k * q :]


def estimate(
    a: Any, b: Any, y: Any, w: Any, mu: Any, pi: Any, omega: Any, answered: Any = None, nu: Any = None
) -> Estimate:
    """mu: (n, K, K) means of every pair. pi: (n,) of the shown pair. answered: (n,) propensity of an answer, y NaN
    where there is none. nu: (n,) mean of the shown pair given a judge, from a's side."""
    n, k = mu.shape[:2]
    known = np.isfinite(y)
    answered = np.ones(n) if answered is None else answered
    own = mu[np.arange(n), a, b]
    nu = own if nu is None else nu
    psi, win = np.zeros((n, k, k)), np.full((k, k), np.nan)
    parts = [(np.where(known, w / (pi * answered), 0.0), np.where(known, y, 0.0) - nu), (w / pi, nu - own)]
    pairs = [(i, j) for i, j in combinations(range(k), 2) if omega[i, j] > 0]
    here = {(i, j): ((a == i) & (b == j)) | ((a == j) & (b == i)) for i, j in pairs}
    few = [[pair for pair in pairs if 0 < effective(h[here[pair]]) < 20] for h, _ in parts]
    for i, j in pairs:
        mean = (w * mu[:, i, j]).sum() / w.sum()
        win[i, j], part = mean, w * (mu[:, i, j] - mean) / w.sum()
        side = np.where(a == i, 1.0, -1.0)
        for (h, e), rare in zip(parts, few, strict=True):
            mine = np.where(here[i, j], h, 0.0)
            if (i, j) not in rare and not mine.any():
                continue  # never shown: the outcome model alone
            if (i, j) not in rare:
                r = (mine * e * side).sum() / mine.sum()
                part = part + mine * (e * side - r) / mine.sum()
            else:  # divided by what the weights of all such pairs should have been
                weight = sum(omega[pair] for pair in rare)
                held = sum(omega[pair] * np.where(here[pair], h, 0.0) for pair in rare)
                r = weight * (mine * e * side).sum() / held.sum() if held.sum() else 0.0
                part = part + ((weight * mine * e * side - r * held) / held.sum() if held.sum() else 0.0)
            win[i, j] += r
        win[j, i] = 1 - win[i, j]
        psi[:, i, j], psi[:, j, i] = part, -part
    theta = np.zeros(k)
    filled = np.where(omega > 0, win, 0.0)
    for _ in range(200):
        p = sigmoid(theta[:, None] - theta)
        h = omega * p * (1 - p)
        bread = np.linalg.pinv(np.diag(h.sum(axis=1)) - h)
        theta = theta + bread @ (omega * (filled - p)).sum(axis=1)
    rows = (omega * psi).sum(axis=2)
    size = omega.sum(axis=1)
    return Estimate(win, (omega * filled).sum(axis=1) / size, theta - theta.mean(), rows @ bread, rows / size)
