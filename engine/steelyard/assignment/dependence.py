"""Whether what was assigned depends on context: a test, with what it means in words."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy  # its parts load when first used

from steelyard.assignment.models import SoftmaxModel
from steelyard.assignment.softmax import SoftmaxProblem
from steelyard.blocks import Block
from steelyard.errors import ConvergenceError, NotIdentifiedError
from steelyard.inference.clusters import ClusterSums, summed
from steelyard.inference.influence import squared_rows
from steelyard.spill import settled

if TYPE_CHECKING:
    from steelyard.assignment.assigned import Assigned

_ROUNDS = 25  # Newton steps of the unshrunk model: it may have no maximum, and then the score test decides
_CLUSTERS = 3  # clusters a coefficient that the test by cluster needs: with fewer it finds nothing, whatever is there
_MOST_SUMS = 1 << 26  # cluster sums of scores that are held


@dataclass(frozen=True)
class Dependence:
    """A test that assignment does not depend on context.

    statistic: approximately chi-squared with df degrees of freedom if it does not. method: of the test. Null with a
    reason where too few clusters can speak.
    """

    what: str
    contexts: tuple[str, ...]
    statistic: float | None
    df: int
    p_value: float | None
    method: str
    reason: str | None = None

    def __str__(self) -> str:
        if self.p_value is None:
            return f"whether {self.what} and {', '.join(self.contexts)} are dependent cannot be told: {self.reason}"
        p = f"p = {self.p_value:.3g}" if self.p_value >= 1e-12 else "p < 1e-12"
        verdict = "are dependent: it was not randomised" if self.p_value < 0.05 else "may well be independent"
        return (
            f"{self.what} and {', '.join(self.contexts)} {verdict} "
            f"({self.method}: chi-squared {self.statistic:.2f} on {self.df} df, {p})"
        )


def dependence(model: SoftmaxModel, assigned: Assigned, clusters: tuple[str, ...]) -> Dependence:
    """The test of a fitted softmax model, on its own rows. clusters: name of the cluster column, if there is one."""
    what = {"pair": "the pair shown", "group": "the rater's group", "label": "whether a row is labelled"}[assigned.kind]
    problem = replace(model.problem, ridge=0.0, blocks=settled(model.problem.blocks))
    null = replace(problem, blocks=problem.blocks.map(_constant), d=1)
    start = np.zeros((problem.k, 1))
    if problem.k <= model.draws:
        reason = "only one of them could be drawn, so that nothing was left to chance"
        return Dependence(what, tuple(model.contexts.names), None, 0, None, "likelihood ratio", reason)
    asked = (problem.k - 1) * model.problem.rank  # contexts that others tell ask for nothing
    try:
        shares = null.maximise(start)
        if clusters:
            groups = len(problem.clusters)
            if groups < _CLUSTERS * asked:
                reason = f"{groups} clusters ({clusters[0]}) are too few for {asked} coefficients. Give fewer contexts"
                return Dependence(
                    what, tuple(model.contexts.names), None, asked, None, "score test, by cluster", reason
                )
            statistic, df, method = (*_score_test(problem, shares.gamma, clustered=True), "score test, by cluster")
        elif any(problem.blocks.each(_is_weighted)):  # a sampling weight is no number of rows
            statistic, df, method = (*_score_test(problem, shares.gamma), "score test")
        else:
            wide = np.concatenate([shares.gamma, np.zeros((problem.k, problem.d - 1))], axis=1)
            full = problem.maximise(wide, _ROUNDS).log_likelihood
            statistic, df = 2.0 * (full - shares.log_likelihood), asked
            method = "likelihood ratio"
    except ConvergenceError:  # contexts that tell some class completely: the likelihood grows without end
        statistic, df, method = (*_score_test(problem, shares.gamma), "score test")
    p_value = float(scipy.stats.chi2.sf(statistic, df))
    return Dependence(what, tuple(model.contexts.names), float(statistic), df, p_value, method)


def _is_weighted(block: Block) -> bool:
    return block.weight is not None


def _constant(block: Block) -> Block:
    return replace(block, columns=np.ones((1, block.n)))


def _score_test(problem: SoftmaxProblem, shares: Any, clustered: bool = False) -> tuple[float, int]:
    """U' (sum over rows or clusters of u u')^- U, u the scores of the contexts' coefficients at constant shares."""
    k, d = problem.k, problem.d - 1
    gamma = np.concatenate([shares, np.zeros((k, d))], axis=1)

    def one(block: Block) -> tuple[Any, Any]:
        scores = problem.scores(block, gamma, np.arange(k)).reshape(block.n, k, 1 + d)[:, :, 1:].reshape(block.n, k * d)
        if not clustered:
            return scores.sum(axis=0), squared_rows(scores, block.count)
        return scores.sum(axis=0), summed(block.clusters[0], None, 0, [(slice(None), scores)], k * d)

    if not clustered:
        total, square = (sum(part) for part in zip(*problem.blocks.each(one), strict=True))
    else:
        groups = len(problem.clusters)
        if groups * k * d > _MOST_SUMS:
            raise NotIdentifiedError(
                f"{groups} clusters times {k * d} coefficients are too many for the test: give fewer contexts"
            )
        total, sums = np.zeros(k * d), ClusterSums(0, k * d)
        for score, part in problem.blocks.each(one):
            total += score
            sums.add(part)
        square = sums.squared().square
    values, vectors = np.linalg.eigh(square)
    kept = values > 1e-9 * values.max(initial=0.0)
    along = vectors[:, kept].T @ total
    return float(along @ (along / values[kept])), int(kept.sum())
