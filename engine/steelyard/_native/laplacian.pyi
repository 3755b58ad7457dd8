import numpy as np
from numpy.typing import NDArray

__test__: dict[str, str]  # Cython's docstring examples

def laplacian_edges(
    a: NDArray[np.int32],
    b: NDArray[np.int32],
    weight: NDArray[np.float64],
    ridge: float,
    x: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None: ...
def laplacian_rows(
    start: NDArray[np.int64],
    neighbour: NDArray[np.int32],
    edge: NDArray[np.float64],
    diagonal: NDArray[np.float64],
    x: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None: ...
