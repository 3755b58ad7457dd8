"""Drop audit: the fewest rows whose removal turns a contrast around (Broderick, Giordano and Meager 2020)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from steelyard.errors import SteelyardError
from steelyard.solve import STEP


def fewest_rows(
    counts: Any, effect: Any, contrast: float, refit: Callable[[Any], float]
) -> tuple[int | None, Any, float | None]:
    """How many rows, which (m, 3) counts are taken, and the contrast refitted exactly without them.

    counts: (m, 3) rows by cell and outcome. effect: (m, 3) influence of one row on the contrast. Rows are
    taken in order of influence against the sign of the contrast; the smallest number that turns the exact
    refit around, or to a tie as exactly as refits are (1e-9), is found by bisection. Null where half of the
    rows are not enough, or no fit is left.
    """
    pull = effect.ravel() * np.sign(contrast)
    order = np.argsort(-pull, kind="stable")
    order = order[(pull[order] > 0) & (counts.ravel()[order] > 0)]
    available = counts.ravel()[order]

    def taken(rows: int) -> Any:
        gone = np.zeros(counts.size)
        gone[order] = np.clip(rows - np.concatenate([[0.0], np.cumsum(available)[:-1]]), 0.0, available)
        return gone.reshape(counts.shape)

    def turned(rows: int) -> float | None:
        try:
            after = refit(counts - taken(rows))
        except SteelyardError:
            return None
        return after if after * np.sign(contrast) <= STEP else None

    most = int(min(available.sum(), counts.sum() // 2))
    high = 1
    while high <= most and turned(high) is None:
        high *= 2
    if high > most:
        return None, np.zeros_like(counts), None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if turned(middle) is not None else (middle, high)
    return high, taken(high), turned(high)
