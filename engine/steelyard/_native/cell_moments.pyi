import numpy as np
from numpy.typing import NDArray

__test__: dict[str, str]  # Cython's docstring examples

def wide(d: int) -> int: ...
def work_size(d: int) -> int: ...
def cell_moments(
    cell: NDArray[np.int32],
    columns: NDArray[np.float64],
    weight: NDArray[np.float64],
    second: NDArray[np.float64],
    work: NDArray[np.float64],
) -> None: ...
