"""Three ways to count the comparisons of blocks by pair: a square table, a sort, a hash of cells."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from steelyard._native.pair_table import pair_cells, pair_count, pair_slots, plain_keys, sorted_cells, square_cells
from steelyard.blocks import Block

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MOST_WAITING = 1 << 22  # rows among many arms that wait to be counted


@dataclass
class Hashed:
    """Growing sums by cell, for rows of any kind: weights, counts, soft labels, positions that do not count."""

    keys: NDArray[np.int64] = field(default_factory=lambda: np.zeros(1 << 10, np.int64))
    slots: NDArray[np.int32] = field(default_factory=lambda: np.full(1 << 12, -1, np.int32))
    count: NDArray[np.int64] = field(default_factory=lambda: np.zeros(1, np.int64))
    values: NDArray[np.float64] = field(default_factory=lambda: np.zeros((1 << 10, 7)))

    def cells(self, a: Any, b: Any, first: Any) -> NDArray[np.int32]:
        cell = np.empty(len(a), np.int32)
        done = 0
        while True:
            done = pair_cells(done, a, b, first, self.slots, self.keys, self.count, cell)
            if done == len(a):
                return cell
            capacity = 4 * len(self.keys)
            self.keys = np.resize(self.keys, capacity)
            self.slots = np.full(4 * capacity, -1, np.int32)
            pair_slots(int(self.count[0]), self.keys, self.slots)
            self.values = np.concatenate([self.values, np.zeros((capacity - len(self.values), 7))])

    def decoded(self) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.uint8]]:
        keys = self.keys[: int(self.count[0])]
        low = (1 << 31) - 1
        return (keys >> 31 & low).astype(np.int32), (keys & low).astype(np.int32), (keys >> 62 & 1).astype(np.uint8)


class Square:
    """Square tables (K, K, 3) of plain rows, one a worker: whole numbers add up the same in any order.

    A worker's table is of bytes, and one of how often each byte ran over.
    """

    def __init__(self) -> None:
        self._own = threading.local()
        self._workers: list[list[NDArray[Any]]] = []

    def __reduce__(self) -> tuple[Any, ...]:
        return Square, ()  # tables are of this process's workers; a copy that is sent elsewhere starts empty

    def take(self, block: Block) -> int:
        """Counts rows until one is near that is not plain; returns how many."""
        if not hasattr(self._own, "tables"):
            self._own.tables = [np.zeros((0, 0, 3), kind) for kind in (np.uint8, np.uint32)]
            self._workers.append(self._own.tables)
        mine = self._own.tables
        mine[:] = (_widened(table, block.arms) for table in mine)
        return int(pair_count(block.a, block.b, block.label, _places(block), block.y, *mine))

    def cells(self, code: NDArray[np.int32]) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float64]]:
        """a, b (m,) and counts (m, 3) of win, tie, loss, as a table sorts them; arms renumbered by code (K,)."""
        k = max((len(counts) for counts, _carries in self._workers), default=0)
        total, room = np.zeros((k, k, 3)), k * (k - 1)
        for counts, carries in self._workers:
            own = total[: len(counts), : len(counts)]
            own += counts
            if carries.any():
                own += 256.0 * carries
        a, b, sums = np.empty(room, np.int32), np.empty(room, np.int32), np.empty((room, 3))
        order = np.argsort(code[:k]).astype(np.int32)
        m = square_cells(total, order, code[order], a, b, sums)
        return a[:m], b[:m], sums[:m]


def _places(block: Block) -> NDArray[np.uint8] | None:
    """Where each label stands among win, tie, loss; 3: nowhere. None where outcomes are numbers."""
    if block.value is None:
        return None
    plain = (block.value == 0.0) | (block.value == 0.5) | (block.value == 1.0)
    return np.where(plain, 2.0 - 2.0 * block.value, 3.0).astype(np.uint8)


def _widened(table: NDArray[Any], k: int) -> NDArray[Any]:
    if len(table) >= k:
        return table
    wider = np.zeros((k, k, 3), table.dtype)
    wider[: len(table), : len(table)] = table
    return wider


class Plain:
    """Plain rows among more arms than a square table holds: one number a row, sorted once at the end.

    A row is a << 32 | b << 2 | place (0 win, 1 tie, 2 loss), arms below 2^30. Rows seen often are counted early.
    """

    def __init__(self) -> None:
        self._waiting: list[NDArray[np.int64]] = []
        self._length = 0
        self._keys, self._counts = np.empty(0, np.int64), np.empty(0, np.int64)

    @staticmethod
    def take(block: Block) -> NDArray[np.int64] | None:
        """The rows of a block, or None where some row is not plain."""
        keys = np.empty(block.n, np.int64)
        done = plain_keys(block.a, block.b, block.label, _places(block), block.y, keys)
        return keys if done == block.n else None

    def add(self, keys: NDArray[np.int64]) -> None:
        self._waiting.append(keys)
        self._length += len(keys)
        if self._length > max(_MOST_WAITING, len(self._keys)):
            self._keys, self._counts = self._counted(lambda keys: keys)
            self._waiting, self._length = [], 0

    def cells(self, code: NDArray[np.int32]) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float64]]:
        """a, b (m,) and counts (m, 3) of win, tie, loss, as a table sorts them; arms renumbered by code (K,)."""

        def renumbered(keys: NDArray[np.int64]) -> NDArray[np.int64]:
            a, b = code[keys >> 32], code[keys >> 2 & (1 << 30) - 1]
            low, high = np.minimum(a, b).astype(np.int64), np.maximum(a, b).astype(np.int64)
            changed: NDArray[np.int64] = (low << 33) | (high << 3) | ((a > b).astype(np.int64) << 2) | (keys & 3)
            return changed

        if len(self._keys):
            keys, count = self._counted(renumbered)
        else:
            keys, count = np.sort(renumbered(np.concatenate([*self._waiting, self._keys]))), None
        a, b, sums = np.empty(len(keys), np.int32), np.empty(len(keys), np.int32), np.empty((len(keys), 3))
        m = sorted_cells(keys, count, a, b, sums)
        return a[:m], b[:m], sums[:m]

    def _counted(self, change: Callable[[NDArray[np.int64]], NDArray[np.int64]]) -> tuple[Any, Any]:
        """All keys so far, changed, sorted, each once; and how often each was seen."""
        keys = np.sort(change(np.concatenate([*self._waiting, np.empty(0, np.int64)])))
        starts = np.flatnonzero(np.diff(keys, prepend=-1))
        keys, counts = keys[starts], np.diff(starts, append=len(keys))
        if not len(self._keys):
            return keys, counts
        keys, counts = np.concatenate([change(self._keys), keys]), np.concatenate([self._counts, counts])
        order = np.argsort(keys, kind="stable")
        keys, counts = keys[order], counts[order]
        starts = np.flatnonzero(np.diff(keys, prepend=-1))
        return keys[starts], np.add.reduceat(counts, starts)
