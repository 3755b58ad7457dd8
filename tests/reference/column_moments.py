"""Twin of bindings/column_moments.pyx."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def column_moments(column: NDArray[np.float64], origin: float, weight: NDArray[np.float64]) -> tuple[float, float]:
    """The weighted sums of a column (n,) less its origin, and of its squares."""
    x = column - origin
    return float(weight @ x), float(weight @ x**2)


def sides_squares(a: Any, b: Any = None) -> NDArray[np.float64]:
    """(d,) each column's sum of squares of a less b, in their own type, or of a alone."""
    return np.asarray(((a if b is None else a - b).astype(np.float64) ** 2).sum(axis=0))
