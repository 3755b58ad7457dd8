"""Which columns of a likelihood on rows can be told from the scores and from each other (docs/estimators.md, 2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from steelyard.errors import LogError, NotIdentifiedError
from steelyard.models import many_arms
from steelyard.models.row_problem import RowProblem
from steelyard.solve import dense_solver, groups_of, one_blas_thread, tied_down

_DEPENDENT = 1e-10  # share of a column's variance that must be left beside the columns before it


class Identified(NamedTuple):
    """A problem with the columns that can be told apart. start: (p,). place: of each kept column. why: the others.

    information: (p, p) of the problem's thinned rows at the start; None where it was not needed, or they did not do.
    """

    problem: RowProblem
    start: Any
    place: dict[int, int]
    why: dict[int, str]
    information: Any


def identified(problem: RowProblem, tie: float) -> Identified:
    """Leaves out the columns that cannot be told from the scores and the columns before them, with the reason.

    tie: where the tie parameter starts; all else starts at 0. Columns under a penalty
    are all kept; another is, where the scores and the columns before leave more than 1e-10 of its variance at the
    start. Raises LogError where two terms would have one name.
    """
    names = problem.names
    terms = [*names, *["tie"] * problem.ties]
    twice = next((name for name in terms if terms.count(name) > 1), None)
    if twice is not None:
        raise LogError(f"two terms are named {twice!r}: rename the covariate or feature")
    start = np.zeros(problem.size)
    start[problem.k + problem.d :] = tie
    places = np.flatnonzero(problem.penalty[problem.k : problem.k + problem.d] == 0).tolist()
    why: dict[int, str] = {}
    information = None
    if places:
        beyond = _beside_many_arms if problem.k else _free_of_penalty
        why, information = (beyond if problem.matrix_free else _told_apart)(problem, start, places)
    kept = [j for j in range(problem.d) if j not in why]
    if why:
        left = [problem.k + j for j in why]
        problem, start = problem.only(kept), np.delete(start, left)
        information = None  # fewer columns may be thinned otherwise
    return Identified(problem, start, {j: at for at, j in enumerate(kept)}, why, information)


def _free_of_penalty(problem: RowProblem, start: Any, places: Sequence[int]) -> tuple[dict[int, str], Any]:
    """As :func:`_told_apart`, of columns among thousands of others that are under a penalty; no information."""
    alone = problem.only(list(places))
    if alone.matrix_free:
        raise NotIdentifiedError(
            f"{alone.d} columns without a ridge: which of so many can be told apart is not found out. Shrink by "
            "ridge=, or use fewer."
        )
    why, _ = _told_apart(alone, np.append(np.zeros(alone.d), start[problem.d :]), range(alone.d))
    return {places[j]: reason for j, reason in why.items()}, None


@one_blas_thread()
def _beside_many_arms(problem: RowProblem, start: Any, places: Sequence[int]) -> tuple[dict[int, str], Any]:
    """As :func:`_told_apart`, beside so many scores that no matrix of theirs is held; no information."""
    here = many_arms.Curvature.of(problem, start, np.zeros(problem.size))
    names, inside = [problem.names[j] for j in places], here.corner[np.ix_(places, places)]
    why = _dependent(lambda v: here.arms(v, many_arms.APART), here.border[:, places], inside, names)
    return {places[j]: reason for j, reason in why.items()}, None


@one_blas_thread()
def _told_apart(problem: RowProblem, start: Any, places: Sequence[int]) -> tuple[dict[int, str], Any]:
    """Of the columns at `places`, those that cannot be told from the scores and the ones before, with the reason.

    And the information of the thinned rows at the start, where they did.
    """
    k, few, names = problem.k, problem.thinned, [problem.names[j] for j in places]
    at = [k + place for place in places]

    def dependent(hessian: Any) -> dict[int, str]:
        own = hessian[:k, :k]  # under a ridge, and in some of the rows, arms may be in several groups, or without a row
        arms = dense_solver(tied_down(own, groups_of(own))) if k else None
        return _dependent(arms, hessian[:k, at], hessian[np.ix_(at, at)], names)

    information = few.sums(start).hessian
    why = dependent(information)
    did = not why or few is problem
    if not did:  # what some rows can tell apart, all can; not the other way round
        why = dependent(problem.sums(start).hessian)
    return {places[j]: reason for j, reason in why.items()}, information if did else None


def _dependent(arms: Callable[[Any], Any] | None, across: Any, inside: Any, names: Sequence[str]) -> dict[int, str]:
    """The same from the information: (d, d) inside these columns, (k, d) across scores and columns, and what solves
    with that of the scores, if there are any.
    """
    own = np.diag(inside)
    left = inside - (across.T @ arms(across) if arms else 0.0)
    if _all_independent(left, own):
        return {}
    kept: list[int] = []
    why: dict[int, str] = {}
    for j, name in enumerate(names):
        if own[j] <= 0.0:
            why[j] = f"{name} is 0 in every row: what both responses share, such as the prompt, cancels out"
            continue
        share = np.linalg.solve(left[np.ix_(kept, kept)], left[kept, j]) if kept else np.zeros(0)
        if left[j, j] - left[j, kept] @ share > _DEPENDENT * own[j]:
            kept.append(j)
            continue
        size = np.abs(share) * np.sqrt(own[kept])
        others = [names[i] for i, s in zip(kept, size, strict=True) if s > 1e-5 * np.sqrt(own[j])]
        if arms:
            by_arms = across[:, j] - across[:, kept] @ share
            others += ["the arms"] * bool(by_arms @ arms(by_arms[:, None])[:, 0] > 1e-10 * own[j])
        why[j] = f"collinear with {' and '.join(others)}: its effect cannot be told from theirs"
    return why


def _all_independent(left: Any, own: Any) -> bool:
    """Whether the Cholesky pivots, each column's variance beside those before it, are all large enough."""
    if (own <= 0.0).any():
        return False
    try:
        root = np.linalg.cholesky(left)
    except np.linalg.LinAlgError:
        return False
    return bool((np.diag(root) ** 2 > _DEPENDENT * own).all())
