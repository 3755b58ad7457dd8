"""Rewards of response features from comparisons, for everyone or for each rater group (estimators.md, 1-5, 9)."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl

from steelyard.blocks import NARROW, Block, Encoder
from steelyard.columns import several
from steelyard.dictionary import Dictionary
from steelyard.errors import LogError, NotIdentifiedError
from steelyard.inference import Bootstrap, Influence, Pending
from steelyard.inference.bootstrap import check_replicates
from steelyard.inference.clusters import cluster_names
from steelyard.inference.influence import warn_of_few
from steelyard.inference.nuisance import Nuisance
from steelyard.log import needs_log
from steelyard.models import matrix_free, row_meat
from steelyard.models.bradley_terry import BradleyTerry
from steelyard.models.cells import Estimate
from steelyard.models.likelihood import Likelihood
from steelyard.models.row_blocks import position_column, usable
from steelyard.models.row_fit import WON, fewest_of, read_weighted, stacked
from steelyard.models.row_maximum import maximise
from steelyard.models.row_problem import RowProblem
from steelyard.models.saved import loaded_estimate, loaded_influence, loaded_spec, loaded_terms, refuse_own, spec_facts
from steelyard.models.score_fit import NO_SPREAD, Fit, RowWeights, Term, population
from steelyard.models.told_apart import identified
from steelyard.passes import Executor, on
from steelyard.result import LOADERS, Contrast, DropAudit, require, write_archive
from steelyard.rows import Rows
from steelyard.spill import Blocks, enlarged

if TYPE_CHECKING:
    from steelyard.log import PreferenceLog


_TIE_START = 0.5  # of the tie parameter
_MANY_COLUMNS = "beyond 4,000 columns: ask for a contrast"


@dataclass(frozen=True)
class RewardModel:
    """A reward linear in response features, learned from comparisons: eta = beta' (phi_a - phi_b) + ...

    The log is scanned with ``features=``; its covariates are adjusted for.

    Parameters
    ----------
    context : names of context columns, which the log was scanned with: the effect of every feature may change with
        each; of text with each value, held against the first in order
    interactions : pairs (feature, context) of names, beside those; "all" for every pair of the log. A context column
        alone cancels out of a comparison.
    heads : "shared", or "per-group": coefficients of their own for each of the log's groups
    ridge : shared heads: r in r/2 ||beta||^2 on the summed log-likelihood. Per-group heads: the same on what each
        head has beside the shared one, so that small groups lean on all; 0 fits each group by itself
    ties, link, position, covariance, weights : as in :class:`BradleyTerry`

    Examples
    --------
    >>> import polars as pl, steelyard as sy
    >>> frame = pl.DataFrame({"len_a": [3.0, 1.0, 2.0, 5.0], "len_b": [1.0, 2.0, 4.0, 1.0], "y": [1, 0, 1, 1]})
    >>> log = sy.scan(frame, outcome="y", features=(["len_a"], ["len_b"]))
    >>> fit = sy.RewardModel(ridge=1.0).fit(log)
    >>> fit.coefficients()["term"].to_list()
    ['len_a']
    """

    interactions: Sequence[tuple[str, str]] | Literal["all"] = ()
    heads: Literal["shared", "per-group"] = "shared"
    ridge: float = 0.0
    ties: Literal["half", "drop", "davidson", "rao-kupper"] = "half"
    link: Literal["logistic", "probit"] | Likelihood = "logistic"
    position: bool = False
    covariance: Literal["sandwich", "model", "cluster"] | None = None
    weights: RowWeights | None = None
    context: str | Sequence[str] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "context", several(self.context, "context"))
        if self.heads not in ("shared", "per-group"):
            raise ValueError(f"heads must be 'shared' or 'per-group', not {self.heads!r}")
        if self.interactions != "all":  # one spelling, so that equal models are equal
            object.__setattr__(self, "interactions", tuple((str(f), str(c)) for f, c in self.interactions))
        _ = replace(self.scores, weights=self.weights)  # checks the rest

    @property
    def scores(self) -> BradleyTerry:
        """The same likelihood over arms."""
        return BradleyTerry(self.ties, self.link, self.position, self.ridge, covariance=self.covariance)

    @property
    def model(self) -> str:
        """The kernel's name of the likelihood."""
        return self.scores.model

    def fit(
        self,
        log: PreferenceLog,
        threads: int | None = None,
        executor: Executor | None = None,
        start: RewardFit | None = None,
    ) -> RewardFit:
        """The reward of every feature that the log identifies.

        One pass to encode the rows, one a step of the solver, one for the errors. The errors of more than 32 columns
        in a long log cost more than the fit: they are made when first asked for. The fit keeps the rows, for them and for
        :meth:`RewardFit.audit`.

        threads: default all cores. executor: a :class:`RayExecutor`, for passes on a cluster. start: a fit of much
        the same log, say of all days but the last: the same maximum, in fewer steps over the rows.

        Raises
        ------
        LogError
            A log without features, bad rows, ragged lists, values that are null or infinite.
        NotIdentifiedError
            Features that tell every outcome, without ridge; one cluster only.
        ConvergenceError
            Newton stopped short of the largest score entry <= 1e-10 n.
        """
        needs_log(log)
        if not (start is None or isinstance(start, RewardFit)):
            raise TypeError(f"start takes a fit of a RewardModel, not {type(start).__name__}")
        if executor is not None:
            return on(executor, partial(self.fit, start=start), log)
        kind = self.covariance or ("cluster" if log.cluster else "sandwich")
        if kind == "cluster" and not log.cluster:
            raise ValueError('covariance="cluster" needs a log scanned with cluster=')
        features = log.feature_names()
        numeric, text = log.context_kinds(list(dict.fromkeys(context for _, context in self._pairs(log, features))))
        clusters = {name: Dictionary() for name in (cluster_names(len(log.cluster)) if kind == "cluster" else [])}
        encoder = Encoder(
            dict(log.outcomes), clusters=clusters, covariates=tuple(log.covariates), features=features,
            context=numeric, levels={name: Dictionary() for name in text}, in_place=log.in_place(log.features),
            group=Dictionary() if self.heads == "per-group" else None, armless=log.armless,
        )  # fmt: skip
        return self.of_rows(read_weighted(self.weights, log, encoder, kind, threads), log, kind, start)

    def of_rows(self, rows: Rows, log: PreferenceLog, kind: str, start: RewardFit | None = None) -> RewardFit:
        """The fit of a log's rows that are encoded already, as :meth:`fit` does. kind: of the covariance."""
        features, clusters = list(rows.encoder.features), list(rows.encoder.clusters)
        asked = self._pairs(log, features)
        numeric, text = log.context_kinds(list(dict.fromkeys(context for _, context in asked)))
        levels = {name: _values(rows, name) for name in text}
        pairs = [(f, column) for f, c in asked
                 for column in ([f"{c}={value}" for value in levels[c][1:]] if c in levels else [c])]  # fmt: skip
        self.scores.check_labels(rows.pairs, kind)
        self.scores.check_ties(rows.pairs.sums)
        groups = _groups(rows) if self.heads == "per-group" else {}
        design = Design(
            tuple(features), tuple(log.covariates), tuple(numeric), tuple(levels.items()), tuple(pairs),
            tuple(groups.values()), pooled=self.ridge > 0, position=self.position,
        )  # fmt: skip
        keep_ties, view = self.ties != "drop", design.view(rows.encoder)

        place = np.full(1 + max(groups, default=-1), -1, np.int32)
        place[list(groups)] = np.arange(len(groups))

        def designed(block: Block) -> Block:
            block = replace(block, group=place[block.group]) if groups else block
            return design.block(block, keep_ties, view)

        # columns that are made of others may be many more: they are made once, and kept where there is room
        blocks = enlarged(rows.blocks, designed) if groups or pairs else rows.blocks.map(designed)
        known = stacked(self.weights, rows.blocks, lambda block: ~usable(block, keep_ties))
        sizes = [(log.cluster_label(name), len(rows.encoder.clusters[name])) for name in clusters]
        return self._fitted(design, blocks, kind, sizes, rows.pairs.dropped, known, start)

    def _pairs(self, log: PreferenceLog, features: list[str]) -> list[tuple[str, str]]:
        known = log.context_names()
        crossed = known if self.interactions == "all" else self.context
        pairs = [(feature, context) for feature in features for context in crossed]
        pairs = list(dict.fromkeys([*pairs, *(() if self.interactions == "all" else self.interactions)]))
        for feature, context in pairs:
            if feature not in features or context not in known:
                raise LogError(
                    f"interaction ({feature!r}, {context!r}): the log's features are {features[:10]}, "
                    f"its context columns {known or 'none: scan it with context='}"
                )
        return pairs

    def _fitted(
        self,
        design: Design,
        blocks: Blocks,
        kind: str,
        clusters: Sequence[tuple[str, int]],
        dropped: dict[str, int],
        known: tuple[Sequence[Nuisance], Sequence[Blocks]],
        before: RewardFit | None,
    ) -> RewardFit:
        names, d = design.names, len(design.names)
        ties = self.ties in ("davidson", "rao-kupper")
        penalty = np.zeros(d + ties)
        penalty[design.shrunk(self.ridge)] = self.ridge
        problem = RowProblem(blocks, 0, tuple(names), self.model, penalty, self.scores.own, *known)
        if problem.matrix_free and problem.nuisances:
            raise NotIdentifiedError(
                "among thousands of columns no errors know of the estimated propensity: use weights.as_known()"
            )
        problem, start, place, reasons, information = identified(problem, _TIE_START)
        near = None if before is None else before.near(self.ties, problem.names, start[problem.d :])
        maximum = maximise(problem, start, information, near, row_meat.own_meat(problem, kind))
        estimate = maximum.estimate
        if problem.matrix_free and kind == "cluster":
            matrix_free.check_clusters(problem, clusters)
        influence = row_meat.now_or_later(problem, maximum, kind, clusters)
        if isinstance(influence, Influence) and influence.told is not None:
            warn_of_few([*problem.names, *["tie"] * ties], influence.told, "clusters")
        terms: list[Term] = [
            (name, None if set(parts) & set(reasons) else tuple(place[j] for j in parts),
             next((reasons[j] for j in parts if j in reasons), None))
            for name, parts in design.terms()
        ]  # fmt: skip
        terms += [("tie", (problem.d,), None)] * ties
        coefficients = np.zeros(d)
        coefficients[list(place)] = estimate.parameter[: problem.d]
        n = int(problem.totals.comparisons)
        weight = problem.totals.weight
        return RewardFit(self, design, coefficients, estimate, influence, kind, terms, n, dropped, weight,
                         (problem, tuple(clusters)))  # fmt: skip


