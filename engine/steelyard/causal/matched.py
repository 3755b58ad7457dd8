"""Matched pairs of comparisons, and the hidden bias that a sign test of them withstands (Rosenbaum 2002, chapter 4).

A pair: x against some opponent, and y against the same opponent in the same context. Had chance alone decided which of
the two rows got x, it would come out ahead in half of the pairs that differ; had something hidden made the odds of that
differ by up to Gamma, in at most Gamma / (1 + Gamma) of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy  # its parts load when first used

from steelyard.assignment.contexts import Contexts
from steelyard.blocks import Block
from steelyard.models.row_blocks import usable
from steelyard.spill import Blocks

_VALUES = 12  # distinct values of a number up to which it is matched exactly
_CUTS = 5  # parts of equal size into which other numbers are cut (Cochran 1968)


@dataclass(frozen=True, eq=False)
class Matched:
    """Matched pairs: how many; how many of them differ, and in how many of these x came out ahead.

    gamma: the largest Gamma at which the one-sided sign test still says that x is ahead, at (1 - level) / 2; null with
    a reason where it does not say so even at Gamma = 1. Pairs are counted as independent, whoever judged them.
    """

    pairs: int
    differ: int
    ahead: int
    gamma: float | None
    reason: str | None = None

    def p_value(self, gamma: float) -> float:
        """The largest p-value that a hidden bias of up to Gamma allows."""
        if not gamma >= 1.0:
            raise ValueError(f"gamma must be at least 1, not {gamma!r}")
        return float(scipy.stats.binom.sf(self.ahead - 1, self.differ, gamma / (1.0 + gamma)))

    def __str__(self) -> str:
        found = f"{self.ahead:,} of {self.differ:,} matched pairs that differ"
        return f"{found}: {self.reason}" if self.gamma is None else f"{found}: holds up to Gamma = {self.gamma:.3g}"


def matched(blocks: Blocks, contexts: Contexts, x: int, y: int, level: float) -> Matched:
    """Pairs rows of x with rows of y that have the same opponent and context, one to one, in an order of chance.

    blocks: with their design. Texts, booleans and numbers of few values are matched exactly, other numbers
    within fifths of the rows of x and y.
    """

    def one(block: Block) -> tuple[Any, ...]:
        has_x, has_y = ((block.a == arm) | (block.b == arm) for arm in (x, y))
        at = np.flatnonzero(usable(block, True) & (has_x != has_y))
        own = np.where(has_x[at], x, y)
        other = np.where(block.a[at] == own, block.b[at], block.a[at])
        won = np.where(block.a[at] == own, block.y[at], 1.0 - np.asarray(block.y)[at])  # type: ignore[index]
        times = np.ones(len(at), np.int64) if block.count is None else np.asarray(block.count)[at].astype(np.int64)
        columns = (has_x[at], other, won, *np.asarray(block.design)[1:, at])
        return tuple(np.repeat(column, times) for column in columns)

    is_x, other, won, *design = (np.concatenate(column) for column in zip(*blocks.each(one), strict=True))
    keys = [other, *(_coarse(column) for column in design[: len(contexts.numeric)]), *design[len(contexts.numeric) :]]
    _, cell = np.unique(np.stack(keys, axis=1), axis=0, return_inverse=True)
    chance = np.random.default_rng(0).permutation(len(cell))
    sides = [rows[np.argsort(cell[rows], kind="stable")] for rows in (chance[is_x[chance]], chance[~is_x[chance]])]
    keys = [cell[rows] * len(cell) + _rank(cell[rows]) for rows in sides]
    _, i, j = np.intersect1d(keys[0], keys[1], assume_unique=True, return_indices=True)
    gaps = won[sides[0][i]] - won[sides[1][j]]
    return sign_test(len(gaps), int((gaps != 0).sum()), int((gaps > 0).sum()), level)


def sign_test(pairs: int, differ: int, ahead: int, level: float) -> Matched:
    """Solves P(Binomial(differ, Gamma / (1 + Gamma)) >= ahead) = (1 - level) / 2 for Gamma."""
    if not ahead:
        return Matched(pairs, differ, ahead, None, "no matched pair in which it came out ahead")
    share = float(scipy.stats.beta.ppf((1.0 - level) / 2.0, ahead, differ - ahead + 1))
    if share <= 0.5:
        return Matched(pairs, differ, ahead, None, "the sign test finds nothing even without hidden bias")
    return Matched(pairs, differ, ahead, share / (1.0 - share))


def _coarse(column: Any) -> Any:
    if not len(column) or len(np.unique(column)) <= _VALUES:
        return column
    cuts = np.quantile(column, np.arange(1, _CUTS) / _CUTS)
    return np.searchsorted(cuts, column, side="right").astype(np.float64)


def _rank(cell: Any) -> Any:
    """Of each row of sorted cells how many of its cell came before it."""
    return np.arange(len(cell)) - np.searchsorted(cell, cell)
