"""Contextual Bradley-Terry: arm scores linear in context, fitted to all rows and to the rows outside each fold.

eta = (theta_a - theta_b)' x + beta' z, x the context with a leading 1. One Newton fit to all rows keeps score and
Hessian by fold; the fit without a fold starts there with the others' Hessian, so that it takes a few passes for the
score alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from steelyard._native.pair_likelihood import MODELS
from steelyard._native.row_likelihood import row_likelihood
from steelyard.blocks import Block
from steelyard.errors import ConvergenceError, NotIdentifiedError
from steelyard.models.row_problem import weights
from steelyard.solve import Point, Solution, dense_solver, newton, one_blas_thread
from steelyard.spill import Blocks

WIDEST = 4000  # parameters
_LONG, _THINNED = 1 << 18, 16  # rows from which every 16th is fitted first
_EXACT = (1e-10, 1e-8)  # of the score divided by n, and of the step still to go
_ENOUGH = (1e-8, 1e-6)  # the same of long logs, where a coefficient's own error is a thousand times that


def refuse_wide(arms: int, columns: int) -> None:
    """Raises NotIdentifiedError where arm scores linear in context have too many coefficients."""
    if arms * columns > WIDEST:
        raise NotIdentifiedError(
            f"the contextual outcome model has {arms * columns} parameters ({arms} arms times {columns} columns of "
            f"context); it is fitted for up to {WIDEST}. Use fewer contexts, columns of scores or a classifier."
        )


class Contextual(NamedTuple):
    """Parameters. theta: (K, q), beta: (d,) of all rows; held: (F, K, q), held_beta: (F, d) without each fold."""

    theta: Any
    beta: Any
    held: Any
    held_beta: Any
    iterations: int
    gradient_norm: float

    def of(self, fold: int) -> tuple[Any, Any]:
        """theta (K, q) and beta (d,) that a fold's rows have no part in."""
        return self.held[fold], self.held_beta[fold]


class _Sums(NamedTuple):
    value: float
    score: Any
    hessian: Any


