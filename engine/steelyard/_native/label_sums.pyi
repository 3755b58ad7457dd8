from typing import Any

import numpy as np
from numpy.typing import NDArray

__test__: dict[str, str]  # Cython's docstring examples

def work_size(d: int) -> int: ...
def label_sums(
    columns: NDArray[Any],
    factor: NDArray[np.float64],
    codes: NDArray[np.int32],
    work: NDArray[np.float64],
    sums: NDArray[np.float64],
) -> None: ...