def _groups(rows: Rows) -> dict[int, str]:
    """Code and name of the groups that the rows have, as they met them; others were read in rows that were left out."""
    assert rows.encoder.group is not None
    labels, met = rows.encoder.group.labels(), dict[int, str]()
    for found, first in rows.blocks.each(_groups_of):
        met |= {code: labels[code] for code in found[np.argsort(first)].tolist() if code not in met}
    return met


def _values(rows: Rows, name: str) -> tuple[str, ...]:
    """The values that a text context has, sorted. Raises LogError where it is one."""
    at, codes = list(rows.encoder.levels).index(name), rows.encoder.levels[name]
    met = np.unique(np.concatenate([*rows.blocks.each(lambda block: np.unique(block.levels[at]))]))
    labels = codes.labels()
    values = tuple(sorted(labels[code] for code in met.tolist() if code >= 0))
    if len(values) < 2:
        raise LogError(f"context {name!r} is the same in every row: no effect can change with it. Leave it out")
    return values


def _groups_of(block: Block) -> tuple[Any, Any]:
    """Codes of the groups of answered rows, and where each is first."""
    return np.unique(np.asarray(block.group)[np.isfinite(np.asarray(block.y))], return_index=True)


@dataclass(frozen=True)
class Design:
    """Which columns a reward has: features, interactions, both for each group, covariates, the position.

    contexts: of numbers, that interact. levels: those of text, with their values, of which the first has no column; the
    others' are called name=value.
    """

    features: tuple[str, ...]
    covariates: tuple[str, ...]
    contexts: tuple[str, ...]
    levels: tuple[tuple[str, tuple[str, ...]], ...]
    interactions: tuple[tuple[str, str], ...]
    groups: tuple[str, ...]
    pooled: bool
    position: bool

    @property
    def _base(self) -> list[str]:
        return [*self.features, *(f"{feature}:{context}" for feature, context in self.interactions)]

    @property
    def _heads(self) -> int:
        """How many copies of the features there are: the shared one, and one a group."""
        return len(self.groups) + (self.pooled or not self.groups)

    @property
    def _bare(self) -> bool:
        """Whether the columns are the features and no more."""
        return not (self.covariates or self.interactions or self.groups or self.position)

    @property
    def names(self) -> list[str]:
        """Names of the columns."""
        base = self._base
        shared = base if self.pooled or not self.groups else []
        own = [f"{name} [{group}]" for group in self.groups for name in base]
        return [*shared, *own, *self.covariates, *["position"] * self.position]

    def terms(self) -> list[tuple[str, tuple[int, ...]]]:
        """What is reported, and the columns whose coefficients it is the sum of: a pooled head is shared plus own."""
        m, names = len(self._base), self.names
        terms: list[tuple[str, tuple[int, ...]]] = []
        for j, name in enumerate(names):
            own = self.groups and self.pooled and m <= j < m * self._heads
            terms.append((name, (j % m, j) if own else (j,)))
        return terms

    def shrunk(self, ridge: float) -> Any:
        """Places of the columns under the ridge: the features, or with groups what each head has of its own."""
        m = len(self._base)
        first = m if self.groups and self.pooled else 0
        return np.arange(first, m * self._heads if ridge else first)

    def asked_of(self, log: PreferenceLog) -> Encoder:
        """What reads the contexts of a log, values coded by their place."""
        levels = {name: Dictionary(list(values)) for name, values in self.levels}
        return Encoder(dict(log.outcomes), context=self.contexts, levels=levels)

    def view(self, encoder: Encoder) -> Callable[[Block], Block]:
        """Of the blocks of another encoder what :meth:`asked_of` would have read, of contexts."""
        at, known = [list(encoder.context).index(name) for name in self.contexts], list(encoder.levels)
        places = []
        for name, values in self.levels:
            place = {value: j for j, value in enumerate(values)}
            codes = [*(place.get(label, -1) for label in encoder.levels[name].labels()), -1]
            places.append((known.index(name), np.array(codes, np.int32)))

        def viewed(block: Block) -> Block:
            levels = tuple(codes[np.maximum(block.levels[j], -1)] for j, codes in places)
            return replace(block, context=tuple(block.context[i] for i in at), levels=levels)

        return viewed

    def beside(self, block: Block) -> dict[str, Any]:
        """(n,) each context column of a block, by the name that interactions know; NaN for a value not known here."""
        columns = dict(zip(self.contexts, block.context, strict=True))
        for (name, values), codes in zip(self.levels, block.levels, strict=True):
            columns |= {f"{name}={value}": np.where(codes < 0, np.nan, codes == j)
                        for j, value in enumerate(values) if j}  # fmt: skip
        return columns

    def matrix(self, block: Block) -> Any:
        """(n, d) of a block read with features, covariates, contexts and, where there are heads, group."""
        features, z, codes = block.differences(), np.asarray(block.columns).T, np.asarray(block.group)
        at = {name: j for j, name in enumerate(self.features)}
        beside = self.beside(block) if self.interactions else {}
        crossed = [features[:, at[f]] * beside[c] for f, c in self.interactions]
        base = np.column_stack([features, *crossed]) if crossed else features
        parts = [base] if self.pooled or not self.groups else []
        parts += [base * (codes == g)[:, None] for g in range(len(self.groups))]
        parts.append(z)
        if self.position:
            parts.append(position_column(block)[:, None])
        if len(parts) == 2 and not self.covariates:
            return base
        if sum(part.shape[1] for part in parts) > NARROW:  # the memory of single precision for all, where they are many
            parts = [_single(part) for part in parts] if features.dtype == np.float32 else parts
        return np.concatenate(parts, axis=1)

    def block(self, block: Block, keep_ties: bool, view: Callable[[Block], Block]) -> Block:
        """The block as a RowProblem without scores reads it. view: of its contexts."""
        assert block.y is not None
        use = usable(block, keep_ties)
        if not use.all():
            place = np.arange(block.n, dtype=np.int32) if block.place is None else block.place
            block = replace(block, place=place).where(use)
        if block.sides and self._bare:
            return replace(block, columns=None)
        matrix = self.matrix(view(block))
        block = replace(block, sides=(), squares=None)
        if matrix.shape[1] > NARROW:
            return replace(block, columns=None, features=np.ascontiguousarray(matrix))
        return replace(block, columns=np.ascontiguousarray(matrix.T, np.float64), features=None)


