"""Propensities: the probability of what was shown, to whom, and of an answer, given context (docs/estimators.md, 4).

log -> rows with contexts, encoded once -> softmax, shares, a logged column or a classifier -> Propensity.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl

from steelyard.assignment.assigned import Assigned
from steelyard.assignment.contexts import Contexts, by_place, context_encoder, in_order, learned, occurring
from steelyard.assignment.dependence import Dependence, dependence
from steelyard.assignment.fitting import fitted_model, pairs_shown
from steelyard.assignment.misfit import Misfit, misfit
from steelyard.assignment.models import Logged, SoftmaxModel
from steelyard.assignment.precision import standard_errors
from steelyard.blocks import Block, Encoder
from steelyard.columns import several
from steelyard.dictionary import Dictionary
from steelyard.errors import LogError, NotIdentifiedError, check_level, refuse_class, warn, within
from steelyard.inference.bands import p_value, quantile
from steelyard.inference.clusters import cluster_names
from steelyard.log import needs_log
from steelyard.models.row_blocks import weights
from steelyard.pairs import cluster_columns, good_rows, lacking
from steelyard.passes import Changes, Executor, on, run_pass
from steelyard.rows import Rows, read_rows
from steelyard.spill import Blocks

if TYPE_CHECKING:
    from steelyard.assignment.weights import Weights
    from steelyard.log import PreferenceLog


def judged(block: Block, encoder: Encoder) -> tuple[Block, Any]:
    """The rows of a block that a propensity can be told of, labelled or not, and where they stood."""
    kept, _, at = good_rows(block, unlabelled=True)
    good = lacking(kept, encoder)[0]
    return (kept, at) if good.all() else (kept.where(good), at[good])


def scattered(values: Any, at: Any, n: int) -> Any:
    """(n,) values where they stood, NaN elsewhere."""
    out = np.full(n, np.nan)
    out[at] = values
    return out


def refuse_tallies(log: PreferenceLog) -> None:
    """Refuses to speak of single rows of a log whose rows are unfolded into outcomes, or of what is no log."""
    if needs_log(log).tallies:
        raise LogError("format 'pairs' has no single comparisons to speak of: each row is unfolded into its outcomes")


@dataclass(frozen=True, eq=False)
class Propensity:
    """A fitted propensity: what ``fit`` of PairPropensity, GroupPropensity and LabelPropensity gives.

    assigned: what it is the propensity of. model: its probabilities. contexts: the columns it reads, or None.
    n: rows. blocks: the rows it was fitted to. read: what made those of the rows as they were encoded.
    """

    spec: PairPropensity | GroupPropensity | LabelPropensity
    assigned: Assigned = field(repr=False)
    model: Any = field(repr=False)
    contexts: Contexts | None = field(repr=False)
    n: int
    blocks: Blocks = field(repr=False)
    clusters: tuple[str, ...] = ()
    dropped: dict[str, int] = field(default_factory=dict)
    read: Changes = field(default=(), repr=False)

    @property
    def converged(self) -> bool:
        return True  # a model that has not converged is an error, never a result

    @property
    def iterations(self) -> int | None:
        """Newton steps on all rows; None for models without."""
        return self.model.solved.iterations if isinstance(self.model, SoftmaxModel) else None

    @property
    def gradient_norm(self) -> float | None:
        """Largest gradient entry, divided by n; None for models without."""
        return self.model.solved.gradient_norm if isinstance(self.model, SoftmaxModel) else None

    @property
    def log_likelihood(self) -> float | None:
        """Of what was assigned, without the ridge; None for models without."""
        return self.model.solved.log_likelihood if isinstance(self.model, SoftmaxModel) else None

    def coefficients(self, level: float = 0.95) -> pl.DataFrame:
        """Of the logits, on the scale of the context columns: class term estimate se low high p_value reason.

        Arms', groups' and pairs' coefficients sum to 0 over the classes; of two groups, and of being labelled, the
        second stands against the first. Without ridge null for columns that others tell: only the sum of their effects
        is identified. Errors are sandwich ones (White 1982), by the log's first cluster column where it has one with
        the factor G / (G - 1), of coefficients as they are shrunk; a few passes over the rows. Null, with the reason,
        from one cluster, for classes and columns that fewer than 15 rows or clusters tell of, for classes never or
        always drawn at a value, and where rows times the square of the coefficients are more than 2^35.
        """
        check_level(level)
        if not isinstance(self.model, SoftmaxModel) or self.contexts is None:
            raise ValueError(f"{self.spec} has no coefficients")
        names = self.assigned.names() if self.assigned.pairs is not None else list(self.assigned.labels)
        terms = ["intercept", *self.contexts.terms]
        values = self.contexts.on_users_scale(self.model.gamma)[self.model.free]
        told = [] if self.spec.ridge else self.model.problem.collinear()
        collinear = f"collinear: {', '.join(terms[j] for j in told if j)} tell each other"
        errors, why = standard_errors(self.model, next(iter(self.clusters), None))
        z, rows = quantile(level), list[tuple[Any, ...]]()
        for place, name in enumerate(names[j] for j in self.model.free):
            for j, (term, value) in enumerate(zip(terms, values[place].tolist(), strict=True)):
                se, reason = float(errors[place, j]), why[place][j]
                if j in told:
                    rows.append((name, term, *[None] * 5, collinear))
                elif reason:
                    rows.append((name, term, value, *[None] * 4, reason))
                else:
                    rows.append((name, term, value, se, value - z * se, value + z * se, p_value(value / se), None))
        columns = ["class", "term", "estimate", "se", "low", "high", "p_value", "reason"]
        types = [pl.String, pl.String, *[pl.Float64] * 5, pl.String]
        return pl.DataFrame(rows, schema=dict(zip(columns, types, strict=True)), orient="row")

    @cached_property
    def misfit(self) -> Misfit | None:
        """Whether a softmax of two draws describes which pairs were shown; None for other models."""
        if not isinstance(self.model, SoftmaxModel) or self.model.draws != 2:
            return None
        return misfit(self.model, self.blocks, self.assigned.labels)

    def encoder(self, log: PreferenceLog) -> Encoder:
        """What turns the batches of a log into blocks that this model can read."""
        return self.asked_of(Encoder(dict(log.outcomes)))

    def asked_of(self, encoder: Encoder, learn: bool = False) -> Encoder:
        """The encoder, asked for what this model reads. learn: arms that it does not know too."""
        encoder = self.assigned.asked_of(encoder, learn)
        encoder = self.contexts.asked_of(encoder) if self.contexts is not None else encoder
        return replace(encoder, propensity=True) if isinstance(self.model, Logged) else encoder

    def log_probability(self, block: Block) -> Any:
        """(n,) log-probability of what was assigned; NaN where arm, group or context is not known here."""
        block = self.assigned.of(block)
        known = np.all([codes >= 0 for codes in block.drawn], axis=0)
        value = np.full(block.n, np.nan)
        value[known] = self.model.log_probability(block if known.all() else block.where(known))
        return value

    def probability(self, log: PreferenceLog) -> pl.Series:
        """Propensity of what each row was assigned, in row order; null where it cannot be told: bad rows, arms,
        groups and contexts that are not known.

        For pairs, of the two arms in either order.

        Raises
        ------
        LogError
            A missing column, or under unseen="raise" a context value that was not there when this was fitted.
        """
        refuse_tallies(log)
        encoder, parts = self.encoder(log), [np.empty(0)]

        def one(block: Block) -> Any:
            kept, at = judged(block, encoder)
            return scattered(np.exp(self.log_probability(kept)), at, block.n)

        run_pass(log, encoder, one, parts.append)
        return pl.Series("propensity", np.concatenate(parts)).fill_nan(None)

    def weights(
        self,
        log: PreferenceLog,
        target: Any = "uniform",
        kind: Literal["hajek", "stabilized", "overlap", "balance"] = "hajek",
        clip: float | None = None,
        trim: float | None = None,
        floor: float = 0.01,
        unsupported: float = 0.1,
    ) -> Weights:
        """Weights that turn the log into the target population; see :class:`Weights`.

        Parameters
        ----------
        target : "uniform" (every pair, or group, as often, over the log's own contexts), "log" (as often as in the
            log, whatever the context); rows of the target population with the context columns (a log counts them by its
            weight= and count=); or margins, {context: {value: share}}, that the weighted log shall have. The last two
            weigh contexts, "uniform" the rest
        kind : "hajek" (target / propensity), "stabilized" (the log's own shares / propensity), "overlap" (Li and Li
            2019: the population in which every class is likely; changes the question), "balance" (entropy balancing,
            Hainmueller 2012: of all weights that give every arm or group the target's context means, the flattest)
        clip : largest weight, in units of the mean weight; below 1: that quantile of the weights. Counted
        trim : rows of a lower propensity are left out, counted: the question is then about the others
        floor : effective share of the rows below which it refuses
        unsupported : share of the target without support above which it refuses

        Raises
        ------
        OverlapError
            Too little overlap, with the figures and the ways out.
        """
        from steelyard.assignment.weighing import weigh

        return weigh(self, log, target, kind, clip, trim, floor, unsupported)

    def dependence(self) -> Dependence:
        """Tests whether what was assigned depends on context: "the prompts are not randomised".

        Likelihood ratio of the unshrunk softmax against constant shares; for a log with clusters the score test with
        scores summed within them, which holds whatever the raters repeat.
        """
        if self.contexts is None or not isinstance(self.model, SoftmaxModel):
            raise ValueError("the test of dependence needs a softmax model with contexts")
        return dependence(self.model, self.assigned, self.clusters)


@dataclass(frozen=True)
class PairPropensity:
    """Which two arms were shown, given context.

    Parameters
    ----------
    method : "softmax" (two draws without replacement from softmax(alpha + Gamma x); Plackett 1975), "pairs"
        (multinomial logit over the pairs that occur), "frequency" (their shares, within strata), "logged" (the log's
        propensity column, trusted and checked)
    context : names of context columns; default all of the log's
    strata : "frequency": names of context columns whose values make the strata; default none, one stratum
    ridge : r in r/2 ||Gamma||^2 on the summed log-likelihood, of standardised columns, constants left out
    classifier : any scikit-learn classifier with predict_proba, over the pairs, in place of method
    unseen : a context value that was not there: "raise", or "other" (it counts as the average value)

    Examples
    --------
    >>> import polars as pl, steelyard as sy
    >>> frame = pl.DataFrame({"a": list("xyzx") * 9, "b": list("yzxz") * 9, "w": ["a", "b", "b", "a"] * 9,
    ...                       "topic": ["code", "prose", "code"] * 12})
    >>> log = sy.scan(frame, a="a", b="b", outcome="w", context="topic")
    >>> sy.PairPropensity(method="frequency").fit(log).probability(log)[0]
    0.25
    """

    method: Literal["softmax", "pairs", "frequency", "logged"] = "softmax"
    context: str | Sequence[str] | None = None
    strata: str | Sequence[str] = ()
    ridge: float = 1.0
    classifier: Any = None
    unseen: Literal["raise", "other"] = "raise"

    def __post_init__(self) -> None:
        if self.method not in ("softmax", "pairs", "frequency", "logged"):
            raise ValueError(f"method must be 'softmax', 'pairs', 'frequency' or 'logged', not {self.method!r}")
        if self.strata and self.method != "frequency":
            raise ValueError("strata go with method='frequency'")
        _check(self)

    def fit(self, log: PreferenceLog, threads: int | None = None, executor: Executor | None = None) -> Propensity:
        """The propensity of every row's pair; rows without an outcome count too, for they were shown.

        threads: that passes have, by default one a core. executor: a :class:`RayExecutor`, for passes on a cluster.

        Raises
        ------
        LogError
            Bad rows, null or constant contexts, a logged propensity outside (0, 1], more strata than rows.
        NotIdentifiedError
            Too many pairs for method="pairs"; ridge=0 and contexts that tell each other.
        ConvergenceError
            The solver stopped short of a gradient of 1e-9 n.
        """
        needs_log(log)
        if threads is not None or executor is not None:
            return on(threads, executor, self.fit, log)
        rows = _encoded(self, log)
        return self.of_rows(rows.blocks, rows.encoder, tuple(rows.pairs.arms.to_list()), rows.pairs.dropped, log)

    @property
    def by_design(self) -> bool:
        """Whether a model of standardised contexts is fitted, and neither shares of strata nor what the log says."""
        return self.classifier is not None or self.method in ("softmax", "pairs")

    def asked_of(self, encoder: Encoder, log: PreferenceLog) -> Encoder:
        """The encoder, asked for the columns of a log that this reads."""
        if log.armless:
            raise LogError(f"{log.name} was scanned without a= and b=: pairs of arms need them")
        if self.method == "frequency" and self.classifier is None:
            _refuse_arms(log, several(self.strata))
            return replace(encoder, levels={name: Dictionary() for name in several(self.strata)})
        if self.method == "logged" and self.classifier is None:
            return replace(encoder, propensity=True)
        _refuse_arms(log, log.context_names() if self.context is None else several(self.context))
        return context_encoder(log, encoder, _wanted(self.context))

    def of_rows(
        self, blocks: Blocks, encoder: Encoder, arms: tuple[str, ...], dropped: dict[str, int], log: PreferenceLog,
        contexts: Contexts | None = None,
    ) -> Propensity:  # fmt: skip
        """The propensity of rows that are encoded already, as :meth:`asked_of` says; a and b are codes of `arms`.

        contexts: theirs, where they have been learned and their values are coded by place.
        """
        read = tuple[Any, ...]()
        used = occurring(blocks, len(arms), lambda block: np.concatenate([block.a, block.b]))
        if not used.all():  # an arm that no row shows has no chance to speak of
            read = (partial(_renumbered, np.where(used, np.cumsum(used) - 1, -1).astype(np.int32)),)
            arms, blocks = tuple(name for name, known in zip(arms, used, strict=True) if known), blocks.map(read[0])
        assigned = Assigned("pair", arms)
        stratified = self.method == "frequency" and self.classifier is None
        if contexts is None and (encoder.context or encoder.levels or stratified):
            contexts, coded = _columns(blocks, encoder, self.unseen, stratified)
            blocks, read = blocks.map(coded), (*read, coded)
        elif contexts is None and (self.method != "logged" or self.classifier is not None):
            raise LogError(f"{log.name} has no context columns: scan it with context=, or use method='frequency'")
        if self.method != "softmax" or self.classifier is not None:
            assigned = replace(assigned, pairs=pairs_shown(blocks, len(arms)))
        return _fitted(self, assigned, contexts, blocks, read, dropped, log)


def _renumbered(place: Any, block: Block) -> Block:
    return replace(block, a=place[block.a], b=place[block.b])


@dataclass(frozen=True)
class _ByContext:
    """What models of one draw have in common."""

    context: str | Sequence[str] | None = None
    ridge: float = 1.0
    classifier: Any = None
    unseen: Literal["raise", "other"] = "raise"

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True)
class GroupPropensity(_ByContext):
    """Which group of raters (or objective) a prompt came from, given context: P(C = c | x), multinomial logit.

    Parameters
    ----------
    context, ridge, classifier, unseen : as in :class:`PairPropensity`. Of two groups the ridge is on the one vector
        of log-odds; of more, on the coefficients of every group, as scikit-learn has it
    """

    def fit(self, log: PreferenceLog, threads: int | None = None, executor: Executor | None = None) -> Propensity:
        """The propensity of every row's group.

        threads: that passes have, by default one a core. executor: a :class:`RayExecutor`, for passes on a cluster.

        Raises
        ------
        LogError
            Bad rows, null or constant contexts, one group only.
        NotIdentifiedError
            ridge=0 and contexts that tell the group of every row, or of more than two groups each other.
        """
        needs_log(log)
        if threads is not None or executor is not None:
            return on(threads, executor, self.fit, log)
        rows = _encoded(self, log)
        return self.of_rows(rows.blocks, rows.encoder, rows.pairs.dropped, log)

    def asked_of(self, encoder: Encoder, log: PreferenceLog) -> Encoder:
        """The encoder, asked for the columns of a log that this reads."""
        return context_encoder(log, replace(encoder, group=Dictionary()), _wanted(self.context))

    def of_rows(self, blocks: Blocks, encoder: Encoder, dropped: dict[str, int], log: PreferenceLog) -> Propensity:
        """The propensity of rows that are encoded already, as :meth:`asked_of` says."""
        assert encoder.group is not None
        used = occurring(blocks, len(encoder.group), lambda block: np.asarray(block.group))
        labels, place = in_order(encoder.group, used)
        if len(labels) < 2:
            raise LogError(f"the group column holds one value, {[*labels]}: a propensity of groups needs two or more")
        placed = partial(by_place, place)
        blocks = blocks.map(placed)
        contexts, coded = _columns(blocks, encoder, self.unseen)
        return _fitted(self, Assigned("group", labels), contexts, blocks.map(coded), (placed, coded), dropped, log)


@dataclass(frozen=True)
class LabelPropensity(_ByContext):
    """Which rows that were shown were answered, given context: P(labelled | x), logistic.

    Parameters
    ----------
    context, ridge, classifier, unseen : as in :class:`PairPropensity`
    arms : whether it hangs on the two arms as well, P(labelled | x, a, b): each has an effect, the same in every
        context, all shrunk alike; without a ridge the first arm has 0. Contexts are then optional
    """

    arms: bool = False

    def fit(self, log: PreferenceLog, threads: int | None = None, executor: Executor | None = None) -> Propensity:
        """The propensity of being labelled; a null outcome is a row that was shown and not answered.

        threads: that passes have, by default one a core. executor: a :class:`RayExecutor`, for passes on a cluster.

        Raises
        ------
        LogError
            Bad rows, null or constant contexts, no row or every row labelled.
        """
        needs_log(log)
        if threads is not None or executor is not None:
            return on(threads, executor, self.fit, log)
        rows = _encoded(self, log)
        return self.of_rows(rows.blocks, rows.encoder, tuple(rows.pairs.arms.to_list()), rows.pairs.dropped, log)

    def asked_of(self, encoder: Encoder, log: PreferenceLog) -> Encoder:
        """The encoder, asked for the columns of a log that this reads."""
        if self.arms and log.armless:
            raise LogError(f"{log.name} was scanned without a= and b=: LabelPropensity(arms=True) needs them")
        return context_encoder(log, encoder, _wanted(self.context))

    def of_rows(
        self, blocks: Blocks, encoder: Encoder, arms: tuple[str, ...], dropped: dict[str, int], log: PreferenceLog
    ) -> Propensity:
        """The propensity of rows that are encoded already, as :meth:`asked_of` says; a and b are codes of `arms`."""
        assigned = Assigned("label", ("not labelled", "labelled"), shown=arms if self.arms else ())
        blocks = blocks.map(assigned.of)
        telling = _telling(blocks, arms, self.ridge > 0) if self.arms else ()
        contexts, coded = _columns(blocks, encoder, self.unseen, arms=telling)
        rows, known = np.sum([*blocks.each(lambda block: (block.n, np.isfinite(np.asarray(block.y)).sum()))], axis=0)
        if known in (0, rows):
            every = "every" if known else "no"
            raise LogError(
                f"{log.name}: {every} row is labelled: there is nothing to model, and no label propensity to fit"
            )
        return _fitted(self, assigned, contexts, blocks.map(coded), (assigned.of, coded), dropped, log)


_MOST_TOLD = 200  # arms, each a column of every row
_LIGHT = 0.1  # a weight, on average, of which a ridge shrinks more than it seems


def _telling(blocks: Blocks, arms: tuple[str, ...], shrunk: bool) -> tuple[tuple[str, int], ...]:
    """Name and code of arms in some rows and not in all; where nothing is shrunk without the first of them.

    Every row has two of them, so that all together tell what the constant tells: the others then stand against one.
    """
    both = blocks.each(lambda block: np.bincount(np.concatenate(block.shown), minlength=len(arms)))
    counts = np.sum([*both], axis=0)
    told = np.flatnonzero((counts > 0) & (counts < counts.sum() // 2))[0 if shrunk else 1 :]
    if len(told) > _MOST_TOLD:
        raise NotIdentifiedError(f"LabelPropensity(arms=True) is for up to {_MOST_TOLD} arms; here are {len(told)}")
    return tuple((arms[code], code) for code in told.tolist())


# --- fitting -------------------------------------------------------------------------------------
def _check(spec: Any) -> None:
    within("ridge", spec.ridge, 0.0)
    if spec.unseen not in ("raise", "other"):
        raise ValueError(f"unseen must be 'raise' or 'other', not {spec.unseen!r}")
    for names in (() if spec.context is None else spec.context, getattr(spec, "strata", ())):
        listed = isinstance(names, Iterable) and not isinstance(names, pl.Expr)
        if not listed or not all(isinstance(name, str) for name in names):
            raise TypeError(f"contexts are given by name, as the log's context columns are called, not as {names!r}")
        if len(set(several(names))) < len(several(names)):
            raise ValueError(f"each column is named once, not as in {names!r}")
    refuse_class(spec.classifier, "classifier")
    if spec.classifier is not None and not hasattr(spec.classifier, "predict_proba"):
        raise ValueError(f"classifier {spec.classifier!r} has no predict_proba")


def _encoded(spec: Any, log: PreferenceLog) -> Rows:
    """The rows of a log as a propensity reads them, answered or not."""
    encoder = spec.asked_of(Encoder(dict(log.outcomes), clusters=cluster_columns(log)), log)
    return read_rows(log, encoder, unlabelled=True)


def _refuse_arms(log: PreferenceLog, names: Sequence[str]) -> None:
    """Raises LogError for a context that is the column of an arm: it tells the pair."""
    arms = {column for column in (log.roles["a"], log.roles["b"]) if isinstance(column, str)}
    told = [name for name in names if name in arms]
    if told:
        raise LogError(
            f"context {told[0]!r} is the column of an arm, which tells the pair that was shown: a propensity given it "
            "knows of no other. Leave it out of context=."
        )


def _wanted(names: str | Sequence[str] | None) -> tuple[str, ...] | None:
    return None if names is None else several(names)


def _columns(
    blocks: Blocks, encoder: Encoder, unseen: str, strata: bool = False, arms: tuple[tuple[str, int], ...] = ()
) -> tuple[Contexts, Callable[[Block], Block]]:
    if not (strata or arms or encoder.context or encoder.levels):
        raise LogError("the log has no context columns: scan it with context=")
    return learned(blocks, encoder, "other" if strata else unseen, arms)


def _fitted(
    spec: Any, assigned: Assigned, contexts: Contexts | None, blocks: Blocks, read: Changes, dropped: dict[str, int],
    log: PreferenceLog,
) -> Propensity:  # fmt: skip
    blocks = blocks.map(assigned.of)
    n, weight = (sum(part) for part in zip(*blocks.each(lambda block: (block.n, weights(block).sum())), strict=True))
    if spec.ridge and weight < _LIGHT * n:
        warn(
            f"sampling weights are {weight / n:.2g} on average, so that ridge={spec.ridge:g} counts as if these were "
            f"{weight:.3g} rows: divide weights by their mean, or lower ridge="
        )
    model = fitted_model(spec, assigned, contexts, blocks)
    names = tuple(log.cluster_label(name) for name in cluster_names(len(log.cluster))[:1])
    left = {reason: count for reason, count in dropped.items() if reason != "not labelled"}
    return Propensity(spec, assigned, model, contexts, n, blocks, names, left, (*read, assigned.of))
