"""Bradley-Terry scores of rows with covariates: one pass over the rows a Newton step (estimators.md, 1-5)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from steelyard._native.pair_likelihood import MODELS
from steelyard._native.row_likelihood import row_likelihood
from steelyard.blocks import Block
from steelyard.errors import ConvergenceError, NotIdentifiedError
from steelyard.inference import Bootstrap, Influence
from steelyard.inference.audit import fewest_rows
from steelyard.inference.clusters import cluster_names, clustered_meat, summed
from steelyard.models.cells import WIDEST_DENSE, Cells, Estimate
from steelyard.models.score_fit import ScoreFit
from steelyard.pairs import PairTable
from steelyard.passes import in_order
from steelyard.result import LOADERS, DropAudit, write_archive
from steelyard.rows import read_rows
from steelyard.solve import Point, centred_inverse, dense_solver, newton, one_blas_thread, pinned

if TYPE_CHECKING:
    from steelyard.log import PreferenceLog
    from steelyard.models.bradley_terry import BradleyTerry

_DEPENDENT = 1e-10  # share of a column's variance that must be left beside the columns before it
_SEPARATED = (
    "the fit with covariates has no finite maximum, or the solver stopped short of it: some combination of scores "
    "and covariates may tell every outcome. Leave covariates out, or collect more comparisons."
)


@dataclass(frozen=True)
class RowProblem:
    """The likelihood of k scores and d columns on blocks of rows.

    blocks: codes below k, columns (d, n). scale: (p,) the solver's unit of each parameter, so that columns of any
    size are solved alike; parameters handed in and out are in the user's units.
    """

    blocks: list[Block]
    k: int
    d: int
    model: str
    ridge: float

    @property
    def size(self) -> int:
        return self.k + self.d + (self.model in ("davidson", "rao-kupper"))

    @property
    def n(self) -> float:
        """Sum of the weights."""
        return float(sum(block.y.size if block.weight is None and block.count is None else _weight(block).sum()
                         for block in self.blocks if block.y is not None))  # fmt: skip

    def sums(self, parameter: Any, meat: bool = False) -> tuple[float, Any, Any]:
        """One pass: log-likelihood, score (p,), and Hessian, or the second moments of the row scores, (p, p)."""
        p = self.size

        def one(block: Block) -> tuple[float, Any, Any]:
            score, matrix = np.zeros(p), np.zeros((p, p))
            value = self._evaluate(block, parameter, meat, None, score, matrix)
            return value, score, matrix

        total, score, matrix = 0.0, np.zeros(p), np.zeros((p, p))
        for value, some, more in in_order(one, self.blocks):
            total += value
            score += some
            matrix += more
        return total, score, matrix + np.triu(matrix, 1).T

    def _evaluate(self, block: Block, parameter: Any, meat: bool, by_eta: Any, score: Any, matrix: Any) -> float:
        assert block.y is not None
        assert block.columns is not None
        return row_likelihood(
            MODELS[self.model], self.k, block.a, block.b, None, block.columns, None, block.y, block.weight,
            block.count, meat, parameter, by_eta, score, matrix,
        )  # fmt: skip

    @one_blas_thread()
    def maximise(self, start: Any, scale: Any) -> Estimate:
        """Newton from `start` (p,), columns in units of `scale` (p,)."""

        def evaluate(scaled: Any) -> Point:
            parameter = scaled / scale
            if self.model == "rao-kupper" and parameter[-1] <= 0:
                return Point(-np.inf, np.zeros(self.size), lambda v: v)
            value, score, hessian = self.sums(parameter)
            theta = parameter[: self.k]
            value -= 0.5 * self.ridge * float(theta @ theta)
            score[: self.k] -= self.ridge * theta
            hessian = hessian / np.outer(scale, scale)
            return Point(value, score / scale, lambda v: dense_solver(pinned(hessian, self.k, self.ridge))(v))

        try:
            solution = newton(evaluate, start * scale, self.n)
        except (ConvergenceError, NotIdentifiedError) as error:
            raise type(error)(f"{_SEPARATED} ({error})") from error
        parameter = solution.parameter / scale
        if not self.ridge:
            parameter[: self.k] -= parameter[: self.k].mean()
        penalty = 0.5 * self.ridge * float(parameter[: self.k] @ parameter[: self.k])
        return Estimate(parameter, self.k, 0.0, float(parameter[-1]) if self.size > self.k + self.d else 0.0,
                        solution.point.value + penalty, solution.iterations, solution.gradient_norm)  # fmt: skip

    @one_blas_thread()
    def influence(self, estimate: Estimate, scale: Any, kind: str, clusters: tuple[int, ...] = ()) -> Influence:
        """Bread, and the meat of rows, of clusters, or the information itself. One or two passes."""
        unit = np.outer(scale, scale)
        hessian = self.sums(estimate.parameter)[2]
        bread = centred_inverse(hessian / unit, self.k, self.ridge) / unit
        if kind == "model":
            return Influence(bread, hessian)
        if kind == "cluster":
            parts = list(in_order(lambda block: self._cluster_sums(block, estimate), self.blocks))
            ways = len(clusters).bit_length()  # 1, 3, 7 sets of 1, 2, 3 columns
            return Influence(bread, *clustered_meat(parts, cluster_names(ways), clusters, self.size))
        return Influence(bread, self.sums(estimate.parameter, meat=True)[2])

    def row_scores(self, block: Block, estimate: Estimate) -> Any:
        """(3, n) d log p / d eta, / d tie, and the curvature in eta, of a block's rows with their weights."""
        by_eta = np.empty((3, block.n))
        self._evaluate(block, estimate.parameter, False, by_eta, np.zeros(self.size), None)
        return by_eta

    def _cluster_sums(self, block: Block, estimate: Estimate) -> list[Any]:
        d_eta, d_tie, _ = self.row_scores(block, estimate)
        assert block.columns is not None
        columns, values = [block.a, block.b], [d_eta, -d_eta]
        for j, column in enumerate(block.columns):
            columns, values = [*columns, np.full(block.n, self.k + j)], [*values, d_eta * column]
        if self.size > self.k + self.d:
            columns, values = [*columns, np.full(block.n, self.size - 1)], [*values, d_tie]
        return [summed(codes, columns, values) for codes in block.clusters]

    def effects(self, estimate: Estimate, direction: Any) -> Any:
        """(n,) influence of each row on direction' parameter, direction (p,) = A^+ c."""

        def one(block: Block) -> Any:
            d_eta, d_tie, _ = self.row_scores(block, estimate)
            assert block.columns is not None
            theta, beta = direction[: self.k], direction[self.k : self.k + self.d]
            along = theta[block.a] - theta[block.b] + beta @ block.columns
            return d_eta * along + (d_tie * direction[-1] if self.size > self.k + self.d else 0.0)

        return np.concatenate(list(in_order(one, self.blocks)))

    def weighted(self, weight: Any) -> RowProblem:
        """The same rows with other weights (n,); rows of weight 0 are left out."""
        blocks, at = [], 0
        for block in self.blocks:
            own = weight[at : at + block.n]
            at += block.n
            blocks.append(replace(block, weight=own.copy()).where(own > 0))
        return replace(self, blocks=blocks)