def _single(part: Any) -> Any:
    """In single precision. Raises LogError where a number is too large for it."""
    if part.size and part.dtype != np.float32 and not np.abs(part).max() <= np.finfo(np.float32).max:
        raise LogError(
            "covariates or contexts beyond 3.4e38 beside more than 32 columns in single precision: give them in "
            "another unit, or the features in double precision"
        )
    return part.astype(np.float32, copy=False)


@dataclass(frozen=True)
class RewardFit(Fit):
    """Rewards of features with what is needed to speak of their uncertainty. Made by :meth:`RewardModel.fit`.

    design: its columns. coefficient: (d,) of each, 0 where it cannot be told. influence: of the parameters, made or to
    be made when asked for. terms: see :data:`Term`. n: comparisons used. dropped: rows left out, by reason. weight: of
    the comparisons used, in all.
    rows: and their clusters, which an audit asks, and contrasts among more than 4,000 columns; None once loaded.
    """

    spec: RewardModel
    design: Design
    coefficient: Any
    estimate: Estimate
    influence: Influence | Pending | None
    kind: str
    terms: list[Term]
    n: int
    dropped: dict[str, int] = field(default_factory=dict)
    weight: float = float("nan")
    rows: tuple[RowProblem, tuple[tuple[str, int], ...]] | None = field(default=None, repr=False, compare=False)

    @property
    def estimand(self) -> str:
        equal = f", at equal {' and '.join(self.design.covariates)}" if self.design.covariates else ""
        whose = "each group's rewards" if self.design.groups else "rewards"
        shrunk = f", shrunk by ridge {self.spec.ridge:g}" if self.spec.ridge else ""
        return f"{whose} of response features in {population(self.spec.weights)}{equal}{shrunk}"

    @property
    def psi(self) -> Influence | None:  # type: ignore[override]
        """The influence of the parameters; None beyond 4,000 columns."""
        return self.influence.made() if isinstance(self.influence, Pending) else self.influence

    def _terms(self) -> list[Term]:
        return self.terms

    @property
    def _costly(self) -> str | None:
        return None if self.psi is not None else _MANY_COLUMNS

    def _variance(self, along: Any) -> float:
        if self.psi is not None:
            return super()._variance(along)
        if self.rows is None:
            raise NotIdentifiedError("beyond 4,000 columns a contrast asks the rows, which no file holds: fit again")
        return matrix_free.variance(self.rows[0], self.estimate.parameter, along, self.kind, self.rows[1])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "rows": None}  # they may be in a file that only this process has

    def near(self, ties: str, names: Sequence[str], tie: Sequence[float]) -> Any:
        """(p,) where the fit of a longer log may start: coefficients, tie; 0 for what is not known here.

        ties: its model of them. tie: where its tie parameter would start, if it has one.
        """
        known = dict(zip(self.design.names, self.coefficient, strict=True))
        tie = [self.estimate.tie] * len(tie) if ties == self.spec.ties else tie
        return np.array([*(known.get(name, 0.0) for name in names), *tie])

    def _no_spread(self, estimate: float) -> float:
        return NO_SPREAD * abs(estimate)  # features may have any unit

    def contrast(self, x: str, y: str, level: float = 0.95) -> Contrast:
        """Coefficient of term x minus that of term y, with a two-sided test that they are equal."""
        along = self._less(x, y)
        return Contrast(None, None, None, None, None, along) if isinstance(along, str) else self._contrast(along, level)

    def _less(self, x: str, y: str) -> Any:
        """(p,) what makes the difference of two terms of the parameters; or why there is none."""
        along, places = np.zeros(len(self.estimate.parameter)), {name: (at, why) for name, at, why in self.terms}
        for term, sign in ((x, 1.0), (y, -1.0)):
            if term not in places:
                raise NotIdentifiedError(f"no term {term!r}; there are {list(places)[:10]}")
            at, why = places[term]
            if at is None:
                return str(why)
            np.add.at(along, list(at), sign)
        return along

    def audit(self, x: str, over: str) -> DropAudit:
        """The fewest rows whose removal lets term `over` reach x (or x reach `over`, if it is behind).

        Its cells are rows, by number: row outcome rows. Raises ValueError for a loaded fit, weighted rows, soft labels.
        """
        if self.rows is None:
            raise ValueError("the drop audit needs the rows: fit the log again instead of loading the fit")
        along, problem = self._less(x, over), self.rows[0]
        if isinstance(along, str):
            raise NotIdentifiedError(along)
        parts = problem.blocks.each(lambda block: (block.weight is None, block.numbers(np.arange(block.n)), block.y))
        plain, numbers, y = zip(*parts, strict=True)
        outcome = np.concatenate(y)
        if not all(plain) or not np.isin(outcome, [*WON]).all():
            raise ValueError("the drop audit needs unweighted rows with hard labels")
        direction, before = along @ self._known_influence().bread, float(along @ self.estimate.parameter)
        rows, taken, after = fewest_of(problem, self.estimate, along, direction, before)
        at = np.flatnonzero(taken)
        columns = {"row": np.concatenate(numbers)[at], "outcome": [WON[won] for won in outcome[at].tolist()],
                   "rows": taken[at].astype(np.int64)}  # fmt: skip
        frame = pl.DataFrame(columns, schema_overrides={"outcome": pl.String}).sort("row")
        return DropAudit(rows, None if rows is None else rows / self.n, frame, before, after)

    def update(self, more: PreferenceLog) -> RewardFit:
        """Refused: a fit of rows needs all of them; start=fit saves steps."""
        raise ValueError("a fit of rows cannot be added to: fit the logs together, from start=fit")

    def _encoder(self, log: PreferenceLog) -> Encoder:
        design = self.design
        group = Dictionary(list(design.groups)) if design.groups else None
        return replace(design.asked_of(log), covariates=design.covariates, features=design.features, group=group)

    def _checked(self, log: PreferenceLog) -> None:
        fitted, names = list(self.design.features), log.feature_columns()
        if names not in (fitted, [f"{name.rpartition('[')[0]}" for name in fitted[:1]]):
            raise LogError(
                f"the reward was fitted to the features {fitted[:10]}, in this order; {log.name} has {names[:10]}: "
                "scan it with the same columns, renamed where need be with pl.col(...).alias(...)"
            )

    def _margin(self, block: Block) -> Any:
        margin = self.design.matrix(block).astype(np.float64) @ self.coefficient
        return margin if block.group is None else np.where(block.group < 0, np.nan, margin)

    def bootstrap(self, replicates: int = 1000, seed: int = 0, method: str = "multiplier") -> Bootstrap:
        """Replicated coefficients by normal multipliers on the influence of rows, or of clusters."""
        check_replicates(replicates, seed)
        if method != "multiplier":
            raise ValueError('exact multinomial refits are for fits of scores alone: use method="multiplier"')
        known = self._known_influence()
        errors = known.draws(replicates, seed)
        errors[:, ~known.known] = np.nan
        drawn = self.estimate.parameter + np.vstack([np.zeros(errors.shape[1]), errors])
        values = np.full((replicates + 1, len(self.terms)), np.nan)
        for j, (_, places, _why) in enumerate(self.terms):
            if places is not None:
                values[:, j] = drawn[:, list(places)].sum(axis=1)
        names = [name for name, _, _ in self.terms]
        why = [reason or known.reason(places or ()) for _, places, reason in self.terms]
        return Bootstrap(names, values[0], values[1:], method, 0, ("term", "estimate"), why)

    def save(self, path: str | os.PathLike[str]) -> None:
        """One file of JSON and NumPy arrays, without the rows; read it with :func:`steelyard.load`."""
        write_archive(path, "reward-fit", *self.archive())

    def archive(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Facts and arrays that it is saved by; :func:`loaded_rewards` reads them."""
        refuse_own(self.own)
        spec, design, influence = self.spec, self.design, self.psi
        facts = {
            "spec": spec_facts(spec), "kind": self.kind,
            "design": {name: getattr(design, name) for name in design.__dataclass_fields__}, "terms": self.terms,
            "estimate": self.estimate.facts(), "clipped": influence.clipped if influence else None, "n": self.n,
            "dropped": self.dropped, "weight": self.weight,
        }  # fmt: skip
        arrays = {"coefficient": self.coefficient, "parameter": self.estimate.parameter}
        if influence is not None:
            arrays |= influence.arrays()
        return facts, arrays


def _tuples(value: Any) -> Any:
    """Lists of JSON as the tuples they were."""
    return tuple(_tuples(part) for part in value) if isinstance(value, list) else value


def loaded_rewards(facts: dict[str, Any], arrays: dict[str, Any]) -> RewardFit:
    """A RewardFit from its archive."""
    spec = RewardModel(**{name: _tuples(value) for name, value in loaded_spec(facts["spec"]).items()})
    design = Design(**{name: _tuples(value) for name, value in facts["design"].items()})
    require(arrays, coefficient=(len(design.names),))
    return RewardFit(spec, design, arrays["coefficient"], loaded_estimate(facts, arrays),
                     loaded_influence(facts, arrays), facts["kind"], loaded_terms(facts, arrays),
                     facts["n"], facts["dropped"], facts["weight"])  # fmt: skip


LOADERS["reward-fit"] = loaded_rewards
