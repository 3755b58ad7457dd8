"""Blocks of encoded rows that an iterative fit reads again and again: in memory, or beyond that in a file.

The file is Arrow IPC, one record batch of one row a block and one list a column, in the folder for temporary files. It
has no name there, where the system allows, so that nothing is left behind whatever happens.
It is mapped into memory, not copied; what was mapped some blocks ago is let go, so that little of it is resident.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import shutil
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np

from steelyard.blocks import ARRAYS, SEVERAL, Block, block_rows
from steelyard.passes import Changes, Executor, cores, in_order

S = TypeVar("S")
MOST_IN_MEMORY = 3 << 27  # bytes of encoded rows that are kept in memory
_FEW = 1 << 17  # numbers: a pass over so few (eight a row, and its features and contexts) is done before threads start
_SPARE = 1 << 26  # bytes that the disk must have left
_ABSENT: dict[str, Any] = {field.name: None if field.default is MISSING else field.default for field in fields(Block)}


@dataclass(frozen=True)
class Blocks:
    """Blocks in log order. parts: blocks, or what reads one when called; changes: made to each as it is read.

    place: where they are, if not here.
    """

    parts: list[Block | Callable[[], Block]]
    changes: Changes = ()
    place: Executor | None = None

    @property
    def in_memory(self) -> bool:
        return all(isinstance(part, Block) for part in self.parts)

    def map(self, change: Callable[[Block], Block]) -> Blocks:
        """The blocks with a change made: at once in memory, whenever they are read from a file."""
        if self.in_memory:
            return Blocks([*self.each(change)])
        return replace(self, changes=(*self.changes, change))

    def each(self, function: Callable[[Block], S]) -> Iterator[S]:
        """function(block) for every block, in order, on all cores."""
        if self.place is not None:
            return self.place.each(function, self.parts, self.changes)
        here = [part for part in self.parts if isinstance(part, Block)]
        if len(here) == len(self.parts) and sum(n * (8 + wide) for n, wide in map(size, here)) <= _FEW:
            return (function(changed(part, self.changes)) for part in self.parts)
        return in_order(lambda part: function(changed(part, self.changes)), self.parts)

    def packed(self) -> Blocks:
        """The same rows in few full blocks: some passes cost more a block than a row."""
        if self.place is not None:
            return Blocks(self.place.packed(self.parts, self.changes), place=self.place)
        groups = packs(list(self.each(size)))
        later = [Together(tuple(Later(self.parts[i], self.changes) for i in group)) for group in groups]
        return Blocks([part() for part in later] if self.in_memory else [*later])

    def split(self, folds: int, view: bool = False) -> list[Blocks]:
        """The rows of each fold; blocks know the fold of their rows. view: as of :meth:`Block.where`."""
        return [self.map(partial(_of_fold, f, view)) for f in range(folds)]


def settled(blocks: Blocks) -> Blocks:
    """The blocks with their changes made once and for all; those that are read from a file go to another one."""
    if blocks.in_memory:  # where changes are made at once
        return blocks
    if blocks.place is not None:
        return Blocks(blocks.place.kept(blocks.parts, blocks.changes), place=blocks.place)
    return _spilled(blocks.each(lambda block: block))


def enlarged(blocks: Blocks, change: Callable[[Block], Block]) -> Blocks:
    """The blocks with a change that makes them larger made once and for all; beyond memory they go to a file."""
    return settled(blocks.map(change)) if blocks.place is not None else _spilled(blocks.each(change))


def _spilled(blocks: Iterable[Block]) -> Blocks:
    spill = Spill()
    for block in blocks:
        spill.add(block)
    return spill.done()


def joined(several: Sequence[Blocks]) -> Blocks:
    """The blocks of several, one after the other."""
    parts: list[Block | Callable[[], Block]] = []
    for blocks in several:
        parts += [Later(part, blocks.changes) if blocks.changes else part for part in blocks.parts]
    return Blocks(parts, place=next((blocks.place for blocks in several), None))


@dataclass(frozen=True)
class Later:
    """A block that is read and changed when called."""

    part: Block | Callable[[], Block]
    changes: Changes

    def __call__(self) -> Block:
        return changed(self.part, self.changes)


@dataclass(frozen=True)
class Together:
    """One block of several that are read when called."""

    parts: tuple[Later, ...]

    def __call__(self) -> Block:
        return concatenated([part() for part in self.parts])


def changed(part: Block | Callable[[], Block], changes: Changes) -> Block:
    """The block of a part, with changes made to it."""
    block = part if isinstance(part, Block) else part()
    for change in changes:
        block = change(block)
    return block


def size(block: Block) -> tuple[int, int]:
    """Rows, and how many features, contexts and columns of a design each has."""
    features = next((side.shape[1] for side in (block.features, *block.sides) if side is not None), 0)
    return block.n, features + len(block.context) + (0 if block.design is None else len(block.design))


def packs(sizes: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Which neighbours, by their :func:`size`, make one block together."""
    groups: list[list[int]] = []
    for i, (n, wide) in enumerate(sizes):
        if not groups or sum(sizes[j][0] for j in groups[-1]) + n > block_rows(wide):
            groups.append([])
        groups[-1].append(i)
    return groups


