"""What the outcome model's own error adds to doubly robust sums where residuals are known not to remove it.

The derivative G of the sums over opponents, sum_i E_i of pairwise.py, by the coefficients of a contextual outcome
model is 0 in expectation where the propensity is right and every pair has a chance. Where a softmax does not describe
which pairs were shown (misfit.py), or pairs were never answered, it is not, and a row adds G H^-1 s_i to its sums, s_i
its score in the outcome model and H minus the Hessian there: stacked estimating equations (Newey and McFadden 1994,
section 6), as for weights (inference/nuisance.py).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy  # its parts load when first used

from steelyard._native.label_sums import label_sums, work_size
from steelyard.assignment.assigned import pair_number
from steelyard.blocks import Block
from steelyard.causal.folds import fold_slices
from steelyard.causal.outcomes import ContextualOutcome
from steelyard.causal.pairwise import Pairwise, Residuals
from steelyard.models.row_blocks import weights
from steelyard.solve import dense_solver, one_blas_thread

_ROWS = 1 << 13  # of all rows, from which the slopes of all pairs are taken
_CELLS = 1 << 20  # entries of products of contexts that are made at a time


@one_blas_thread()
def outcome_error(problem: Pairwise, found: Residuals, ridge: float) -> Any:
    """(K, K q) G H^-1; None where there is a judge, or an outcome model without coefficients of its own."""
    if not isinstance(problem.outcome, ContextualOutcome) or problem.judged is not None:
        return None
    k, q = problem.outcome.fit.theta.shape
    own, all_of = _slopes(problem, max(1, int(found.rows) // _ROWS))
    scale = found.answers(problem.omega).scale[:, :, None]
    gap = problem.omega[:, :, None] * (all_of - _both_ways(scale * own[:, :, :q]))
    hessian = _laplacian(_both_ways(own[:, :, q:]).reshape(k, k, q, q)).transpose(0, 2, 1, 3).reshape(k * q, k * q)
    hessian[np.diag_indices(k * q)] += ridge
    if not ridge:  # what all arms share is tied down
        hessian += np.kron(np.full((k, k), np.trace(hessian) / (k * k * q)), np.eye(q))
    return dense_solver(hessian)(_laplacian(gap).reshape(k, k * q).T).T


def _slopes(problem: Pairwise, every: int) -> tuple[Any, Any]:
    """With v = mu (1 - mu): sums over a pair's answers, (K, K, q + q^2) upper triangles, of h v x and of w v x x'; and
    (K, K, q) over all rows, as one in so many tells, of t v x of every pair.
    """
    k, q = problem.k, problem.outcome.fit.theta.shape[1]

    def one(block: Block) -> tuple[Any, Any]:
        own, work, all_of = np.zeros((k * k, 1, q + q * q)), np.empty(work_size(q + q * q)), np.zeros((k, k, q))
        for f, at in fold_slices(block, max(64, _CELLS // (k + q * q))):
            part = block.where(at, view=True)
            table = problem.outcome.at(part, f)
            x, mu, (_, h, *_) = np.asarray(part.design), table.between(part.a, part.b), problem.residual(part, table)
            slope = mu * (1.0 - mu) * np.isfinite(np.asarray(part.y)) * (1.0 if part.count is None else part.count)
            curved = x[:, None] * x * (slope if part.weight is None else slope * part.weight)
            columns = np.concatenate([x * slope * h, curved.reshape(q * q, part.n)])
            pair = pair_number(k, part.a, part.b).astype(np.int32)
            label_sums(columns, np.ones((1, part.n)), pair[None], work, own)
            some = slice(-at.start % every, None, every)
            score, weighed = table.score[:, some], every * weights(part)[some] * x[:, some]
            for j in range(k):
                mean = scipy.special.expit(score[j] - score)
                all_of[j] += (mean * (1.0 - mean)) @ weighed.T
        return own[:, 0], all_of

    total: list[Any] = [0.0, 0.0]
    for some in problem.blocks.each(one):
        total = [mine + more for mine, more in zip(total, some, strict=True)]
    return total[0].reshape(k, k, -1), total[1]


def _both_ways(upper: Any) -> Any:
    """(K, K, ...) symmetric, of an upper triangle."""
    return upper + upper.swapaxes(0, 1)


def _laplacian(between: Any) -> Any:
    """(K, K, ...) minus the entries between two arms, and on the diagonal their sums; symmetric."""
    made, k = -between, np.arange(len(between))
    made[k, k] = between.sum(axis=1) - between[k, k]
    return made
