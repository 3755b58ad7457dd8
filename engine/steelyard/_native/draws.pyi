import numpy as np
from numpy.typing import NDArray

__test__: dict[str, str]  # Cython's docstring examples

def multinomial(
    counts: NDArray[np.float64],
    cumulative: NDArray[np.float64],
    guide: NDArray[np.int64],
    seed: int,
    replicate: int,
    drawn: NDArray[np.float64],
) -> None: ...
def normals(seed: int, first_replicate: int, drawn: NDArray[np.float64]) -> None: ...
