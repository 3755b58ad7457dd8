import numpy as np
from numpy.typing import NDArray

__test__: dict[str, str]  # Cython's docstring examples

def contrasts_beyond(
    draws: NDArray[np.float64], precision: NDArray[np.float64], limit: float, count: NDArray[np.int64]
) -> None: ...
