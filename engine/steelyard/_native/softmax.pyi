import numpy as np
from numpy.typing import NDArray

__test__: dict[str, str]  # Cython's docstring examples

def work_size(k: int, d: int) -> int: ...
def softmax(
    a: NDArray[np.int32],
    b: NDArray[np.int32] | None,
    weight: NDArray[np.float64] | None,
    logits: NDArray[np.float64],
    gradient: NDArray[np.float64],
    roots: NDArray[np.float64] | None,
) -> None: ...
def softmax_sums(
    a: NDArray[np.int32],
    b: NDArray[np.int32] | None,
    weight: NDArray[np.float64] | None,
    columns: NDArray[np.float64],
    gamma: NDArray[np.float64],
    work: NDArray[np.float64],
    value: NDArray[np.float64] | None,
    gradient: NDArray[np.float64] | None,
) -> float: ...
def softmax_product(
    a: NDArray[np.int32],
    b: NDArray[np.int32] | None,
    weight: NDArray[np.float64] | None,
    columns: NDArray[np.float64],
    gamma: NDArray[np.float64],
    direction: NDArray[np.float64],
    work: NDArray[np.float64],
    product: NDArray[np.float64],
) -> None: ...
