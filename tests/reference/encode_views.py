"""Twins of bindings/encode_views.pyx; encode_views takes Python strings where the kernel takes Arrow views."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def encode_views(
    start: int,
    strings: Sequence[str | None],
    learn: bool,
    capacity: int,
    arena_capacity: int,
    labels: list[str],
    codes: NDArray[np.int32],
) -> int:
    """Codes (n,) of strings start..n-1: place in labels, which grows if learn; -1 for null, -2 for unknown.

    Returns n, or the first row for which capacity labels or arena_capacity bytes leave no room.
    """
    for i in range(start, len(strings)):
        text = strings[i]
        if text is None:
            codes[i] = -1
        elif text in labels:
            codes[i] = labels.index(text)
        elif not learn:
            codes[i] = -2
        elif len(labels) >= capacity or len("".join([*labels, text]).encode()) > arena_capacity:
            return i
        else:
            codes[i] = len(labels)
            labels.append(text)
    return len(strings)


def rehash(count: int, hashes: NDArray[np.uint64], slots: NDArray[np.int32]) -> None:
    """Put codes 0..count-1 into an empty (-1) open-addressing table by their hashes."""
    for code in range(count):
        slot = int(hashes[code]) % len(slots)
        while slots[slot] >= 0:
            slot = (slot + 1) % len(slots)
        slots[slot] = code
