import numpy as np
from numpy.typing import NDArray

__test__: dict[str, str]  # Cython's docstring examples

def clean_rows(
    a: NDArray[np.int32],
    b: NDArray[np.int32],
    label: NDArray[np.int32] | None,
    value: NDArray[np.float64] | None,
    outcome: NDArray[np.float64] | None,
    weight: NDArray[np.float64] | None,
    count: NDArray[np.float64] | None,
    y: NDArray[np.float64],
    status: NDArray[np.uint8],
) -> int: ...
