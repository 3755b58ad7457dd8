"""Twin of bindings/column_moments.pyx."""

import numpy as np
from numpy.typing import NDArray


def column_moments(column: NDArray[np.float64], origin: float, weight: NDArray[np.float64]) -> tuple[float, float]:
    """The weighted sums of a column (n,) less its origin, and of its squares."""
    x = column - origin
    return float(weight @ x), float(weight @ x**2)
