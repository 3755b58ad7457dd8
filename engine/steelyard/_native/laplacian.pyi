import numpy as np
from numpy.typing import NDArray

__test__: dict[str, str]  # Cython's docstring examples

def laplacian_product(
    a: NDArray[np.int32],
    b: NDArray[np.int32],
    weight: NDArray[np.float64],
    ridge: float,
    x: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None: ...
