"""Contextual Bradley-Terry: arm scores linear in context, fitted to all rows and to the rows outside each fold.

eta = (theta_a - theta_b)' x + beta' z, x the context with a leading 1. One Newton fit to all rows keeps score and
Hessian by fold; the fit without a fold starts there with the others' Hessian, so that it takes a few passes for the
score alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from steelyard._native.pair_likelihood import MODELS
from steelyard._native.row_likelihood import row_likelihood
from steelyard.blocks import Block
from steelyard.errors import ConvergenceError, NotIdentifiedError
from steelyard.models.row_problem import weights
from steelyard.solve import Point, dense_solver, newton, one_blas_thread
from steelyard.spill import Blocks

WIDEST = 4000  # parameters
_LONG, _THINNED = 1 << 18, 16  # rows from which every 16th is fitted first
_TOLERANCE, _STEP = 1e-10, 1e-8  # of the score divided by n, and of the step still to go, without a fold


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
    """parts: labelled rows of each fold; context (q, n) the design, ones first; columns (d, n). ridge: on all."""

    parts: Sequence[Blocks]
    arms: Sequence[str]
    q: int
    d: int
    ridge: float

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

    def fit(self) -> Contextual:
        """The fit to all rows and those without each fold.

        Raises NotIdentifiedError where no finite parameters are the best, and for more than WIDEST of them.
        """
        if self.size > WIDEST:
            raise NotIdentifiedError(
                f"the contextual outcome model has {self.size} parameters ({self.k} arms times {self.q} columns); it "
                f"is fitted for up to {WIDEST}. Use fewer contexts, or a column or classifier as outcome=."
            )
        with one_blas_thread():
            whole, sums, iterations, norm = self._maximise(self._start())
            held = whole[None] if len(self.parts) == 1 else np.stack(
                [self._without(fold, whole, sums) for fold in range(len(self.parts))])  # fmt: skip
        cut, shape = self.k * self.q, (self.k, self.q)
        return Contextual(whole[:cut].reshape(shape), whole[cut:], held[:, :cut].reshape(-1, *shape), held[:, cut:],
                          iterations, norm)  # fmt: skip

    def _start(self) -> Any:
        """Where the fit to all rows starts: of a long log at the fit to some rows."""
        if sum(self.n) < _LONG:
            return np.zeros(self.size)
        few = [Blocks(list(part.each(lambda block: block.where(slice(None, None, _THINNED))))) for part in self.parts]
        try:
            return ContextualProblem(few, self.arms, self.q, self.d, max(self.ridge / _THINNED, 1e-2))._maximise(
                np.zeros(self.size)
            )[0]
        except (ConvergenceError, NotIdentifiedError):
            return np.zeros(self.size)

    def _sums(self, parameter: Any, part: Blocks, curved: bool = True) -> _Sums:
        """Log-likelihood, score (p,) and, where asked for, minus the Hessian (p, p), of a fold's rows."""
        p = self.size

        def one(block: Block) -> tuple[float, Any, Any]:
            assert block.y is not None
            columns = np.empty((0, block.n)) if block.columns is None else block.columns
            score, hessian = np.zeros(p), np.zeros((p, p)) if curved else None
            value = row_likelihood(
                MODELS["bradley-terry"], 0, self.k, block.a, block.b, block.context, columns, None, block.y,
                block.weight, block.count, False, parameter, None, score, hessian,
            )  # fmt: skip
            return value, score, hessian

        value, score, hessian = 0.0, np.zeros(p), np.zeros((p, p)) if curved else None
        for some, more, matrix in part.each(one):
            value += some
            score += more
            if curved:
                hessian += matrix
        return _Sums(value, score, hessian)

    def _maximise(self, start: Any) -> tuple[Any, list[_Sums], int, float]:
        """The maximum over all rows (p,), and what each fold's rows sum to there."""
        last: list[_Sums] = []

        def evaluate(parameter: Any) -> Point:
            sums = [self._sums(parameter, part) for part in self.parts]

            def solve(v: Any) -> Any:
                last[:] = sums  # asked for where the solver stands, so in the end at the maximum
                return self._solver(sum(part.hessian for part in sums))(v)

            return self._point(parameter, sums, solve)

        try:
            found = newton(evaluate, start, sum(self.n))
        except (ConvergenceError, NotIdentifiedError) as error:
            raise NotIdentifiedError(self._separated("", error)) from error
        return self._centred(found.parameter), last, found.iterations, found.gradient_norm

    def _without(self, fold: int, whole: Any, sums: Sequence[_Sums]) -> Any:
        """The maximum without a fold, from the one of all rows and the other folds' Hessian there."""
        kept = [f for f in range(len(self.parts)) if f != fold]
        try:
            solve = self._solver(sum(sums[f].hessian for f in kept))

            def evaluate(parameter: Any) -> Point:
                return self._point(parameter, [self._sums(parameter, self.parts[f], False) for f in kept], solve)

            first = whole + solve(-sums[fold].score)  # at `whole` all folds' scores and the ridge's add to 0
            found = newton(evaluate, first, sum(self.n[f] for f in kept), _TOLERANCE, _STEP)
        except (ConvergenceError, NotIdentifiedError) as error:
            raise NotIdentifiedError(self._separated(f" without fold {fold}", error)) from error
        return self._centred(found.parameter)

    def _point(self, parameter: Any, sums: Sequence[_Sums], solve: Any) -> Point:
        value = sum(part.value for part in sums) - 0.5 * self.ridge * float(parameter @ parameter)
        return Point(value, sum(part.score for part in sums) - self.ridge * parameter, solve)

    def _solver(self, hessian: Any) -> Any:
        """Solves with the upper triangle of minus the Hessian; without ridge what all arms share is tied down."""
        matrix = np.triu(hessian) + np.triu(hessian, 1).T
        matrix[np.diag_indices_from(matrix)] += self.ridge
        if not self.ridge:
            cut = self.k * self.q
            tied = np.trace(matrix[:cut, :cut]) / cut / self.k
            matrix[:cut, :cut] += np.kron(np.full((self.k, self.k), tied), np.eye(self.q))
        return dense_solver(matrix)

    def _centred(self, parameter: Any) -> Any:
        """Arms' scores with mean 0 in every context: what they share cancels."""
        cut = self.k * self.q
        theta = parameter[:cut].reshape(self.k, self.q)
        return np.concatenate([(theta - theta.mean(axis=0)).ravel(), parameter[cut:]])

    def _separated(self, where: str, error: Exception) -> str:
        return (
            f"the contextual outcome model has no finite best fit{where}: an arm is missing there, or the contexts "
            "tell the outcomes of some pair completely. Shrink it by ridge=, use coarser contexts, or fewer folds. "
            f"({error})"
        )
