"""Where the likelihood of rows is highest: by Newton steps, or scores alone where a Hessian costs more.

1. Of a long log every 16th row (`thinned`) is climbed first, roughly; their Hessian makes the first step of all.
2. A Newton step whose Hessian the last one may stand in for, or that is foreseen to be the last, makes none anew.
3. Of many columns a Hessian costs more than scores: one, near the start, is then corrected by them (L-BFGS).
4. Where no Hessian led to the maximum, some rows say whether it is one (`_standing`), or a step by that of all does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from steelyard.errors import ConvergenceError, NotIdentifiedError
from steelyard.models import many_arms, matrix_free
from steelyard.models.cells import Estimate
from steelyard.models.row_problem import RowProblem, Sums
from steelyard.solve import (
    ROUNDS,
    STEP,
    TOLERANCE,
    Point,
    QuasiNewton,
    Solution,
    centred_inverse,
    newton,
    one_blas_thread,
)

_AT_MOST = 10  # Newton steps that make up for a larger one
_ROUGH = (1e-5, 1e-3)  # precision of the maximum of some of the rows, where that of all starts
_PATIENCE = 20  # scores, after which a wide fit takes a new Hessian
_RUNS = 0.1  # of the largest part of a step, from which a column is named
_FAR = 1e3  # how far to look along a step for a place where the likelihood is lower
_SEPARATED = (
    "the fit has no finite maximum: some combination of scores, covariates and features tells the outcome of every "
    "row, or of all rows where it is not 0. Leave some out, shrink with ridge=, or collect more comparisons."
)


class Maximum(NamedTuple):
    """sums: at the maximum, or a step of at most 1e-6 before it; None where no Hessian of all rows led there."""

    estimate: Estimate
    sums: Sums | None


def maximise(problem: RowProblem, start: Any, information: Any = None, near: Any = None, meat: bool = False) -> Maximum:
    """The maximum, from `start` (p,), and what was summed there.

    information: (p, p) of the thinned rows at the start, if known; it saves a pass where columns are many.
    near: (p,) the maximum of rows much like these, if known: tried before `start`. meat: it will be asked for.
    """
    climbed = None
    if near is not None:
        with contextlib.suppress(ConvergenceError, NotIdentifiedError):
            climbed = _climbed(problem, near, _Way((problem.thinned, None), warm=True, meat=meat))
    estimate, sums = climbed or _climbed(problem, start, _Way((problem.thinned, information), meat=meat))
    if problem.matrix_free or sums is not None:
        return Maximum(estimate, sums)
    with one_blas_thread(), _said(problem):
        standing = _standing(problem, estimate)
        return Maximum(standing, None) if standing is not None else _confirmed(problem, estimate, meat)


def sums_at(problem: RowProblem, maximum: Maximum, meat: bool = False) -> Sums:
    """What is summed at a maximum; a pass where that is not known."""
    sums, parameter = maximum.sums, maximum.estimate.parameter
    if sums is None:
        return problem.sums(parameter, meat=meat)
    if meat and sums.meat is None:
        return sums._replace(meat=problem.sums(parameter, hessian=False, meat=True).meat)
    return sums


@one_blas_thread()
def bread_of(problem: RowProblem, hessian: Any) -> Any:
    """(p, p) A^+, the inverse of the Hessian at a maximum, scores centred."""
    unit = np.outer(problem.scale, problem.scale)
    with _said(problem):
        return centred_inverse(hessian / unit, problem.k, problem.penalty / problem.scale**2) / unit


@contextlib.contextmanager
def _said(problem: RowProblem) -> Iterator[None]:
    """Says of a solver's error what caused it: a likelihood that grows without end, or the solver."""
    try:
        yield
    except ConvergenceError as error:
        if error.stopped is None or not _grows(problem, *error.stopped):
            words = f"the solver stopped short of the maximum ({error}). Shrink with ridge=, or use fewer columns."
            raise ConvergenceError(words) from error
        raise NotIdentifiedError(f"{_SEPARATED}{_runaways(problem, error.stopped[1])} ({error})") from error
    except NotIdentifiedError as error:
        raise NotIdentifiedError(f"{_SEPARATED} ({error})") from error


