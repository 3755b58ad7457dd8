import numpy as np
from numpy.typing import NDArray

__test__: dict[str, str]  # Cython's docstring examples

def work_size(wide: int, vectors: int) -> int: ...
def contextual(
    k: int,
    a: NDArray[np.int32],
    b: NDArray[np.int32],
    context: NDArray[np.float64],
    columns: NDArray[np.float64],
    y: NDArray[np.float64],
    weight: NDArray[np.float64] | None,
    count: NDArray[np.float64] | None,
    parameter: NDArray[np.float64],
    work: NDArray[np.float64],
    value: NDArray[np.float64],
    score: NDArray[np.float64],
    hessian: NDArray[np.float64] | None,
) -> None: ...
