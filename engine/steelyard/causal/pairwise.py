"""Doubly robust means of every pair of arms, and the second moments of what each row adds (estimators.md, 8 and 11).

Row i, pair jk, target weight t, propensity pi of the pair, o of an answer, mu the outcome model, nu the same given a
judge (nu = mu without one):
    m~ = t mu_jk(x) + 1{pair = jk} t [ (nu - mu) / pi + answered (y - nu) / (pi o) ]
each of the two residual sums divided by the sum of its own weights (Hajek), pair by pair. One pass over the rows sums
residuals; a second one all pairs: per row the sum over opponents, which is all that scores and win rates need.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from steelyard.blocks import Block
from steelyard.errors import OverlapError
from steelyard.spill import Blocks

_CELLS = 1 << 19  # arm scores that are worked on at a time


class Residuals(NamedTuple):
    """Sums over the rows. by_pair: (6, K, K), upper triangles, from the lower arm's side:

    answers' weights h, h (y - nu), h (y - mu), and how many they are; weights t / pi of all, times nu - mu.
    total: of t. size, square, largest: of w = omega h. rows: comparisons, answered or not.
    """

    by_pair: Any
    total: float
    size: float
    square: float
    largest: float
    rows: float

    @property
    def effective_size(self) -> float:
        return self.size**2 / self.square if self.square else 0.0

    @property
    def answered(self) -> Any:
        return self.by_pair[3]

    @property
    def correction(self) -> Any:
        """(K, K) what the residuals add to the mean of each pair, its lower arm's side."""
        h, r, _, _, judged_h, judged_r = self.by_pair
        return _ratio(r, h) + _ratio(judged_r, judged_h)


def refuse_thin(found: Any, answered: float, floor: float) -> None:
    """Raises OverlapError where the answered rows' weights leave too little of them. found: size, square, largest."""
    if not found.size > 0:
        raise OverlapError("no answered comparison of what was asked for: support is empty")
    effective = found.size**2 / found.square
    if effective / answered < floor:
        raise OverlapError(
            f"too little overlap: effective size {effective:.1f} of {answered:.0f} answered comparisons (share "
            f"{effective / answered:.4f}), largest share of the weight in one {found.largest / found.size:.2g}; the "
            f"floor is {floor}. Use coarser contexts, a question nearer to what the log shows (pairs='log', another "
            "target), or a lower floor=."
        )


class Moments(NamedTuple):
    """Of all rows. means: (K, K) sum of t mu. square: (K, K) of E E'. cross: (K,) of t E. tt: of t^2.

    E (K,) is a row's sums over opponents, omega t mu plus its own residual, before they are centred. alone: the same
    two from the answered rows alone, without the judge.
    """

    means: Any
    square: Any
    cross: Any
    tt: float
    alone: Any
    alone_cross: Any

    def plus(self, other: Moments) -> Moments:
        return Moments(*(mine + more for mine, more in zip(self, other, strict=True)))


def _ratio(above: Any, below: Any) -> Any:
    return np.divide(above, below, out=np.zeros_like(below), where=below > 0)


