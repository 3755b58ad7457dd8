import numpy as np
from numpy.typing import NDArray

__test__: dict[str, str]  # Cython's docstring examples

def largest_contrast(
    draws: NDArray[np.float32], precision: NDArray[np.float32], largest: NDArray[np.float32]
) -> None: ...
