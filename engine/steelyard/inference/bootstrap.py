"""Bootstrap of paired-comparison fits: exact multinomial refits, or multipliers on the influence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from steelyard._native.draws import multinomial
from steelyard.errors import SteelyardError, check_level, whole
from steelyard.passes import in_order
from steelyard.solve import one_blas_thread

_NO_SCORE = "no finite score: see the table of the fit"
_NO_TERM = "it cannot be told: see the coefficients of the fit"
_FLAT = "no spread over the replicates, so no interval"
_FAILED = "no finite score in a tenth or more of the replicates"


def check_replicates(replicates: Any, seed: Any) -> None:
    """Refuses numbers that no bootstrap can be made with."""
    whole("replicates", replicates, 2)
    whole("seed", seed)


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """Replicated scores, or coefficients. arms: K names, of terms for coefficients. score: (K,) the estimate. draws:
    (replicates, K), NaN where a replicate has no finite score for an arm. failed: replicates in which some arm had
    none. what: how the table calls names and estimates. why: of each name why it has no draws, where that is known."""

    arms: list[str]
    score: Any = field(repr=False)
    draws: Any = field(repr=False)
    method: str
    failed: int
    what: tuple[str, str] = ("arm", "score")
    why: Sequence[str | None] = field(default=(), repr=False)

    def table(self, level: float = 0.95) -> pl.DataFrame:
        """Percentile intervals: arm score se low high reason (of coefficients: term estimate ...), highest first.

        Null where a tenth of the replicates failed.
        """
        tail = (1 - check_level(level)) / 2
        known = np.isfinite(self.draws).mean(axis=0) >= 0.9
        columns = np.full((3, len(self.arms)), np.nan)
        if known.any():
            kept = self.draws[:, known]
            columns[0, known] = np.nanstd(kept, axis=0, ddof=1)
            columns[1:, known] = np.nanquantile(kept, [tail, 1 - tail], axis=0)
        unknown = _NO_SCORE if self.what[0] == "arm" else _NO_TERM
        why = self.why or [None] * len(self.arms)
        lost = [own or (unknown if np.isnan(score) else _FAILED) for own, score in zip(why, self.score, strict=True)]
        flat = columns[0] == 0.0
        columns[:, flat] = np.nan
        told = [_FLAT if still else None if settled else reason
                for settled, still, reason in zip(known, flat, lost, strict=True)]  # fmt: skip
        name, value = self.what
        frame = pl.DataFrame(
            {name: self.arms, value: self.score, "se": columns[0], "low": columns[1], "high": columns[2],
             "reason": pl.Series(told, dtype=pl.String)}
        )  # fmt: skip
        return frame.with_columns(pl.exclude(name, "reason").fill_nan(None)).sort(
            value, descending=True, nulls_last=True
        )


def multinomial_refits(counts: Any, arms: int, refit: Callable[[Any], Any], replicates: int, seed: int) -> Any:
    """(replicates, arms) scores refitted exactly to multinomial redraws of the (m, 3) table of counts.

    Replicate r depends on (seed, r) and the table alone. A replicate that cannot be fitted is a row of NaN.
    """
    flat = np.ascontiguousarray(counts.ravel())
    cumulative = np.cumsum(flat)
    guide = np.searchsorted(cumulative, np.arange(len(flat)) * (cumulative[-1] / len(flat)), "right")

    def replicate(r: int) -> Any:
        drawn = np.empty(len(flat))
        multinomial(flat, cumulative, guide, seed, r, drawn)
        try:
            return refit(drawn.reshape(counts.shape))
        except SteelyardError:
            return np.full(arms, np.nan)

    with one_blas_thread():  # once for all of them: each refit asks for it too
        return np.array(list(in_order(replicate, range(replicates))))
