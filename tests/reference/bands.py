"""Twin of bindings/bands.pyx."""

import numpy as np
from numpy.typing import NDArray


def contrasts_beyond(
    draws: NDArray[np.float64], precision: NDArray[np.float64], limit: float, count: NDArray[np.int64]
) -> None:
    """How many |draw_i - draw_j| precision_ij, j < i, are beyond; draws (n, k), precision (k, k), count (n,)."""
    i, j = np.tril_indices(draws.shape[1], -1)
    count[:] = (np.abs(draws[:, i] - draws[:, j]) * precision[i, j] > limit).sum(axis=1)
