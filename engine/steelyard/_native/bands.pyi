import numpy as np
from numpy.typing import NDArray

def largest_contrast(
    draws: NDArray[np.float64], precision: NDArray[np.float64], largest: NDArray[np.float64]
) -> None: ...
