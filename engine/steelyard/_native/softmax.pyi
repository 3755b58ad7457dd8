import numpy as np
from numpy.typing import NDArray

__test__: dict[str, str]  # Cython's docstring examples

def softmax(
    a: NDArray[np.int32],
    b: NDArray[np.int32] | None,
    weight: NDArray[np.float64] | None,
    logits: NDArray[np.float64],
    value: NDArray[np.float64],
    gradient: NDArray[np.float64] | None,
    roots: NDArray[np.float64] | None,
) -> None: ...
def softmax_product(roots: NDArray[np.float64], direction: NDArray[np.float64]) -> None: ...
