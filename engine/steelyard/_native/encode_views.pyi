import numpy as np
from numpy.typing import NDArray

__test__: dict[str, str]  # Cython's docstring examples
CACHE_WORDS: int

def encode_views(
    start: int,
    views: NDArray[np.uint64],
    valid: NDArray[np.uint8] | None,
    valid_offset: int,
    buffers: list[NDArray[np.uint8]],
    learn: bool,
    slots: NDArray[np.int32],
    hashes: NDArray[np.uint64],
    offsets: NDArray[np.int64],
    arena: NDArray[np.uint8],
    count: NDArray[np.int64],
    cache: NDArray[np.uint64],
    codes: NDArray[np.int32],
) -> int: ...
def rehash(count: int, hashes: NDArray[np.uint64], slots: NDArray[np.int32]) -> None: ...
