"""Twin of bindings/column_moments.pyx."""

import numpy as np
from numpy.typing import NDArray


def column_moments(
    columns: NDArray[np.float64],
    origin: NDArray[np.float64],
    weight: NDArray[np.float64],
    known: NDArray[np.float64],
    y: NDArray[np.float64],
    sums: NDArray[np.float64],
) -> None:
    """Adds to sums (d, 5) those of columns (d, n) less their origin (d,), and of their squares."""
    x = columns - origin[:, None]
    sums += np.stack([x @ weight, x @ known, x @ y, x**2 @ weight, x**2 @ known], axis=1)
