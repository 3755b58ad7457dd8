import numpy as np
from numpy.typing import NDArray

__test__: dict[str, str]  # Cython's docstring examples

def rows_times(
    x: NDArray[np.float32] | NDArray[np.float64], v: NDArray[np.float64], out: NDArray[np.float64]
) -> None: ...
def times_rows(
    x: NDArray[np.float32] | NDArray[np.float64], w: NDArray[np.float64], out: NDArray[np.float64]
) -> None: ...
