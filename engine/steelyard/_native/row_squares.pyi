import numpy as np
from numpy.typing import NDArray

__test__: dict[str, str]  # Cython's docstring examples

def row_squares(
    start: NDArray[np.int64],
    place: NDArray[np.int32],
    value: NDArray[np.float64],
    sum: NDArray[np.float64],
) -> None: ...
