"""Softmax models of what was assigned, their logits linear in context: maximised, differentiated, used.

One draw (a group, whether labelled, a pair): multinomial logit. Two draws without replacement (the two arms shown):
P({a, b} | x) = q_a q_b (1 / (1 - q_a) + 1 / (1 - q_b)), q = softmax(Gamma x) (Plackett 1975; docs/estimators.md, 4).
Value, gradient and products with the Hessian go from design to sums in kernels/softmax.c; the whole Hessian is made by
BLAS, a few rows at a time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from steelyard._native.softmax import softmax, softmax_product, softmax_sums, work_size
from steelyard.assignment.latent import collinear, null_space
from steelyard.blocks import Block
from steelyard.errors import ConvergenceError
from steelyard.models.row_blocks import weights
from steelyard.solve import FAST, ROUNDS, Point, QuasiNewton, conjugate_gradients, dense_solver, newton, one_blas_thread
from steelyard.spill import Blocks, joined

_CELLS = 1 << 14  # logits that are worked on at a time
_THINNED = 1 << 15  # rows whose Hessian stands for that of all
_PIECE = 1 << 12  # of them in a block: enough blocks for several cores
PRECISION = (1e-9, 1e-7)  # largest gradient entry, divided by n; step still to go of any standardised coefficient
_LONG = (1e-8, 1e-6)  # both of fits to a long log, where a coefficient's own error is a thousand times that
_HELD_OUT = (1e-6, 1e-4)  # both of fits to a long log without some rows: a hundredth of their own sampling errors
_ROUGH = (1e-5, 1e-3)  # both of the fit to some rows that a long log's starts from
_WHOLE = 800  # coefficients up to which some rows' Hessian preconditions as a whole
_SOME = 1 << 26  # multiplications that it may cost
_ROWS_A_COLUMN = 16  # that it is made of, whatever the cost
_BLOCKED = 64  # columns up to which each class's own block of the Hessian preconditions
_STALE = 8  # products of an inner solve after which its preconditioner is made anew
_FORCING = 0.02  # residual of the inner solves, relative to the gradient
INFORMATION = 1 << 35  # multiplications that the information of the coefficients may cost


@dataclass(frozen=True)
class SoftmaxProblem:
    """k classes, or arms of which two are drawn, with logits Gamma x.

    blocks: columns (D, n) the design with ones first; drawn: codes of the class, or of both arms.
    ridge: r in r/2 ||Gamma||^2 on the summed log-likelihood, the constants left out.
    """

    blocks: Blocks
    k: int
    d: int
    ridge: float

    @cached_property
    def n(self) -> float:
        """Weight of all rows."""
        return sum(self.blocks.each(lambda block: float(weights(block).sum())))

    @cached_property
    def rows(self) -> int:
        return sum(self.blocks.each(lambda block: block.n))

    @property
    def clusters(self) -> Any:
        """Codes of the first cluster column that the rows have, sorted; others were read in rows that were left out."""
        return np.unique(np.concatenate([*self.blocks.each(lambda block: np.unique(block.clusters[0]))]))

    @property
    def penalty(self) -> Any:
        """(D,) of each column."""
        return np.where(np.arange(self.d) > 0, self.ridge, 0.0)

    def evaluate(self, gamma: Any) -> tuple[float, Any]:
        """One pass: log-likelihood and gradient (k, D), without the ridge."""

        def one(block: Block) -> tuple[float, Any]:
            gradient = np.zeros((self.k, self.d))
            return sums(block, gamma, None, gradient), gradient

        value, gradient = 0.0, np.zeros((self.k, self.d))
        for some, more in self.blocks.each(one):
            value += some
            gradient += more
        return value, gradient

    def product(self, gamma: Any, direction: Any) -> Any:
        """(k, D) minus the Hessian at gamma, without the ridge, times a direction (k, D); one pass."""

        def one(block: Block) -> Any:
            total, work = np.zeros((self.k, self.d)), np.empty(work_size(self.k, self.d))
            softmax_product(*_rows(block), np.asarray(block.columns), gamma, direction, work, total)
            return total

        return sum(self.blocks.each(one), np.zeros((self.k, self.d)))

    def collinear(self) -> list[int]:
        """Places of the columns (D) that others tell; the constant with them, which moves with their coefficients."""
        found = (1 + np.flatnonzero(collinear(self._correlation))).tolist()
        return [0, *found] if found else []

    @property
    def rank(self) -> int:
        """How many columns beside the constant there would be without those that others tell."""
        return len(self._correlation) - int(null_space(self._correlation).shape[1])

    @cached_property
    def _correlation(self) -> Any:
        """(D - 1, D - 1) of the columns beside the constant; one pass."""

        def one(block: Block) -> Any:
            columns = np.asarray(block.columns)[1:]
            return columns @ columns.T

        gram = np.sum(list(self.blocks.each(one)), axis=0)
        scale = np.sqrt(np.diag(gram))
        return gram / np.outer(scale, scale)

    def scores(self, block: Block, gamma: Any, free: Any) -> Any:
        """(n, q) weighted d log P / d coefficients of the classes `free`, class by class, of a block's rows."""
        parts = [np.empty((0, len(free) * self.d))]
        for cut, x in chunks(block, self.k * self.d):
            slope, _ = drawn(block, cut, gamma @ x)
            parts.append((slope[free][:, None] * x).reshape(-1, x.shape[1]).T)
        return np.concatenate(parts)

    def information(self, gamma: Any, free: Any, cost: int = INFORMATION) -> Any:
        """(q, q) minus the Hessian in the coefficients of the classes `free`, class by class, with the ridge.

        blockdiag_j(sum t_j x x') minus the squares of the Khatri-Rao products root x. Where all rows would cost more
        multiplications than `cost`, every m-th row, for as much as all weigh.
        """
        q = len(free) * self.d
        step = max(1, self.rows * q * q // cost)

        def one(block: Block) -> tuple[Any, float]:
            few, total = block if step == 1 else block.where(slice(None, None, step)), np.zeros((q, q))
            for cut, x in chunks(few, max(1, q // 16)):
                _, roots = drawn(few, cut, gamma @ x, curved=True)
                for root in roots[1:, free]:
                    spread = (root[:, None] * x).reshape(q, -1)
                    total -= spread @ spread.T
                for place, t in enumerate(roots[0, free]):
                    at = slice(place * self.d, (place + 1) * self.d)
                    total[at, at] += (t * x) @ x.T
            return total, float(weights(few).sum())

        total, kept = (sum(part) for part in zip(*self.blocks.each(one), strict=True))
        return total * (self.n / kept) + np.diag(np.tile(self.penalty, len(free)))

    @cached_property
    def thinned(self) -> SoftmaxProblem:
        """Every m-th row of a long log, some 2^15: their Hessian is close to that of all, and m times cheaper."""
        step = self.rows // _THINNED
        if step < 2:
            return self

        def some(block: Block) -> list[Block]:
            ends = range(0, block.n, step * _PIECE)
            return [block.where(slice(start, min(start + step * _PIECE, block.n), step)) for start in ends]

        kept: list[Any] = [piece for pieces in self.blocks.each(some) for piece in pieces]
        return replace(self, blocks=Blocks(kept), ridge=self.ridge / step)

    @one_blas_thread()
    def maximise(self, start: Any, rounds: int = ROUNDS) -> Solved:
        """Newton from start (k, D): roughly on the thinned rows, then gradients of all, inner solves on the thinned.

        The classes' coefficients sum to 0: a vector added to all of them changes no probability.
        """
        few = self.thinned
        near = few.preconditioner(start)
        if few is not self:
            with contextlib.suppress(ConvergenceError):
                start = few._newton(start, near, _ROUGH, rounds).gamma
            near = few.preconditioner(start)
        return self._newton(start, near, PRECISION if few is self else _LONG, rounds)

    @one_blas_thread()
    def held_out(self, folds: int, gamma: Any) -> list[Any]:
        """The maxima (k, D) without each fold, from the one of all rows, gamma (k, D).

        There the gradients of all folds and of the ridge add to 0, so that the first step costs the left-out fold's.
        """
        parts = self.blocks.map(_bare).split(folds)
        near, held = self.thinned.preconditioner(gamma), []
        precision = PRECISION if self.thinned is self else _HELD_OUT
        for left, part in enumerate(parts):
            others = joined([other for f, other in enumerate(parts) if f != left])
            problem = replace(self, blocks=others)
            gradient = replace(self, blocks=part).evaluate(gamma)[1]
            held.append(problem._second(gamma, problem._step(gamma, -gradient, near)[0], near, precision))
        return held

    def _second(self, gamma: Any, first: Any, near: Callable[[Any], Any], precision: tuple[float, float]) -> Any:
        """The maximum, from gamma and the first step there.

        Steps with a Hessian that hardly changes shrink at a rate that the first two tell: where the third would be as
        small as is asked, it is not asked for. Of directions that the rows hardly tell of, the rate may tell less.
        """
        start = gamma + first
        score = self.evaluate(start)[1] - self.penalty * start
        step = self._step(start, score, near)[0]
        sizes = np.abs(score).max() / self.n, np.abs(step).max()
        rate = sizes[1] / max(np.abs(first).max(), precision[1])
        if rate <= FAST and all(size * rate <= most for size, most in zip(sizes, precision, strict=True)):
            return start + step
        return self._newton(start + step if rate <= FAST else start, near, precision).gamma

    def _newton(
        self, start: Any, near: Callable[[Any], Any], precision: tuple[float, float], rounds: int = ROUNDS
    ) -> Solved:
        """near: preconditions the inner solves, until one of them asks for many products."""
        shape, held = (self.k, self.d), [near, start]

        def some_rows(v: Any) -> Any:
            step, products = self._step(held[1], v, held[0])
            if products > _STALE:
                held[0] = self.thinned.preconditioner(held[1])
            return step.ravel()

        learned = None if self.thinned is self else QuasiNewton(some_rows)

        def evaluate(flat: Any) -> Point:
            gamma = flat.reshape(shape)
            value, gradient = self.evaluate(gamma)
            value -= 0.5 * float((self.penalty * gamma**2).sum())
            score = (gradient - self.penalty * gamma).ravel()

            def solve(v: Any) -> Any:
                held[1] = gamma
                if learned is None:
                    return some_rows(v)
                learned.learn(flat, score)
                return learned(v)

            return Point(value, score, solve)

        solution = newton(evaluate, start.ravel(), self.n, *precision, rounds)
        gamma = solution.parameter.reshape(shape)
        gamma = gamma - gamma.mean(axis=0)
        penalised = 0.5 * float((self.penalty * gamma**2).sum())
        return Solved(gamma, solution.point.value + penalised, solution.iterations, solution.gradient_norm)

    def _step(self, gamma: Any, v: Any, near: Callable[[Any], Any]) -> tuple[Any, int]:
        """(k, D) the inverse of the thinned rows' Hessian at gamma, for as much as all weigh, times v; its products."""
        few, shape, products = self.thinned, (self.k, self.d), 0
        ratio = self.n / few.n

        def product(u: Any) -> Any:
            nonlocal products
            products += 1
            u = u.reshape(shape)
            return ratio * (few.product(gamma, u) + few.penalty * u).reshape(-1, 1)

        right = (v.reshape(shape) - v.reshape(shape).mean(axis=0)).reshape(-1, 1)
        step = conjugate_gradients(product, near, right, _FORCING).reshape(shape)
        return step - step.mean(axis=0), products

    def _by_some_rows(self, gamma: Any) -> Callable[[Any], Any]:
        cost = max(_SOME, _ROWS_A_COLUMN * self.d * (self.k * self.d) ** 2)
        hessian = self.information(gamma, np.arange(self.k), cost)
        tied = np.trace(hessian) / len(hessian) / self.k  # a vector added to all classes changes nothing
        hessian += np.kron(np.full((self.k, self.k), tied), np.eye(self.d))
        hessian[np.diag_indices_from(hessian)] += 1e-6 * self.n / self.k
        return dense_solver(hessian)

    def preconditioner(self, gamma: Any) -> Callable[[Any], Any]:
        """An easy inverse near the Hessian's: of some rows' whole Hessian, or of each class's own block.

        Of very many columns each class has its mean curvature times the Gram matrix of all rows.
        """
        if self.k * self.d <= _WHOLE:
            return self._by_some_rows(gamma)
        wide = self.d > _BLOCKED

        def one(block: Block) -> tuple[Any, Any]:
            gram, curve = 0.0, 0.0
            for cut, x in chunks(block, max(self.k, 1 if wide else self.d**2)):
                _, roots = drawn(block, cut, gamma @ x, curved=True)
                diagonal = roots[0] - (roots[1:] ** 2).sum(axis=0)
                if wide:
                    gram = gram + (x * weights(block)[cut]) @ x.T
                    curve = curve + diagonal.sum(axis=1)
                else:
                    curve = curve + diagonal @ (x[:, None] * x).reshape(self.d**2, -1).T
            return gram, curve

        gram, curve = (sum(part) for part in zip(*self.blocks.each(one), strict=True))
        if not wide:
            some = 1e-10 * self.n + self.penalty
            inverse = np.linalg.inv(curve.reshape(self.k, self.d, self.d) + np.diag(some))
            return lambda v: np.einsum("kij,kj->ki", inverse, v.reshape(self.k, self.d)).reshape(-1, 1)
        values, vectors = np.linalg.eigh(gram / self.n)
        shrunk = max(self.ridge, 1e-10 * self.n)
        scale = np.maximum(curve, 1e-6 * self.n)[:, None] * np.clip(values, 0.0, None) + shrunk

        def solve(v: Any) -> Any:
            rotated = v.reshape(self.k, self.d) @ vectors
            return ((rotated / scale) @ vectors.T).reshape(-1, 1)

        return solve


class Solved(NamedTuple):
    """gamma: (k, D) coefficients of the standardised columns."""

    gamma: Any
    log_likelihood: float
    iterations: int
    gradient_norm: float


def _bare(block: Block) -> Block:
    """The block with what a pass of the problem reads, and no more."""
    return replace(
        block, y=None, clusters=(), features=None, context=(), levels=(), group=None, propensity=None, place=None
    )


def chunks(block: Block, wide: int) -> Iterator[tuple[slice, Any]]:
    """The design (D, rows) of a few rows at a time; wide: numbers a row that they are turned into."""
    assert block.columns is not None
    step = max(32, _CELLS // max(wide, 1))
    for start in range(0, block.n, step):
        cut = slice(start, min(start + step, block.n))
        yield cut, np.asarray(block.columns)[:, cut]


def sums(block: Block, gamma: Any, value: Any, gradient: Any) -> float:
    """Weighted sum of log P. value (n,) gets log P of each row, gradient (k, D) is added to; None: not asked for."""
    work = np.empty(work_size(*gamma.shape))
    return softmax_sums(*_rows(block), np.asarray(block.columns), gamma, work, value, gradient)


def drawn(block: Block, cut: slice, logits: Any, curved: bool = False) -> tuple[Any, Any]:
    """Weighted gradient of log P in the logits (k, rows), and where asked for the roots of the Hessian."""
    k, n = logits.shape
    gradient, roots = np.empty((k, n)), np.empty((2 * len(block.drawn), k, n)) if curved else None
    softmax(*_rows(block, cut), np.ascontiguousarray(logits), gradient, roots)
    return gradient, roots


def _rows(block: Block, cut: slice = slice(None)) -> tuple[Any, Any, Any]:
    """What was drawn first and second in some rows, and what each counts: None where one was drawn, all count once."""
    second = block.drawn[1][cut] if len(block.drawn) > 1 else None
    plain = block.weight is None and block.count is None
    return block.drawn[0][cut], second, None if plain else np.ascontiguousarray(weights(block)[cut])
