import numpy as np
from numpy.typing import NDArray

__test__: dict[str, str]  # Cython's docstring examples

def elo(
    a: NDArray[np.int32],
    b: NDArray[np.int32],
    y: NDArray[np.float64],
    weight: NDArray[np.float64] | None,
    order: NDArray[np.int64] | None,
    step: float,
    scale: float,
    rating: NDArray[np.float64],
) -> None: ...
