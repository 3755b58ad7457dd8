"""Twin of bindings/cell_moments.pyx."""

import numpy as np
from numpy.typing import NDArray


def wide(d: int) -> int:
    """d, rounded up to whole lanes of eight."""
    return -(-d // 8) * 8


def work_size(d: int) -> int:
    """Nothing is worked on here."""
    return 0


def cell_moments(
    cell: NDArray[np.int32],
    columns: NDArray[np.float64],
    weight: NDArray[np.float64],
    second: NDArray[np.float64],
    work: NDArray[np.float64],
) -> None:
    """Adds to second (cells, d, wide): the sums of weight z z' over the rows of each cell."""
    d = len(columns)
    for row, own in enumerate(cell):
        second[own, :, :d] += weight[row] * np.outer(columns[:, row], columns[:, row])
