"""Twin of bindings/bands.pyx."""

import numpy as np
from numpy.typing import NDArray


def largest_contrast(draws: NDArray[np.float64], precision: NDArray[np.float64], largest: NDArray[np.float64]) -> None:
    """The largest |draw_i - draw_j| precision_ij over j < i; draws (n, k), precision (k, k), largest (n,)."""
    i, j = np.tril_indices(draws.shape[1], -1)
    contrasts = np.abs(draws[:, i] - draws[:, j]) * precision[i, j]
    largest[:] = contrasts.max(axis=1, initial=0.0)
