"""How exact the coefficients of a softmax of assignment are: the sandwich, by rows or clusters (estimators.md, 5)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from steelyard.assignment.models import SoftmaxModel
from steelyard.assignment.softmax import INFORMATION
from steelyard.blocks import Block
from steelyard.inference.clusters import CLUSTER_BYTES, ClusterSums, refuse_nulls, summed
from steelyard.solve import one_blas_thread

_CELLS = 1 << 20  # entries of the rows' scores that are held at a time


def standard_errors(model: SoftmaxModel, cluster: str | None) -> tuple[Any, str | None]:
    """(classes, 1 + d) on the scale of the context columns, of the classes that are free; or None and why.

    Of shrunk coefficients: how they would vary, not how far the ridge takes them from those of all rows.
    """
    problem, q = model.problem, len(model.free) * model.problem.d
    if problem.rows * q * q > INFORMATION:
        return None, f"{q} coefficients are too many for errors from {problem.rows} rows: fit fewer contexts"
    groups = 2 if cluster is None else problem.clusters
    if groups < 2:
        return None, f"one cluster only ({cluster}): nothing tells how the coefficients would vary"
    if cluster is not None and 8 * groups * q > CLUSTER_BYTES:
        return None, f"{q} coefficients are too many for errors by {groups} clusters ({cluster}): fit fewer contexts"
    half = model.solve(_by_row(model, q) if cluster is None else _by_cluster(model, q, cluster))
    covariance, d = model.solve(half.T), problem.d
    scale = np.eye(d) / np.append(1.0, model.contexts.scale)
    scale[0, 1:] = -model.contexts.mean / model.contexts.scale
    variances = [np.diag(scale @ covariance[at : at + d, at : at + d] @ scale.T) for at in range(0, q, d)]
    return np.sqrt(np.maximum(variances, 0.0)), None


def _scores(model: SoftmaxModel, block: Block, q: int) -> Iterator[tuple[slice, Any, Any]]:
    """Few rows at a time: where they stood, their weighted scores (rows, q), and those of one comparison of each."""
    step = max(1, _CELLS // q)
    for start in range(0, block.n, step):
        cut = slice(start, min(start + step, block.n))
        part = block.where(cut)
        scores = model.problem.scores(part, model.gamma, model.free)
        yield cut, scores, scores if part.count is None else scores / part.count[:, None]


@one_blas_thread()
def _by_row(model: SoftmaxModel, q: int) -> Any:
    def one(block: Block) -> Any:
        return sum((single.T @ scores for _, scores, single in _scores(model, block, q)), np.zeros((q, q)))

    return sum(model.problem.blocks.each(one))


def _by_cluster(model: SoftmaxModel, q: int, cluster: str) -> Any:
    def one(block: Block) -> Any:
        codes = block.clusters[0]
        refuse_nulls(codes, cluster)
        return summed(codes, None, 0, ((cut, scores) for cut, scores, _ in _scores(model, block, q)), q)

    sums = ClusterSums(0, q)
    for part in model.problem.blocks.each(one):
        sums.add(part)
    return sums.squared()
