"""Drop audit: the fewest rows whose removal turns a contrast around (Broderick, Giordano and Meager 2020)."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from steelyard.errors import SteelyardError
from steelyard.solve import STEP

_TIE = 10.0 * STEP  # what is left of a step that a refit did not take is less


def fewest_rows(
    counts: Any, effect: Any, contrast: float, refit: Callable[[Any], float]
) -> tuple[int | None, Any, float | None]:
    """How many rows, which (m, 3) counts are taken, and the contrast refitted exactly without them.

    counts: (m, 3) rows by cell and outcome. effect: (m, 3) influence of one row on the contrast. Rows are
    taken in order of influence against the sign of the contrast; the smallest number that turns the exact
    refit around, or to a tie as exactly as refits are (1e-8), is found by bisection. Null where half of the
    rows are not enough, or no fit is left before they are.
    """
    pull = effect.ravel() * np.sign(contrast)
    order = np.argsort(-pull, kind="stable")
    order = order[(pull[order] > 0) & (counts.ravel()[order] > 0)]
    available = counts.ravel()[order]

    def taken(rows: int) -> Any:
        gone = np.zeros(counts.size)
        gone[order] = np.clip(rows - np.concatenate([[0.0], np.cumsum(available)[:-1]]), 0.0, available)
        return gone.reshape(counts.shape)

    @lru_cache
    def after(rows: int) -> float:
        try:
            return refit(counts - taken(rows))
        except SteelyardError:  # so many are gone that no fit is left: past the turn, if there is one
            return float("nan")

    def holds(rows: int) -> bool:
        return bool(after(rows) * np.sign(contrast) > _TIE)

    most = int(min(available.sum(), counts.sum() // 2))
    low, high = 0, min(1, most)
    while low < high < most and holds(high):
        low, high = high, min(2 * high, most)
    if not high or holds(high):
        return None, np.zeros_like(counts), None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    if np.isnan(after(high)):
        return None, np.zeros_like(counts), None
    return high, taken(high), after(high)
