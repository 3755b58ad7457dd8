"""How exact the coefficients of a softmax of assignment are: the sandwich, rows or clusters (docs/estimators.md, 3)."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from steelyard.assignment.models import PIECE, SoftmaxModel
from steelyard.assignment.softmax import INFORMATION
from steelyard.blocks import Block
from steelyard.inference.clusters import squared_sums
from steelyard.inference.influence import FEW, Squares, multiway, squared_rows
from steelyard.solve import one_blas_thread

_CELLS = 1 << 20  # entries of the rows' scores that are held at a time


def standard_errors(model: SoftmaxModel, cluster: str | None) -> tuple[Any, list[list[str | None]]]:
    """(classes, 1 + d) on the scale of the context columns, of the classes that are free; and why there is none.

    Of shrunk coefficients: how they would vary, not how far the ridge takes them from those of all rows.
    """
    shape = (len(model.free), model.problem.d)
    covariance, why = _covariance(model, cluster)
    if covariance is None:
        return np.full(shape, np.nan), [[why] * shape[1]] * shape[0]
    scale = np.eye(shape[1]) / np.append(1.0, model.contexts.scale)
    scale[0, 1:] = -model.contexts.mean / model.contexts.scale
    parts = [covariance[at : at + shape[1], at : at + shape[1]] for at in range(0, len(covariance), shape[1])]
    errors = np.sqrt(np.maximum([np.diag(scale @ part @ scale.T) for part in parts], 0.0))
    tell, lone = _told_by(model, cluster), _never_or_always(model)
    unit = "rows" if cluster is None else "clusters"

    def reason(se: float, told: float, alone: bool) -> str | None:
        if not se > 0.0:
            return "nothing was left to chance: no spread, so no interval"
        if alone:
            return "drawn never, or always, at a value of this column, or so are others it stands against: no interval"
        return f"some {told:.0f} {unit} tell of it: too few for an interval" if told < FEW else None

    cells = zip(errors.tolist(), tell.tolist(), lone.tolist(), strict=True)
    return errors, [list(map(reason, *both)) for both in cells]


def _covariance(model: SoftmaxModel, cluster: str | None) -> tuple[Any, str | None]:
    """(q, q) of the coefficients of standardised columns, class by class; or None and why."""
    problem, q = model.problem, len(model.free) * model.problem.d
    if problem.rows * q * q > INFORMATION:
        return None, f"{q} coefficients are too many for errors from {problem.rows} rows: fit fewer contexts"
    if cluster is None:
        meat = _by_row(model, q)
    else:
        squares = _by_cluster(model, cluster, q, partial(_scores, model))
        if squares.groups < 2:
            return None, f"one cluster only ({cluster}): nothing tells how the coefficients would vary"
        meat = multiway([cluster], [squares]).square
    return model.solve(model.solve(meat).T), None


def _told_by(model: SoftmaxModel, cluster: str | None) -> Any:
    """(classes, 1 + d) how many rows, or clusters, tell of a coefficient: (sum q)^2 / sum q^2.

    The least of those of three q: how often the class was drawn, the square of the standardised column, and for a value
    of text whether the row has the first one, to which the others compare. Of two classes either needs both.
    """
    problem, contexts, k = model.problem, model.contexts, model.problem.k
    ends = 1 + len(contexts.numeric) + np.cumsum([0, *(len(values) - 1 for _, values in contexts.levels)])

    def amounts(block: Block) -> Any:
        z, n = np.asarray(block.columns), np.arange(block.n)
        drawn = np.zeros((k, block.n))
        for codes in block.drawn:
            drawn[codes, n] = 1.0
        first = [(z[low:high] > 0).sum(axis=0) == 0 for low, high in itertools.pairwise(ends)]
        return np.vstack([drawn, z**2, *first]).T

    def one(block: Block) -> tuple[Any, Any]:
        total, square = 0.0, 0.0
        for cut, part in block.pieces(PIECE):
            q, c = amounts(part), 1.0 if block.count is None else block.count[cut, None]
            total, square = total + (c * q).sum(axis=0), square + (c * q * q).sum(axis=0)
        return total, square

    total, square = (sum(part) for part in zip(*problem.blocks.each(one), strict=True))
    if cluster is not None:
        square = np.diag(_by_cluster(model, cluster, len(total), partial(_counted, amounts)).square)
    rows = np.divide(total**2, square, out=np.zeros_like(total), where=square > 0)
    of_class, of_column, of_first = np.split(rows, [k, k + problem.d])
    for (low, high), first in zip(itertools.pairwise(ends), of_first, strict=True):
        of_column[low:high] = np.minimum(of_column[low:high], first)
        of_column[0] = min(of_column[0], first)
    of_class = np.full(2, of_class.min()) if k == 2 else of_class
    return np.minimum(of_class[model.free][:, None], of_column)


def _counted(amounts: Callable[[Block], Any], block: Block) -> Any:
    return amounts(block) * (1.0 if block.count is None else block.count[:, None])


def _never_or_always(model: SoftmaxModel) -> Any:
    """(classes, 1 + d) bool: of columns with two values, whether at one of them the class was never drawn, or always.

    No finite coefficient would be the best there; only the ridge holds it, and the sandwich tells nothing of it. Where
    more than one class of twenty is so, the others too, which stand against all.
    """
    problem, k = model.problem, model.problem.k
    two = _of_two_values(model)

    def one(block: Block) -> tuple[Any, Any]:
        drawn, sides = np.zeros((2, problem.d, k)), np.zeros((2, problem.d))
        for j in two:
            column = np.asarray(block.columns)[j]
            for side, at in enumerate((column > 0, column <= 0)):
                sides[side, j] = at.sum()
                drawn[side, j] = sum(np.bincount(codes[at], minlength=k) for codes in block.drawn)
        return drawn, sides

    lone = np.zeros((k, problem.d), bool)
    if len(two):
        drawn, sides = (sum(part)[:, two] for part in zip(*problem.blocks.each(one), strict=True))
        lone[:, two] = ((drawn == 0) | (drawn == sides[:, :, None])).any(axis=0).T
    lone |= lone.sum(axis=0) * 20 > k
    return lone[model.free]


def _of_two_values(model: SoftmaxModel) -> Any:
    """Places of the columns that have two values, by their first four moments."""
    problem = model.problem

    def one(block: Block) -> Any:
        sums = np.zeros((4, problem.d))
        for _, part in block.pieces(PIECE):
            z = np.asarray(part.columns)
            square = z * z
            sums += z.sum(axis=1), square.sum(axis=1), (square * z).sum(axis=1), (square * square).sum(axis=1)
        return sums

    m, m2, m3, m4 = sum(problem.blocks.each(one)) / problem.rows
    third, fourth, variance = m3 - 3 * m * m2 + 2 * m**3, m4 - 4 * m * m3 + 6 * m**2 * m2 - 3 * m**4, m2 - m**2
    gap = fourth * variance - third**2 - variance**3  # Pearson: 0 for two values alone
    return np.flatnonzero((variance > 1e-9) & (np.abs(gap) <= 1e-6 * fourth * variance))


def _by_cluster(model: SoftmaxModel, cluster: str, width: int, scores: Callable[[Block], Any]) -> Squares:
    """Sums of the scores (n, width) of clusters. scores: of a block's rows."""
    problem = model.problem
    return squared_sums(problem.blocks, (0, cluster, int(problem.clusters[-1]) + 1), width, scores)


def _scores(model: SoftmaxModel, block: Block) -> Any:
    """(n, q) weighted scores of a block's rows."""
    return model.problem.scores(block, model.gamma, model.free)


@one_blas_thread()
def _by_row(model: SoftmaxModel, q: int) -> Any:
    """(q, q) sum over the comparisons of s s'; a row may stand for several."""

    def one(block: Block) -> Any:
        total = np.zeros((q, q))
        for _, part in block.pieces(max(1, _CELLS // q)):
            scores = _scores(model, part)
            total += squared_rows(scores, part.count)
        return total

    return sum(model.problem.blocks.each(one))
