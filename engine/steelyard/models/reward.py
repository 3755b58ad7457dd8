"""Rewards of response features from comparisons, for everyone or for each rater group (docs/estimators.md, 2 and 6)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from steelyard.blocks import Block, Encoder
from steelyard.columns import several
from steelyard.dictionary import Dictionary
from steelyard.errors import LogError, NotIdentifiedError
from steelyard.inference import Influence
from steelyard.inference.clusters import cluster_names
from steelyard.inference.influence import warn_of_few
from steelyard.inference.nuisance import Nuisance
from steelyard.log import needs_log
from steelyard.models import matrix_free, row_meat
from steelyard.models.bradley_terry import BradleyTerry
from steelyard.models.cells import TIE_MODELS
from steelyard.models.design import Design
from steelyard.models.likelihood import Likelihood
from steelyard.models.reward_fit import RewardFit
from steelyard.models.row_blocks import usable
from steelyard.models.row_fit import read_weighted, stacked
from steelyard.models.row_maximum import maximise
from steelyard.models.row_problem import RowProblem
from steelyard.models.saved import loaded_estimate, loaded_influence, loaded_spec, loaded_terms
from steelyard.models.score_fit import RowWeights, Term
from steelyard.models.told_apart import identified
from steelyard.pairs import PairTable
from steelyard.passes import Executor, on
from steelyard.result import LOADERS, require
from steelyard.rows import Rows
from steelyard.spill import Blocks, enlarged

if TYPE_CHECKING:
    from steelyard.log import PreferenceLog


_MOST = 200  # values of a context of text
_TIE_START = 0.5  # of the tie parameter


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
        names = several(self.context, "context")
        if not all(isinstance(name, str) for name in names):
            raise TypeError("context takes names of context columns: an expression is named where the log is scanned")
        object.__setattr__(self, "context", names)
        if self.heads not in ("shared", "per-group"):
            raise ValueError(f"heads must be 'shared' or 'per-group', not {self.heads!r}")
        if self.interactions != "all":  # one spelling, so that equal models are equal
            object.__setattr__(self, "interactions", _pairs_of_names(self.interactions))
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
        in a long log cost more than the fit: they are made when first asked for. The fit keeps the rows, for
        them and for an audit.

        threads: that passes have, by default one a core. executor: a :class:`RayExecutor`, for passes on a cluster.
        start: a fit of much the same log, say of all days but the last: the same maximum, in fewer steps over the rows.

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
        if threads is not None or executor is not None:
            return on(threads, executor, partial(self.fit, start=start), log)
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
        return self.of_rows(read_weighted(self.weights, log, encoder, kind), log, kind, start)

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
        return self._fitted(design, blocks, kind, sizes, rows.pairs, known, start)

    def _pairs(self, log: PreferenceLog, features: list[str]) -> list[tuple[str, str]]:
        known = log.context_names()
        strange = [name for name in self.context if name not in known]
        if strange:
            raise LogError(
                f"context {strange[0]!r}: the log's context columns are {known or 'none: scan it with context='}"
            )
        every = self.interactions == "all"
        pairs = [(feature, context) for feature in features for context in (known if every else self.context)]
        pairs = list(dict.fromkeys([*pairs, *(() if every else self.interactions)]))
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
        pairs: PairTable,
        known: tuple[Sequence[Nuisance], Sequence[Blocks]],
        before: RewardFit | None,
    ) -> RewardFit:
        names, d = design.names, len(design.names)
        ties = self.ties in TIE_MODELS
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
            warn_of_few([*problem.names, *["tie"] * ties], influence.told, influence.groups)
        terms: list[Term] = [
            (name, None if set(parts) & set(reasons) else tuple(place[j] for j in parts),
             next((reasons[j] for j in parts if j in reasons), None))
            for name, parts in design.terms()
        ]  # fmt: skip
        terms += [("tie", (problem.d,), None)] * ties
        coefficients = np.zeros(d)
        coefficients[list(place)] = estimate.parameter[: problem.d]
        n = int(problem.totals.comparisons)
        weight, ties_left = problem.totals.weight, float(pairs.sums[:, 1].sum()) if self.ties == "drop" else 0.0
        dropped = {**pairs.dropped, **({"tie": int(ties_left)} if ties_left and not pairs.weighted else {})}
        return RewardFit(self, design, coefficients, estimate, influence, kind, terms, n, dropped, weight,
                         1.0 - ties_left / float(pairs.sums.sum()), (problem, tuple(clusters)))  # fmt: skip


def _pairs_of_names(interactions: Any) -> tuple[tuple[str, str], ...]:
    """Interactions as pairs of names. Raises TypeError for what is none."""
    pairs = () if interactions is None else interactions
    if (
        isinstance(pairs, str)
        or not isinstance(pairs, Collection)
        or not all(isinstance(pair, tuple | list) and [*map(type, pair)] == [str, str] for pair in pairs)
    ):
        raise TypeError(f"interactions takes pairs (feature, context) of names, or 'all', not {interactions!r}")
    return tuple((f, c) for f, c in pairs)


def _groups(rows: Rows) -> dict[int, str]:
    """Code and name of the groups that the rows have, as they met them; others were read in rows that were left out."""
    assert rows.encoder.group is not None
    labels, met = rows.encoder.group.labels(), dict[int, str]()
    for found, first in rows.blocks.each(_groups_of):
        met |= {code: labels[code] for code in found[np.argsort(first)].tolist() if code not in met}
    return met


def _values(rows: Rows, name: str) -> tuple[str, ...]:
    """The values that a text context has, sorted. Raises LogError where that is one, or too many."""
    at, codes = list(rows.encoder.levels).index(name), rows.encoder.levels[name]
    met = np.unique(np.concatenate([*rows.blocks.each(lambda block: np.unique(block.levels[at]))]))
    labels = codes.labels()
    values = tuple(sorted(labels[code] for code in met.tolist() if code >= 0))
    if len(values) < 2:
        raise LogError(f"context {name!r} is the same in every row: no effect can change with it. Leave it out")
    if len(values) > _MOST:
        raise LogError(
            f"context {name!r} has {len(values)} values, each of which would be a column for every feature: up to "
            f"{_MOST} are taken. Join rare ones, or give numbers"
        )
    return values


def _groups_of(block: Block) -> tuple[Any, Any]:
    """Codes of the groups of answered rows, and where each is first."""
    return np.unique(np.asarray(block.group)[np.isfinite(np.asarray(block.y))], return_index=True)


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
                     facts["n"], facts["dropped"], facts["weight"], facts.get("decided", 1.0))  # fmt: skip


LOADERS["reward-fit"] = loaded_rewards
