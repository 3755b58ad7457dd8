"""What every doubly robust estimate over arms starts from: rows with design, propensities and outcome models.

log -> rows with contexts, encoded once -> folds -> propensity and outcome model without each fold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from steelyard.assignment.balancing import Balancing
from steelyard.assignment.contexts import Contexts, context_encoder, learned, seen_by
from steelyard.assignment.propensity import PairPropensity, Propensity
from steelyard.assignment.weighing import toward, warn_of_reach, weigh_rows
from steelyard.assignment.weights import Weights
from steelyard.blocks import Block, Encoder
from steelyard.causal.contextual import refuse_wide
from steelyard.causal.folds import MOST, folded, ordered, refuse_lone_arms
from steelyard.causal.held_out import held_out, shown
from steelyard.causal.outcomes import (
    ClassifiedOutcome,
    ContextualOutcome,
    GivenScores,
    Judged,
    classified_outcome,
    contextual,
    score_columns,
)
from steelyard.columns import Column, name_of
from steelyard.dictionary import Dictionary
from steelyard.errors import LogError, refuse_class, warn, whole, within
from steelyard.graph import components
from steelyard.inference.clusters import cluster_names
from steelyard.pairs import PROBABILITY, PairTable
from steelyard.passes import Changes, elsewhere
from steelyard.rows import Beside, Rows, read_rows
from steelyard.solve import one_blas_thread
from steelyard.spill import Blocks, changed, settled

if TYPE_CHECKING:
    from steelyard.log import PreferenceLog

_MUCH = 0.1  # share without an answer beyond which intervals that leave the outcome model's error out mislead
_FAR = 1e-3  # a judge's probability is kept this far from 0 and 1


@dataclass(frozen=True)
class Prepared:
    """Rows with all that a doubly robust estimate reads of them.

    blocks: as :class:`steelyard.causal.pairwise.Pairwise` reads them. columns: names of theirs, those of the outcome
    models first; with `beside` some of them are still in the log. clusters: place, name and number of codes of each
    column and intersection. tilt: toward the target, if there is one. overlap: what the propensity alone leaves of
    the log.
    """

    pairs: PairTable
    blocks: Blocks
    columns: tuple[str, ...]
    beside: Beside | None
    clusters: list[tuple[int, str, int]]
    contexts: Contexts
    tilt: Balancing | None
    overlap: Weights
    outcome: Any
    judged: Judged | None

    @property
    def chance(self) -> bool:
        """Whether the propensity gives every pair of arms a chance to be shown."""
        return getattr(self.overlap.propensity.model, "draws", 1) == 2


def check_settings(spec: Any) -> None:
    """Refuses settings that no cross-fitted model takes."""
    whole("folds", spec.folds, 1, MOST)
    whole("seed", spec.seed)
    within("ridge", spec.ridge, 0.0)
    within("floor", spec.floor, 0.0, 1.0)
    within("unsupported", spec.unsupported, 0.0, 1.0)


def check_models(spec: Any) -> None:
    """Refuses an outcome, propensity, folds or ridge that cannot be."""
    check_settings(spec)
    refuse_class(spec.outcome, "outcome")
    if not (isinstance(spec.outcome, str | pl.Expr | Mapping) or hasattr(spec.outcome, "predict_proba")):
        raise ValueError(
            "outcome must be 'contextual', a column with the probability that a wins, {arm: column of scores} or a "
            f"classifier, not {spec.outcome!r}"
        )
    if not isinstance(spec.propensity, PairPropensity):
        raise ValueError(f"propensity must be a PairPropensity, not {spec.propensity!r}")


def apart(table: PairTable) -> list[str | None]:
    """Of each arm why labelled comparisons do not join it to the main group; None where they do.

    What joins two groups that never met would be the outcome model's ridge, and no data.
    """
    k = len(table.arms)
    group = components(k, table.a, table.b)
    played = np.bincount(table.a, table.rows, k) + np.bincount(table.b, table.rows, k)
    main = group == np.bincount(group, played).argmax()
    never = "never compared with the main group, directly or through others"
    return [None if inside else never if games else "no labelled comparison"
            for inside, games in zip(main, played, strict=True)]  # fmt: skip


def warn_extrapolated(share: float, known: bool = False) -> None:
    """Warns of much that was never answered, where the settings put up with it.

    share: of what is asked for. known: intervals know of the outcome model's own error.
    """
    if share > _MUCH:
        error = "intervals know of its error, not whether it is right" if known else "its error is in no interval"
        warn(f"{100 * share:.1f} % of what is asked for was never answered and rests on the outcome model; {error}")


def prepared(spec: Any, log: PreferenceLog, more: Mapping[str, Any] | None = None) -> Prepared:
    """spec: has outcome, propensity, labelled, judge, folds, seed, target, ridge and unsupported, as DoublyRobust has.

    more: names and columns that are asked for beside; they, and scores, are then read when they are, and not kept.
    """
    names = cluster_names(len(log.cluster))
    log = _with_columns(spec, log, more or {})
    columns = tuple(log.covariates)
    early = len(columns) if more is None else int(_is_column(spec.outcome))  # kept with the rows
    if elsewhere.get() is not None or not log.steady:  # where blocks live, or the log, no second pass meets the rows
        early = len(columns)
    encoder = _encoder(spec, log, names)
    if log.on_bad == "raise":  # else rows may be left out for any of their columns
        encoder.covariates = columns[:early] or None
    rows = read_rows(log, encoder, partial(_narrowed, columns=early), spec.labelled is not None)
    total, wide = rows.encoder.rows, rows.encoder.wide
    arms = rows.pairs.arms.to_list()
    clusters = [(i, log.cluster_label(name), len(rows.encoder.clusters[name])) for i, name in enumerate(names)]
    folds = spec.folds if _fitted(spec) else 1
    with one_blas_thread():
        contexts, read = _contexts(spec, log, rows)
        if isinstance(spec.outcome, str | pl.Expr):
            refuse_wide(len(arms), 1 + len(contexts.mean))
        known, taken = None, ordered
        if _one_design(spec, log, rows, contexts):  # made once, for both models
            known, taken, read = contexts, partial(_designed, contexts, read), ()
        rows = replace(rows, blocks=folded(rows.blocks, folds, spec.seed, clusters[: len(log.cluster)], taken))
        refuse_lone_arms(rows.blocks, folds, arms)
        shown_by = _propensities(spec, log, rows, known)
        overlap = _overlap(spec, log, shown_by[0])
        ready, tilt = _ready(spec, log, rows.blocks, (contexts, read), shown_by)
        outcome, judged = _outcomes(spec, ready, arms, contexts)
    beside = Beside(log, columns[early:], ready, total, wide) if early < len(columns) else None
    return Prepared(rows.pairs, ready, columns, beside, clusters, contexts, tilt, overlap, outcome, judged)


def _narrowed(block: Block, columns: int) -> Block:
    """The block with its first columns alone."""
    if block.columns is None or columns == len(block.columns):
        return block
    return replace(block, columns=np.asarray(block.columns)[:columns].copy() if columns else None)


def _fitted(spec: Any) -> bool:
    """Whether some model is fitted to the rows, which is then not asked about the rows it was fitted to."""
    shown, others = spec.propensity, (spec.propensity.classifier, spec.labelled, spec.judge)
    given = isinstance(spec.outcome, Mapping) and shown.method == "logged"
    return not given or any(model is not None for model in others)


def _with_columns(spec: Any, log: PreferenceLog, more: Mapping[str, Any]) -> PreferenceLog:
    """The log with the columns that the outcome models read as its covariates."""
    if log.armless:
        raise LogError(f"{log.name} was scanned without a= and b=: scores need arms")
    columns: dict[str, Any] = {}
    if isinstance(spec.outcome, Mapping):
        columns = {f"score of {arm}": column for arm, column in spec.outcome.items()}
    elif _is_column(spec.outcome):
        p = _probability(log, spec.outcome, "outcome of DoublyRobust")
        columns[f"outcome {name_of(spec.outcome)!r}{PROBABILITY}"] = p
    if spec.judge is not None:
        p = _probability(log, spec.judge, "judge")
        inner = p.clip(_FAR, 1 - _FAR)
        columns[f"judge {name_of(spec.judge)!r}{PROBABILITY}"] = (inner / (1 - inner)).log()
    return replace(log, covariates={**columns, **more})


def _probability(log: PreferenceLog, column: Column, role: str) -> pl.Expr:
    """A column of probabilities, null where it holds none; LogError where it holds no numbers."""
    expression = log.expression(column, role)
    kind = log.kind(expression, role)
    if not (kind.is_numeric() or kind in (pl.Boolean, pl.Null)):
        raise LogError(f"{role} {name_of(column)!r} holds {kind}: give a column of probabilities that a wins, 0 to 1")
    p = expression.cast(pl.Float64)
    return pl.when(p.is_between(0, 1)).then(p)


def _is_column(outcome: Any) -> bool:
    return isinstance(outcome, pl.Expr) or (isinstance(outcome, str) and outcome != "contextual")


def _encoder(spec: Any, log: PreferenceLog, clusters: list[str]) -> Encoder:
    """Asked for all contexts of the log, and for what the propensities read beside them."""
    encoder = Encoder(dict(log.outcomes), clusters={name: Dictionary() for name in clusters},
                      covariates=tuple(log.covariates) or None)  # fmt: skip
    encoder = context_encoder(log, encoder, None) if log.context else encoder
    for shown_by in (spec.propensity, spec.labelled):
        if shown_by is not None:
            wanted = shown_by.asked_of(Encoder({}), log)
            more = {name: Dictionary() for name in wanted.levels if name not in encoder.levels}
            encoder = replace(encoder, levels={**encoder.levels, **more},
                              propensity=encoder.propensity or wanted.propensity)  # fmt: skip
    return encoder


def _contexts(spec: Any, log: PreferenceLog, rows: Rows) -> tuple[Contexts, Changes]:
    """The outcome model's contexts, and what makes rows as it reads them."""
    wanted = context_encoder(log, Encoder({}), None) if log.context else Encoder({})
    own, view = seen_by(wanted, rows.encoder)
    contexts, coded = learned(rows.blocks.map(view), own, spec.propensity.unseen)
    return contexts, (view, coded)


