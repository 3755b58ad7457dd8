"""Twin of bindings/label_sums.pyx."""

import numpy as np
from numpy.typing import NDArray


def work_size(d: int) -> int:
    """Any work space will do."""
    return d


def label_sums(
    columns: NDArray[np.float64],
    factor: NDArray[np.float64],
    codes: NDArray[np.int32],
    work: NDArray[np.float64],
    sums: NDArray[np.float64],
) -> None:
    """Adds to sums (labels, factors, d) factor (factors, n) times columns (d, n), for each label of a row."""
    for own in codes:
        for i, label in enumerate(own):
            sums[label] += np.outer(factor[:, i], columns[:, i])
