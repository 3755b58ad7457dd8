from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__test__: dict[str, str]  # Cython's docstring examples

def row_likelihood(
    model: int,
    own: int,
    k: int,
    a: NDArray[np.int32],
    b: NDArray[np.int32],
    columns: NDArray[np.float64] | Sequence[NDArray[np.float64]] | None,
    offset: NDArray[np.float64] | None,
    y: NDArray[np.float64],
    weight: NDArray[np.float64] | None,
    count: NDArray[np.float64] | None,
    parameter: NDArray[np.float64],
    by_eta: NDArray[np.float64] | None,
    score: NDArray[np.float64],
    hessian: NDArray[np.float64] | None,
    meat: NDArray[np.float64] | None = None,
    origin: NDArray[np.float64] | None = None,
    sides: tuple[NDArray[np.float32], ...] | tuple[NDArray[np.float64], ...] | None = None,
) -> float: ...