def _one_design(spec: Any, log: PreferenceLog, rows: Rows, contexts: Contexts) -> bool:
    """Whether the propensity of pairs, and no other, reads the contexts that the outcome model does, and as it does."""
    if spec.labelled is not None or not (contexts.names and spec.propensity.by_design):
        return False
    wanted = spec.propensity.asked_of(Encoder({}), log)
    return bool((*wanted.context, *wanted.levels) == (*rows.encoder.context, *rows.encoder.levels))


def _designed(contexts: Contexts, read: Changes, block: Block, order: Any) -> Block:
    """The rows at their places in an order with their design in place of numeric contexts."""
    block = changed(block, read)
    return replace(ordered(replace(block, context=()), order), design=contexts.matrix(block, order))


def _propensities(spec: Any, log: PreferenceLog, rows: Rows, contexts: Contexts | None) -> list[Propensity]:
    """Of the pair, and where the spec has one for answers that. contexts: of rows that bring their design along."""
    arms = tuple(rows.pairs.arms.to_list())
    if contexts is not None:
        return [spec.propensity.of_rows(rows.blocks, rows.encoder, arms, rows.pairs.dropped, log, contexts)]
    own, view = seen_by(spec.propensity.asked_of(Encoder({}), log), rows.encoder)
    propensity = spec.propensity.of_rows(rows.blocks.map(view), own, arms, rows.pairs.dropped, log)
    propensity = replace(propensity, read=(view, *propensity.read))
    if spec.labelled is None:
        return [propensity]
    own, view = seen_by(spec.labelled.asked_of(Encoder({}), log), rows.encoder)
    labelled = spec.labelled.of_rows(rows.blocks.map(view), own, arms, rows.pairs.dropped, log)
    return [propensity, replace(labelled, read=(view, *labelled.read))]


