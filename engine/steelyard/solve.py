"""Damped Newton on dense Hessians and on sparse graph Laplacians."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar, NamedTuple

import numpy as np
import scipy  # its parts load when first used

from steelyard.errors import ConvergenceError, NotIdentifiedError

TOLERANCE = 1e-10  # of the largest score entry, divided by n
STEP = 1e-9  # of any parameter: the Newton step that would come next
ROUNDS = 100
FAST = 0.1  # how much shorter steps with one Hessian are to become for the next to be foreseen


class _Blas:
    """How many callers hold BLAS to one thread, and what gives its threads back after the last."""

    lock = threading.Lock()
    controller: ClassVar[Any] = None
    holders = 0
    limits: ClassVar[Any] = None


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Holds BLAS to one thread: the same bits on any machine, and no two pools spinning on one core.

    May be nested, and entered from several threads at once: the last to leave gives the threads back.
    """
    from threadpoolctl import ThreadpoolController

    with _Blas.lock:
        if _Blas.controller is None:
            scipy.linalg.cholesky(np.eye(2))  # loads SciPy's own BLAS, so that it is found
            _Blas.controller = ThreadpoolController()
        if not _Blas.holders:
            _Blas.limits = _Blas.controller.limit(limits=1, user_api="blas")
        _Blas.holders += 1
    try:
        yield
    finally:
        with _Blas.lock:
            _Blas.holders -= 1
            if not _Blas.holders:
                _Blas.limits.restore_original_limits()


class Point(NamedTuple):
    """The objective at a parameter: value, score (p,), and a function that solves (Hessian) x = v."""

    value: float
    score: Any
    solve: Callable[[Any], Any]


class Solution(NamedTuple):
    parameter: Any
    point: Point
    iterations: int
    gradient_norm: float


class QuasiNewton:
    """Solves (Hessian) x = v nearly: by a solver near it, and by how the score changed over the last steps.

    The two loops of L-BFGS (Nocedal 1980) around that solver.
    """

    def __init__(self, near: Callable[[Any], Any]) -> None:
        self._last: tuple[Any, Any] | None = None
        self.renew(near)

    def renew(self, near: Callable[[Any], Any]) -> None:
        """Starts again from another solver."""
        self._near, self.learned = near, 0
        self._steps: list[tuple[Any, Any, float]] = []

    def learn(self, parameter: Any, score: Any) -> None:
        """Takes note of the score at a parameter."""
        self.learned += 1
        if self._last is not None:
            step, change = parameter - self._last[0], self._last[1] - score
            curve = float(step @ change)
            if curve > 1e-10 * float(np.linalg.norm(step) * np.linalg.norm(change)):
                self._steps.append((step, change, curve))
        self._last = (parameter, score)

    def __call__(self, v: Any) -> Any:
        shares = []
        for step, change, curve in reversed(self._steps):
            shares.append(float(step @ v) / curve)
            v = v - shares[-1] * change
        x = self._near(v)
        for (step, change, curve), share in zip(self._steps, reversed(shares), strict=True):
            x = x + (share - float(change @ x) / curve) * step
        return x


def newton(
    evaluate: Callable[[Any], Point],
    start: Any,
    n: float,
    tolerance: float = TOLERANCE,
    longest: float = STEP,
    rounds: int = ROUNDS,
    foreseen: bool = False,
) -> Solution:
    """Maximises a concave function by Newton steps, halved until the value does not fall.

    Stops when max |score| / n <= tolerance and the step still to go is at most `longest`: the first alone leaves
    an arm shown in one row of a thousand a thousand times less exact than the others. foreseen: also where the last
    two steps tell that this holds after the next, which is taken unseen; value and norm are then foretold. Raises
    ConvergenceError after so many rounds or a failed line search: nothing unconverged is handed back.
    """
    parameter, point, before = start, evaluate(start), 0.0
    if not np.isfinite(point.value):
        raise ConvergenceError("the likelihood has no finite value where the solver starts")
    for iteration in range(rounds):
        norm = float(np.abs(point.score).max(initial=0.0)) / n
        step, share = point.solve(point.score), 1.0
        size, slope = float(np.abs(step).max(initial=0.0)), float(point.score @ step)
        if norm <= tolerance and size <= longest:
            return Solution(parameter, point, iteration, norm)
        rate = size / before if before else np.inf
        if foreseen and rate <= FAST and norm * rate <= tolerance and size * rate <= longest:
            there = Point(point.value + 0.5 * slope, point.score, point.solve)
            return Solution(parameter + step, there, iteration + 1, norm * rate)
        while True:
            with np.errstate(over="ignore", invalid="ignore"):  # a step too far has no finite value, and is halved
                trial = evaluate(parameter + share * step)
            if trial.value >= point.value + 1e-4 * share * slope - 1e-13 * abs(point.value):
                break
            share /= 2.0
            if share < 1e-12:
                words = f"line search failed at gradient {norm:.2e} of n after {iteration} steps"
                raise ConvergenceError(words, (parameter, step))
        parameter, point, before = parameter + share * step, trial, share * size
    raise ConvergenceError(f"no convergence in {rounds} Newton steps; gradient {norm:.2e} of n", (parameter, step))


def dense_solver(hessian: Any) -> Callable[[Any], Any]:
    """Cholesky solves with a positive definite matrix; NotIdentifiedError where it is not one."""
    return partial(_solved, _factor(hessian))


