"""Twin of bindings/laplacian.pyx."""

import numpy as np
from numpy.typing import NDArray


def laplacian_edges(
    a: NDArray[np.int32],
    b: NDArray[np.int32],
    weight: NDArray[np.float64],
    ridge: float,
    x: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    """out = (ridge + D' diag(weight) D) x with D the differences across edges, (m, k); x and out (k,)."""
    across = np.zeros((len(a), len(x)))
    across[np.arange(len(a)), a] = 1.0
    across[np.arange(len(a)), b] -= 1.0
    out[:] = ridge * x + across.T @ (weight * (across @ x))


def laplacian_rows(
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
