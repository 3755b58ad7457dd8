"""Simultaneous bands and rank sets by max-|t| over multiplier draws (estimators.md, section 5)."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from math import erfc, sqrt
from statistics import NormalDist
from typing import Any

import numpy as np

from steelyard._native.bands import largest_contrast
from steelyard.passes import cores, in_order

DRAWS = 1000
_ROUNDING = 1e-7  # of the arms' own errors
_MOST_ARMS = 1500  # beyond, all pairs of all draws cost more than the fit: Bonferroni, which is wider


def arm_critical(draws: Any, se: Any, level: float) -> float:
    """The factor of the standard error that makes all arms' intervals hold at once; at least that of one alone."""
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(se > 0, np.abs(draws) / se, 0.0)
    return max(float(np.quantile(t.max(axis=1), level)), quantile(level))


def quantile(level: float) -> float:
    """How many standard errors a two-sided interval reaches."""
    return NormalDist().inv_cdf((1 + level) / 2)


def p_value(z: float) -> float:
    """Two-sided, exact in the tails: 2 Phi(-|z|) = erfc(|z| / sqrt 2)."""
    return erfc(abs(z) / sqrt(2.0))


def rank_sets(score: Any, covariance: Any, draws: Callable[[], Any], level: float) -> tuple[Any, Any]:
    """Lowest and highest rank of each arm, all at once with probability `level`; (k,) ints each.

    Rank of j lies in [1 + #{surely better}, k - #{surely worse}], sure by simultaneous pairwise bands, which are at
    least as wide as single ones. covariance: NaN of arms without an error, of which nothing is sure.
    draws: makes (n, k) errors.
    """
    k = len(score)
    variance = np.diag(covariance)
    apart = np.clip(variance[:, None] + variance[None, :], 0.0, None)
    se = np.sqrt(np.clip(apart - 2 * covariance, 0.0, None))
    se[se <= _ROUNDING * np.sqrt(apart)] = 0.0  # arms that always move together: what is left is rounding
    precision = np.divide(1.0, se, out=np.zeros_like(se), where=se > 1e-12)
    if k < 2:
        return np.ones(k, np.int64), np.ones(k, np.int64)
    if k <= _MOST_ARMS:
        critical = max(float(np.quantile(_largest_contrasts(draws(), precision), level)), quantile(level))
    else:
        critical = -NormalDist().inv_cdf((1 - level) / (k * (k - 1)))
    gap = score[None, :] - score[:, None]
    surely_better = (gap > critical * se) & (se > 0)
    better = surely_better.sum(axis=1)
    worse = surely_better.sum(axis=0)
    return 1 + better, k - worse


def _largest_contrasts(draws: Any, precision: Any) -> Any:
    """(n,) the largest studentised contrast of each draw; the draws are shared out to the cores."""
    draws, precision = np.ascontiguousarray(draws), np.ascontiguousarray(precision)
    largest = np.empty(len(draws))
    cuts = np.linspace(0, len(draws), cores() + 1).astype(int)

    def share(cut: tuple[int, int]) -> None:
        largest_contrast(draws[slice(*cut)], precision, largest[slice(*cut)])

    list(in_order(share, itertools.pairwise(cuts)))
    return largest
