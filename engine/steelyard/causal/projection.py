"""The Bradley-Terry scores nearest to a win matrix, even where Bradley-Terry is false (docs/estimators.md, 5)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy  # its parts load when first used

from steelyard.errors import ConvergenceError, NotIdentifiedError
from steelyard.solve import Point, centred_inverse, dense_solver, newton, one_blas_thread, pinned


class Projection(NamedTuple):
    """theta: (K,) scores, mean 0. bread: (K, K) pseudo-inverse of A = sum omega p (1 - p) (e_j - e_k)(e_j - e_k)'.

    share: (K, K) p, what the scores say of each pair.
    """

    theta: Any
    bread: Any
    share: Any
    iterations: int
    gradient_norm: float


@one_blas_thread()
def project(win: Any, omega: Any) -> Projection:
    """Solves sum_jk omega_jk (M_jk - s(theta_j - theta_k)) (e_j - e_k) = 0.

    win: (K, K) M, with M_kj = 1 - M_jk, and anything where omega is 0. omega: (K, K), symmetric, connecting all arms.
    Raises NotIdentifiedError where no finite scores exist: entries of M outside [0, 1], or arms that always win.
    """
    k = len(win)
    wanted = _wins(win, omega)

    def evaluate(theta: Any) -> Point:
        p = _shares(theta)
        value = float(wanted @ theta) - 0.5 * float((omega * np.logaddexp(theta[:, None], theta)).sum())
        score = wanted - (omega * p).sum(axis=1)
        return Point(value, score, lambda v: dense_solver(pinned(_information(omega, p), k, np.zeros(k)))(v))

    try:
        found = newton(evaluate, np.zeros(k), float(omega.sum()))
        share = _shares(found.parameter)
        bread = centred_inverse(_information(omega, share), k, np.zeros(k))
    except (ConvergenceError, NotIdentifiedError) as error:
        raise NotIdentifiedError(str(error)) from error
    return Projection(found.parameter - found.parameter.mean(), bread, share, found.iterations, found.gradient_norm)


def win_rates(win: Any, omega: Any) -> Any:
    """(K,) mean outcome of each arm over its opponents, by their weights; NaN of arms that have none."""
    size = omega.sum(axis=1)
    return np.divide(_wins(win, omega), size, out=np.full(len(win), np.nan), where=size > 0)


def _wins(win: Any, omega: Any) -> Any:
    return (np.where(omega > 0, win, 0.0) * omega).sum(axis=1)


def _shares(theta: Any) -> Any:
    return scipy.special.expit(theta[:, None] - theta)


def _information(omega: Any, p: Any) -> Any:
    h = omega * p * (1.0 - p)
    return np.diag(h.sum(axis=1)) - h
