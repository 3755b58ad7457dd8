"""Twin of bindings/row_squares.pyx."""

import itertools

import numpy as np
from numpy.typing import NDArray


def row_squares(
    start: NDArray[np.int64], place: NDArray[np.int32], value: NDArray[np.float64], sum: NDArray[np.float64]
) -> None:
    """Adds to sum (k, k) the upper triangle, in the order of the places, of each row's square."""
    for low, high in itertools.pairwise(start.tolist()):
        where = place[low:high]
        sum[np.ix_(where, where)] += np.triu(np.outer(value[low:high], value[low:high]))
