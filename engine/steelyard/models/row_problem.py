"""The likelihood on blocks of rows with covariates or features: one pass a Newton step (estimators.md, 1-5)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np

from steelyard._native.pair_likelihood import MODELS
from steelyard._native.row_likelihood import row_likelihood
from steelyard.blocks import NARROW, Block
from steelyard.errors import ConvergenceError, NotIdentifiedError
from steelyard.inference.nuisance import Nuisance
from steelyard.models import cells, many_arms, matrix_free
from steelyard.models.cells import Estimate
from steelyard.models.likelihood import Likelihood
from steelyard.models.row_blocks import Apart, Totals, totals_of
from steelyard.models.wide import add_gram, add_scores, pieces, times
from steelyard.solve import (
    ROUNDS,
    STEP,
    TOLERANCE,
    Point,
    QuasiNewton,
    Solution,
    centred_inverse,
    dense_solver,
    newton,
    one_blas_thread,
    pinned,
)
from steelyard.spill import Blocks

_LONG = 1 << 18  # rows
_ROWS_A_COLUMN = 32  # that some of the rows must leave
_THINNED = 16
_AT_MOST = 10  # Newton steps that make up for a larger one
_ROUGH = (1e-5, 1e-3)  # precision of the maximum of some of the rows, where that of all starts
_PATIENCE = 20  # scores, after which a wide fit takes a new Hessian
_FAR = 1e3  # how far to look along a step for a place where the likelihood is lower
_SEPARATED = (
    "the fit has no finite maximum: some combination of scores, covariates and features tells the outcome of every "
    "row, or of all rows where it is not 0. Leave some out, shrink with ridge=, or collect more comparisons."
)


@dataclass(frozen=True)
class RowProblem:
    """The likelihood of k scores and d columns on blocks of rows; parameters: scores, columns, tie.

    names: of the d columns.
    blocks: of good rows; codes below k; columns (d, n), or sides of features that lie in a frame, or where there are
    more than NARROW and no scores, perhaps features (n, d), float32 or float64. penalty: (p,) r in r/2 parameter^2 on
    the summed log-likelihood.
    own: a likelihood in place of the model's. nuisances: what was estimated before and entered the weights;
    rest: rows that it was estimated on and that this fit leaves out. apart: of columns that are not in `columns`.
    """

    blocks: Blocks
    k: int
    names: tuple[str, ...]
    model: str
    penalty: Any
    own: Likelihood | None = None
    nuisances: Sequence[Nuisance] = ()
    rest: Sequence[Blocks] = ()
    apart: Apart | None = None

    @property
    def d(self) -> int:
        return len(self.names)

    @property
    def _code(self) -> int:
        return MODELS[self.model] if self.own is None else MODELS["bradley-terry"]

    @property
    def _own(self) -> int:
        """Address of the compiled likelihood of one's own; 0 for the built-in models."""
        return 0 if self.own is None else self.own.address

    @property
    def ties(self) -> bool:
        return self.model in ("davidson", "rao-kupper")

    @property
    def size(self) -> int:
        return self.k + self.d + self.ties

    @property
    def narrow(self) -> bool:
        """Whether the kernel reads columns; of more without scores BLAS reads a few rows at a time."""
        return self.k > 0 or self.d <= NARROW

    @property
    def matrix_free(self) -> bool:
        """Whether there are so many scores and columns that no matrix (p, p) is held."""
        return self.size > cells.WIDEST_DENSE

    @cached_property
    def totals(self) -> Totals:
        """What is counted of the rows before anything is fitted; one pass."""
        return Totals(*(sum(part) for part in zip(*self.blocks.each(partial(totals_of, self.apart)), strict=True)))

    def sums(self, parameter: Any, hessian: bool = True, meat: bool = False) -> Sums:
        """One pass: log-likelihood, score (p,), and where asked for Hessian and meat.

        Without the two it costs a fraction where columns are many.
        """

        def one(block: Block) -> Sums:
            told = Sums(0.0, *self._zeros(hessian, meat))
            return told._replace(value=self._evaluate(block, parameter, None, *told[1:]))

        total, (score, *matrices) = 0.0, self._zeros(hessian, meat)
        for value, some, *more in self.blocks.each(one):
            total += value
            score += some
            for matrix, other in zip(matrices, more, strict=True):
                if matrix is not None:
                    matrix += other
        whole = (None if matrix is None else np.triu(matrix) + np.triu(matrix, 1).T for matrix in matrices)
        return Sums(total, score, *whole)

    def slope(self, parameter: Any) -> tuple[float, Any]:
        """One pass: log-likelihood and score (p,)."""
        return self.sums(parameter, hessian=False)[:2]

    def _zeros(self, hessian: bool, meat: bool) -> tuple[Any, Any, Any]:
        p = self.size
        return np.zeros(p), np.zeros((p, p)) if hessian else None, np.zeros((p, p)) if meat else None

    def _evaluate(self, block: Block, parameter: Any, by_eta: Any, score: Any, hessian: Any, meat: Any) -> float:
        """Adds to what is asked for; matrices (p, p), their upper triangles, or None."""
        asked = (parameter, by_eta, score, hessian, meat)
        by_blas = not self.narrow if block.features is None else hessian is not None or meat is not None
        return self._by_blas(block, *asked) if by_blas else self._by_kernel(block, *asked)

    def _by_kernel(self, block: Block, parameter: Any, by_eta: Any, score: Any, hessian: Any, meat: Any) -> float:
        """All in the kernel."""
        assert block.y is not None
        columns: Any = block.columns if self.apart is None else block.context
        sides: Any = block.sides or (None if block.features is None else (block.features,))
        return row_likelihood(
            self._code, self._own, self.k, block.a, block.b, columns, None, block.y, block.weight, block.count,
            parameter, by_eta, score, hessian, meat, None if self.apart is None else self.apart.origin, sides,
        )  # fmt: skip

    def _by_blas(self, block: Block, parameter: Any, by_eta: Any, score: Any, hessian: Any, meat: Any) -> float:
        """A few rows at a time: margins, the kernel, the score; Gram matrices by BLAS, in double."""
        d, total = self.d, 0.0
        for rows, x in pieces(block):
            part, rest, bend, square = np.empty((4, len(x))), *self._corner()
            total += self.rows_of(block, rows, times(x, parameter[:d]), parameter, part, rest, bend, square)
            d_eta, d_tie, h_eta, h_cross = part
            add_scores(x, d_eta, score[:d])
            score[d:] += rest
            if by_eta is not None:
                by_eta[:, rows] = part
            if hessian is not None:
                add_gram(hessian, x, np.sqrt(h_eta), h_cross, bend)
            if meat is not None:
                one_of = 1.0 if block.count is None else 1.0 / block.count[rows]  # a row for many
                add_gram(meat, x, np.abs(d_eta) * np.sqrt(one_of), one_of * d_eta * d_tie, square)
        return total

    def _corner(self) -> tuple[Any, Any, Any]:
        """Score, Hessian and meat of the tie parameter alone, if there is one."""
        ties = int(self.ties)
        return np.zeros(ties), np.zeros((ties, ties)), np.zeros((ties, ties))

    def rows_of(self, block: Block, cut: slice, offset: Any, parameter: Any, by_eta: Any, score: Any, hessian: Any,
                meat: Any) -> float:  # fmt: skip
        """The kernel on some rows of known margin (offset); score and matrices are of the tie parameter alone."""
        assert block.y is not None
        weight, count = (None if x is None else x[cut] for x in (block.weight, block.count))
        none = np.empty((0, len(offset)))
        return row_likelihood(
            self._code, self._own, 0, block.a[cut], block.b[cut], none, offset, block.y[cut], weight, count,
            parameter[self.k + self.d :], by_eta, score, hessian, meat,
        )  # fmt: skip

    @cached_property
    def thinned(self) -> RowProblem:
        """Every 16th row of a long log, the whole of a short one; what it sees first saves passes over all.

        Many columns make a log long sooner: where every 8th row leaves enough for each of them.
        """
        step = _THINNED if self.totals.rows >= _LONG else 1
        if step == 1 and not self.k and self.d > NARROW:
            step = min(_THINNED, self.totals.rows // (_ROWS_A_COLUMN * self.d))
        if step < _THINNED // 2:
            return self

        def some(block: Block) -> Block:
            block = block.where(slice(None, None, step))
            return self._together(block) if self.apart is None else self.apart.together(block)

        kept = self.blocks.each(some)
        return replace(self, blocks=Blocks(list(kept)), penalty=self.penalty / step + self.scale**2, apart=None)

    def _together(self, block: Block) -> Block:
        """The block with its own columns, or of many and without scores features, where they lay in a frame."""
        block = block.together()
        if block.features is None or not self.narrow:
            return block
        return replace(block, columns=np.ascontiguousarray(block.features.T, np.float64), features=None)

    def maximise(self, start: Any, information: Any = None, near: Any = None, meat: bool = False) -> Maximum:
        """The maximum, from `start` (p,), and what was summed there.

        information: (p, p) of the thinned rows at the start, if known; it saves a pass where columns are many.
        near: (p,) the maximum of rows much like these, if known: tried before `start`. meat: it will be asked for.
        """
        climbed = None
        if near is not None:
            with contextlib.suppress(ConvergenceError, NotIdentifiedError):
                climbed = self._climbed(near, _Way((self.thinned, None), warm=True, meat=meat))
        estimate, sums = climbed or self._climbed(start, _Way((self.thinned, information), meat=meat))
        if self.matrix_free or sums is not None:
            return Maximum(estimate, sums)
        with one_blas_thread(), self._said():
            standing = self._standing(estimate)
            return Maximum(standing, None) if standing is not None else self._confirmed(estimate, meat)

    def summed(self, maximum: Maximum, meat: bool = False) -> Sums:
        """What is summed at a maximum; a pass where that is not known."""
        sums, parameter = maximum.sums, maximum.estimate.parameter
        if sums is None:
            return self.sums(parameter, meat=meat)
        if meat and sums.meat is None:
            return sums._replace(meat=self.sums(parameter, hessian=False, meat=True).meat)
        return sums

    @one_blas_thread()
    def bread(self, hessian: Any) -> Any:
        """(p, p) A^+, the inverse of the Hessian at a maximum, scores centred."""
        unit = np.outer(self.scale, self.scale)
        with self._said():
            return centred_inverse(hessian / unit, self.k, self.penalty / self.scale**2) / unit

    @contextlib.contextmanager
    def _said(self) -> Iterator[None]:
        """Says of a solver's error what caused it: a likelihood that grows without end, or the solver."""
        try:
            yield
        except ConvergenceError as error:
            if error.stopped is None or not self._grows(*error.stopped):
                words = f"the solver stopped short of the maximum ({error}). Shrink with ridge=, or use fewer columns."
                raise ConvergenceError(words) from error
            raise NotIdentifiedError(f"{_SEPARATED} ({error})") from error
        except NotIdentifiedError as error:
            raise NotIdentifiedError(f"{_SEPARATED} ({error})") from error

    def _grows(self, scaled: Any, step: Any) -> bool:
        """Whether the likelihood, which is concave, is no lower far along a step: then it has no finite maximum."""
        far = scaled + _FAR * max(1.0, float(np.abs(scaled).max())) / float(np.abs(step).max()) * step
        here, there = (self.penalised(at, *self.slope(at / self.scale))[0] for at in (scaled, far))
        return there >= here - 1e-9 * abs(here)  # what rounding leaves of a sum over many rows

    def _standing(self, estimate: Estimate) -> Estimate | None:
        """A maximum that scores led to, with its own score, if some of the rows tell that it is one; else None.

        No Hessian of all is made then. Theirs, H, is at most that of all: the step s still to go has
        |s_j|^2 <= (H^-1)_jj g'H^-1 g for the score g.
        """
        few, parameter = self.thinned, estimate.parameter
        if few is self or self.k:
            return None
        unit = np.outer(self.scale, self.scale)
        try:
            some = few.sums(parameter).hessian / unit
            inverse = centred_inverse(some, 0, self.penalty / self.scale**2)
        except NotIdentifiedError:
            return None
        score = self.penalised(parameter * self.scale, *self.slope(parameter))[1]
        longest = np.sqrt(float(np.diag(inverse).max(initial=0.0)) * float(score @ inverse @ score))
        norm = float(np.abs(score).max(initial=0.0)) / self.totals.weight
        return replace(estimate, gradient_norm=norm) if longest <= matrix_free.LAST_STEP else None

    def _confirmed(self, estimate: Estimate, meat: bool) -> Maximum:
        """A maximum that scores led to, one step by its Hessian on; Newton goes on where that is no small one.

        Where outcomes are separated the score fades as fast as the curvature, and only the step tells.
        """
        parameter = estimate.parameter
        here = self.sums(parameter, meat=meat)
        step = self.solver(here.hessian)((here.score - self.penalty * parameter) / self.scale)
        if float(np.abs(step).max(initial=0.0)) <= matrix_free.LAST_STEP:
            moved = parameter + step / self.scale
            return Maximum(replace(estimate, parameter=moved, tie=float(moved[-1]) if self.ties else 0.0), here)
        solution, there = self._by_hessians(parameter * self.scale, _Way((self, None), meat=meat), _AT_MOST)
        return Maximum(self._estimate(solution), there)

    def climb(self, start: Any, information: Any, precision: tuple[float, float]) -> Estimate:
        """The maximum alone, from `start` (p,). information: as above. precision: as :func:`newton` takes it."""
        return self._climbed(start, _Way((self.thinned, information), precision, alone=True))[0]

    def _climbed(self, start: Any, way: _Way) -> tuple[Estimate, Sums | None]:
        """The maximum, and what was summed there; None where the way led past no Hessian.

        A long log is first maximised on every 16th row, slightly shrunk so that this cannot fail for rare arms; but
        not where the start is warm.
        """
        few, information, sums = self.thinned, way.told[1] if way.told[0] is self else None, None
        with one_blas_thread(), self._said():
            if few is not self and way.warm:
                information = few._stands_for(self, start, None)
            elif few is not self:
                with contextlib.suppress(ConvergenceError, NotIdentifiedError):
                    near, there = few._climbed(start, _Way(way.told, _ROUGH))
                    start, information = near.parameter, few._stands_for(self, near.parameter, there)
            way = way._replace(told=(self, information))
            if self.matrix_free:
                maximum = many_arms.maximum if self.k else matrix_free.maximum
                solution = maximum(self, start * self.scale, way.precision)
            elif not self.narrow or (not self.k and few is not self and way.alone):
                solution = self._by_scores(start * self.scale, way)
            else:
                solution, sums = self._by_hessians(start * self.scale, way)
        return self._estimate(solution), sums

    def _estimate(self, solution: Solution) -> Estimate:
        parameter, k = solution.parameter / self.scale, self.k
        if not self.penalty[:k].any():
            parameter[:k] -= parameter[:k].mean() if k else 0.0
        penalised = 0.5 * float(self.penalty @ parameter**2)
        tie = float(parameter[-1]) if self.ties else 0.0
        return Estimate(parameter, k, 0.0, tie, solution.point.value + penalised, solution.iterations,
                        solution.gradient_norm)  # fmt: skip

    def _by_hessians(self, start: Any, way: _Way, rounds: int = ROUNDS) -> tuple[Solution, Sums | None]:
        """The maximum, in units of the scale, by Newton steps, and what was summed there."""
        points = _Points(self, way)
        return newton(points, start, self.totals.weight, *way.precision, rounds), points.sums

    def _stands_for(self, whole: RowProblem, parameter: Any, sums: Sums | None) -> Any:
        """(p, p) the information of some rows for as much as all weigh; None where there is no use for it.

        With as much more as a column has in the other rows at most, so that its steps are too short rather than too
        long; and with a little more for what some rows cannot tell of several, or of rare arms.
        """
        if self.matrix_free:
            return None
        hessian = (self.sums(parameter) if sums is None else sums).hessian
        ours, all_of = self.totals, whole.totals
        ratio, steepest = all_of.weight / ours.weight, 0.25 if self.model != "probit" and self.own is None else 1.0
        missed = np.zeros(self.size)
        missed[self.k : self.k + self.d] = np.maximum(all_of.squares - all_of.rows / ours.rows * ours.squares, 0.0)
        more = steepest * all_of.weight / all_of.rows * missed
        return hessian * ratio + np.diag(more + ratio * whole.scale**2)

    def _by_scores(self, start: Any, way: _Way) -> Solution:
        """The same where a Hessian costs more than a few scores: one near the start, few or none on the way."""
        information = way.told[1]

        def near(scaled: Any) -> Any:
            return self.solver(self.sums(scaled / self.scale).hessian)

        inverse = QuasiNewton(near(start) if information is None else self.solver(information))

        def evaluate(scaled: Any) -> Point:
            if self.outside(scaled):
                return self.nowhere
            value, score = self.penalised(scaled, *self.slope(scaled / self.scale))
            inverse.learn(scaled, score)

            def solve(v: Any) -> Any:
                if inverse.learned > _PATIENCE:
                    inverse.renew(near(scaled))
                return inverse(v)

            return Point(value, score, solve)

        return newton(evaluate, start, self.totals.weight, *way.precision, foreseen=True)

    def outside(self, scaled: Any) -> bool:
        """Whether the likelihood has no value there."""
        return self.model == "rao-kupper" and bool(scaled[-1] <= 0)

    @property
    def nowhere(self) -> Point:
        """What is told there."""
        return Point(-np.inf, np.zeros(self.size), lambda v: v)

    def penalised(self, scaled: Any, value: float, score: Any) -> tuple[float, Any]:
        """Value and score less the penalty's, in units of the scale."""
        parameter = scaled / self.scale
        return value - 0.5 * float(self.penalty @ parameter**2), (score - self.penalty * parameter) / self.scale

    def solver(self, hessian: Any) -> Any:
        """Solves in units of the scale with a Hessian (p, p) and the penalty."""
        unit = np.outer(self.scale, self.scale)
        return dense_solver(pinned(hessian / unit, self.k, self.penalty / self.scale**2))

    @cached_property
    def scale(self) -> Any:
        """(p,) root mean square of each column: the solver's unit, so that columns of any size are solved alike."""
        square, scale = self.totals.squares, np.ones(self.size)
        scale[self.k : self.k + self.d] = np.sqrt(np.where(square > 0, square / self.totals.rows, 1.0))
        return scale

    def row_scores(self, block: Block, parameter: Any) -> Any:
        """(2, n) d log p / d eta and / d tie of a block's rows, with their weights."""
        by_eta = np.empty((4, block.n))
        self._evaluate(block, parameter, by_eta, np.zeros(self.size), None, None)
        return by_eta[:2]

    def effects(self, estimate: Estimate, direction: Any) -> Any:
        """(n,) influence of each row on direction' parameter, direction (p,) = A^+ c."""
        return np.concatenate(list(self.blocks.each(matrix_free.effects_along(self, estimate.parameter, direction))))

    def weighted(self, weight: Any) -> RowProblem:
        """The same rows, each counting as often as weight (n,) says; rows of weight 0 are left out."""
        blocks, at = [], 0
        for block in self.blocks.each(lambda block: block):
            own = weight[at : at + block.n]
            at += block.n
            blocks.append(replace(block, weight=own.copy(), count=None).where(own > 0))
        return replace(self, blocks=Blocks(list(blocks)))

    def only(self, kept: list[int]) -> RowProblem:
        """The problem with some of its columns."""

        def some(block: Block) -> Block:
            block = self._together(block)
            columns: Any = block.columns
            features = block.features
            return replace(block, columns=None if columns is None else np.ascontiguousarray(columns[kept]),
                           features=None if features is None else np.ascontiguousarray(features[:, kept]),
                           context=tuple(block.context[j] for j in kept) if self.apart else block.context)  # fmt: skip

        places = [*range(self.k), *(self.k + j for j in kept), *range(self.k + self.d, self.size)]
        return replace(
            self, blocks=self.blocks.map(some), names=tuple(self.names[j] for j in kept), penalty=self.penalty[places],
            apart=self.apart and Apart(self.apart.origin[kept], self.apart.spread[kept]),
        )  # fmt: skip


class _Way(NamedTuple):
    """How to climb. told: some of the rows, and their information (p, p) where they start, if known. precision: as
    :func:`newton` takes it. warm: the start is near. meat: it is wanted at the maximum. alone: the maximum alone is.
    """

    told: tuple[RowProblem, Any]
    precision: tuple[float, float] = (TOLERANCE, STEP)
    warm: bool = False
    meat: bool = False
    alone: bool = False


class _Points:
    """Points of a climb by Newton steps, in units of the scale: each is told with the Hessian that the next step takes.

    The first step is by the information of some rows, if known, and one after a short step by the Hessian before it.
    The meat comes along where the maximum is foreseen. sums: where the solver stood last, so in the end at the maximum;
    None where no Hessian was made.
    """

    def __init__(self, problem: RowProblem, way: _Way) -> None:
        self.sums: Sums | None = None
        self._problem, self._meat = problem, way.meat
        self._near, self._fresh = way.told[1], False
        self._been: list[Any] = []

    def __call__(self, scaled: Any) -> Point:
        problem = self._problem
        if problem.outside(scaled):
            return problem.nowhere
        self._been.append(scaled)
        arrived = self._arrived()
        serves = self._near is not None and (len(self._been) == 1 or (self._fresh and self._short() and not arrived))
        here = problem.sums(scaled / problem.scale, not serves, self._meat and arrived and not serves)
        if not serves:
            self._near = here.hessian
        self._fresh = not serves
        solve = partial(self._solved, None if serves else here, self._near)
        return Point(*problem.penalised(scaled, here.value, here.score), solve)

    def _solved(self, here: Sums | None, hessian: Any, v: Any) -> Any:
        self.sums = here
        return self._problem.solver(hessian)(v)

    def _step(self, back: int) -> float:
        return float(np.abs(self._been[-back] - self._been[-back - 1]).max(initial=0.0))

    def _short(self) -> bool:
        """Whether the Hessian before the last step is near enough for the next: what then remains is some step^3."""
        return len(self._been) > 1 and self._step(1) ** 3 <= STEP

    def _arrived(self) -> bool:
        """Whether the last steps, each the square of the one before, tell that no other follows."""
        return len(self._been) > 2 and self._step(2) > 0.0 and self._step(1) ** 3 <= STEP * self._step(2) ** 2


class Maximum(NamedTuple):
    """sums: at the maximum, or a step of at most 1e-6 before it; None where no Hessian of all rows led there."""

    estimate: Estimate
    sums: Sums | None


class Sums(NamedTuple):
    """Log-likelihood, score (p,), and where asked for Hessian (p, p) and second moments of the row scores."""

    value: float
    score: Any
    hessian: Any
    meat: Any