@dataclass(frozen=True)
class ContextualProblem:
    """parts: labelled rows of each fold, by pair; features (n, q) the design, ones first; columns (d, n).

    penalty: (p,) r in r/2 parameter^2 on the summed log-likelihood, arm by arm, then of the columns. start: near the
    maximum, where that is known.
    """

    parts: Sequence[Blocks]
    arms: Sequence[str]
    q: int
    d: int
    penalty: Any
    start: Any = None

    @property
    def k(self) -> int:
        return len(self.arms)

    @property
    def size(self) -> int:
        return self.k * self.q + self.d

    @cached_property
    def n(self) -> list[float]:
        """Weight of each fold's rows."""
        return [sum(part.each(lambda block: float(weights(block).sum()))) for part in self.parts]

    @property
    def _precision(self) -> tuple[float, float]:
        return _ENOUGH if sum(self.n) >= _LONG else _EXACT

    def fit(self) -> Contextual:
        """The fit to all rows and those without each fold.

        Raises NotIdentifiedError where no finite parameters are the best, and for more than WIDEST of them.
        """
        refuse_wide(self.k, self.q)
        with one_blas_thread():
            whole, sums, iterations, norm = self._maximise(self._start())
            held = whole[None] if len(self.parts) == 1 else self._without_each(whole, sums)
        cut, shape = self.k * self.q, (self.k, self.q)
        theta, beta = held[:, :cut].reshape(len(held), *shape), held[:, cut:]
        return Contextual(whole[:cut].reshape(shape), whole[cut:], theta, beta, iterations, norm)

    def _start(self) -> Any:
        """Where the fit to all rows starts: of a long log at the fit to some rows."""
        if self.start is not None or sum(self.n) < _LONG:
            return np.zeros(self.size) if self.start is None else self.start
        thinned = [block for part in self.parts for block in part.each(lambda b: b.where(slice(None, None, _THINNED)))]
        few = Blocks([*thinned]).packed().map(by_pair)
        try:
            penalty = np.maximum(self.penalty / _THINNED, 1e-2)
            return replace(self, parts=[few], penalty=penalty)._maximise(np.zeros(self.size))[0]
        except (ConvergenceError, NotIdentifiedError):
            return np.zeros(self.size)

    def _sums(self, parameter: Any, part: Blocks, curved: bool = True) -> _Sums:
        """Log-likelihood, score (p,) and, where asked for, minus the Hessian (p, p), of a fold's rows."""
        p, q = self.size, self.q

        def one(block: Block) -> _Sums:
            assert block.y is not None
            assert block.columns is not None
            score, hessian = np.zeros(p), np.zeros((p, p)) if curved else None
            value = row_likelihood(
                MODELS["bradley-terry"], 0, self.k, block.a, block.b, block.features, block.columns, None, block.y,
                block.weight, block.count, False, parameter, None, score, hessian, np.empty((q, q)),
            )  # fmt: skip
            return _Sums(value, score, hessian)

        value, score, hessian = 0.0, np.zeros(p), np.zeros((p, p)) if curved else None
        for some in part.each(one):
            value += some.value
            score += some.score
            if hessian is not None:
                hessian += some.hessian
        return _Sums(value, score, hessian)

    def _maximise(self, start: Any) -> tuple[Any, list[_Sums], int, float]:
        """The maximum over all rows (p,), and each fold's sums there, their Hessians of a point near by."""
        last: list[_Sums] = []
        hessians: list[Any] = []
        found = self._climbed(start, range(len(self.parts)), None, last, hessians)
        sums = [part._replace(hessian=hessian) for part, hessian in zip(last, hessians, strict=True)]
        return self._centred(found.parameter), sums, found.iterations, found.gradient_norm

    def _climbed(
        self, start: Any, folds: Sequence[int], solver: Any, last: list[_Sums], hessians: list[Any]
    ) -> Solution:
        """Newton over some folds. last: gets their sums where it stops; hessians: theirs where they were last taken.

        solver: solves with a Hessian near by. It is taken anew only where the step before has not brought the score
        down to a tenth.
        """
        held: list[Any] = [solver, np.inf]  # what solves, and the score where it was last asked

        def evaluate(parameter: Any) -> Point:
            last[:] = [self._sums(parameter, self.parts[f], False) for f in folds]
            point = self._point(parameter, last, None)

            def solve(v: Any) -> Any:
                size = float(np.abs(point.score).max())
                if held[0] is None or size > 0.1 * held[1]:
                    hessians[:] = [self._sums(parameter, self.parts[f]).hessian for f in folds]
                    held[0] = self._solver(_total(hessians))
                held[1] = size
                return held[0](v)

            return point._replace(solve=solve)

        where = "" if len(folds) == len(self.parts) else f" without fold {({*range(len(self.parts))} - {*folds}).pop()}"
        try:
            return newton(evaluate, start, sum(self.n[f] for f in folds), *self._precision)
        except (ConvergenceError, NotIdentifiedError) as error:
            raise NotIdentifiedError(self._separated(where, error)) from error

    def _without_each(self, whole: Any, sums: Sequence[_Sums]) -> Any:
        """(F, p) the maxima without each fold, from the one of all rows and the other folds' Hessians there."""
        total, held = _total([part.hessian for part in sums]), []
        for fold, part in enumerate(sums):
            try:
                solver = self._solver(total - part.hessian)
            except NotIdentifiedError as error:
                raise NotIdentifiedError(self._separated(f" without fold {fold}", error)) from error
            first = whole - solver(part.score)  # at `whole` all folds' scores and the ridge's add to 0
            others = [f for f in range(len(sums)) if f != fold]
            held.append(self._centred(self._climbed(first, others, solver, [], []).parameter))
        return np.stack(held)

    def _point(self, parameter: Any, sums: Sequence[_Sums], solve: Any) -> Point:
        value = sum(part.value for part in sums) - 0.5 * float(self.penalty @ parameter**2)
        return Point(value, sum(part.score for part in sums) - self.penalty * parameter, solve)

    def _solver(self, hessian: Any) -> Any:
        """Solves with the upper triangle of minus the Hessian; without ridge what all arms share is tied down."""
        matrix = hessian  # made for this, and not used again
        matrix[np.diag_indices_from(matrix)] += self.penalty
        cut = self.k * self.q
        if cut and not self.penalty[:cut].any():
            tied = np.trace(matrix[:cut, :cut]) / cut / self.k
            matrix[:cut, :cut] += np.kron(np.full((self.k, self.k), tied), np.eye(self.q))
        return dense_solver(matrix.T)  # the solver reads the lower triangle

    def _centred(self, parameter: Any) -> Any:
        """Arms' scores with mean 0 in every context: what they share cancels."""
        cut = self.k * self.q
        theta = parameter[:cut].reshape(self.k, self.q)
        if not self.k:
            return parameter
        return np.concatenate([(theta - theta.mean(axis=0)).ravel(), parameter[cut:]])

    def _separated(self, where: str, error: Exception) -> str:
        if self.penalty.all():
            return f"the outcome model did not converge{where} ({error}): use fewer or coarser contexts."
        return (
            f"the contextual outcome model has no finite best fit{where}: an arm is missing there, or the contexts "
            "tell the outcomes of some pair completely. Shrink it by ridge=, use coarser contexts, or fewer folds. "
            f"({error})"
        )


def by_pair(block: Block) -> Block:
    """The answered rows, those of each pair together: their Hessian is made pair by pair."""
    known = np.flatnonzero(np.isfinite(np.asarray(block.y)))
    a, b = block.a[known], block.b[known]
    return block.where(known[np.lexsort((np.maximum(a, b), np.minimum(a, b)))])


def _total(matrices: Sequence[Any]) -> Any:
    total = matrices[0].copy()
    for matrix in matrices[1:]:
        total += matrix
    return total
