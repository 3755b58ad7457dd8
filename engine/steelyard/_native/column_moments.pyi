import numpy as np
from numpy.typing import NDArray

__test__: dict[str, str]  # Cython's docstring examples

def column_moments(
    columns: NDArray[np.float64],
    origin: NDArray[np.float64],
    weight: NDArray[np.float64],
    known: NDArray[np.float64],
    y: NDArray[np.float64],
    sums: NDArray[np.float64],
) -> None: ...
