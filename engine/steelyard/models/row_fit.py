"""Bradley-Terry scores of rows with covariates: one pass over the rows a Newton step (estimators.md, 1-5)."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from steelyard.blocks import Block
from steelyard.errors import NotIdentifiedError
from steelyard.inference import Bootstrap, Influence
from steelyard.inference.audit import fewest_rows
from steelyard.inference.clusters import cluster_names
from steelyard.models.cells import WIDEST_DENSE, Cells, Estimate
from steelyard.models.row_problem import RowProblem, independent, weights
from steelyard.models.score_fit import ScoreFit, Term, loaded_terms, refuse_own
from steelyard.pairs import PairTable
from steelyard.result import LOADERS, DropAudit, write_archive
from steelyard.rows import read_rows

if TYPE_CHECKING:
    from steelyard.log import PreferenceLog
    from steelyard.models.bradley_terry import BradleyTerry

_DEPENDENT = 1e-10  # share of a column's variance that must be left beside the columns before it
_SEPARATED = (
    "the fit with covariates has no finite maximum, or the solver stopped short of it: some combination of scores "
    "and covariates may tell every outcome. Leave covariates out, or collect more comparisons."
)


@dataclass(frozen=True)
class RowFit(ScoreFit):
    """Scores of arms at equal covariates. Made by :meth:`BradleyTerry.fit` for a log with covariates.

    As :class:`PairFit`; covariates: their names. terms: of the coefficients, see :data:`Term`. n: comparisons used.
    problem: the rows, None once loaded.
    """

    spec: BradleyTerry
    pairs: PairTable
    score: Any
    why: list[str | None]
    estimate: Estimate
    influence: Influence | None
    kind: str
    covariates: tuple[str, ...] = ()
    terms: list[Term] = field(default_factory=list)
    n: int = 0
    problem: RowProblem | None = field(default=None, repr=False, compare=False)

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
            raise ValueError('exact multinomial refits are for fits without covariates: use method="multiplier"')
        draws = np.full((replicates, len(self.score)), np.nan)
        errors = self._known_influence().draws(replicates, seed)[:, : self.main.sum()]
        draws[:, self.main] = self.score[self.main] + errors
        return Bootstrap(self.arms, self.score, draws, method, 0)

    def audit(self, x: str, over: str) -> DropAudit:
        """The fewest rows whose removal lets `over` reach x (or x reach `over`, if it is behind)."""
        if self.problem is None:
            raise ValueError("the drop audit needs the rows: fit the log again instead of loading the fit")
        if self.pairs.weighted or self.pairs.soft:
            raise ValueError("the drop audit needs unweighted rows with hard labels")
        contrast = self.contrast(x, over)
        if contrast.estimate is None:
            raise NotIdentifiedError(str(contrast.reason))
        place, problem = np.cumsum(self.main) - 1, self.problem
        i, j = place[self._code(x)], place[self._code(over)]
        direction = self._known_influence().bread[i] - self._known_influence().bread[j]
        count = np.concatenate(list(problem.blocks.each(weights)))
        effect = problem.effects(self.estimate, direction) / count

        def refitted(left: Any) -> float:
            theta = problem.weighted(left).maximise(self.estimate.parameter)[0].theta
            return float(theta[i] - theta[j])

        rows, taken, after = fewest_rows(count[:, None], effect[:, None], contrast.estimate,
                                         lambda left: refitted(left[:, 0]))  # fmt: skip
        frame = _removed(problem, np.array(self.arms, object)[self.main], taken[:, 0])
        return DropAudit(rows, None if rows is None else rows / self.n, frame, contrast.estimate, after)

    def save(self, path: str | os.PathLike[str]) -> None:
        """One file of JSON and Arrow IPC, without the rows; read it with :func:`steelyard.load`."""
        spec, pairs = self.spec, self.pairs
        refuse_own(spec.own)
        facts = {
            "spec": {name: getattr(spec, name) for name in spec.__dataclass_fields__}, "kind": self.kind,
            "why": self.why, "soft": pairs.soft, "weighted": pairs.weighted, "dropped": pairs.dropped,
            "estimate": self.estimate.facts(), "clipped": self.influence.clipped if self.influence else None,
            "covariates": self.covariates, "terms": self.terms, "n": self.n,
        }  # fmt: skip
        arrays = {
            "arms": pl.DataFrame({"arm": pairs.arms}), "a": pairs.a, "b": pairs.b, "first": pairs.first,
            "sums": pairs.sums, "squares": pairs.squares, "rows": pairs.rows, "score": self.score,
            "parameter": self.estimate.parameter, "bread": self._known_influence().bread,
            "meat": self._known_influence().meat,
        }  # fmt: skip
        write_archive(path, "row-fit", facts, arrays)


def _removed(problem: RowProblem, names: Any, taken: Any) -> pl.DataFrame:
    """The rows taken, by arms and outcome: a b outcome rows."""
    parts = problem.blocks.each(lambda block: (block.a, block.b, block.y))
    a, b, y = (np.concatenate(column) for column in zip(*parts, strict=True))
    where = np.flatnonzero(taken)
    outcome = [{1.0: "a", 0.5: "tie", 0.0: "b"}[value] for value in y[where].tolist()]
    columns = {"a": names[a[where]].tolist(), "b": names[b[where]].tolist(), "outcome": outcome}
    frame = pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String))
    return (
        frame.with_columns(rows=pl.Series(taken[where].astype(np.int64)))
        .group_by("a", "b", "outcome", maintain_order=True)
        .agg(pl.col("rows").sum())
    )


def fit_rows(spec: BradleyTerry, log: PreferenceLog, names: tuple[str, ...], kind: str, threads: int | None) -> RowFit:
    """The fit of a log with covariates: one pass to encode the rows, then one a Newton step."""
    clusters = cluster_names(len(log.cluster)) if kind == "cluster" else []
    rows = read_rows(log, names, clusters, threads)
    spec.check_labels(rows.pairs, kind)
    cells = Cells.of(rows.pairs, spec.model, spec.position, spec.ridge, keep_ties=spec.ties != "drop")
    main, why = spec.main_group(rows.pairs, cells)
    k = int(main.sum())
    if k > WIDEST_DENSE:
        raise NotIdentifiedError(f"covariates are fitted beside up to {WIDEST_DENSE} arms; this log has {k}")
    columns = [*names, *["position"] * spec.position]
    place = np.where(main, np.cumsum(main) - 1, -1).astype(np.int32)
    blocks = rows.blocks.map(lambda block: _inside(block, place, spec))
    penalty = np.zeros(k + len(columns) + cells.has_tie)
    penalty[:k] = spec.ridge
    problem = RowProblem(blocks, k, len(columns), spec.model, penalty, spec.own)
    start = np.zeros(problem.size)
    start[k + len(columns) :] = cells.start()[len(cells.arms) + spec.position :]
    reasons = independent(problem, start, range(len(columns)), columns)
    kept = [j for j in range(len(columns)) if j not in reasons]
    if reasons:
        problem, start = problem.only(kept), np.delete(start, [k + j for j in reasons])
    estimate, known = problem.maximise(start)
    terms: list[Term] = [
        (name, (kept.index(j),) if j in kept else None, reasons.get(j)) for j, name in enumerate(columns)
    ]
    if problem.size > k + len(kept):
        terms.append(("tie", (len(kept),), None))
    if spec.position and columns.index("position") in kept:
        estimate = replace(estimate, position=float(estimate.parameter[k + kept.index(columns.index("position"))]))
    score = np.full(len(main), np.nan)
    score[main] = estimate.theta
    influence = problem.influence(estimate, known, kind, tuple(len(labels) for labels in rows.clusters))
    return RowFit(spec, rows.pairs, score, why, estimate, influence, kind, names, terms, problem.rows, problem)


def _inside(block: Block, place: Any, spec: BradleyTerry) -> Block:
    """The rows between identified arms, renumbered by place (K,); the position as one more column."""
    assert block.y is not None
    assert block.columns is not None
    a, b, columns = place[block.a], place[block.b], block.columns
    if spec.position:
        first = np.ones(block.n) if block.first is None else block.first.astype(np.float64)
        columns = np.concatenate([columns, first[None]])
    use = (a >= 0) & (b >= 0) & ((block.y != 0.5) | (spec.ties != "drop"))
    block = replace(block, a=a, b=b, columns=columns)
    return block if use.all() else block.where(use)


def _loaded(facts: dict[str, Any], arrays: dict[str, Any]) -> RowFit:
    from steelyard.models.bradley_terry import BradleyTerry

    columns = {name: arrays[name] for name in ("a", "b", "first", "sums", "squares", "rows")}
    pairs = PairTable(
        arrays["arms"]["arm"], **columns, soft=facts["soft"], weighted=facts["weighted"], dropped=facts["dropped"]
    )
    influence = Influence(arrays["bread"], arrays["meat"], facts["clipped"])
    estimate = Estimate(parameter=arrays["parameter"], **facts["estimate"])
    return RowFit(BradleyTerry(**facts["spec"]), pairs, arrays["score"], facts["why"], estimate, influence,
                  facts["kind"], tuple(facts["covariates"]), loaded_terms(facts),
                  facts["n"])  # fmt: skip


LOADERS["row-fit"] = _loaded
