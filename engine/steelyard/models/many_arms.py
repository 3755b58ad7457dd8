"""Thousands of arms beside covariates: the Hessian as a sparse graph Laplacian with a border of few dense columns.

A pass over the rows sums curvatures by pair; steps, and contrasts, are then conjugate gradients on the pairs alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy  # its parts load when first used

from steelyard.blocks import Block
from steelyard.models.matrix_free import variance_along
from steelyard.solve import Point, Solution, bordered_solve, laplacian_solve, newton, one_blas_thread

if TYPE_CHECKING:
    from steelyard.models.row_problem import RowProblem

_ROUGH = 1e-4  # of the residual, at which a Newton step is near enough
_EXACT = 1e-10  # the same for a contrast
APART = 1e-9  # and for what tells columns apart


@dataclass(frozen=True)
class Curvature:
    """The Hessian, penalty included. pairs: (k, k) sparse, of each pair, in the upper triangle; diagonal: (k,).

    border: (k, m) of the columns and the tie parameter; corner: (m, m). shrunk: the scores have a penalty.
    """

    pairs: Any
    diagonal: Any
    border: Any
    corner: Any
    shrunk: bool

    @staticmethod
    def of(problem: RowProblem, parameter: Any, penalty: Any) -> Curvature:
        """At a parameter (p,): one pass."""
        k, d, ties, m = problem.k, problem.d, int(problem.ties), problem.size - problem.k

        def one(block: Block) -> tuple[Any, Any, Any, Any]:
            columns = np.asarray(block.columns)
            by_eta, rest, by_tie = np.empty((4, block.n)), np.zeros(ties), np.zeros((ties, ties))
            margin = parameter[block.a] - parameter[block.b] + parameter[k : k + d] @ columns
            problem.rows_of(block, slice(0, block.n), margin, parameter, by_eta, rest, by_tie, None)
            _, _, h, cross = by_eta
            low, high = np.minimum(block.a, block.b), np.maximum(block.a, block.b)
            pairs = scipy.sparse.coo_array((h, (low, high)), shape=(k, k)).tocsr()
            diagonal = np.bincount(block.a, h, k) + np.bincount(block.b, h, k)
            entries = [h * column for column in columns] + [cross] * ties
            border = [np.bincount(block.a, entry, k) - np.bincount(block.b, entry, k) for entry in entries]
            mixed = (columns @ cross)[:, None][:, :ties]
            corner = np.block([[(h * columns) @ columns.T, mixed], [mixed.T, by_tie]])
            return pairs, diagonal, np.array(border).reshape(m, k).T, corner

        pairs, diagonal, border, corner = (sum(part) for part in zip(*problem.blocks.each(one), strict=True))
        return Curvature(pairs, diagonal + penalty[:k], border, corner + np.diag(penalty[k:]), bool(penalty[:k].any()))

    def product(self, x: Any) -> Any:
        """(k, r) the scores' own part times x."""
        return self.diagonal[:, None] * x - self.pairs @ x - self.pairs.T @ x

    def arms(self, right: Any, tolerance: float) -> Any:
        """(k, r) scores that the scores' own part alone would turn into `right`."""
        return laplacian_solve(self.product, self.diagonal, right, self.shrunk, tolerance)

    def solve(self, right: Any, tolerance: float) -> Any:
        """(p,) x of Hessian x = right."""
        return bordered_solve(lambda v: self.arms(v, tolerance), self.border, self.corner, right[:, None])[:, 0]


def maximum(problem: RowProblem, start: Any, precision: tuple[float, float]) -> Solution:
    """The maximum, in units of the problem's scale, from `start` (p,)."""
    scale = problem.scale

    def evaluate(scaled: Any) -> Point:
        if problem.outside(scaled):
            return problem.nowhere

        def solve(v: Any) -> Any:
            return scale * Curvature.of(problem, scaled / scale, problem.penalty).solve(scale * v, _ROUGH)

        return Point(*problem.penalised(scaled, *problem.slope(scaled / scale)), solve)

    return newton(evaluate, start, problem.totals.weight, *precision)


@one_blas_thread()
def variance(
    problem: RowProblem, curvature: Curvature, parameter: Any, contrast: Any, kind: str,
    clusters: Sequence[tuple[str, int]],
) -> float:  # fmt: skip
    """Variance of contrast' parameter (p,) at the maximum, whose curvature is known."""
    along = curvature.solve(contrast, _EXACT)
    return variance_along(problem, parameter, contrast, along, kind, clusters)
