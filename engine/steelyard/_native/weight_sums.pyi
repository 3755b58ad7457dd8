import numpy as np
from numpy.typing import NDArray

__test__: dict[str, str]  # Cython's docstring examples

TOTALS: int

def weight_sums(
    raw: NDArray[np.float64],
    log_propensity: NDArray[np.float64],
    sampling: NDArray[np.float64] | None,
    count: NDArray[np.float64] | None,
    limit: float,
    codes: NDArray[np.int32],
    weight: NDArray[np.float64],
    totals: NDArray[np.float64],
    by_label: NDArray[np.float64],
    per_octave: float,
    histogram: NDArray[np.float64],
) -> None: ...
def log_counts(
    values: NDArray[np.float64],
    count: NDArray[np.float64] | None,
    per_octave: float,
    low: float,
    counts: NDArray[np.float64],
) -> None: ...
