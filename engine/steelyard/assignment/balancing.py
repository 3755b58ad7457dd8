"""Entropy balancing: of all weights that give each member the target's context means, the flattest.

Hainmueller (2012). The weights are b_i exp(sum over the row's members of lambda_m' x_i), x with a leading 1; lambda
maximises the concave dual  lambda' T - sum_i b_i exp(...), whose gradient is what the moments still lack.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from steelyard.blocks import Block
from steelyard.errors import ConvergenceError, NotIdentifiedError, OverlapError
from steelyard.models.cells import WIDEST_DENSE
from steelyard.models.row_problem import weights
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
    counted: bool = False, drift: Callable[[Block], Any] | None = None,
) -> Balancing:  # fmt: skip
    """Solves for the weights; goal: (M, D) moments, the first of each member its total. names: of the members.

    counted, drift: as :class:`Balancing` has them. Raises OverlapError where no weights reach the goal.
    """
    shape = goal.shape
    if goal.size > WIDEST_DENSE:
        raise NotIdentifiedError(f"balance is for up to {WIDEST_DENSE} moments; {shape[0]} members ask for {goal.size}")
    n = sum(blocks.each(lambda block: float(weights(block).sum())))
    last: list[Any] = [None]

    def evaluate(flat: Any) -> Point:
        coefficient = flat.reshape(shape)

        def one(block: Block) -> tuple[float, Any, Any]:
            which, x = members(block), design(block)
            with np.errstate(over="ignore"):
                w = weights(block) * base(block) * np.exp(_margin(coefficient, which, x))
            return float(w.sum()), *_moments(which, x, w if np.isfinite(w).all() else np.zeros(block.n), shape[0])

        total, moment, curve = (sum(part) for part in zip(*blocks.each(one), strict=True))
        last[0] = curve
        value = float((coefficient * goal).sum()) - total
        return Point(value if np.isfinite(value) else -np.inf, (goal - moment).ravel(), dense_solver(curve))

    try:
        solution = newton(evaluate, np.zeros(goal.size), n, _EXACT)
    except (ConvergenceError, NotIdentifiedError) as error:
        raise OverlapError(
            f"no weights give every one of {', '.join(names[:5])}{', ...' * (len(names) > 5)} the target's context "
            f"means: they lie outside what the rows show, or some have too few rows ({error}). Use fewer or coarser "
            "contexts, or kind='overlap'."
        ) from error
    evaluate(solution.parameter)
    return Balancing(members, design, base, solution.parameter.reshape(shape), last[0], goal, n, counted, drift)


def _moments(members: Any, x: Any, w: Any, size: int) -> tuple[Any, Any]:
    """(M, D) sums of w z, and (M D, M D) of w z z', through the second moments of each cell of members."""
    d, n = x.shape
    low, high = members.min(axis=0), members.max(axis=0)
    code = (low.astype(np.int64) * size + high).astype(np.min_scalar_type(size * size))  # short ones sort faster
    order = np.argsort(code, kind="stable")
    cells, place = np.unique(code[order], return_inverse=True)
    first, second = np.zeros((len(cells), d)), np.zeros((len(cells), d, d))
    step = max(1, (1 << 20) // (d * d))
    for start in range(0, n, step):
        rows = order[start : start + step]
        few, own = x[:, rows], place[start : start + step]
        weighted = few * w[rows]
        starts = np.flatnonzero(np.diff(own, prepend=-1))
        first[own[starts]] += np.add.reduceat(weighted, starts, axis=1).T
        for c in range(d):
            second[own[starts], c] += np.add.reduceat(weighted[c] * few, starts, axis=1).T
    i, j = np.divmod(cells.astype(np.int64), size)
    moment, curve = np.zeros((size, d)), np.zeros((size, d, size, d))
    np.add.at(moment, i, first)
    for one, other in [(i, i)] + [(j, j), (i, j), (j, i)] * (len(members) > 1):
        for c in range(d):
            np.add.at(curve[:, c], (one, other), second[:, c])
    if len(members) > 1:
        np.add.at(moment, j, first)
    return moment, curve.reshape(size * d, size * d)
