"""Maximum likelihood on rows, independent of the engine: complex-step scores, scipy's root finder, n x p sandwich."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize, root
from scipy.special import log_ndtr

STEP = 1e-30


def log_density(eta, y, tie, model):
    """Row log-likelihoods straight from the definitions (docs/estimators.md, 2)."""
    if model == "probit":
        return y * log_ndtr(eta) + (1 - y) * log_ndtr(-eta)
    if model == "bradley-terry":
        return -y * np.log(1 + np.exp(-eta)) - (1 - y) * np.log(1 + np.exp(eta))
    if model == "davidson":
        up, draw, down = np.exp(eta / 2), np.exp(tie), np.exp(-eta / 2)
        total = up + draw + down
        win, even, lose = up / total, draw / total, down / total
    else:
        win, lose = 1 / (1 + np.exp(tie - eta)), 1 / (1 + np.exp(tie + eta))
        even = 1 - win - lose
    return np.where(y == 1, np.log(win), np.where(y == 0, np.log(lose), np.log(even)))


class RowFit:
    """a, b, y: rows. times: how often each row occurs. first: where the position effect applies, or None.
    columns: (n, d) covariates, or None; their coefficients follow the scores."""

    def __init__(self, a, b, y, k, model="bradley-terry", times=None, weight=None, first=None, columns=None):
        self.a, self.b, self.y, self.k, self.model = a, b, y, k, model
        self.times = np.ones(len(a)) if times is None else times
        self.weight = np.ones(len(a)) if weight is None else weight
        self.first, self.has_tie = first, model in ("davidson", "rao-kupper")
        columns = np.zeros((len(a), 0)) if columns is None else columns  # (n, d) covariates, then the position
        self.columns = columns if first is None else np.column_stack([columns, first])
        self.p = k + self.columns.shape[1] + self.has_tie

    def eta(self, parameter):
        beta = parameter[self.k : self.k + self.columns.shape[1]]
        return parameter[self.a] - parameter[self.b] + self.columns @ beta

    def full(self, free):
        return np.concatenate([[0.0], free])

    def slopes(self, parameter):
        """(n,) each: derivatives of one row each by its margin and by the tie parameter, without its times."""
        eta = self.eta(parameter)
        tie = parameter[-1] if self.has_tie else 0.0
        d_eta = log_density(eta + 1j * STEP, self.y, tie, self.model).imag / STEP * self.weight
        d_tie = log_density(eta + 0j, self.y, tie + 1j * STEP, self.model).imag / STEP if self.has_tie else 0.0
        return d_eta, d_tie * self.weight

    def rows(self, parameter):
        """(n, p) score of one row each, without its times."""
        d_eta, d_tie = self.slopes(parameter)
        scores = np.zeros((len(self.a), self.p))
        index = np.arange(len(self.a))
        scores[index, self.a] += d_eta
        scores[index, self.b] -= d_eta
        scores[:, self.k : self.k + self.columns.shape[1]] = d_eta[:, None] * self.columns
        if self.has_tie:
            scores[:, -1] = d_tie
        return scores

    def score(self, parameter):
        d_eta, d_tie = (self.times * slope for slope in self.slopes(parameter))
        arms = np.bincount(self.a, d_eta, self.k) - np.bincount(self.b, d_eta, self.k)
        return np.concatenate([arms, d_eta @ self.columns, [d_tie.sum()] * self.has_tie])

    def solve(self):
        start = np.zeros(self.p - 1)
        if self.has_tie:
            start[-1] = 0.5
        n = (self.times * self.weight).sum()

        def negative(free):
            parameter = self.full(free)
            eta = self.eta(parameter)
            tie = parameter[-1] if self.has_tie else 0.0
            with np.errstate(invalid="ignore", divide="ignore"):
                value = -(self.times * self.weight * log_density(eta + 0j, self.y, tie, self.model).real).sum() / n
            return value if np.isfinite(value) else 1e10

        rough = minimize(negative, start, jac=lambda x: -self.score(self.full(x))[1:] / n, method="BFGS")
        exact = root(lambda x: self.score(self.full(x))[1:] / n, rough.x, method="hybr", tol=1e-14)
        parameter = self.full(exact.x)
        assert np.abs(self.score(parameter)).max() / n < 1e-11
        parameter[: self.k] -= parameter[: self.k].mean()
        return parameter

    def information(self, parameter, h=1e-2):
        """Minus the derivative of the score by sixth-order central differences: exact to about 1e-13."""
        columns = []
        for j in range(self.p):
            e = np.zeros(self.p)
            e[j] = h
            far, middle, near = (self.score(parameter + s * e) - self.score(parameter - s * e) for s in (3, 2, 1))
            columns.append(-(far - 9 * middle + 45 * near) / (60 * h))
        return np.array(columns)

    def sandwich(self, parameter, groups=None):
        """Brute-force covariance; groups: cluster of each row."""
        information = self.information(parameter)
        bread = np.linalg.pinv((information + information.T) / 2, rcond=1e-9)
        rows = self.rows(parameter)
        if groups is None:
            return bread @ (rows.T @ (self.times[:, None] * rows)) @ bread
        sums = np.array([rows[groups == g].sum(axis=0) for g in np.unique(groups)])
        count = len(sums)
        return bread @ (sums.T @ sums) @ bread * count / (count - 1)
