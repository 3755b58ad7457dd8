"""What the scores of rows add up to: the meat of the sandwich, by rows or clusters (docs/estimators.md, 3).

Where weights were estimated before, a row's score comes with what the estimate adds to it: stacked estimating equations
(inference/nuisance.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any

import numpy as np

from steelyard.blocks import Block
from steelyard.errors import LogError
from steelyard.inference import Influence, Pending
from steelyard.inference.clusters import (
    CLUSTER_BYTES,
    ClusterSums,
    Part,
    joined,
    squared_sums,
    summed,
    told_by,
)
from steelyard.inference.influence import Squares, multiway, squared_rows
from steelyard.models.cells import Estimate
from steelyard.models.row_maximum import Maximum, bread_of, sums_at
from steelyard.models.row_problem import RowProblem
from steelyard.models.wide import widened
from steelyard.solve import one_blas_thread

_SCORED_CELLS = 1 << 19  # entries of what rows add to the scores, held at a time


@one_blas_thread()
def influence(
    problem: RowProblem, maximum: Maximum, kind: str, clusters: Sequence[tuple[str, int]]
) -> Influence | None:
    """The influence with the meat of rows or of clusters; None where no matrix is held.

    clusters: name and codes of each column.
    """
    if problem.matrix_free:
        return None
    estimate, sums = maximum.estimate, sums_at(problem, maximum, own_meat(problem, kind))
    bread = bread_of(problem, sums.hessian)
    own = _own(problem)
    if kind == "model":
        return Influence(bread, sums.hessian + np.diag(problem.penalty), **own)
    if kind == "cluster":
        return clustered(problem, estimate, bread, clusters)
    if problem.nuisances:
        meat, told = _stacked_meat(problem, estimate, _across(problem, estimate)), met(problem, [])
        return Influence(bread, meat, told=told, **own)
    return Influence(bread, sums.meat, **own)


@one_blas_thread()
def clustered(problem: RowProblem, estimate: Estimate, bread: Any, clusters: Sequence[tuple[str, int]]) -> Influence:
    """The influence with the meat of clusters."""
    across = _across(problem, estimate) if problem.nuisances else []
    squares = [_squares(problem, estimate, across, column, size) for column, (_, size) in enumerate(clusters)]
    meat = multiway([name for name, _ in clusters], squares)
    meat = meat._replace(told=met(problem, clusters)) if problem.nuisances else meat
    return Influence(bread, *meat, **_own(problem))


def _own(problem: RowProblem) -> dict[str, Any]:
    """What an influence knows of a problem's parameters: their units; and that under a ridge none is looked for."""
    return {"unit": 1.0 / problem.scale, "lost": np.zeros((problem.size, 0)) if problem.penalty.any() else None}


def met(problem: RowProblem, clusters: Sequence[tuple[str, int]]) -> Any:
    """(p,) rows, or clusters of the column that has fewest, with an arm, or a column that is not 0; inf of the tie's.

    Of their own scores: what an estimated weight adds to a row's is nothing that the row tells of them.
    """
    k, d = problem.k, problem.d
    places = [(at, *named) for at, named in enumerate(clusters)]
    arms = told_by(problem.blocks, places, k, lambda block: (block.a, block.b)) if k else np.zeros(0)
    told = np.append(arms, np.full(problem.size - k, np.inf))

    def sizes(block: Block) -> Any:
        return np.concatenate([np.abs(x) for _, x in widened(block)])

    if d and clusters:
        told[k : k + d] = np.min([squared_sums(problem.blocks, place, d, sizes).told for place in places], axis=0)
    elif d:
        told[k : k + d] = sum(problem.blocks.each(lambda block: np.count_nonzero(sizes(block), axis=0)))
    return told


def now_or_later(
    problem: RowProblem, maximum: Maximum, kind: str, clusters: Sequence[tuple[str, int]]
) -> Influence | Pending | None:
    """The influence, or of many columns, where it costs more than the maximum, what makes it when it is asked for.

    Only where nothing is left to be refused, and where the rows are here to stay: few columns may lie in a frame.
    """

    def make() -> Influence:
        made = influence(problem, maximum, kind, clusters)
        assert made is not None
        return made

    settled = kind != "cluster" and not problem.nuisances and not problem.narrow and problem.blocks.place is None
    waits = settled and maximum.sums is None and not problem.matrix_free
    return Pending(make) if waits else influence(problem, maximum, kind, clusters)


def own_meat(problem: RowProblem, kind: str) -> bool:
    """Whether the meat is one of rows alone, which the sums at the maximum hold."""
    return kind == "sandwich" and not problem.nuisances


