"""Entropy balancing: of all weights that give each member the target's context means, the flattest.

Hainmueller (2012). The weights are b_i exp(sum over the row's members of lambda_m' x_i), x with a leading 1; lambda
maximises the concave dual  lambda' T - sum_i b_i exp(...), whose gradient is what the moments still lack.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from steelyard._native.cell_moments import cell_moments, wide, work_size
from steelyard.blocks import Block
from steelyard.errors import ConvergenceError, NotIdentifiedError, OverlapError
from steelyard.models.cells import WIDEST_DENSE
from steelyard.models.row_blocks import weights
from steelyard.solve import Point, dense_solver, newton, one_blas_thread
from steelyard.spill import Blocks

_EXACT = 1e-12  # of any moment that is missed, divided by n
Members = Callable[[Block], Any]


@dataclass(frozen=True)
class Balancing:
    """Weights of rows by exponential tilting. Made by :func:`balance`.

    members: (m, n) which members each row of a block belongs to. design: (D, n) of a block, ones first. base: (n,)
    what is tilted. coefficient: (M, D). curvature: (M D, M D) sum of w z z'. goal: (M, D) moments that were asked for,
    totals times means. n: weight of all rows. Of the goal may be estimated too: the totals, where they are `counted` in
    the log; the means, to whose errors a row adds drift(block) (n, D) over n.
    """

    members: Members
    design: Members
    base: Members
    coefficient: Any
    curvature: Any
    goal: Any
    n: float
    counted: bool
    drift: Callable[[Block], Any] | None

    def weight(self, block: Block) -> Any:
        """(n,) weights of a block's rows."""
        return self.base(block) * np.exp(_margin(self.coefficient, self.members(block), self.design(block)))

    def rows(self, block: Block) -> tuple[Any, Any]:
        """As a :class:`Nuisance`: z, and w z minus the row's part of the goal."""
        members, x, sampling = self.members(block), self.design(block), weights(block)
        z = np.zeros((block.n, *self.coefficient.shape))
        for codes in members:
            z[np.arange(block.n), codes] += x.T
        total = self.goal[:, 0]  # D starts with ones
        part = (z[:, :, :1] if self.counted else (total / self.n)[:, None]) * (self.goal[:1] / total[:1, None])
        if self.drift is not None:
            part = part + (total / self.n)[:, None] * self.drift(block)[:, None]
        flat = (block.n, self.coefficient.size)
        moment = self.weight(block)[:, None, None] * z - part
        return z.reshape(flat), (moment * sampling[:, None, None]).reshape(flat)

    def within(self, block: Block) -> tuple[Any, Any]:
        """The same, for one comparison each, of rows that have these weights already and the log's own as sampling."""
        return self.rows(replace(block, weight=block.sampling, count=None))

    def solve(self, across: Any) -> Any:
        return -dense_solver(self.curvature)(across)


def _margin(coefficient: Any, members: Any, x: Any) -> Any:
    margin = np.zeros(x.shape[1])
    for codes in members:
        for own, column in zip(coefficient.T, x, strict=True):
            margin += own[codes] * column
    return margin


@one_blas_thread()
def balance(
    blocks: Blocks, members: Members, design: Members, base: Members, goal: Any, names: tuple[str, ...],
    counted: bool = False, drift: Callable[[Block], Any] | None = None, pairs: bool = False,
) -> Balancing:  # fmt: skip
    """Solves for the weights; goal: (M, D) moments, the first of each member its total. names: of the members.

    counted, drift: as :class:`Balancing` has them. pairs: whether a row belongs to two members. Raises OverlapError
    where no weights reach the goal.
    """
    shape = goal.shape
    if goal.size > WIDEST_DENSE:
        raise NotIdentifiedError(f"balance is for up to {WIDEST_DENSE} moments; {shape[0]} members ask for {goal.size}")
    n = sum(blocks.each(lambda block: float(weights(block).sum())))
    last: list[Any] = [None]

    def evaluate(flat: Any) -> Point:
        coefficient = flat.reshape(shape)

        def one(block: Block) -> tuple[float, Any]:
            which, x = members(block), design(block)
            with np.errstate(over="ignore"):
                w = weights(block) * base(block) * np.exp(_margin(coefficient, which, x))
            w = w if np.isfinite(w).all() else np.zeros(block.n)
            return float(w.sum()), _second_moments(which, x, w, shape[0], pairs)

        total, second = functools.reduce(_added, blocks.each(one))
        moment, last[0] = _moments(second, shape[0], pairs)
        value = float((coefficient * goal).sum()) - total
        return Point(value if np.isfinite(value) else -np.inf, (goal - moment).ravel(), dense_solver(last[0]))

    try:
        solution = newton(evaluate, np.zeros(goal.size), n, _EXACT)
    except (ConvergenceError, NotIdentifiedError) as error:
        raise OverlapError(
            f"no weights give every one of {', '.join(names[:5])}{', ...' * (len(names) > 5)} the target's context "
            f"means: they lie outside what the rows show, or some have too few rows ({error}). Use fewer or coarser "
            "contexts, or kind='overlap'."
        ) from error
    return Balancing(members, design, base, solution.parameter.reshape(shape), last[0], goal, n, counted, drift)


def _added(one: tuple[Any, ...], other: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(x + y for x, y in zip(one, other, strict=True))


def _second_moments(members: Any, x: Any, w: Any, size: int, pairs: bool) -> Any:
    """(cells, D, D) sums of w x x', upper triangles; cells: the members, or the pairs of them below a diagonal."""
    d, cell, cells = len(x), members[0], size
    if pairs:
        low, high = members.min(axis=0), members.max(axis=0)
        cell, cells = high * (high - 1) // 2 + low, size * (size - 1) // 2
    second = np.zeros((cells, d, wide(d)))
    cell_moments(cell.astype(np.int32), x, w, second, np.empty(work_size(d)))
    return np.ascontiguousarray(second[:, :, :d])


def _moments(second: Any, size: int, pairs: bool) -> tuple[Any, Any]:
    """(M, D) sums of w z, and (M D, M D) of w z z', from those of x x' in each cell."""
    second = np.triu(second) + np.triu(second, 1).swapaxes(1, 2)
    d = second.shape[1]
    curve = np.zeros((size, d, size, d))
    if pairs:
        high, low = np.tril_indices(size, -1)
        curve[low, :, high], curve[high, :, low] = second, second
        second = curve.sum(axis=2)
    curve[np.arange(size), :, np.arange(size)] = second
    return second[:, 0], curve.reshape(size * d, size * d)  # D starts with ones
