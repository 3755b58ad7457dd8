"""Twin of bindings/laplacian.pyx."""

import numpy as np
from numpy.typing import NDArray


def laplacian_product(
    start: NDArray[np.int64],
    neighbour: NDArray[np.int32],
    edge: NDArray[np.float64],
    diagonal: NDArray[np.float64],
    x: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    """out = (diag(diagonal) - W) x with W the k x k edge weights in compressed rows; x and out (k, r)."""
    k = len(diagonal)
    matrix = np.diag(diagonal)
    np.subtract.at(matrix, (np.repeat(np.arange(k), np.diff(start)), neighbour), edge)
    out[:] = matrix @ x