def _solved(factor: Any, v: Any) -> Any:
    return scipy.linalg.cho_solve((factor, True), v, check_finite=False)


def _factor(hessian: Any) -> Any:
    """(p, p) the lower Cholesky factor; what stands above the diagonal means nothing."""
    try:
        return scipy.linalg.cho_factor(hessian, lower=True, check_finite=False)[0]
    except np.linalg.LinAlgError as error:
        raise NotIdentifiedError("the information matrix is singular: some parameter is not identified") from error


def _inverse(hessian: Any) -> Any:
    """(p, p) the inverse of a positive definite matrix; NotIdentifiedError where it is not one."""
    if not len(hessian):
        return hessian
    half = np.tril(scipy.linalg.lapack.dpotri(_factor(hessian), lower=True)[0])
    return half + np.tril(half, -1).T


def pinned(hessian: Any, k: int, penalty: Any) -> Any:
    """The Hessian (p, p) with its penalty (p,), and where that leaves the first k, the scores, free: tied down.

    H + c 11'/k on the scores: the constant vector spans its null space, so on the complement nothing changes;
    exact, no ridge.
    """
    tied = hessian + np.diag(penalty)
    if k and not penalty[:k].any():
        tied[:k, :k] += np.trace(hessian[:k, :k]) / k**2
    return tied


def centred_inverse(hessian: Any, k: int, penalty: Any) -> Any:
    """(p, p) the inverse on parameters whose first k, the scores, sum to 0 in each group of arms that met.

    A ridge, which may leave several groups, holds where each of them stands; no row moves one as a whole. The plain
    inverse would be 1 / ridge along that, which blows up the rounding of what it is multiplied with.
    """
    groups = groups_of(hessian[:k, :k]) if penalty[:k].any() else [np.arange(k)] * bool(k)
    inverse = _inverse(tied_down(hessian, groups) + np.diag(penalty))
    for at in groups:
        inverse[at] -= inverse[at].mean(axis=0)
        inverse[:, at] -= inverse[:, at].mean(axis=1, keepdims=True)
    return inverse


def groups_of(hessian: Any) -> list[Any]:
    """The places of each group of scores that some curvature joins."""
    group = scipy.sparse.csgraph.connected_components(scipy.sparse.csr_array(hessian != 0), directed=False)[1]
    return [np.flatnonzero(group == g) for g in range(group.max(initial=-1) + 1)]


def tied_down(hessian: Any, groups: Sequence[Any]) -> Any:
    """The Hessian with each group of scores tied down by itself: nothing in it says how high one stands."""
    tied = hessian.copy()
    for at in groups:
        inside = np.ix_(at, at)
        tied[inside] += (np.trace(hessian[inside]) or 1.0) / len(at) ** 2
    return tied


def laplacian_solve(product: Callable[[Any], Any], diagonal: Any, right: Any, shrunk: bool, tolerance: float) -> Any:
    """(k, r) x of L x = right by conjugate gradients; L the Laplacian of a graph, plus a ridge where shrunk.

    Without one the scores of x sum to 0, as do those of `right` but for rounding, which no x could answer.
    """
    own = np.where(diagonal > 0, diagonal, 1.0)[:, None]  # an arm without rows asks for nothing
    right = right if shrunk else right - right.mean(axis=0)
    x = conjugate_gradients(product, lambda v: v / own, right, tolerance)
    return x if shrunk else x - x.mean(axis=0)


def bordered_solve(scores: Callable[[Any], Any], border: Any, corner: Any, right: Any) -> Any:
    """(p, r) x of H x = right by the Schur complement of a few dense columns beside k scores.

    scores: solves with the scores' own part. border: (k, m); corner: (m, m).
    """
    k, r = len(border), right.shape[1]
    solved = scores(np.column_stack([right[:k], border]))
    x, across = solved[:, :r], solved[:, r:]
    rest = np.linalg.solve(corner - border.T @ across, right[k:] - border.T @ x)
    return np.concatenate([x - across @ rest, rest])


def conjugate_gradients(
    product: Callable[[Any], Any], precondition: Callable[[Any], Any], right: Any, tolerance: float
) -> Any:
    """Solves for several right-hand sides (k, r) at once. precondition: an easy inverse near the true one.

    tolerance: of the residual's size in the norm of that inverse, in which unknowns of any scale count alike, relative
    to the right-hand side's. Raises ConvergenceError.
    """
    x = np.zeros_like(right)
    residual = right.copy()
    scaled = precondition(residual)
    direction = scaled.copy()
    size = (residual * scaled).sum(axis=0)
    goal = tolerance**2 * np.maximum(size, 1e-300)
    for _ in range(10 * len(right) + 100):
        unsolved = size > goal
        if not unsolved.any():
            return x
        moved = product(direction)
        curve = (direction * moved).sum(axis=0)
        step = np.divide(size, curve, out=np.zeros_like(size), where=unsolved & (curve > 0))
        x += step * direction
        residual -= step * moved
        scaled = precondition(residual)
        new = (residual * scaled).sum(axis=0)
        direction = scaled + np.divide(new, size, out=np.zeros_like(size), where=size > 0) * direction
        size = new
    raise ConvergenceError("conjugate gradients did not converge")
