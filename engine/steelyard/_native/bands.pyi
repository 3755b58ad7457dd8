import numpy as np
from numpy.typing import NDArray

__test__: dict[str, str]  # Cython's docstring examples

def largest_contrast(
    draws: NDArray[np.float64], precision: NDArray[np.float64], largest: NDArray[np.float64]
) -> None: ...