def concatenated(group: Sequence[Block]) -> Block:
    """One block of several."""
    if len(group) == 1:
        return group[0]
    group = [block.together() for block in group]
    arrays = {name: np.concatenate([_arrays(block)[name] for block in group], 0 if name == "features" else -1)
              for name in _arrays(group[0])}  # fmt: skip
    return _block(arrays, group[0].start, sum(block.n for block in group), group[0].arms)


def _block(arrays: dict[str, Any], start: int, n: int, arms: int) -> Block:
    """The block of arrays by name, as :func:`_arrays` gives them."""
    several = {kind: tuple(arrays.pop(name) for name in list(arrays) if name.startswith(f"{kind} "))
               for kind in SEVERAL}  # fmt: skip
    return Block(**{**_ABSENT, **arrays, **several, "start": start, "n": n, "arms": arms})


def _of_fold(fold: int, view: bool, block: Block) -> Block:
    low, high = np.searchsorted(np.asarray(block.fold), [fold, fold + 1])
    return block.where(slice(low, high), view)


class Spill:
    """Takes blocks one by one and keeps them, in memory while they are few."""

    def __init__(self) -> None:
        self._blocks: list[Block] = []
        self._bytes = 0
        self._file: Any = None
        self._writer: Any = None
        self._like: Block | None = None
        self._written = 0

    def add(self, block: Block) -> None:
        self._blocks.append(block)
        self._bytes += _size(block)
        if self._writer is not None or self._bytes > MOST_IN_MEMORY:
            self._flush()

    def done(self) -> Blocks:
        """All the blocks; nothing can be added after."""
        if self._writer is None:
            return Blocks(list(self._blocks))
        return Blocks([*_reader(self._close(), self._like)])

    def _flush(self) -> None:
        import pyarrow as pa

        for block in map(Block.together, self._blocks):
            if block.place is None:  # other blocks, with bad rows among them, may have one: a file has one schema
                block = replace(block, place=np.arange(block.n, dtype=np.int32))
            batch = _batch(block)
            if self._writer is None:
                self._file, self._like = tempfile.TemporaryFile(prefix="steelyard-"), block  # noqa: SIM115 (open until it is mapped)
                self._writer = pa.ipc.new_file(self._file, batch.schema)
            self._check_room(_size(block))
            self._writer.write_batch(batch)
            self._written += block.n
        self._blocks = []

    def _check_room(self, needed: int) -> None:
        folder = tempfile.gettempdir()
        free = shutil.disk_usage(folder).free
        if free < needed + _SPARE:
            self._file.close()
            raise OSError(
                errno.ENOSPC,
                f"the encoded rows of this log do not fit into {folder}: {self._written} rows are written "
                f"and {free >> 20} MiB are left. Make room there, or name another folder in TMPDIR",
            )

    def _close(self) -> Any:
        """The file, mapped."""
        self._writer.close()
        self._file.flush()
        with self._file as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _size(block: Block) -> int:
    """Bytes of what is the block's own: neither columns nor features that lie in a frame."""
    return sum(array.nbytes for array in _arrays(block).values())


