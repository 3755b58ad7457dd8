"""What weights do to a log: how many rows they leave, where support is thin, which contexts they balance."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from steelyard._native.weight_sums import log_counts

OCTAVE = 4  # bins of a histogram of propensities to a factor of two
BINS = 40 * OCTAVE  # down to 2^-40
FINE = 256  # bins to a factor of two of the histogram that quantiles of weights are read off
_WIDE = 64  # factors of two up and down from 1 that it covers


@dataclass(frozen=True, eq=False)
class Overlap:
    """How well a log supports a target; printable, with :meth:`frame`.

    rows: comparisons with a weight. effective_size: (sum w)^2 / sum w^2 (Kish 1965); effective_share: of the rows.
    largest_share: of the sum of weights in one of them. clipped, clipped_mass: those at the limit, and the share of the
    weights that was cut off. trimmed: those left out. unsupported: share of the target without support. quantiles: of
    the weights, in units of their mean. by_label: label rows effective_size effective_share. histogram: label low high
    rows, of propensities. unsupported_pairs: never shown; empty_cells: context value label expected.
    """

    rows: int
    effective_size: float
    effective_share: float
    largest_share: float
    clipped: int
    clipped_mass: float
    limit: float | None
    trimmed: int
    unsupported: float
    quantiles: dict[str, float]
    by_label: pl.DataFrame = field(repr=False)
    histogram: pl.DataFrame = field(repr=False)
    unsupported_pairs: pl.DataFrame = field(repr=False)
    empty_cells: pl.DataFrame = field(repr=False)

    def frame(self) -> pl.DataFrame:
        """The figures, one a row: measure value."""
        facts = [
            ("rows", f"{self.rows}"),
            ("effective size", f"{self.effective_size:.1f}"),
            ("effective share", f"{self.effective_share:.4f}"),
            ("share of the weight in one row", f"{self.largest_share:.2g}"),
            *((f"weight at quantile {name}", f"{value:.3g}") for name, value in self.quantiles.items()),
            ("rows clipped", f"{self.clipped}" + ("" if self.limit is None else f" (at {self.limit:.3g})")),
            ("share of weight clipped off", f"{self.clipped_mass:.2g}"),
            ("rows trimmed", f"{self.trimmed}"),
            ("share of the target without support, by values of contexts", f"{self.unsupported:.4f}"),
            ("pairs never shown", f"{len(self.unsupported_pairs)}"),
        ]
        return pl.DataFrame(facts, schema=["measure", "value"], orient="row")

    def __str__(self) -> str:
        return "\n".join(f"{name:36s} {value}" for name, value in self.frame().rows())


def histogram_frame(labels: tuple[str, ...], counts: Any) -> pl.DataFrame:
    """label low high rows; counts: (L, BINS)."""
    label, place = np.nonzero(counts)
    edge = 2.0 ** (-np.arange(BINS + 1) / OCTAVE)
    return pl.DataFrame(
        {
            "label": pl.Series([labels[j] for j in label], dtype=pl.String), "low": edge[place + 1],
            "high": edge[place], "rows": counts[label, place].astype(np.int64),
        }
    ).sort("label", "low")  # fmt: skip


def fine_counts(weight: Any, sampling: Any) -> Any:
    """The log (2 x 64 x 256,) by the logarithm of its positive weights: quantiles to 0.3 %, in any order of rows.

    sampling: (n,) how much of the log each row stands for.
    """
    counts = np.zeros(2 * _WIDE * FINE)
    log_counts(weight, sampling, FINE, -_WIDE, counts)
    return counts


def fine_quantile(counts: Any, share: float) -> float:
    """The weight below which a share of the positive weights lies."""
    place = int(np.searchsorted(np.cumsum(counts), share * counts.sum()))
    return float(2.0 ** ((place + 1) / FINE - _WIDE))
