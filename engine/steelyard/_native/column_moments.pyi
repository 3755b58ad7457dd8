import numpy as np
from numpy.typing import NDArray

__test__: dict[str, str]  # Cython's docstring examples

def sides_squares(
    a: NDArray[np.float32] | NDArray[np.float64], b: NDArray[np.float32] | NDArray[np.float64] | None = None
) -> NDArray[np.float64]: ...
def column_moments(column: NDArray[np.float64], origin: float, weight: NDArray[np.float64]) -> tuple[float, float]: ...
