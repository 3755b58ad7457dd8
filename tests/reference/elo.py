"""Twin of bindings/elo.pyx."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit


def elo(
    a: NDArray[np.int32],
    b: NDArray[np.int32],
    y: NDArray[np.float64],
    weight: NDArray[np.float64] | None,
    order: NDArray[np.int64] | None,
    step: float,
    scale: float,
    rating: NDArray[np.float64],
) -> None:
    """Update rating (k,) by the rows (n,) one after the other, in the given order (Elo 1978)."""
    for i in range(len(a)) if order is None else order:
        expected = expit((rating[a[i]] - rating[b[i]]) / scale)
        move = step * (1.0 if weight is None else weight[i]) * (y[i] - expected)
        rating[a[i]] += move
        rating[b[i]] -= move