def _overlap(spec: Any, log: PreferenceLog, propensity: Propensity) -> Weights:
    """The weights that would do the same without an outcome model: what they leave of the log, or a refusal."""
    known = [] if propensity.contexts is None else propensity.contexts.names
    wanted = list(spec.target) if isinstance(spec.target, Mapping) else log.context_names()
    target = "uniform" if spec.target is None or not set(wanted) <= set(known) else spec.target
    made = weigh_rows(propensity, log, propensity.blocks, target, "hajek", None, None, 0.0, spec.unsupported)
    if not (isinstance(pairs := getattr(spec, "pairs", None), str) and pairs == "log"):
        warn_of_reach(made)
    return made


def _ready(
    spec: Any, log: PreferenceLog, blocks: Blocks, own: tuple[Contexts, Changes], shown_by: Sequence[Propensity]
) -> tuple[Blocks, Balancing | None]:
    """The rows with their design, propensities without their fold, and target weights; and what these were made by.

    own: as of :func:`_contexts`; shown_by: as of :func:`_propensities`.
    """
    (contexts, read), tilt = own, None
    if spec.target is not None:
        tilt = toward(contexts, log, blocks.map(partial(changed, changes=read)), spec.target)
    held = [held_out(model, spec.folds) for model in shown_by]

    def ready(block: Block) -> Block:
        pi, *answered = (shown(models, block) for models in held)
        propensity = np.stack([pi, pi * answered[0] if answered else pi])
        block = changed(block, read)
        weight = block.weight
        if tilt is not None:
            own = tilt.weight(block)
            weight = own if weight is None else weight * own
        return replace(block, context=(), design=contexts.matrix(block), propensity=propensity,
                       levels=() if tilt is None else block.levels, weight=weight, sampling=block.weight)  # fmt: skip

    made = blocks.map(ready)
    light = made.place is None and tilt is None and not len(contexts.mean)  # then read again as fast as from a new file
    return made if light else settled(made), tilt


def _outcomes(spec: Any, ready: Blocks, arms: list[str], contexts: Contexts) -> tuple[Any, Judged | None]:
    k = len(arms)
    outcome: ContextualOutcome | GivenScores | ClassifiedOutcome
    if isinstance(spec.outcome, Mapping):
        given = [str(arm) for arm in spec.outcome]
        score_columns(given, arms)
        place = [given.index(arm) for arm in arms]
        outcome = GivenScores(np.array(place))
    elif _is_column(spec.outcome):  # of the pair that was shown: a contextual model carries it to the others
        told = ready.map(lambda block: replace(block, y=np.ascontiguousarray(np.asarray(block.columns)[0])))
        outcome = ContextualOutcome(contextual(told, arms, contexts, spec.ridge, spec.folds))
    elif isinstance(spec.outcome, str):
        outcome = ContextualOutcome(contextual(ready, arms, contexts, spec.ridge, spec.folds))
    else:
        outcome = classified_outcome(spec.outcome, ready, k, spec.folds)
    if spec.judge is None:
        return outcome, None
    return outcome, Judged(contextual(ready, arms, contexts, spec.ridge, spec.folds, judge=True))
