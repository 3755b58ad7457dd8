"""How exact the coefficients of a softmax of assignment are: the sandwich, by rows or clusters (estimators.md, 5)."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from steelyard.assignment.models import PIECE, SoftmaxModel
from steelyard.assignment.softmax import INFORMATION
from steelyard.blocks import Block
from steelyard.inference.clusters import squared_sums
from steelyard.inference.influence import multiway
from steelyard.solve import one_blas_thread

_FEW = 10.0  # rows; with fewer to tell of a coefficient its error is much too small
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
    of_class, of_column = _told_by(model)
    tell = np.minimum(of_class[model.free][:, None], of_column)

    def reason(se: float, rows: float) -> str | None:
        if not se > 0.0:
            return "nothing was left to chance: no spread, so no interval"
        return f"some {rows:.0f} rows tell of it: too few for an interval" if rows < _FEW else None

    return errors, [list(map(reason, *both)) for both in zip(errors.tolist(), tell.tolist(), strict=True)]


def _covariance(model: SoftmaxModel, cluster: str | None) -> tuple[Any, str | None]:
    """(q, q) of the coefficients of standardised columns, class by class; or None and why."""
    problem, q = model.problem, len(model.free) * model.problem.d
    if problem.rows * q * q > INFORMATION:
        return None, f"{q} coefficients are too many for errors from {problem.rows} rows: fit fewer contexts"
    if cluster is None:
        meat = _by_row(model, q)
    else:
        codes = problem.clusters
        if len(codes) < 2:
            return None, f"one cluster only ({cluster}): nothing tells how the coefficients would vary"
        square, groups = squared_sums(problem.blocks, (0, cluster, int(codes[-1]) + 1), q, partial(_scores, model))
        meat, _ = multiway([cluster], [square], [groups])
    return model.solve(model.solve(meat).T), None


def _told_by(model: SoftmaxModel) -> tuple[Any, Any]:
    """How many rows tell of each class (k,), and of each column (1 + d,): (sum z^2)^2 / sum z^4 of standardised ones.

    Of two classes either is told of by the fewer rows of both. Of an indicator those that have the value, or the others
    where they are fewer. Columns of values whose first, to which the others compare, is in few rows are told of by
    those, and so is the constant.
    """
    k, contexts = model.problem.k, model.contexts

    def one(block: Block) -> tuple[Any, Any, Any, float]:
        c = np.ones(block.n) if block.count is None else block.count
        drawn = np.bincount(np.concatenate(block.drawn), np.tile(c, len(block.drawn)), k)
        square, fourth = np.zeros(model.problem.d), np.zeros(model.problem.d)
        for cut, part in block.pieces(PIECE):
            z = np.asarray(part.columns) ** 2
            square += z @ c[cut]
            fourth += z**2 @ c[cut]
        return drawn, square, fourth, float(c.sum())

    drawn, square, fourth, n = (sum(part) for part in zip(*model.problem.blocks.each(one), strict=True))
    rows, at = square**2 / fourth, 1 + len(contexts.numeric)
    for _, values in contexts.levels:
        own = slice(at, at + len(values) - 1)
        first = n * (1.0 - float(contexts.mean[at - 1 : at + len(values) - 2].sum()))
        rows[own], rows[0] = np.minimum(rows[own], first), min(rows[0], first)
        at += len(values) - 1
    return np.full(2, drawn.min()) if k == 2 else drawn, rows


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
            total += (scores if part.count is None else scores / part.count[:, None]).T @ scores
        return total

    return sum(model.problem.blocks.each(one))
