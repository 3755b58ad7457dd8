"""Weights toward a target population from a propensity, with what they leave of the log (docs/estimators.md, 4)."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import scipy  # its parts load when first used

from steelyard.assignment.balancing import Balancing
from steelyard.assignment.overlap import Overlap
from steelyard.blocks import Block, Encoder
from steelyard.errors import LogError
from steelyard.inference.nuisance import Nuisance
from steelyard.log import needs_log
from steelyard.models.row_blocks import weights as sampling_weights
from steelyard.result import replacing
from steelyard.solve import one_blas_thread

if TYPE_CHECKING:
    from steelyard.assignment.propensity import Propensity
    from steelyard.log import PreferenceLog

_CELLS = 1 << 20  # probabilities of all that could have been assigned that are made at a time


SINKS: dict[str, Any] = {  # of a table as long as the log
    ".parquet": pl.LazyFrame.sink_parquet,
    ".csv": pl.LazyFrame.sink_csv,
    ".json": lambda frame, path: frame.collect().write_json(path),
}


@dataclass
class Sums:
    """Sums over the rows of a log under weights; L labels (arms, groups, labelled or not), d context columns.

    rows (comparisons), sampled (by the log's own weights), weight_sum, squares, largest: of all weighted rows.
    comparisons, count (with the log's own weights), weight, square: (L,). context, weighted: (L, d) sums of
    standardised contexts. target, tilt: of the tilted contexts of all rows. bins: (L, BINS). values: for each context
    with values (V, L) rows. seen: (K, K) pairs. fine: counts of weights by size, in `unit`.
    """

    rows: int
    sampled: float
    clipped: int
    trimmed: int
    cut: float
    weight_sum: float
    squares: float
    largest: float
    tilt: float
    comparisons: Any
    count: Any
    weight: Any
    square: Any
    context: Any
    weighted: Any
    target: Any
    bins: Any
    seen: Any
    fine: Any
    values: list[Any]
    unit: float = 1.0

    def over(self, unit: float) -> Sums:
        """The same with weights in another unit, but for their counts by size."""
        linear = {name: getattr(self, name) / unit for name in ("cut", "weight_sum", "largest", "weight", "weighted")}
        square = {name: getattr(self, name) / unit**2 for name in ("squares", "square")}
        return replace(self, **linear, **square, unit=unit)


@dataclass(frozen=True, eq=False)
class Weights:
    """Weights of rows toward a target population. Made by :meth:`Propensity.weights`.

    ``BradleyTerry(weights=w)`` and ``RewardModel(weights=w)`` use them, with standard errors that know that the
    propensity was estimated (stacked equations; :meth:`as_known` for errors that do not).

    share: the log's own, in the numerator; None: 1. toward: weights of contexts toward a target of rows or margins.
    balancing: kind="balance". mean: of the raw weights. by_label: (L,) weight of the log's rows with each arm, group or
    label. limit: the largest, in units of the mean. trim: the lowest propensity. sums: see :class:`Sums`.
    """

    propensity: Propensity
    log: PreferenceLog = field(repr=False)
    target: str
    kind: str
    share: Shares | None = field(default=None, repr=False)
    toward: Balancing | None = field(default=None, repr=False)
    balancing: Balancing | None = field(default=None, repr=False)
    mean: float = 1.0
    by_label: Any = field(default=None, repr=False)
    limit: float | None = None
    trim: float | None = None
    known: bool = False
    sums: Sums | None = field(default=None, repr=False)
    facts: Overlap | None = field(default=None, repr=False)

    # --- rows ------------------------------------------------------------------------------------
    def raw(self, block: Block) -> tuple[Any, Any, Any]:
        """Weights before clipping, (n,); log-propensities (n,); the tilt of the contexts (n,). Trimmed rows weigh 0."""
        propensity = self.propensity
        logp = propensity.log_probability(block)
        block = propensity.assigned.of(block)
        tilt = np.ones(block.n) if self.toward is None else self.toward.weight(block)
        if self.balancing is not None:
            weight = self.balancing.weight(block)
        else:
            if self.kind == "overlap":
                tilt = tilt * self._overlap(block)
            with np.errstate(over="ignore"):  # an infinite weight is refused, or null
                weight = tilt * np.exp(-logp)
            if self.share is not None:
                weight = weight * self.share.of(block)
        weight = np.where(np.isnan(logp), np.nan, weight)  # what is not known has no weight, whatever the kind
        if self.trim is not None:
            weight = np.where(logp < np.log(self.trim), 0.0, weight)
        if propensity.assigned.kind == "label":
            weight = np.where(block.drawn[0] == 1, weight, 0.0)
        return weight / self.mean, logp, tilt

    def _overlap(self, block: Block) -> Any:
        """(n,) 1 / sum_c 1 / P_c over all that could have been assigned, made of a few rows at a time."""
        model, assigned, tilt = self.propensity.model, self.propensity.assigned, np.empty(block.n)
        for cut, part in block.pieces(max(1, _CELLS // max(assigned.every, 1))):
            with np.errstate(divide="ignore"):
                tilt[cut] = 1.0 / (1.0 / model.every(part)).sum(axis=0)
        return tilt

    def weight(self, block: Block) -> Any:
        """(n,) weights of a block's rows, of mean 1 in the log they were made for, before any is clipped."""
        raw = self.raw(block)[0]
        return raw if self.limit is None else np.minimum(raw, self.limit)

    # --- as a fit uses them ----------------------------------------------------------------------
    @property
    def estimand(self) -> str:
        """What the weighted log stands for, in words."""
        stacked = (
            hasattr(self.propensity.model, "tilted" if self.kind == "overlap" else "rows") or self.balancing is not None
        )
        how = " (propensity taken as known)" if self.known or not stacked else ""
        return f"weighted toward {self.target}{how}"

    def as_known(self) -> Weights:
        """The same weights, taken as known: standard errors then ignore that the propensity was estimated."""
        return replace(self, known=True)

    def asked_of(self, encoder: Encoder) -> Encoder:
        """The encoder of a fit, asked for what the weights read."""
        return self.propensity.asked_of(encoder, learn=True)

    def weighed(self, block: Block) -> Block:
        """A fit's block with its weights, and what they were made of beside them."""
        weight, sampling = self.weight(block), block.weight
        bad = np.flatnonzero(~np.isfinite(weight))
        if len(bad):
            what = {"pair": "pair", "group": "group", "label": "row"}[self.propensity.assigned.kind]
            raise LogError(
                f"{len(bad)} rows have no finite weight (first rows {block.numbers(bad[:10]).tolist()}): the "
                f"propensity does not know their {what} or context, or gives it 0. Fit it on the same log."
            )
        block = replace(self.propensity.assigned.of(block), sampling=sampling)
        return replace(block, weight=weight if sampling is None else weight * sampling)

    @property
    def nuisances(self) -> list[Nuisance]:
        """What was estimated before and entered the weights; none where they are taken as known."""
        if self.known:
            return []
        found: list[Any] = [] if self.balancing is not None else [x for x in (self.toward, self.share) if x is not None]
        made, propensity = len(found) + (self.balancing is not None), self.propensity
        model, fitted = propensity.model, sum(propensity.blocks.each(propensity.assigned.by_label))
        if self.balancing is not None:
            found.append(self.balancing)
        elif self.kind == "overlap":
            found += [model.tilted] if hasattr(model, "tilted") else []
        elif hasattr(model, "rows"):
            found.append(model)
        return [_Entered(nuisance, self, self.by_label if i < made else fitted) for i, nuisance in enumerate(found)]

    # --- figures ---------------------------------------------------------------------------------
    @property
    def effective_size(self) -> float:
        """(sum w)^2 / sum w^2 rows (Kish 1965)."""
        return self.overlap().effective_size

    @property
    def effective_share(self) -> float:
        """Effective size, as a share of the weighted rows."""
        return self.overlap().effective_share

    def overlap(self) -> Overlap:
        """Effective size, tails, what was clipped, trimmed and unsupported, and propensities by arm or group."""
        assert self.facts is not None
        return self.facts

    def balance(self) -> pl.DataFrame:
        """label column target before after difference_before difference_after.

        Means of the context columns among the rows of each arm or group, before and after weighting, beside the
        target's; differences from it in standard deviations of the log.
        """
        assert self.sums is not None
        contexts, s = self.propensity.contexts, self.sums
        if contexts is None:
            raise ValueError("the propensity has no contexts to balance")
        labels, shown = self.propensity.assigned.labels, s.count > 0
        with np.errstate(invalid="ignore", divide="ignore"):
            before, after = s.context / s.count[:, None], s.weighted / s.weight[:, None]
        target = s.target / s.tilt
        names, scale, centre = contexts.terms, contexts.scale, contexts.mean
        rows = [
            (labels[j], name, *(x[c] * scale[c] + centre[c] for x in (target, before[j], after[j])),
             before[j, c] - target[c], after[j, c] - target[c])
            for j in np.flatnonzero(shown) for c, name in enumerate(names)
        ]  # fmt: skip
        columns = ("label", "column", "target", "before", "after", "difference_before", "difference_after")
        types = dict(zip(columns, [pl.String, pl.String, *[pl.Float64] * 5], strict=True))
        return pl.DataFrame(rows, schema=types, orient="row").with_columns(pl.col(pl.Float64).fill_nan(None))

    # --- files -----------------------------------------------------------------------------------
    def lazy(self, log: PreferenceLog | None = None) -> pl.LazyFrame:
        """row weight propensity clipped trimmed of every row, in row order; null for bad rows, and where not known."""
        from steelyard.assignment.propensity import judged, refuse_tallies, scattered

        log = self.log if log is None else needs_log(log)
        refuse_tallies(log)
        types: dict[str, Any] = {"row": pl.UInt32, "weight": pl.Float64, "propensity": pl.Float64,
                                 "clipped": pl.Boolean, "trimmed": pl.Boolean}  # fmt: skip

        @one_blas_thread()
        def told(batch: pl.DataFrame) -> pl.DataFrame:
            encoder = self.propensity.encoder(log)
            kept, at = judged(encoder.block(batch), encoder)
            raw, logp = (scattered(values, at, batch.height) for values in self.raw(kept)[:2])
            limit = np.inf if self.limit is None else self.limit
            low = np.zeros(batch.height, bool) if self.trim is None else logp < np.log(self.trim)
            raw = np.where(np.isfinite(raw), raw, np.nan)  # where the propensity is 0 no weight is known
            columns = {"row": batch["row"], "weight": np.minimum(raw, limit), "propensity": np.exp(logp),
                       "clipped": raw > limit, "trimmed": low}  # fmt: skip
            return pl.DataFrame(columns, schema=types).with_columns(pl.col("weight", "propensity").fill_nan(None))

        rows = log.selected(self.propensity.encoder(log)).with_row_index("row")
        return rows.map_batches(told, schema=pl.Schema(types), streamable=True)

    def frame(self, log: PreferenceLog | None = None) -> pl.DataFrame:
        """:meth:`lazy`, collected."""
        return self.lazy(log).collect()

    def sink(self, log: PreferenceLog, path: str | os.PathLike[str]) -> None:
        """Streams :meth:`lazy` to .parquet or .csv, in bounded memory; .json is made in memory.

        The file appears whole or not at all. Raises ValueError for another ending.
        """
        needs_log(self.log if log is None else log).refuse_own(path)
        sink = SINKS.get(Path(path).suffix.lower())
        if sink is None:
            raise ValueError(f"{path}: the ending must be one of {', '.join(SINKS)}")
        with replacing(path, ".part") as temporary:
            sink(self.lazy(log), temporary)


@dataclass(frozen=True)
class Shares:
    """Shares of a log: of each class (C,), or of each pair of arms in either order (K, K). total: weight of its rows.

    As a :class:`Nuisance`: the logarithms of the shares. What moves all of them alike moves no weight of mean 1.
    """

    share: Any
    total: float

    def of(self, block: Block) -> Any:
        """(n,) the share of what each row of a block was assigned."""
        return self.share[block.drawn]

    def rows(self, block: Block) -> tuple[Any, Any]:
        drawn = block.drawn if self.share.ndim == 1 else (np.minimum(*block.drawn), np.maximum(*block.drawn))
        occurring = np.flatnonzero(self.share if self.share.ndim == 1 else np.triu(self.share))
        place = np.searchsorted(occurring, np.ravel_multi_index(drawn, self.share.shape))
        starts, shape = np.arange(block.n + 1), (block.n, len(occurring))
        each = sampling_weights(block) / (self.of(block) * self.total)
        return tuple(scipy.sparse.csr_array((values, place, starts), shape) for values in (np.ones(block.n), each))

    def solve(self, across: Any) -> Any:
        return across


@dataclass(frozen=True)
class _Entered:
    """A nuisance as it entered weights: with the log's own sampling weights, and no slope where a weight is clipped."""

    nuisance: Any
    weights: Weights
    estimated_on: Any

    def by_label(self, block: Block) -> Any:
        return self.weights.propensity.assigned.by_label(replace(block, weight=block.sampling))

    def rows(self, block: Block) -> tuple[Any, Any]:
        slopes, scores = self.nuisance.rows(replace(block, weight=block.sampling))
        if self.weights.limit is not None:
            free = self.weights.raw(block)[0] <= self.weights.limit
            slopes = slopes.multiply(free[:, None]) if hasattr(slopes, "multiply") else slopes * free[:, None]
        return slopes, scores

    def solve(self, across: Any) -> Any:
        return self.nuisance.solve(across)