def _arrays(block: Block) -> dict[str, Any]:
    """The block's arrays by name, without those it does not have."""
    named = {name: getattr(block, name) for name in ARRAYS}
    if isinstance(block.columns, tuple):
        del named["columns"]
    for kind in SEVERAL:
        named |= {f"{kind} {i}": codes for i, codes in enumerate(getattr(block, kind))}
    return {name: array for name, array in named.items() if array is not None}


def _batch(block: Block) -> Any:
    import pyarrow as pa

    def plain(numbers: Any) -> Any:
        return pa.Array.from_buffers(pa.from_numpy_dtype(numbers.dtype), len(numbers), [None, pa.py_buffer(numbers)])

    lists, names = [], []
    for name, array in {"start": np.array([block.start]), **_arrays(block)}.items():
        values = plain(np.ascontiguousarray(array).ravel())
        lists.append(pa.LargeListArray.from_arrays(plain(np.array([0, len(values)])), values))
        names.append(name)
    return pa.record_batch(lists, names)


def _numbers(array: Any) -> Any:
    """An Arrow array without nulls; Arrow's own way to NumPy, and from it, loads pandas where that is there."""
    values = np.frombuffer(array.buffers()[1], array.type.to_pandas_dtype())
    return values[array.offset : array.offset + len(array)]


def _reader(mapped: Any, like: Block | None) -> Iterator[Callable[[], Block]]:
    """For each block of the file a function that reads it; like: the first of them, for the shapes."""
    import pyarrow as pa

    assert like is not None
    reader, lock, arms = pa.ipc.open_file(pa.py_buffer(mapped)), threading.Lock(), like.arms
    resident = _Resident(mapped)
    shapes = {name: {"features": (-1, *array.shape[1:])}.get(name, (*array.shape[:-1], -1))
              for name, array in _arrays(like).items()}  # fmt: skip

    def read(i: int) -> Block:
        with lock:  # one reader
            batch = reader.get_batch(i)
            flat = {name: _numbers(batch.column(name).flatten()) for name in batch.schema.names}
            resident.has(flat.values())
        start, n = int(flat.pop("start")[0]), len(flat["a"])
        arrays = {name: _shaped(values, shapes[name], n) for name, values in flat.items()}
        return _block(arrays, start, n, arms)

    for i in range(reader.num_record_batches):
        yield partial(read, i)


class _Resident:
    """Lets go of what was mapped some blocks ago; whoever still holds its arrays finds it mapped again when read."""

    def __init__(self, mapped: Any) -> None:
        self._mapped, self._start = mapped, np.frombuffer(mapped, np.uint8).ctypes.data
        self._spans: deque[tuple[int, int]] = deque()

    def has(self, arrays: Iterable[Any]) -> None:
        """Takes note of the arrays of a block that is read now."""
        ends = [(array.ctypes.data, array.ctypes.data + array.nbytes) for array in arrays if array.nbytes]
        low, high = min(low for low, _ in ends) - self._start, max(high for _, high in ends) - self._start
        self._spans.append((low - low % mmap.PAGESIZE, high))
        if len(self._spans) > 2 * cores() + 4 and hasattr(self._mapped, "madvise"):
            low, high = self._spans.popleft()
            with contextlib.suppress(OSError):  # of a process that locks its memory
                self._mapped.madvise(mmap.MADV_DONTNEED, low, high - low)


def _shaped(values: Any, shape: tuple[int, ...], n: int) -> Any:
    """Values of a block of n rows; shape: -1 where the rows are."""
    return values.reshape([n if length < 0 else length for length in shape])
