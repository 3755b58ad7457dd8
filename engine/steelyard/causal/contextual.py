"""Contextual Bradley-Terry: arm scores linear in context, fitted to all rows and to the rows outside each fold.

eta = (theta_a - theta_b)' x + beta' z, x the context with a leading 1. One Newton fit to all rows keeps score and
Hessian by fold; the fits without a fold start there with the others' Hessian, so that all of them together take a few
passes for scores alone (kernels/contextual.c).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np

from steelyard._native.contextual import contextual, work_size
from steelyard.blocks import Block
from steelyard.errors import ConvergenceError, NotIdentifiedError
from steelyard.models.cells import WIDEST_DENSE
from steelyard.models.row_blocks import weights
from steelyard.solve import FAST, Point, dense_solver, newton, one_blas_thread
from steelyard.spill import Blocks, joined

_LONG, _THINNED = 1 << 18, 16  # rows from which every 16th is fitted first
_EXACT = (1e-10, 1e-8)  # of the score divided by n, and of the step still to go
_ENOUGH = (1e-8, 1e-6)  # the same of long logs, where a coefficient's own error is a thousand times that
_ROUGH = (1e-4, 1e-2)  # both of where the fits without a fold part from the one to all rows
_RUN = 64  # rows of a pair that stand together, on average, from which it pays to leave them where they are


def refuse_wide(arms: int, columns: int) -> None:
    """Raises NotIdentifiedError where arm scores linear in context have too many coefficients."""
    if arms * columns > WIDEST_DENSE:
        raise NotIdentifiedError(
            f"the contextual outcome model has {arms * columns} parameters ({arms} arms times {columns} columns of "
            f"context); it is fitted for up to {WIDEST_DENSE}. Use fewer contexts, columns of scores or a classifier."
        )


class Contextual(NamedTuple):
    """Parameters. theta: (K, q), beta: (d,) of all rows; held: (F, K, q), held_beta: (F, d) without each fold."""

    theta: Any
    beta: Any
    held: Any
    held_beta: Any

    def of(self, fold: int) -> tuple[Any, Any]:
        """theta (K, q) and beta (d,) that a fold's rows have no part in."""
        return self.held[fold], self.held_beta[fold]


class _Near(NamedTuple):
    """Near a maximum: parameter (p,), each fold's sums there, and what solves with minus a Hessian near by.

    hessians: each fold's, of which the solver was made; none where it was given.
    """

    parameter: Any
    sums: list[_Sums]
    solver: Any
    hessians: list[Any]


class _Sums(NamedTuple):
    """Of one fold: value (V,), score (V, p), hessian (p, p) or None."""

    value: Any
    score: Any
    hessian: Any


