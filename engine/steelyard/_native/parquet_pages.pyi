from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

PAGE_FIELDS: int
PAGE_PLACES: int
RUN_LEFT: int
RUN_PACKED: int
RUN_FIELDS: int
__test__: dict[str, str]  # Cython's docstring examples

def page_headers(data: Any, nullable: bool, at: int, rows: int, table: NDArray[np.int64]) -> int: ...
def page_codes(stretches: Sequence[tuple[Any, int, int, int, NDArray[np.int32]]], codes: NDArray[np.int32]) -> int: ...
def page_words(data: Any, views: NDArray[np.uint64]) -> int: ...
def page_numbers(data: Any, width: int, state: NDArray[np.int64], n: int, numbers: NDArray[np.int32] | None) -> int: ...
