"""The likelihood of rows of thousands of columns: no matrix is held, a pass over the rows takes its place.

Newton steps by conjugate gradients on Hessian-vector passes, and the variance of a contrast by one such solve.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from steelyard.blocks import Block
from steelyard.errors import ConvergenceError, NotIdentifiedError
from steelyard.inference.clusters import clustered_meat
from steelyard.models.wide import add_scores, pieces, times
from steelyard.solve import Point, Solution, conjugate_gradients, dense_solver, newton, one_blas_thread

if TYPE_CHECKING:
    from steelyard.models.row_problem import RowProblem

_ROUGH = 1e-3  # of the residual, at which a Newton step is near enough
_EXACT = 1e-9  # the same for a contrast
LAST_STEP = 1e-6  # of any parameter, in units of its column, that may be left at a maximum


def maximum(problem: RowProblem, start: Any, precision: tuple[float, float]) -> Solution:
    """The maximum of a problem without scores, in units of its scale, from `start` (p,)."""
    diagonal = Curvature(problem, start / problem.scale).diagonal

    def evaluate(scaled: Any) -> Point:
        if problem.outside(scaled):
            return problem.nowhere
        value, score = problem.penalised(scaled, *problem.slope(scaled / problem.scale))
        here = Curvature(problem, scaled / problem.scale)
        return Point(value, score, lambda v: here.solve(v, diagonal, _ROUGH))

    solution = newton(evaluate, start, problem.totals.weight, *precision)
    _confirm(problem, solution)
    return solution


def _confirm(problem: RowProblem, solution: Solution) -> None:
    """Raises where columns without a penalty have a step to go that the norm of all scores hides: they separate."""
    free = np.flatnonzero(problem.penalty[: problem.d] == 0)
    if not len(free):
        return
    scale = problem.scale[free]
    here = Curvature(problem, solution.parameter / problem.scale).among(free) / np.outer(scale, scale)
    step = np.zeros(problem.size)
    step[free] = dense_solver(here)(solution.point.score[free])
    longest = float(np.abs(step).max())
    if not longest <= LAST_STEP:
        raise ConvergenceError(f"the solver stopped with a step of {longest:.1e} to go", (solution.parameter, step))


@one_blas_thread()
def variance(
    problem: RowProblem, parameter: Any, contrast: Any, kind: str, clusters: Sequence[tuple[str, int]]
) -> float:
    """Variance of contrast' parameter at the maximum; contrast: (p,). kind, clusters: as RowProblem.influence has."""
    here = Curvature(problem, parameter)
    along = here.solve(contrast / problem.scale, here.diagonal, _EXACT) / problem.scale
    return variance_along(problem, parameter, contrast, along, kind, clusters)


def variance_along(
    problem: RowProblem, parameter: Any, contrast: Any, along: Any, kind: str, clusters: Sequence[tuple[str, int]]
) -> float:
    """The same once A along = contrast is solved."""
    if kind == "model":
        return float(along @ contrast)
    effects = effects_along(problem, parameter, along)
    if kind == "cluster":
        return _clustered(problem, clusters, effects)

    def one(block: Block) -> float:
        square = effects(block) ** 2
        return float((square if block.count is None else square / block.count).sum())  # a row for many

    return sum(problem.blocks.each(one))


def check_clusters(problem: RowProblem, clusters: Sequence[tuple[str, int]]) -> None:
    """Refuses clusters that no contrast can be given for: several columns, one group, rows without one."""
    if len(clusters) > 1:
        raise NotIdentifiedError(
            "errors of several cluster columns need a whole matrix: among thousands of arms or columns cluster by one "
            "column"
        )
    _clustered(problem, clusters, lambda block: np.ones(block.n))


def _clustered(problem: RowProblem, clusters: Sequence[tuple[str, int]], effects: Callable[[Block], Any]) -> float:
    """The sum over clusters of their squared effects, with its factor for few clusters."""
    (named,) = clusters
    meat = clustered_meat(problem.blocks, [(0, *named)], 1, lambda block: effects(block)[:, None])
    return float(meat.square[0, 0])


def effects_along(problem: RowProblem, parameter: Any, along: Any) -> Callable[[Block], Any]:
    """What gives (n,) the effect of each row of a block on a contrast. along: (p,) A^+ contrast."""
    k = problem.k

    def effects(block: Block) -> Any:
        d_eta, d_tie = problem.row_scores(block, parameter)
        moved = np.empty(block.n)
        for rows, x in pieces(block):
            moved[rows] = times(x, along[k : k + problem.d])
        if k:
            moved += along[block.a] - along[block.b]
        return d_eta * moved + (d_tie * along[-1] if problem.ties else 0.0)

    return effects


@dataclass(frozen=True)
class Curvature:
    """The Hessian of a problem at a parameter (p,), penalty included: what it is told of by passes."""

    problem: RowProblem
    parameter: Any

    def solve(self, right: Any, diagonal: Any, tolerance: float) -> Any:
        """(p,) x of Hessian x = right, in units of the scale. diagonal: of a Hessian near by, in the same."""
        scale = self.problem.scale

        def product(x: Any) -> Any:
            return (self.times(x[:, 0] / scale) / scale)[:, None]

        return conjugate_gradients(product, lambda v: v / diagonal[:, None], right[:, None], tolerance)[:, 0]

    def times(self, v: Any) -> Any:
        """(p,) the Hessian times v (p,): one pass."""
        d, ties = self.problem.d, self.problem.ties

        def one(block: Block) -> Any:
            out = np.zeros(self.problem.size)
            for x, (_, _, h_eta, h_cross), corner in self._rows(block):
                moved, tie = times(x, v[:d]), v[d:] if ties else 0.0
                add_scores(x, h_eta * moved + h_cross * tie, out[:d])
                out[d:] += h_cross @ moved + corner * tie
            return out

        return sum(self.problem.blocks.each(one), self.problem.penalty * v)

    @cached_property
    def diagonal(self) -> Any:
        """(p,) of the Hessian, in units of the scale: one pass."""
        d = self.problem.d

        def one(block: Block) -> Any:
            out = np.zeros(self.problem.size)
            for x, (_, _, h_eta, _), corner in self._rows(block):
                out[:d] += np.einsum("nd,nd,n->d", x, x, h_eta)
                out[d:] += corner
            return out

        return sum(self.problem.blocks.each(one), self.problem.penalty) / self.problem.scale**2

    def among(self, columns: Any) -> Any:
        """(c, c) the Hessian of some of the columns: one pass."""

        def one(block: Block) -> Any:
            out = np.zeros((len(columns), len(columns)))
            for x, (_, _, h_eta, _), _ in self._rows(block):
                some = x[:, columns].astype(np.float64)
                out += (some * h_eta[:, None]).T @ some
            return out

        return sum(self.problem.blocks.each(one), np.diag(self.problem.penalty[columns]))

    def _rows(self, block: Block) -> Iterator[tuple[Any, Any, float]]:
        """A few rows at a time: x (rows, d), derivatives (4, rows), and the curvature in the tie parameter, summed."""
        ties = int(self.problem.ties)
        for rows, x in pieces(block):
            by_eta, rest, corner = np.empty((4, len(x))), np.zeros(ties), np.zeros((ties, ties))
            margin = times(x, self.parameter[: self.problem.d])
            self.problem.rows_of(block, rows, margin, self.parameter, by_eta, rest, corner, None)
            yield x, by_eta, float(corner.sum())
