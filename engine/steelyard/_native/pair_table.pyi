import numpy as np
from numpy.typing import NDArray

__test__: dict[str, str]  # Cython's docstring examples

def pair_cells(
    start: int,
    a: NDArray[np.int32],
    b: NDArray[np.int32],
    first: NDArray[np.uint8] | None,
    slots: NDArray[np.int32],
    keys: NDArray[np.int64],
    count: NDArray[np.int64],
    cell: NDArray[np.int32],
) -> int: ...
def pair_slots(count: int, keys: NDArray[np.int64], slots: NDArray[np.int32]) -> None: ...
def plain_keys(
    a: NDArray[np.int32],
    b: NDArray[np.int32],
    label: NDArray[np.int32] | None,
    label_place: NDArray[np.uint8] | None,
    y: NDArray[np.float64] | None,
    keys: NDArray[np.int64],
) -> int: ...
def pair_count(
    a: NDArray[np.int32],
    b: NDArray[np.int32],
    label: NDArray[np.int32] | None,
    label_place: NDArray[np.uint8] | None,
    y: NDArray[np.float64] | None,
    count: NDArray[np.uint8],
    carry: NDArray[np.uint32],
) -> int: ...
def square_cells(
    count: NDArray[np.float64],
    order: NDArray[np.int32],
    name: NDArray[np.int32],
    a: NDArray[np.int32],
    b: NDArray[np.int32],
    sums: NDArray[np.float64],
) -> int: ...
def sorted_cells(
    keys: NDArray[np.int64],
    count: NDArray[np.int64] | None,
    a: NDArray[np.int32],
    b: NDArray[np.int32],
    sums: NDArray[np.float64],
) -> int: ...
def folded_cells(
    a: NDArray[np.int32],
    b: NDArray[np.int32],
    values: NDArray[np.float64],
    low: NDArray[np.int32],
    high: NDArray[np.int32],
    folded: NDArray[np.float64],
) -> int: ...
def pair_table(
    cell: NDArray[np.int32],
    y: NDArray[np.float64],
    weight: NDArray[np.float64] | None,
    count: NDArray[np.float64] | None,
    sums: NDArray[np.float64],
    squares: NDArray[np.float64],
    rows: NDArray[np.float64],
) -> int: ...