def _squares(problem: RowProblem, estimate: Estimate, across: Any, column: int, size: int) -> Squares:
    """Sums of the clusters of a column; a pass for as many as memory holds."""
    k = 0 if problem.nuisances else problem.k
    total = Squares(np.zeros((problem.size, problem.size)), 0, np.zeros(problem.size, np.int64))
    step = max(1, CLUSTER_BYTES // (8 * (problem.size - k + 1)))
    for low in range(0, size, step):

        def part(block: Block, low: int = low, used: bool = True) -> Part:
            codes = block.clusters[column]
            block = block if size <= step else block.where((codes >= low) & (codes < low + step))
            if not problem.nuisances:
                return cluster_sums(problem, block, estimate, column, low)
            entries = _stacked(problem, block, estimate if used else None, across)
            return summed(block.clusters[column] - low, None, 0, entries, problem.size)

        sums = ClusterSums(k, problem.size - k)
        for some in problem.blocks.each(part):
            sums.add(some)
        for blocks in problem.rest:
            for some in blocks.each(partial(part, used=False)):
                sums.add(some)
        total = joined(total, sums.squared())
    return total


def _scores(problem: RowProblem, block: Block, estimate: Estimate | None) -> Iterator[tuple[slice, Block, Any]]:
    """Few rows at a time, with their weighted scores (rows, p); of rows that the fit leaves out (None), 0."""
    d_eta, d_tie = problem.row_scores(block, estimate.parameter) if estimate is not None else np.zeros((2, block.n))
    step, k, d = max(1, _SCORED_CELLS // (16 * max(problem.size, 1))), problem.k, problem.d
    for start in range(0, block.n, step):
        cut = slice(start, min(start + step, block.n))
        part, scores = block.where(cut), np.zeros((cut.stop - start, problem.size))
        if estimate is not None:
            n = np.arange(part.n)
            if k:
                scores[n, part.a], scores[n, part.b] = d_eta[cut], -d_eta[cut]
            wide: Any = part.features if part.columns is None else np.asarray(part.columns).T
            scores[:, k : k + d] = d_eta[cut, None] * wide
            scores[:, k + d :] = d_tie[cut, None]
        yield cut, part, scores


def _across(problem: RowProblem, estimate: Estimate) -> list[Any]:
    """For each nuisance C', (q, p): how its own scores move those of the fit.

    Raises LogError where it was estimated on other rows: its scores here are then not those that it solved.
    """
    for nuisance in problem.nuisances:
        read = sum(part for blocks in (problem.blocks, *problem.rest) for part in blocks.each(nuisance.by_label))
        if not np.allclose(read, nuisance.estimated_on, rtol=1e-9, atol=0.0):
            raise LogError(
                "the weights were not estimated on the rows that this fit reads: what was assigned in those and in "
                f"these differs (it weighs {np.sum(nuisance.estimated_on):g} and {np.sum(read):g} in all). Errors that "
                "know of the estimate need one log for both: fit the propensity on this log, or use "
                "weights.as_known(), whose errors leave out that it was estimated."
            )

    def one(block: Block) -> list[Any]:
        sums: list[Any] = [0.0] * len(problem.nuisances)
        for _, part, scores in _scores(problem, block, estimate):
            for j, nuisance in enumerate(problem.nuisances):
                sums[j] = sums[j] + nuisance.rows(part)[0].T @ scores
        return sums

    totals = [sum(parts) for parts in zip(*problem.blocks.each(one), strict=True)]
    return [nuisance.solve(total) for nuisance, total in zip(problem.nuisances, totals, strict=True)]


def _stacked(
    problem: RowProblem, block: Block, estimate: Estimate | None, across: list[Any]
) -> Iterator[tuple[slice, Any]]:
    """Scores of rows with what the estimated nuisances add to them, (rows, p), few at a time."""
    for cut, part, scores in _scores(problem, block, estimate):
        for nuisance, c in zip(problem.nuisances, across, strict=True):
            scores += nuisance.rows(part)[1] @ c
        yield cut, scores


def _stacked_meat(problem: RowProblem, estimate: Estimate, across: list[Any]) -> Any:
    def one(block: Block, used: bool = True) -> Any:
        meat = np.zeros((problem.size, problem.size))
        for cut, scores in _stacked(problem, block, estimate if used else None, across):
            meat += squared_rows(scores, None if block.count is None else block.count[cut])
        return meat

    left = (meat for blocks in problem.rest for meat in blocks.each(partial(one, used=False)))
    return sum(chain(problem.blocks.each(one), left), np.zeros((problem.size, problem.size)))


def cluster_sums(problem: RowProblem, block: Block, estimate: Estimate, column: int, low: int = 0) -> Part:
    """The row scores of a block summed by a cluster column, whose codes count from `low`."""
    d_eta, d_tie = problem.row_scores(block, estimate.parameter)
    tie = [d_tie[:, None]] * problem.ties
    entries = ((cut, np.hstack([d_eta[cut, None] * wide, *(t[cut] for t in tie)])) for cut, wide in widened(block))
    arms = (block.a, block.b, d_eta) if problem.k else None
    return summed(block.clusters[column] - low, arms, problem.k, entries, problem.size - problem.k)