@dataclass(frozen=True)
class Pairwise:
    """The rows as the estimator reads them. omega: (K, K) symmetric weights of the pairs.

    blocks: context (q, n) the design; propensity (2, n) of the pair, and of the pair and an answer; y NaN where not
    answered; weight t; fold. outcome, judged: see outcomes.py.
    """

    blocks: Blocks
    omega: Any
    outcome: Any
    judged: Any = None

    @property
    def k(self) -> int:
        return len(self.omega)

    def _parts(self, block: Block) -> Iterator[tuple[Any, Block, Any]]:
        """Some rows of one fold at a time: where they stood, the rows, and the outcome model's table of them."""
        fold = np.zeros(block.n, np.int8) if block.fold is None else block.fold
        step = max(64, _CELLS // self.k // 64 * 64)
        for f in np.unique(fold):
            mine = np.flatnonzero(fold == f)
            for start in range(0, len(mine), step):
                at = mine[start : start + step]
                part = block.where(at)
                yield at, part, self.outcome.at(part, int(f))

    def _residual(self, block: Block, table: Any) -> tuple[Any, Any, Any, Any, Any]:
        """(n,) t; h and y - nu of answers, 0 where there is none; t / pi and nu - mu, from a's side."""
        t = np.ones(block.n) if block.weight is None else block.weight
        pi, answered = np.asarray(block.propensity)
        mu = table.between(block.a, block.b)
        nu = mu if self.judged is None else self.judged.between(block, int(block.fold[0]))  # type: ignore[index]
        known = np.isfinite(np.asarray(block.y))
        h = np.where(known, t / answered, 0.0)
        return t, h, np.where(known, block.y, nu) - nu, t / pi, nu - mu

    def residuals(self) -> Residuals:
        """The first pass."""
        k = self.k

        def one(block: Block) -> tuple[Any, Any, float]:
            values = np.empty((5, block.n))
            for at, part, table in self._parts(block):
                values[:, at] = self._residual(part, table)
            t, h, e, judged_h, judged_e = values
            c = np.ones(block.n) if block.count is None else block.count
            pair, side = _pair(block, k), np.where(block.a < block.b, 1.0, -1.0)
            w = self.omega[block.a, block.b] * h
            each = (h, h * e * side, h * (e + judged_e) * side, (h > 0) * 1.0, judged_h, judged_h * judged_e * side)
            by_pair = np.stack([np.bincount(pair, c * x, k * k).reshape(k, k) for x in each])
            return by_pair, np.array([c @ t, c @ w, c @ (w * w), c.sum()]), float(w.max(initial=0.0))

        by_pair, sums, largest = zip(*self.blocks.each(one), strict=True)
        total, size, square, rows = sum(sums)
        return Residuals(sum(by_pair), total, size, square, max(largest), rows)

    def rows(self, block: Block, found: Residuals) -> Iterator[tuple[Any, Block, Any, Any, Any, Any]]:
        """Some rows at a time: where they stood, the rows, t, E (K, n), what E is without the judge, sums of t mu."""
        h_sum, r, alone_r, _, judged_h_sum, judged_r = found.by_pair
        centre, alone_centre, judged_centre = _ratio(r, h_sum), _ratio(alone_r, h_sum), _ratio(judged_r, judged_h_sum)
        scale, judged_scale = (_ratio(np.full_like(x, found.total), x) for x in (h_sum, judged_h_sum))
        for at, part, table in self._parts(block):
            t, h, e, judged_h, judged_e = self._residual(part, table)
            low, high = pair = np.minimum(part.a, part.b), np.maximum(part.a, part.b)
            side, omega = np.where(part.a < part.b, 1.0, -1.0), self.omega[part.a, part.b]
            sums, means = table.sums(self.omega, t * (1.0 if part.count is None else part.count))
            sums *= t
            own, alone = scale[pair] * h * (e * side - centre[pair]), None
            if self.judged is not None:
                alone = sums.copy()
                _add(alone, low, high, omega * scale[pair] * h * ((e + judged_e) * side - alone_centre[pair]))
                own += judged_scale[pair] * judged_h * (judged_e * side - judged_centre[pair])
            _add(sums, low, high, omega * own)
            yield at, part, t, sums, alone, means

    def moments(self, found: Residuals) -> Moments:
        """The second pass."""
        k = self.k
        none = Moments(np.zeros((k, k)), np.zeros((k, k)), np.zeros(k), 0.0, np.zeros((k, k)), np.zeros(k))

        def one(block: Block) -> Moments:
            total = none
            for _, part, t, e, alone, means in self.rows(block, found):
                c = np.ones(part.n) if part.count is None else part.count
                more = (np.zeros((k, k)), np.zeros(k)) if alone is None else ((alone * c) @ alone.T, alone @ (c * t))
                total = total.plus(Moments(means, (e * c) @ e.T, e @ (c * t), float(c @ (t * t)), *more))
            return total

        total = none
        for some in self.blocks.each(one):
            total = total.plus(some)
        return total

    def entries(self, block: Block, found: Residuals) -> Any:
        """(n, K + 1) E and t of a block's rows, times their count."""
        entries = np.empty((block.n, self.k + 1))
        for at, part, t, e, _, _ in self.rows(block, found):
            c = 1.0 if part.count is None else part.count
            entries[at, : self.k], entries[at, self.k] = (e * c).T, t * c
        return entries


def _add(sums: Any, low: Any, high: Any, own: Any) -> None:
    n = np.arange(len(own))
    sums[low, n] += own
    sums[high, n] -= own


def _pair(block: Block, k: int) -> Any:
    return np.minimum(block.a, block.b).astype(np.int64) * k + np.maximum(block.a, block.b)