def _weight(block: Block) -> Any:
    """(n,) what each row counts."""
    ones = np.ones(block.n)
    for factor in (block.weight, block.count):
        ones = ones if factor is None else ones * factor
    return ones


def independent(hessian: Any, k: int, names: Sequence[str]) -> tuple[list[int], dict[int, str]]:
    """Which of the columns after k scores can be told apart, in order; and the reason for each of the others.

    hessian: (k + d, k + d) information without ridge. A column is kept when the scores and the columns before it
    leave more than 1e-10 of its variance.
    """
    arms = dense_solver(pinned(hessian[:k, :k], k, 0.0)) if k else None
    across = hessian[:k, k:]
    own = np.diag(hessian)[k:]
    left = hessian[k:, k:] - (across.T @ arms(across) if arms else 0.0)
    kept: list[int] = []
    why: dict[int, str] = {}
    for j, name in enumerate(names):
        if own[j] <= 0.0:
            why[j] = f"{name} is 0 in every row: what both responses share, such as the prompt, cancels out"
            continue
        share = np.linalg.solve(left[np.ix_(kept, kept)], left[kept, j]) if kept else np.zeros(0)
        rest = left[j, j] - left[j, kept] @ share
        if rest > _DEPENDENT * own[j]:
            kept.append(j)
            continue
        size = np.abs(share) * np.sqrt(own[kept])
        others = [names[i] for i, s in zip(kept, size, strict=True) if s > 1e-5 * np.sqrt(own[j])]
        if arms:
            by_arms = across[:, j] - across[:, kept] @ share
            others += ["the arms"] * bool(by_arms @ arms(by_arms) > 1e-10 * own[j])
        why[j] = f"collinear with {' and '.join(others)}: its effect cannot be told from theirs"
    return kept, why


