"""The value of a policy over responses whose probabilities were logged: what every row adds to it (Xu et al. 2025)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import scipy  # its parts load when first used

from steelyard.blocks import Block, Encoder
from steelyard.causal.policy_value_fit import PolicyTerms, Terms, estimand
from steelyard.columns import several
from steelyard.dictionary import Dictionary
from steelyard.errors import LogError, OverlapError
from steelyard.inference.clusters import cluster_names
from steelyard.rows import read_rows
from steelyard.spill import settled

if TYPE_CHECKING:
    from steelyard.columns import Column
    from steelyard.log import PreferenceLog


@dataclass(frozen=True)
class Responses:
    """Responses with logged probabilities, and candidates to average the policy over.

    Parameters
    ----------
    logp_policy, logp_reference : columns of a's and of b's log-probability under the policy and under the model that
        wrote them both
    score : columns of a's and of b's score by a reward model, logits; never trusted to be right
    candidates : a column of lists with the scores of candidate responses, and one with their log-probabilities under
        the policy, made to add to 1; lists of one length
    """

    logp_policy: tuple[Column, Column]
    logp_reference: tuple[Column, Column]
    score: tuple[Column, Column]
    candidates: tuple[Column, Column]

    def __post_init__(self) -> None:
        for name in ("logp_policy", "logp_reference", "score", "candidates"):
            if len(several(getattr(self, name), name)) != 2:
                raise ValueError(f"{name} takes two columns, not {getattr(self, name)!r}")


def of_responses(policy: Responses, log: PreferenceLog, clip: float | None) -> PolicyTerms:
    """What the rows add to the value of a policy over responses, as :class:`PolicyValue` says."""
    columns: dict[str, Any] = {}
    for what in ("logp_policy", "logp_reference", "score"):
        for side, column in zip("ab", getattr(policy, what), strict=True):
            columns[f"{what} of {side}"] = column
    width = _width(log, policy.candidates)
    for what, column in zip(("score", "logp"), policy.candidates, strict=True):
        lists = (pl.col(column) if isinstance(column, str) else column).cast(pl.List(pl.Float64))
        for i in range(width):
            columns[f"candidate {what} {i}"] = lists.list.get(i, null_on_oob=True)
    names = cluster_names(len(log.cluster))
    sides = {side: pl.lit(f"response {side}") for side in "ab"}  # the same response may be drawn twice
    log = replace(log, covariates=columns, roles={**log.roles, **sides})
    encoder = Encoder(dict(log.outcomes), clusters={name: Dictionary() for name in names}, covariates=tuple(columns))
    rows = read_rows(log, encoder)
    clusters = [(i, log.cluster_label(name), len(rows.encoder.clusters[name])) for i, name in enumerate(names)]
    blocks = settled(rows.blocks.map(partial(_terms, width=width, clip=clip)))
    return PolicyTerms(blocks, clusters, rows.pairs.dropped, estimand("the log's own prompts"))


def _width(log: PreferenceLog, candidates: tuple[Column, Column]) -> int:
    """How many candidates each row has; LogError where that differs."""
    names = ("scores", "log-probabilities")
    lists = [log.expression(column, "candidates").alias(name) for name, column in zip(names, candidates, strict=True)]
    for name, kind in log.frame().select(lists).collect_schema().items():
        if not isinstance(kind, pl.List | pl.Array) or not kind.inner.is_numeric():
            raise LogError(f"candidates: the {name} hold {kind}; give columns of lists of numbers, one a candidate")
    told = pl.struct(part.cast(pl.List(pl.Float64)).list.len() for part in lists).unique().alias("length")
    lengths = log.frame().select(told).collect()["length"]
    known = {value for row in lengths for value in row.values()}
    if len(known) != 1 or None in known or 0 in known:
        raise LogError(f"candidates have lists of lengths {sorted(map(str, known))[:6]}: give every row as many")
    return int(known.pop())


def _terms(block: Block, width: int, clip: float | None) -> Block:
    columns = np.asarray(block.columns)
    policy_a, policy_b, reference_a, reference_b, score_a, score_b = columns[:6]
    scores, logp = columns[6 : 6 + width], columns[6 + width :]
    chance = np.exp(logp - logp.max(axis=0))
    chance /= chance.sum(axis=0)
    model = 0.5 * sum((chance * scipy.special.expit(scores - score)).sum(axis=0) for score in (score_a, score_b))
    with np.errstate(over="ignore"):
        up, down = np.exp(policy_a - reference_a), np.exp(policy_b - reference_b)
    cut = np.zeros(block.n)
    if clip is not None:
        cut[(up > clip) | (down > clip)] = 1.0
        up, down = np.minimum(up, clip), np.minimum(down, clip)
    far = np.flatnonzero(~np.isfinite(up * up + down * down))
    if len(far):
        raise OverlapError(
            f"{len(far)} rows: a response is so much likelier under the policy that no number holds the ratio (first "
            f"rows {block.numbers(far[:10]).tolist()}). Correct the log-probabilities, or bound the ratios by clip=."
        )
    y = np.asarray(block.y)
    signed = 0.5 * (up - down) * (y - scipy.special.expit(score_a - score_b))
    alone, none = 0.5 * (up * y + down * (1.0 - y)), np.zeros(block.n)
    return Terms(model, np.ones(block.n), 0.5 * (up + down), signed, alone, none, cut).within(block)
