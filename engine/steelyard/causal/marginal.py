"""How far doubly robust means may be off where more than the contexts decided what was shown (docs/estimators.md, 7).

Marginal sensitivity model (Tan 2006): the odds that a pair was shown, given the context alone and given also what was
not measured, differ by a factor within [1 / Lambda, Lambda]. Where a pair was not shown its mean outcome then lies
between max(mu / Lambda, 1 - Lambda (1 - mu)) and u(mu) = min(Lambda mu, 1 - (1 - mu) / Lambda): sharply for outcomes
0 and 1 (Dorn and Guo 2023), validly for those between. The largest mean over all rows is that of
    t u(mu) + 1{pair shown} [ (t / pi) s (y - mu) + t (y - u(mu) - s (y - mu)) ],
s the slope of u at mu. It holds if either model is right, a wrong mu only widens it (Dorn, Guo and Kallus 2021), and at
Lambda = 1 it is the estimate itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import scipy  # its parts load when first used

from steelyard.blocks import Block
from steelyard.causal.pairwise import Normaliser, Pairwise, Residuals, counts, shifts
from steelyard.causal.projection import project
from steelyard.inference.clusters import clustered_meat
from steelyard.solve import one_blas_thread

_TURNS = 50  # times that the direction of a bound is followed


class End(NamedTuple):
    """An end of what a number may be. v: (K,) its derivative by the sums over opponents, times -1 for a lower end.

    side: (K, K) upper triangle: what a pair's mean adds to that; the largest mean counts where positive. shift: (K, K)
    what an answered row of a pair adds to it, where the pairs' weights count those rows; else None.
    """

    value: float
    v: Any
    side: Any
    shift: Any


@dataclass(frozen=True)
class Marginal:
    """The model at one Lambda, on the rows of a doubly robust fit.

    mean, residual: (2, K, K) upper triangles, at the least and at the largest means of the lower arm: the rows' average
    without the weighted residuals, and the sum of those.
    """

    problem: Pairwise
    found: Residuals
    lam: float
    mean: Any
    residual: Any

    @staticmethod
    def of(problem: Pairwise, found: Residuals, lam: float) -> Marginal:
        """One pass."""
        k = problem.k

        def one(block: Block) -> tuple[Any, Any]:
            mean, residual = np.zeros((2, k, k)), np.zeros((2, k, k))
            for _, part, table in problem.parts(block):
                t, h, e, *_ = problem.residual(part, table)
                count = np.ones(part.n) if part.count is None else part.count
                mean += table.ends(problem.omega, t * count, lam)
                low, high = _pair(part)
                for end, (r, more) in enumerate(_own(part, t, h, e, lam)):
                    for to, values in ((mean, more), (residual, h * r)):
                        to[end] += np.bincount(low * k + high, count * values, k * k).reshape(k, k)
            return mean, residual

        mean, residual = (sum(part) for part in zip(*problem.blocks.each(one), strict=True))
        return Marginal(problem, found, lam, mean / found.total, residual)

    def rate(self, v: Any, upper: bool) -> End:
        """An end of v' s, s (K,) the sums over opponents of pair weight times mean outcome."""
        along = self._along(v)
        side = along if upper else -along
        constant = float((np.triu(self.problem.omega, 1) * v[None, :]).sum())
        v = v if upper else -v
        win, omega = self._full(side), self.problem.omega
        like = (omega * win).sum(axis=1) / np.maximum(omega.sum(axis=1), 1e-300)
        return End(float((along * self._win(side)).sum()) + constant, v, side, self._shift(v, win, like[:, None]))

    def contrast(self, along: Any, main: Any, upper: bool) -> End:
        """An end of along' theta, theta (K,) the scores of the main arms nearest to the win matrix.

        Which end of a pair helps is read off the direction in which the contrast moves, until it changes no more.
        From the start that is plain of pairs with one of the arms; of the others four guesses are followed, and the
        farthest point counts. Raises NotIdentifiedError where no finite scores fit that win matrix.
        """
        sign = 1.0 if upper else -1.0
        v = np.zeros(self.problem.k)
        v[main] = sign * along[main]
        plain = self._along(v)
        found = [self._followed(plain, v, main)]
        guesses = [-found[0][1], self._by_score(found[0][0], main), -self._by_score(found[0][0], main)]
        found += [self._followed(np.where(plain == 0.0, guess, plain), v, main) for guess in guesses]
        theta, side, v = max(found, key=lambda each: float(sign * along[main] @ each[0]))
        like = np.zeros_like(side)
        like[np.ix_(main, main)] = scipy.special.expit(theta[:, None] - theta)
        return End(float(along[main] @ theta), v, side, self._shift(v, self._full(side), like))

    def _by_score(self, theta: Any, main: Any) -> Any:
        """(K, K) as if an arm's derivative grew with its score."""
        v = np.zeros(self.problem.k)
        v[main] = theta
        return self._along(v)

    def _followed(self, side: Any, towards: Any, main: Any) -> tuple[Any, Any, Any]:
        """Scores at the ends that `side` says, which is turned until it is what these scores' own derivative says."""
        kept = np.ix_(main, main)
        for _ in range(_TURNS):
            before = side > 0
            projection = project(self._full(side)[kept], self.problem.omega[kept])
            v = np.zeros(self.problem.k)
            v[main] = projection.bread @ towards[main]
            side = self._along(v)
            if ((side > 0) == before).all():
                break
        return projection.theta, side, v

    def _along(self, v: Any) -> Any:
        """(K, K) what a pair's mean adds to v' s."""
        return np.triu(self.problem.omega, 1) * (v[:, None] - v[None, :])

    def _win(self, side: Any) -> Any:
        """(K, K) upper triangle: the largest means where side > 0, else the least."""
        return _chosen(side, self.mean) + self._normaliser(side).correction

    def _full(self, side: Any) -> Any:
        """The same, from both sides of each pair."""
        win = self._win(side)
        return win + np.tril(1.0 - win.T, -1)

    def _shift(self, v: Any, win: Any, like: Any) -> Any:
        """(K, K) as :class:`End` has it, of v' (sums over opponents of weight times mean less `like`)."""
        if self.problem.counted is None:
            return None
        own = v[:, None] * shifts(self.problem.omega, win, like, self.found.total, self.problem.counted)
        return own + own.T

    def _normaliser(self, side: Any) -> Normaliser:
        h, _, _, square, *_ = self.found.by_pair
        omega, total = self.problem.omega, self.found.total
        return Normaliser.of(h, _chosen(side, self.residual), square, omega, total, self.found.chance)

    @one_blas_thread()
    def errors(self, ends: Sequence[End], clusters: Any) -> Any:
        """(m,) standard errors of some ends; one pass, or one for each cluster column."""
        normalisers = [self._normaliser(end.side) for end in ends]
        row = partial(self._rows, ends, normalisers, self._turn(ends, normalisers))

        def square(block: Block) -> Any:
            value = row(block)
            return (value * value) @ (np.ones(block.n) if block.count is None else block.count)

        def counted(block: Block) -> Any:
            return (row(block) * (1.0 if block.count is None else block.count)).T

        blocks = self.problem.blocks
        if not clusters:
            return np.sqrt(sum(blocks.each(square))) / self.found.total
        meat = clustered_meat(blocks, clusters, len(ends), counted).square
        return np.sqrt(np.clip(np.diag(meat), 0.0, None)) / self.found.total

    def _turn(self, ends: Sequence[End], normalisers: Sequence[Normaliser]) -> Any:
        """(m, D) T of each end, as :meth:`Pairwise.turned` has it of scores; None without a tilt."""
        tilt = self.problem.tilt
        if tilt is None:
            return None
        plain = [end._replace(shift=None) for end in ends]

        def across(block: Block) -> Any:
            c = 1.0 if block.count is None else block.count
            return (self._rows(plain, normalisers, None, block) * c) @ tilt.within(block)[0]

        return tilt.solve(sum(self.problem.blocks.each(across)).T).T

    def _rows(self, ends: Sequence[End], normalisers: Sequence[Normaliser], turn: Any, block: Block) -> Any:
        """(m, n) each row's part of the error of the ends, times the total weight. turn: see :meth:`_turn`."""
        out, omega = np.empty((len(ends), block.n)), self.problem.omega
        for at, part, table in self.problem.parts(block):
            t, h, e, *_ = self.problem.residual(part, table)
            least, most = _own(part, t, h, e, self.lam)
            pair = _pair(part)
            for to, (_, v, side, shift), normaliser in zip(out, ends, normalisers, strict=True):
                own = side[pair] > 0
                r, more = (np.where(own, most[i], least[i]) for i in (0, 1))
                centre = float((side * _chosen(side, self.mean)).sum())
                to[at] = t * (table.along(side, self.lam) - centre) + side[pair] * more
                to[at] += normaliser.along(v, pair, omega[pair], h, r)
                if shift is not None:
                    to[at] += counts(part) * shift[pair]
        tilt = self.problem.tilt
        return out if tilt is None or turn is None else out + turn @ tilt.within(block)[1].T


