"""Simultaneous bands and rank sets by the law of max |t| (docs/estimators.md, 3).

The level at which some studentised errors t_j are all below c is one less P(some |t_j| > c) = m P(|t| > c) E[1 / N], N
how many are beyond where one of them, any of the m alike, is (Naiman and Priebe 2001). A draw is moved to where one is,
so that it tells of the tail whatever the level: with a thousand the part outside is known to some per cent of itself,
where the largest of a thousand draws would know that of 95 % to 14, and nothing beyond 99.9.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from math import erfc, sqrt
from statistics import NormalDist
from typing import Any

import numpy as np
import scipy  # its parts load when first used

from steelyard._native.bands import contrasts_beyond
from steelyard.passes import cores, in_order

DRAWS = 1000
_ROUNDING = 1e-7  # of the arms' own errors
_MOST_ARMS = 1500  # beyond, all pairs of all draws cost more than the fit: Bonferroni, which is wider
_FEWEST, _CONTRASTS = 256, 1 << 23  # draws among many pairs, and contrasts that are looked at in a turn
_SETTLED, _TURNS = 1e-3, 50  # of a critical value


def arm_critical(draws: Any, covariance: Any, level: float) -> float:
    """The factor of the standard error that makes all arms' intervals hold at once; at least that of one alone.

    draws: (n, k) errors, of that covariance (k, k); NaN of arms without an error.
    """
    known = (np.diag(covariance) > 0) & np.isfinite(np.diag(covariance))
    draws, covariance = draws[:, known], covariance[np.ix_(known, known)]
    se = np.sqrt(np.diag(covariance))
    if not len(se):
        return quantile(level)
    one = _members(len(draws), len(se))

    def beyond(errors: Any, limit: float) -> Any:
        return (np.abs(errors) > limit * se).sum(axis=1)

    return _critical(draws, covariance[one] / se[one, None], draws[np.arange(len(draws)), one] / se[one],
                     len(se), beyond, level)  # fmt: skip


def _members(n: int, m: int) -> Any:
    """(n,) which of m errors each of n draws is moved to: all alike, as evenly as there are draws."""
    return ((np.arange(n) + np.random.default_rng(0).random(n)) * m / n).astype(int)


def _critical(draws: Any, along: Any, own: Any, m: int, beyond: Callable[[Any, float], Any], level: float) -> float:
    """c where P(some |t_j| > c) = 1 - level, of m errors t_j: m 2 Phi(-c) E[1 / N(c)] = 1 - level, solved by turns.

    share: E[1 / N(c)], over draws in each of which one t is moved beyond c: errors + (t' - t) along, t' from the tail.
    along: (n, k) the covariance of each draw's chosen t with all errors; own: (n,) that t, as it is in the draw.
    beyond(errors (n, k), c): N, how many of the m are beyond in each draw.
    """
    if not np.isfinite(draws).all():
        return float("nan")
    n, rng = len(draws), np.random.default_rng(1)
    tail = (rng.permutation(n) + rng.random(n)) / n
    rest = draws - own[:, None] * along
    share, critical = 1.0, 0.0
    for turn in range(_TURNS):
        before, critical = critical, -float(scipy.special.ndtri((1.0 - level) / (2.0 * m * share)))
        if turn > _TURNS // 5:  # at levels far below 1/2 it may swing
            critical = (critical + before) / 2.0
        if abs(critical - before) < _SETTLED:
            break
        there = -scipy.special.ndtri(tail * scipy.special.ndtr(-critical))
        share = float((1.0 / np.maximum(beyond(rest + there[:, None] * along, critical), 1)).mean())
    return max(critical, quantile(level))


def quantile(level: float) -> float:
    """How many standard errors a two-sided interval reaches."""
    return NormalDist().inv_cdf((1 + level) / 2)


def p_value(z: float) -> float:
    """Two-sided, exact in the tails: 2 Phi(-|z|) = erfc(|z| / sqrt 2)."""
    return erfc(abs(z) / sqrt(2.0))


def ranks(score: Any) -> Any:
    """(k,) one more than how many scores are higher: equal ones share a rank. Of NaN, which counts nowhere, no rank."""
    told = np.sort(score[~np.isnan(score)])
    return 1 + len(told) - np.searchsorted(told, score, side="right")


def rank_sets(score: Any, covariance: Any, draws: Callable[[int], Any], level: float) -> tuple[Any, Any]:
    """Lowest and highest rank of each arm, all at once with probability `level`; (k,) ints each.

    Rank of j lies in [1 + #{surely better}, k - #{surely worse}], sure by simultaneous pairwise bands, which are at
    least as wide as single ones. covariance: NaN of arms without an error, of which nothing is sure.
    draws: makes (n, k) errors, n at most `DRAWS`.
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
        critical = _pair_critical(draws, np.nan_to_num(covariance), precision, level)
    else:
        critical = -NormalDist().inv_cdf((1 - level) / (k * (k - 1)))
    gap = score[None, :] - score[:, None]
    surely_better = (gap > critical * se) & (se > 0)
    better = surely_better.sum(axis=1)
    worse = surely_better.sum(axis=0)
    return 1 + better, k - worse


def _pair_critical(draws: Callable[[int], Any], covariance: Any, precision: Any, level: float) -> float:
    """The same of all contrasts with an error; precision (k, k): 1 / that, 0 of none."""
    i, j = np.nonzero(np.tril(precision, -1))
    m = len(i)
    if not m:
        return quantile(level)
    errors = draws(min(DRAWS, max(_FEWEST, _CONTRASTS // m)))
    one = _members(len(errors), m)
    i, j = i[one], j[one]
    row, unit = np.arange(len(errors)), precision[i, j]
    return _critical(
        errors,
        (covariance[i] - covariance[j]) * unit[:, None],
        (errors[row, i] - errors[row, j]) * unit,
        m,
        partial(_beyond, np.ascontiguousarray(precision)),
        level,
    )


def _beyond(precision: Any, errors: Any, limit: float) -> Any:
    """(n,) how many contrasts of each draw are beyond the limit; the draws are shared out to the cores."""
    count = np.empty(len(errors), np.int64)
    cuts = np.linspace(0, len(errors), cores() + 1).astype(int)

    def share(cut: tuple[int, int]) -> None:
        contrasts_beyond(errors[slice(*cut)], precision, limit, count[slice(*cut)])

    list(in_order(share, itertools.pairwise(cuts)))
    return count