@dataclass(frozen=True)
class RowFit(ScoreFit):
    """Scores of arms at equal covariates. Made by :meth:`BradleyTerry.fit` for a log with covariates.

    As :class:`PairFit`; covariates: their names. terms: of each coefficient the name, its place after the scores
    of the identified arms, or None and the reason. n: comparisons used. problem: the rows, None once loaded.
    """

    spec: BradleyTerry
    pairs: PairTable
    score: Any
    why: list[str | None]
    estimate: Estimate
    influence: Influence | None
    kind: str
    covariates: tuple[str, ...] = ()
    terms: list[tuple[str, int | None, str | None]] = field(default_factory=list)
    n: int = 0
    problem: RowProblem | None = field(default=None, repr=False, compare=False)

    @property
    def dropped(self) -> dict[str, int]:
        """Rows left out, by reason."""
        more = int(self.pairs.rows.sum()) - self.n
        reason = "tie, or comparison with an arm outside the main group"
        return {**self.pairs.dropped, **({reason: more} if more else {})}

    def _terms(self) -> list[tuple[str, int | None, str | None]]:
        return self.terms

    def _coefficient(self, term: str) -> float:
        place = next((place for name, place, _ in self.terms if name == term), None)
        return 0.0 if place is None else float(self.estimate.parameter[self.estimate.k + place])

    def _margin(self, block: Block) -> Any:
        assert block.columns is not None
        margin = super()._margin(block)
        for name, column in zip(self.covariates, block.columns, strict=True):
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
        count = np.concatenate([_weight(block) for block in problem.blocks])
        effect = problem.effects(self.estimate, direction) / count

        def refitted(left: Any) -> float:
            theta = _fitted(problem.weighted(left), self.estimate.parameter)[0].theta
            return float(theta[i] - theta[j])

        rows, taken, after = fewest_rows(count[:, None], effect[:, None], contrast.estimate,
                                         lambda left: refitted(left[:, 0]))  # fmt: skip
        frame = _removed(problem, np.array(self.arms, object)[self.main], taken[:, 0])
        return DropAudit(rows, None if rows is None else rows / self.n, frame, contrast.estimate, after)

    def save(self, path: str | os.PathLike[str]) -> None:
        """One file of JSON and Arrow IPC, without the rows; read it with :func:`steelyard.load`."""
        spec, pairs = self.spec, self.pairs
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
    a, b, y = (np.concatenate([getattr(block, name) for block in problem.blocks]) for name in ("a", "b", "y"))
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
    blocks = _inside(rows.blocks, main, spec)
    problem = RowProblem(blocks, k, len(columns), spec.model, spec.ridge)
    start = np.zeros(problem.size)
    start[:k] = 0.0
    if problem.size > k + len(columns):
        start[-1] = cells.start()[-1]
    kept, reasons = independent(problem.sums(start)[2][: k + len(columns), : k + len(columns)], k, columns)
    if reasons:
        blocks = [replace(block, columns=np.ascontiguousarray(block.columns[kept])) for block in blocks
                  if block.columns is not None]  # fmt: skip
        problem, start = replace(problem, blocks=blocks, d=len(kept)), np.delete(start, [k + j for j in reasons])
    estimate, scale = _fitted(problem, start)
    terms: list[tuple[str, int | None, str | None]] = [
        (name, kept.index(j) if j in kept else None, reasons.get(j)) for j, name in enumerate(columns)
    ]
    if problem.size > k + len(kept):
        terms.append(("tie", len(kept), None))
    if spec.position and columns.index("position") in kept:
        estimate = replace(estimate, position=float(estimate.parameter[k + kept.index(columns.index("position"))]))
    score = np.full(len(main), np.nan)
    score[main] = estimate.theta
    n = int(sum(block.n if block.count is None else block.count.sum() for block in blocks))
    influence = problem.influence(estimate, scale, kind, rows.clusters)
    return RowFit(spec, rows.pairs, score, why, estimate, influence, kind, names, terms, n, problem)


def _inside(blocks: list[Block], main: Any, spec: BradleyTerry) -> list[Block]:
    """The rows between identified arms, renumbered; the position as one more column."""
    place = np.where(main, np.cumsum(main) - 1, -1).astype(np.int32)
    inside = []
    for block in blocks:
        assert block.y is not None
        assert block.columns is not None
        a, b = place[block.a], place[block.b]
        columns = block.columns
        if spec.position:
            first = np.ones(block.n) if block.first is None else block.first.astype(np.float64)
            columns = np.concatenate([columns, first[None]])
        use = (a >= 0) & (b >= 0) & ((block.y != 0.5) | (spec.ties != "drop"))
        block = replace(block, a=a, b=b, columns=columns)
        inside.append(block if use.all() else block.where(use))
    return inside


def _fitted(problem: RowProblem, start: Any) -> tuple[Estimate, Any]:
    """The maximum, and the solver's units: the root mean square of each column."""
    square, n = np.zeros(problem.d), 0
    for block in problem.blocks:
        assert block.columns is not None
        square += (block.columns**2).sum(axis=1)
        n += block.n
    scale = np.ones(problem.size)
    scale[problem.k : problem.k + problem.d] = np.sqrt(square / n)
    return problem.maximise(start, scale), scale


def _loaded(facts: dict[str, Any], arrays: dict[str, Any]) -> RowFit:
    from steelyard.models.bradley_terry import BradleyTerry

    columns = {name: arrays[name] for name in ("a", "b", "first", "sums", "squares", "rows")}
    pairs = PairTable(
        arrays["arms"]["arm"], **columns, soft=facts["soft"], weighted=facts["weighted"], dropped=facts["dropped"]
    )
    influence = Influence(arrays["bread"], arrays["meat"], facts["clipped"])
    estimate = Estimate(parameter=arrays["parameter"], **facts["estimate"])
    return RowFit(BradleyTerry(**facts["spec"]), pairs, arrays["score"], facts["why"], estimate, influence,
                  facts["kind"], tuple(facts["covariates"]), [tuple(term) for term in facts["terms"]],
                  facts["n"])  # fmt: skip


LOADERS["row-fit"] = _loaded
