import numpy as np
from numpy.typing import NDArray

UNSEEN: int
__test__: dict[str, str]  # Cython's docstring examples

def encode_integers(
    values: NDArray[np.int32] | NDArray[np.int64], table: NDArray[np.int32], codes: NDArray[np.int32]
) -> int: ...
