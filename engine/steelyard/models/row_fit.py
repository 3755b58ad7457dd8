"""Bradley-Terry scores by rows: with covariates, weights, or clusters of many arms (docs/estimators.md, 1 to 3)."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from steelyard.blocks import Block, Encoder
from steelyard.dictionary import Dictionary
from steelyard.errors import NotIdentifiedError
from steelyard.inference import Bootstrap
from steelyard.inference.clusters import cluster_names, told_by
from steelyard.inference.influence import ONE
from steelyard.inference.nuisance import Nuisance
from steelyard.models import many_arms, matrix_free, row_meat
from steelyard.models.cells import WIDEST_DENSE, Cells
from steelyard.models.row_audit import WON, fewest_of
from steelyard.models.row_blocks import inside, usable
from steelyard.models.row_maximum import maximise
from steelyard.models.row_problem import RowProblem
from steelyard.models.score_fit import RowWeights, ScoreFit, Term
from steelyard.models.told_apart import identified
from steelyard.pairs import cluster_columns
from steelyard.result import DropAudit, write_archive
from steelyard.rows import Rows, read_rows
from steelyard.spill import Blocks

if TYPE_CHECKING:
    from steelyard.log import PreferenceLog
    from steelyard.models.bradley_terry import BradleyTerry


_MANY_ARMS = "beyond 4,000 arms beside covariates or clusters: ask for a contrast"


@dataclass(frozen=True, eq=False)
class RowFit(ScoreFit):
    """Scores of arms, at equal covariates. Made by :meth:`BradleyTerry.fit` where the rows are kept: with covariates,
    with weights of a propensity, with clusters beyond 4,000 arms.

    As :class:`PairFit`, but beyond 4,000 arms without intervals in the table: contrasts and coefficients have theirs.
    covariates: their names. terms: of the coefficients, see :data:`Term`. n: comparisons used. problem: the rows, None
    once loaded. clusters: name and number of codes of each column.
    """

    covariates: tuple[str, ...] = ()
    terms: list[Term] = field(default_factory=list, repr=False)
    n: int = 0
    problem: RowProblem | None = field(default=None, repr=False, compare=False)
    clusters: tuple[tuple[str, int], ...] = ()

    def _spread(self) -> Any:
        """(k,) standard errors of the identified scores; NaN beyond 4,000 arms, where each would be a solve."""
        return super()._spread() if self.psi is not None else np.full(self.estimate.k, np.nan)

    @property
    def _unsettled(self) -> str:
        return _MANY_ARMS

    @cached_property
    def _reasons(self) -> Any:
        """(k,) why each identified score has no error, None where it has one."""
        if self.psi is not None or self.kind != "cluster" or self.problem is None:
            return super()._reasons
        places = [(at, *named) for at, named in enumerate(self.clusters)]
        told = told_by(self.problem.blocks, places, self.estimate.k, lambda block: (block.a, block.b))
        return np.array([ONE if count == 1 else None for count in told], object)

    @cached_property
    def _curvature(self) -> many_arms.Curvature:
        if self.problem is None:
            raise NotIdentifiedError("beyond 4,000 arms a contrast asks the rows, which no file holds: fit again")
        return many_arms.Curvature.of(self.problem, self.estimate.parameter, self.problem.penalty)

    def _variance(self, along: Any) -> float:
        if self.psi is not None:
            return super()._variance(along)
        here, parameter = self._curvature, self.estimate.parameter
        assert self.problem is not None
        return many_arms.variance(self.problem, here, parameter, along, self.kind, self.clusters)

    @property
    def dropped(self) -> dict[str, int]:
        """Rows left out, by reason."""
        more = int(self.pairs.rows.sum()) - self.n
        reason = "tie, or comparison with an arm outside the main group"
        return {**self.pairs.dropped, **({reason: more} if more else {})}

    def _terms(self) -> list[Term]:
        return self.terms

    def _coefficient(self, term: str) -> float:
        places = next((places for name, places, _ in self.terms if name == term), None)
        return 0.0 if places is None else float(self.estimate.parameter[self.estimate.k + places[0]])

    def _margin(self, block: Block) -> Any:
        margin = super()._margin(block)
        for name, column in zip(self.covariates, () if block.columns is None else block.columns, strict=True):
            margin = margin + self._coefficient(name) * column
        return margin

    def bootstrap(self, replicates: int = 1000, seed: int = 0, method: str = "multiplier") -> Bootstrap:
        """Replicated scores by normal multipliers on the influence of rows, or of clusters."""
        if method != "multiplier":
            raise ValueError('exact multinomial refits are of a table of pairs, not of rows: use method="multiplier"')
        return self._multiplied(replicates, seed)

    def audit(self, x: str, over: str) -> DropAudit:
        """The fewest rows whose removal lets `over` reach x (or x reach `over`, if it is behind)."""
        if self.problem is None:
            raise ValueError("the drop audit needs the rows: fit the log again instead of loading the fit")
        before, i, j, direction = self._audited(x, over)
        along = np.zeros(self.problem.size)
        along[i], along[j] = 1.0, -1.0
        rows, taken, after = fewest_of(self.problem, self.estimate, along, direction, before)
        frame = _removed(self.problem, np.array(self.arms, object)[self.main], taken)
        return DropAudit(rows, None if rows is None else rows / self.n, frame, before, after)

    def update(self, more: PreferenceLog) -> RowFit:
        """Refused: a fit of rows needs all of them; start=fit saves steps."""
        raise ValueError("a fit of rows cannot be added to: fit the logs together, from start=fit")

    def save(self, path: str | os.PathLike[str]) -> None:
        """One file of JSON and NumPy arrays, without the rows; read it with :func:`steelyard.load`."""
        facts, arrays = self._archive()
        write_archive(
            path, "row-fit", facts | {"covariates": self.covariates, "terms": self.terms, "n": self.n}, arrays
        )


def _removed(problem: RowProblem, names: Any, taken: Any) -> pl.DataFrame:
    """The rows taken, by arms and outcome: a b outcome rows."""
    parts = problem.blocks.each(lambda block: (block.a, block.b, block.y))
    a, b, y = (np.concatenate(column) for column in zip(*parts, strict=True))
    where = np.flatnonzero(taken)
    outcome = [WON[value] for value in y[where].tolist()]
    columns = {"a": names[a[where]].tolist(), "b": names[b[where]].tolist(), "outcome": outcome}
    frame = pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String))
    return (
        frame.with_columns(rows=pl.Series(taken[where].astype(np.int64)))
        .group_by("a", "b", "outcome", maintain_order=True)
        .agg(pl.col("rows").sum())
    )


def read_weighted(weights: RowWeights | None, log: PreferenceLog, encoder: Encoder, kind: str) -> Rows:
    """The rows of a fit, under weights where it has them; then with unlabelled rows, which the propensity saw too."""
    if weights is None:
        return read_rows(log, encoder)
    if kind == "model":
        raise ValueError('a weighted fit has no model-based errors: use covariance="sandwich" or "cluster"')
    # rows without a cluster are bad here too if they were where the weights were estimated
    asked = weights.asked_of(replace(encoder, clusters=encoder.clusters or cluster_columns(log)))
    return read_rows(log, asked, weights.weighed, unlabelled=True)


def stacked(
    weights: RowWeights | None, blocks: Blocks, left_out: Callable[[Block], Any]
) -> tuple[Sequence[Nuisance], Sequence[Blocks]]:
    """What was estimated in the weights, and the rows of that estimate which the fit leaves out, by a mask."""
    nuisances = [] if weights is None else weights.nuisances
    return nuisances, [blocks.map(lambda block: block.where(left_out(block)))] if nuisances else []


def _check_many(problem: RowProblem, clusters: Sequence[tuple[str, int]]) -> None:
    """Refuses what beyond 4,000 arms no contrast could be given for."""
    if problem.nuisances:
        raise NotIdentifiedError(
            f"errors that know of estimated weights are given for up to {WIDEST_DENSE} arms and covariates; here are "
            f"{problem.size}. Use weights.as_known(), or fewer arms."
        )
    if clusters:
        matrix_free.check_clusters(problem, clusters)


def fit_rows(
    spec: BradleyTerry,
    log: PreferenceLog,
    names: tuple[str, ...],
    kind: str,
    before: ScoreFit | None = None,
) -> RowFit:
    """The fit of rows: one pass to encode them, then one a Newton step.

    before: of a log much like this one; the solver starts there.
    """
    clusters = cluster_names(len(log.cluster)) if kind == "cluster" else []
    in_place = log.in_place(log.covariate(name) for name in names)
    encoder = Encoder(
        dict(log.outcomes), clusters={name: Dictionary() for name in clusters}, covariates=names, in_place=in_place
    )
    rows = read_weighted(spec.weights, log, encoder, kind)
    spec.check_labels(rows.pairs, kind)
    cells = Cells.of(rows.pairs, spec.model, spec.position, spec.ridge, keep_ties=spec.ties != "drop")
    main, why = spec.main_group(rows.pairs, cells)
    spec.check_ties(cells.within(main).sums)
    k = int(main.sum())
    columns = (*names, *["position"] * spec.position)
    place = np.where(main, np.cumsum(main) - 1, -1).astype(np.int32)
    keep_ties = spec.ties != "drop"
    blocks = rows.blocks.map(lambda block: inside(block, place, spec.position, keep_ties))

    def left_out(block: Block) -> Any:
        return (place[block.a] < 0) | (place[block.b] < 0) | ~usable(block, keep_ties)

    penalty = np.zeros(k + len(columns) + cells.has_tie)
    penalty[:k] = spec.ridge
    problem = RowProblem(
        blocks, k, columns, spec.model, penalty, spec.own, *stacked(spec.weights, rows.blocks, left_out)
    )
    if problem.matrix_free:  # contrasts ask the rows again, whose columns are then read as a matrix
        problem = replace(problem, blocks=blocks.map(Block.together))
    problem, start, at, reasons, _ = identified(problem, cells.tie_start if cells.has_tie else 0.0)
    near = None
    if before is not None:
        near = before.near(spec.ties, rows.pairs.arms.filter(main).to_list(), problem.names, start[k + problem.d :])
    maximum = maximise(problem, start, near=near, meat=row_meat.own_meat(problem, kind))
    estimate = maximum.estimate
    terms: list[Term] = [(name, (at[j],) if j in at else None, reasons.get(j)) for j, name in enumerate(columns)]
    terms += [("tie", (problem.d,), None)] * problem.ties
    if spec.position and len(columns) - 1 in at:
        estimate = replace(estimate, position=float(estimate.parameter[k + at[len(columns) - 1]]))
    score = np.full(len(main), np.nan)
    score[main] = estimate.theta
    sizes = tuple((log.cluster_label(name), len(rows.encoder.clusters[name])) for name in clusters)
    if problem.matrix_free:
        _check_many(problem, sizes)
    influence = row_meat.influence(problem, maximum, kind, sizes)
    n = int(problem.totals.comparisons)
    fit = RowFit(spec, rows.pairs, score, why, estimate, None, kind, names, terms, n, problem, sizes)
    return fit.referred(influence)
