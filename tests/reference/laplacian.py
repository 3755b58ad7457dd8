"""Twin of bindings/laplacian.pyx."""

import numpy as np
from numpy.typing import NDArray


def laplacian_product(
    a: NDArray[np.int32],
    b: NDArray[np.int32],
    weight: NDArray[np.float64],
    ridge: float,
    x: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    """out = (ridge + D' diag(weight) D) x with D the differences across edges, (m, k); x and out (k, r)."""
    across = np.zeros((len(a), len(x)))
    across[np.arange(len(a)), a] = 1.0
    across[np.arange(len(a)), b] -= 1.0
    out[:] = ridge * x + across.T @ (weight[:, None] * (across @ x))
