import numpy as np
from numpy.typing import NDArray

__test__: dict[str, str]  # Cython's docstring examples
MODELS: dict[str, int]

def pair_likelihood(
    model: int,
    a: NDArray[np.int32],
    b: NDArray[np.int32],
    first: NDArray[np.float64],
    outcomes: NDArray[np.float64],
    theta: NDArray[np.float64],
    kappa: float,
    tie: float,
    out: NDArray[np.float64],
) -> None: ...
def pair_sums(
    model: int,
    has_position: bool,
    a: NDArray[np.int32],
    b: NDArray[np.int32],
    first: NDArray[np.float64],
    outcomes: NDArray[np.float64],
    theta: NDArray[np.float64],
    kappa: float,
    tie: float,
    score: NDArray[np.float64],
    diagonal: NDArray[np.float64],
    border: NDArray[np.float64],
    corner: NDArray[np.float64],
    h_eta: NDArray[np.float64],
) -> float: ...
def pair_outcomes(
    model: int, eta: NDArray[np.float64], tie: float, p_a: NDArray[np.float64], p_tie: NDArray[np.float64]
) -> None: ...
def pair_score(
    k: int,
    has_position: bool,
    has_tie: bool,
    a: NDArray[np.int32],
    b: NDArray[np.int32],
    first: NDArray[np.float64],
    derivatives: NDArray[np.float64],
    score: NDArray[np.float64],
) -> None: ...
def pair_hessian(
    k: int,
    has_position: bool,
    has_tie: bool,
    a: NDArray[np.int32],
    b: NDArray[np.int32],
    first: NDArray[np.float64],
    derivatives: NDArray[np.float64],
    hessian: NDArray[np.float64],
) -> None: ...