def _runaways(problem: RowProblem, step: Any) -> str:
    """In words, the columns that the last step moved most: along it the likelihood grows without end."""
    size = np.abs(step) / float(np.abs(step).max())
    columns = size[problem.k : problem.k + problem.d]
    most = [problem.names[j] for j in np.argsort(-columns, kind="stable")[:5] if columns[j] > _RUNS]
    return f" What grows without end: {', '.join(most)}." if most else ""


def _grows(problem: RowProblem, scaled: Any, step: Any) -> bool:
    """Whether the likelihood, which is concave, is no lower far along a step: then it has no finite maximum."""
    far = scaled + _FAR * max(1.0, float(np.abs(scaled).max())) / float(np.abs(step).max()) * step
    here, there = (problem.penalised(at, *problem.slope(at / problem.scale))[0] for at in (scaled, far))
    return there >= here - 1e-9 * abs(here)  # what rounding leaves of a sum over many rows


def _standing(problem: RowProblem, estimate: Estimate) -> Estimate | None:
    """A maximum that scores led to, with its own score, if some of the rows tell that it is one; else None.

    No Hessian of all is made then. Theirs, H, is at most that of all: the step s still to go has
    |s_j|^2 <= (H^-1)_jj g'H^-1 g for the score g.
    """
    few, parameter = problem.thinned, estimate.parameter
    if few is problem or problem.k:
        return None
    unit = np.outer(problem.scale, problem.scale)
    try:
        some = few.sums(parameter).hessian / unit
        inverse = centred_inverse(some, 0, problem.penalty / problem.scale**2)
    except NotIdentifiedError:
        return None
    score = problem.penalised(parameter * problem.scale, *problem.slope(parameter))[1]
    longest = np.sqrt(float(np.diag(inverse).max(initial=0.0)) * float(score @ inverse @ score))
    norm = float(np.abs(score).max(initial=0.0)) / problem.totals.weight
    return replace(estimate, gradient_norm=norm) if longest <= matrix_free.LAST_STEP else None


def _confirmed(problem: RowProblem, estimate: Estimate, meat: bool) -> Maximum:
    """A maximum that scores led to, one step by its Hessian on; Newton goes on where that is no small one.

    Where outcomes are separated the score fades as fast as the curvature, and only the step tells.
    """
    parameter = estimate.parameter
    here = problem.sums(parameter, meat=meat)
    step = problem.solver(here.hessian)((here.score - problem.penalty * parameter) / problem.scale)
    if float(np.abs(step).max(initial=0.0)) <= matrix_free.LAST_STEP:
        moved = parameter + step / problem.scale
        return Maximum(replace(estimate, parameter=moved, tie=float(moved[-1]) if problem.ties else 0.0), here)
    solution, there = _by_hessians(problem, parameter * problem.scale, _Way((problem, None), meat=meat), _AT_MOST)
    return Maximum(_estimate(problem, solution), there)


def climb(problem: RowProblem, start: Any, information: Any, precision: tuple[float, float]) -> Estimate:
    """The maximum alone, from `start` (p,). information: as `maximise` takes it; precision: as `newton` does."""
    return _climbed(problem, start, _Way((problem.thinned, information), precision, alone=True))[0]


def _climbed(problem: RowProblem, start: Any, way: _Way) -> tuple[Estimate, Sums | None]:
    """The maximum, and what was summed there; None where the way led past no Hessian.

    A long log is first maximised on every 16th row, slightly shrunk so that this cannot fail for rare arms; but
    not where the start is warm.
    """
    few, information, sums = problem.thinned, way.known[1] if way.known[0] is problem else None, None
    with one_blas_thread(), _said(problem):
        if few is not problem and way.warm:
            information = _stands_for(few, problem, start, None)
        elif few is not problem:
            with contextlib.suppress(ConvergenceError, NotIdentifiedError):
                near, there = _climbed(few, start, _Way(way.known, _ROUGH))
                start, information = near.parameter, _stands_for(few, problem, near.parameter, there)
        way = way._replace(known=(problem, information))
        if problem.matrix_free:
            maximum = many_arms.maximum if problem.k else matrix_free.maximum
            solution = maximum(problem, start * problem.scale, way.precision)
        elif not problem.narrow or (not problem.k and few is not problem and way.alone):
            solution = _by_scores(problem, start * problem.scale, way)
        else:
            solution, sums = _by_hessians(problem, start * problem.scale, way)
    return _estimate(problem, solution), sums


