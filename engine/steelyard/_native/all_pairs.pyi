import numpy as np
from numpy.typing import NDArray

__test__: dict[str, str]  # Cython's docstring examples

ROWS: int

def all_pairs(
    score: NDArray[np.float64],
    omega: NDArray[np.float64],
    weight: NDArray[np.float64],
    work: NDArray[np.float64],
    sums: NDArray[np.float64],
    means: NDArray[np.float64],
) -> None: ...
def policy_terms(
    score: NDArray[np.float64],
    columns: NDArray[np.float64],
    policy_at: NDArray[np.int64],
    policy: NDArray[np.float64],
    reference_at: NDArray[np.int64],
    reference: NDArray[np.float64],
    supported: NDArray[np.uint8],
    a: NDArray[np.int32],
    b: NDArray[np.int32],
    work: NDArray[np.float64],
    terms: NDArray[np.float64],
) -> None: ...
def pair_ends(
    score: NDArray[np.float64],
    wanted: NDArray[np.float64],
    weight: NDArray[np.float64],
    lambda_: float,
    work: NDArray[np.float64],
    ends: NDArray[np.float64],
) -> None: ...
def pair_along(
    score: NDArray[np.float64],
    along: NDArray[np.float64],
    lambda_: float,
    work: NDArray[np.float64],
    value: NDArray[np.float64],
) -> None: ...
