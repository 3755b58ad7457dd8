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
from steelyard.solve import Point, dense_solver, newton, one_blas_thread
from steelyard.spill import Blocks

WIDEST = 4000  # parameters
_LONG, _THINNED = 1 << 18, 16  # rows from which every 16th is fitted first
_EXACT = (1e-10, 1e-8)  # of the score divided by n, and of the step still to go
_ENOUGH = (1e-8, 1e-6)  # the same of long logs, where a coefficient's own error is a thousand times that


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
        if self.size > WIDEST:
            raise NotIdentifiedError(
                f"the contextual outcome model has {self.size} parameters ({self.k} arms times {self.q} columns); it "
                f"is fitted for up to {WIDEST}. Use fewer contexts, or a column or classifier as outcome=."
            )
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
        few = [Blocks(list(part.each(lambda block: block.where(slice(None, None, _THINNED))))) for part in self.parts]
        try:
            penalty = np.maximum(self.penalty / _THINNED, 1e-2)
            return replace(self, parts=few, penalty=penalty)._maximise(np.zeros(self.size))[0]
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

        total = _Sums(0.0, np.zeros(p), None)
        for some in part.each(one):
            if total.hessian is not None:
                np.add(some.hessian, total.hessian, out=some.hessian)
            total = _Sums(total.value + some.value, total.score + some.score, some.hessian)
        return total

    def _maximise(self, start: Any) -> tuple[Any, list[_Sums], int, float]:
        """The maximum over all rows (p,), and each fold's sums there, their Hessians of a point near by.

        The Hessian is taken anew only where the step before has not brought the score down to a tenth.
        """
        last: list[_Sums] = []
        hessians: list[Any] = []
        held: list[Any] = [None, np.inf]  # what solves with the last Hessian, and the score where it was last asked

        def evaluate(parameter: Any) -> Point:
            last[:] = [self._sums(parameter, part, False) for part in self.parts]
            point = self._point(parameter, last, None)

            def solve(v: Any) -> Any:
                size = float(np.abs(point.score).max())
                if held[0] is None or size > 0.1 * held[1]:
                    hessians[:] = [self._sums(parameter, part).hessian for part in self.parts]
                    held[0] = self._solver(_total(hessians))
                held[1] = size
                return held[0](v)

            return point._replace(solve=solve)

        try:
            found = newton(evaluate, start, sum(self.n), *self._precision)
        except (ConvergenceError, NotIdentifiedError) as error:
            raise NotIdentifiedError(self._separated("", error)) from error
        sums = [part._replace(hessian=hessian) for part, hessian in zip(last, hessians, strict=True)]
        return self._centred(found.parameter), sums, found.iterations, found.gradient_norm

    def _without_each(self, whole: Any, sums: Sequence[_Sums]) -> Any:
        """(F, p) the maxima without each fold, from the one of all rows and the other folds' Hessians there."""
        total = _total([part.hessian for part in sums])
        return np.stack([self._without(fold, whole, total - part.hessian, part.score)
                         for fold, part in enumerate(sums)])  # fmt: skip

    def _without(self, fold: int, whole: Any, hessian: Any, score: Any) -> Any:
        kept = [f for f in range(len(self.parts)) if f != fold]
        try:
            solve = self._solver(hessian)

            def evaluate(parameter: Any) -> Point:
                return self._point(parameter, [self._sums(parameter, self.parts[f], False) for f in kept], solve)

            first = whole - solve(score)  # at `whole` all folds' scores and the ridge's add to 0
            found = newton(evaluate, first, sum(self.n[f] for f in kept), *self._precision)
        except (ConvergenceError, NotIdentifiedError) as error:
            raise NotIdentifiedError(self._separated(f" without fold {fold}", error)) from error
        return self._centred(found.parameter)

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
        return (
            f"the contextual outcome model has no finite best fit{where}: an arm is missing there, or the contexts "
            "tell the outcomes of some pair completely. Shrink it by ridge=, use coarser contexts, or fewer folds. "
            f"({error})"
        )


def _total(matrices: Sequence[Any]) -> Any:
    total = matrices[0].copy()
    for matrix in matrices[1:]:
        total += matrix
    return total