def _estimate(problem: RowProblem, solution: Solution) -> Estimate:
    parameter, k = solution.parameter / problem.scale, problem.k
    if not problem.penalty[:k].any():
        parameter[:k] -= parameter[:k].mean() if k else 0.0
    penalised = 0.5 * float(problem.penalty @ parameter**2)
    tie = float(parameter[-1]) if problem.ties else 0.0
    return Estimate(parameter, k, 0.0, tie, solution.point.value + penalised, solution.iterations,
                    solution.gradient_norm)  # fmt: skip


def _by_hessians(problem: RowProblem, start: Any, way: _Way, rounds: int = ROUNDS) -> tuple[Solution, Sums | None]:
    """The maximum, in units of the scale, by Newton steps, and what was summed there."""
    points = _Points(problem, way)
    return newton(points, start, problem.totals.weight, *way.precision, rounds), points.sums


def _stands_for(few: RowProblem, whole: RowProblem, parameter: Any, sums: Sums | None) -> Any:
    """(p, p) the information of some rows for as much as all weigh; None where there is no use for it.

    With as much more as a column has in the other rows at most, so that its steps are too short rather than too
    long; and with a little more for what some rows cannot tell of several, or of rare arms.
    """
    if few.matrix_free:
        return None
    hessian = (few.sums(parameter) if sums is None else sums).hessian
    ours, all_of = few.totals, whole.totals
    ratio, steepest = all_of.weight / ours.weight, 0.25 if few.model != "probit" and few.own is None else 1.0
    missed = np.zeros(few.size)
    missed[few.k : few.k + few.d] = np.maximum(all_of.squares - all_of.rows / ours.rows * ours.squares, 0.0)
    more = steepest * all_of.weight / all_of.rows * missed
    return hessian * ratio + np.diag(more + ratio * whole.scale**2)


def _by_scores(problem: RowProblem, start: Any, way: _Way) -> Solution:
    """The same where a Hessian costs more than a few scores: one near the start, few or none on the way."""
    information = way.known[1]

    def near(scaled: Any) -> Any:
        return problem.solver(problem.sums(scaled / problem.scale).hessian)

    inverse = QuasiNewton(near(start) if information is None else problem.solver(information))

    def evaluate(scaled: Any) -> Point:
        if problem.outside(scaled):
            return problem.nowhere
        value, score = problem.penalised(scaled, *problem.slope(scaled / problem.scale))
        inverse.learn(scaled, score)

        def solve(v: Any) -> Any:
            if inverse.learned > _PATIENCE:
                inverse.renew(near(scaled))
            return inverse(v)

        return Point(value, score, solve)

    return newton(evaluate, start, problem.totals.weight, *way.precision, foreseen=True)


class _Way(NamedTuple):
    """How to climb. known: some of the rows, and their information (p, p) where they start, if known. precision: as
    :func:`newton` takes it. warm: the start is near. meat: it is wanted at the maximum. alone: the maximum alone is.
    """

    known: tuple[RowProblem, Any]
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
        self._near, self._fresh = way.known[1], False
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
        return len(self._been) > 1 and _cube(self._step(1)) <= STEP

    def _arrived(self) -> bool:
        """Whether the last steps, each the square of the one before, tell that no other follows."""
        return (
            len(self._been) > 2 and self._step(2) > 0.0 and _cube(self._step(1) / self._step(2)) * self._step(2) <= STEP
        )


def _cube(step: float) -> float:
    """Of a step, which may be so long that a power would raise an error."""
    return step * step * step
