"""Twins of bindings/wide_rows.pyx."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def rows_times(x: NDArray[Any], v: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    """Out (n,) = x v, x (n, d) float32 or float64."""
    out[:] = x.astype(np.float64) @ v


def times_rows(x: NDArray[Any], w: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    """Out (d,) += w x."""
    out += w @ x.astype(np.float64)