def _chosen(side: Any, ends: Any) -> Any:
    return np.where(side > 0, ends[1], ends[0])


def _pair(block: Block) -> tuple[Any, Any]:
    """Lower and higher arm of each row."""
    return np.minimum(block.a, block.b).astype(np.int64), np.maximum(block.a, block.b).astype(np.int64)


def _own(block: Block, t: Any, h: Any, e: Any, lam: float) -> list[tuple[Any, Any]]:
    """Of the answered rows at the least and the largest mean of the lower arm: s (y - mu), t (y - u(mu) - s (y - mu)).

    e: y - mu from a's side. Both ends are two straight lines in mu, so that u(mu) + s (y - mu) is a line's value at y.
    """
    first, known = block.a < block.b, h > 0
    y = np.asarray(block.y)
    y = np.where(known, np.where(first, y, 1.0 - y), 0.5)
    e = np.where(first, e, -e)
    mu = y - e
    steep, flat = (1.0 - lam * (1.0 - y), lam), (y / lam, 1.0 / lam)
    near, far = (lam * y, lam), (1.0 - (1.0 - y) / lam, 1.0 / lam)
    out = []
    for line, other, below in ((flat, steep, mu * (1.0 + lam) <= lam), (near, far, mu * (1.0 + lam) < 1.0)):
        at_y, slope = (np.where(below, line[i], other[i]) for i in (0, 1))
        out.append((slope * e, np.where(known, t * (y - at_y), 0.0)))
    return out