@dataclass(frozen=True)
class ContextualProblem:
    """parts: labelled rows of each fold, best by pair; design (q, n), ones first; columns (d, n).

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

    @cached_property
    def _blocks(self) -> Blocks:
        """Those of all folds, one fold after the other."""
        return joined([part.map(partial(_numbered, f)) for f, part in enumerate(self.parts)])

    @property
    def _precision(self) -> tuple[float, float]:
        return _ENOUGH if sum(self.n) >= _LONG else _EXACT

    def fit(self) -> Contextual:
        """The fit to all rows and those without each fold.

        Raises NotIdentifiedError where no finite parameters are the best, and for more than WIDEST_DENSE of them.
        """
        refuse_wide(self.k, self.q)
        with one_blas_thread():
            whole, *others = self._maxima(self._climbed(self._start(), range(len(self.parts)), None, _ROUGH))
        held = np.stack(others or [whole])
        cut, shape = self.k * self.q, (self.k, self.q)
        theta, beta = held[:, :cut].reshape(len(held), *shape), held[:, cut:]
        return Contextual(whole[:cut].reshape(shape), whole[cut:], theta, beta)

    def _start(self) -> Any:
        """Where the fit to all rows starts: of a long log at the fit to some rows."""
        if self.start is not None or sum(self.n) < _LONG:
            return np.zeros(self.size) if self.start is None else self.start
        thinned = [block for part in self.parts for block in part.each(lambda b: b.where(slice(None, None, _THINNED)))]
        few = replace(self, parts=[Blocks([*thinned]).packed().map(by_pair)],
                      penalty=np.maximum(self.penalty / _THINNED, 1e-2))  # fmt: skip
        try:
            return few._centred(few._climbed(np.zeros(self.size), [0], None, _ROUGH).parameter)
        except (ConvergenceError, NotIdentifiedError):
            return np.zeros(self.size)

    def _pass(self, parameters: Any, wanted: Callable[[int], Sequence[int]], curved: bool = False) -> list[_Sums]:
        """Of each fold's rows the log-likelihoods, scores and, where asked for, minus the Hessian.

        parameters: (V, p); of a fold's rows those are evaluated that `wanted` names, and the others count 0.
        """
        (v, p), wide = parameters.shape, self.q + self.d

        def one(block: Block) -> tuple[int, list[int], Any, Any, Any]:
            asked = list(wanted(block.start))
            value, score = np.zeros(len(asked)), np.zeros((len(asked), p))
            hessian, work = np.zeros((p, p)) if curved and asked else None, np.empty(work_size(wide, len(asked)))
            if asked:
                x, z, y = (np.asarray(values) for values in (block.design, block.columns, block.y))
                some = np.ascontiguousarray(parameters[asked])
                contextual(
                    self.k, block.a, block.b, x, z, y, block.weight, block.count, some, work, value, score, hessian
                )
            return block.start, asked, value, score, hessian

        sums = [_Sums(np.zeros(v), np.zeros((v, p)), np.zeros((p, p)) if curved else None) for _ in self.parts]
        for fold, asked, value, score, hessian in self._blocks.each(one):
            sums[fold].value[asked] += value
            sums[fold].score[asked] += score
            if hessian is not None:
                sums[fold].hessian[...] += hessian
        return sums

    def _climbed(self, start: Any, folds: Sequence[int], solver: Any, precision: tuple[float, float]) -> _Near:
        """Newton over some folds, to a precision as :func:`newton` takes it.

        solver: solves with minus a Hessian near by, if one is known. It is taken anew only where the step before has
        not brought the score down to a tenth.
        """
        last: list[_Sums] = []
        hessians: list[Any] = []
        held: list[Any] = [solver, np.inf]  # what solves, and the score where it was last asked

        def wanted(fold: int) -> list[int]:
            return [0] if fold in folds else []

        def passed(parameter: Any, curved: bool) -> list[_Sums]:
            parts = self._pass(parameter[None], wanted, curved)
            if curved:
                hessians[:] = [part.hessian for part in parts]
                held[0] = self._solver(_total(hessians))
            return [part._replace(hessian=None) for part in parts]

        def evaluate(parameter: Any) -> Point:
            last[:] = passed(parameter, held[0] is None)
            value = sum(float(part.value[0]) for part in last) - 0.5 * float(self.penalty @ parameter**2)
            score = sum(part.score[0] for part in last) - self.penalty * parameter

            def solve(v: Any) -> Any:
                size = float(np.abs(score).max())
                if size > 0.1 * held[1]:
                    passed(parameter, curved=True)
                held[1] = size
                return held[0](v)

            return Point(value, score, solve)

        where = "" if len(folds) == len(self.parts) else f" without fold {({*range(len(self.parts))} - {*folds}).pop()}"
        try:
            found = newton(evaluate, start, sum(self.n[f] for f in folds), *precision)
        except (ConvergenceError, NotIdentifiedError) as error:
            raise NotIdentifiedError(self._separated(where, error)) from error
        return _Near(found.parameter, last, held[0], hessians)

    def _maxima(self, near: _Near) -> list[Any]:
        """The maximum (p,) over all rows, then those without each fold where there are several.

        Steps with the same solvers, of all of them in one pass, while each is a tenth of the one before; where the
        next would be as small as is asked, it is not asked for.
        """
        folds, sums = range(len(near.sums)), near.sums
        within = [[*folds], *([f for f in folds if f != out] for out in folds if len(sums) > 1)]
        solvers = [near.solver, *(self._solvers(near.hessians) if len(sums) > 1 else ())]
        tolerance, longest = self._precision
        score = sum(part.score[0] for part in sums) - self.penalty * near.parameter
        scores = [score, *(score - part.score[0] for part in sums)][: len(within)]
        steps = np.stack([solve(own) for solve, own in zip(solvers, scores, strict=True)])
        at, size = near.parameter + steps, np.maximum(np.abs(steps).max(axis=1), longest)
        left, slow = [*range(len(within))], list[int]()
        if np.abs(score).max() <= tolerance * sum(self.n) and size[0] <= longest:
            left.remove(0)
        while left:
            parts = self._pass(at, lambda own: [v for v in left if own in within[v]])
            for v in [*left]:
                score = sum(part.score[v] for part in parts) - self.penalty * at[v]
                norm, step = float(np.abs(score).max()) / sum(self.n[f] for f in within[v]), solvers[v](score)
                rate = float(np.abs(step).max()) / size[v]
                if not rate <= FAST:
                    left.remove(v)
                    slow.append(v)
                    continue
                at[v] += step
                size[v] *= rate
                if norm * rate <= tolerance and size[v] * rate <= longest:
                    left.remove(v)
        for v in slow:
            at[v] = self._climbed(at[v], within[v], solvers[v], self._precision).parameter
        return [self._centred(each) for each in at]

    def _solvers(self, hessians: list[Any]) -> Iterator[Any]:
        """Without each fold what solves with the Hessian of the others; theirs, which are large, are let go of."""
        total = _total(hessians)
        for fold in range(len(hessians)):
            own, hessians[fold] = hessians[fold], None
            try:
                yield self._solver(total - own)
            except NotIdentifiedError as error:
                raise NotIdentifiedError(self._separated(f" without fold {fold}", error)) from error

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


def _numbered(fold: int, block: Block) -> Block:
    """The block with the number of its fold where that of its first row was."""
    return replace(block, start=fold)


def scattered(block: Block) -> bool:
    """Whether a pair has few rows that stand together, or some row has no answer."""
    a, b = block.a, block.b
    low, high = np.minimum(a, b), np.maximum(a, b)
    runs = 1 + int(((low[1:] != low[:-1]) | (high[1:] != high[:-1])).sum())
    return runs * _RUN > block.n or not np.isfinite(np.asarray(block.y)).all()


def by_pair(block: Block) -> Block:
    """The answered rows, those of each pair together: what is summed over them is summed pair by pair."""
    known = np.flatnonzero(np.isfinite(np.asarray(block.y)))
    a, b = block.a[known], block.b[known]
    return block.where(known[np.lexsort((np.maximum(a, b), np.minimum(a, b)))])


def _total(matrices: Sequence[Any]) -> Any:
    total = matrices[0].copy()
    for matrix in matrices[1:]:
        total += matrix
    return total
