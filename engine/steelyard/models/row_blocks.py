"""Rows of a block as models read them: which are usable, between which arms, and what each counts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from steelyard._native.column_moments import sides_squares
from steelyard.blocks import Block, squared


class Apart(NamedTuple):
    """What is known of d columns (n,), doubles, that lie apart in the blocks' `context`: they are read as they lie.

    origin: (d,) what the kernel takes off each. spread: (d,) their root mean squares about it.
    """

    origin: Any
    spread: Any

    def together(self, block: Block) -> Block:
        """The block with them as `columns`, less the origin."""
        columns = np.empty((len(self.origin), block.n))
        for to, column, origin in zip(columns, block.context, self.origin, strict=True):
            np.subtract(column, origin, out=to)
        return replace(block, columns=columns, context=())


class Totals(NamedTuple):
    """rows: blocks' rows. comparisons: those they stand for. weight: of all. squares: (d,) of each column, summed."""

    rows: int
    comparisons: float
    weight: float
    squares: Any


def totals_of(apart: Apart | None, block: Block) -> Totals:
    """The totals of a block."""
    comparisons = block.n if block.count is None else float(block.count.sum())
    if apart is not None:
        squares = block.n * apart.spread**2
    elif block.squares is not None:
        squares = block.squares
    elif block.columns is not None:
        squares = squared([*block.columns], block.n)
    else:
        squares = sides_squares(np.ascontiguousarray(block.features))
    return Totals(block.n, comparisons, float(weights(block).sum()), squares)


def weights(block: Block) -> Any:
    """(n,) what each row counts."""
    ones = np.ones(block.n)
    for factor in (block.weight, block.count):
        ones = ones if factor is None else ones * factor
    return ones


def inside(block: Block, place: Any, position: bool, keep_ties: bool) -> Block:
    """The rows between the arms with a place (K,) >= 0, renumbered by it; the position as one more column."""
    assert block.y is not None
    assert block.columns is not None
    columns, squares, use = block.columns, block.squares, usable(block, keep_ties)
    if (place != np.arange(len(place))).any():
        block = replace(block, a=place.take(block.a), b=place.take(block.b))
        use &= (block.a >= 0) & (block.b >= 0)
    if position:
        own = position_column(block)
        columns = (*columns, own) if isinstance(columns, tuple) else np.concatenate([columns, own[None]])
        squares = None if squares is None else np.append(squares, own.sum())
    block = replace(block, columns=columns, squares=squares)
    return block if use.all() else block.where(use)


def usable(block: Block, keep_ties: bool) -> Any:
    """(n,) rows with an outcome that the model reads."""
    y = np.asarray(block.y)
    return np.isfinite(y) if keep_ties else np.isfinite(y) & (y != 0.5)


def position_column(block: Block) -> Any:
    """(n,) 1 where being shown first counts."""
    return np.ones(block.n) if block.first is None else block.first.astype(np.float64)
