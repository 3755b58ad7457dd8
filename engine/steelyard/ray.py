"""Passes on a Ray cluster: the same blocks, the same kernels, merged in the same order, so the same bits.

Tasks encode ranges of rows with dictionaries of their own; the driver learns their labels in row order, as a single
reader would, and tasks renumber and count. Encoded rows that a fit reads again stay in the workers' memory. A task
whose worker dies is run again.
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import import_module
from typing import Any, NamedTuple, TypeVar

import numpy as np
import polars as pl

from steelyard.blocks import Block, Encoder, block_rows
from steelyard.errors import LogError, SteelyardError, whole
from steelyard.log import PreferenceLog
from steelyard.models.likelihood import Likelihood
from steelyard.passes import Changes, batches, count_rows, progress
from steelyard.solve import one_blas_thread
from steelyard.spill import Blocks, Later, changed, concatenated, packs, size

S = TypeVar("S")


@dataclass(frozen=True)
class RayExecutor:
    """Runs the passes of a fit on Ray: ``fit(log, executor=sy.RayExecutor())``. Needs the extra ``ray``.

    The result has the bits of a fit on this machine's threads, on processors of one kind. Workers read the log
    themselves: paths must be theirs too, and a frame in memory is sent to them; a lazy query is refused, because tasks
    would run it apart. Large logs do best as Parquet, of which a task reads its rows alone.

    Parameters
    ----------
    address : of the cluster, as :func:`ray.init` takes it; None: one that was started before, or this machine
    blocks : how many blocks a task reads, of 2^17 rows each, or fewer under wide features; fewer for small workers,
        more for large row groups

    Examples
    --------
    >>> import steelyard as sy
    >>> sy.RayExecutor(address="auto").blocks
    8
    """

    address: str | None = None
    blocks: int = 8

    def __post_init__(self) -> None:
        whole("blocks", self.blocks, 1, 1 << 20)

    def run_pass(
        self, log: PreferenceLog, encoder: Encoder, kernel: Callable[[Block], Any], merge: Callable[[Any], None]
    ) -> None:
        """As :func:`steelyard.passes.run_pass`; an encoder that learns has learned all labels at the end."""
        if not log.steady:
            raise LogError(
                f"{log.name} is a query, which every task would run anew, and which may then have its rows in another "
                "order: write it with sink_parquet and scan the file, or collect() it first."
            )
        ray, tasks = _started(self.address)
        ahead, total = _ahead(ray), count_rows(log, encoder)
        asked, job = ray.put(_packed((log, encoder), whole=True)), ray.put(_packed(kernel))
        step = self.blocks * block_rows(encoder.wide)
        starts, known = deque(range(0, total, step)), [len(dictionary) for dictionary in encoder.dictionaries]
        encoded: deque[Any] = deque()
        counted: deque[Any] = deque()
        while starts or encoded or counted:
            while starts and len(encoded) < ahead:
                start = starts.popleft()  # the last one reads to the end, wherever that is by now
                encoded.append(tasks.encode.remote(asked, start, start + step if starts else None))
            if encoded:
                told, blocks = encoded.popleft()
                told = _got(ray, told)
                encoder.rows += sum(own.rows for own in told)
                codes = _codes(encoder, known, told)
                answers = tasks.count.options(num_returns=1 + max(1, len(told))).remote(job, codes, blocks)
                counted.append((told, answers))
            while counted and (len(counted) > ahead or not (encoded or starts)):
                told, answers = counted.popleft()
                self._merged(ray, told, answers, merge)
        if encoder.rows != total:
            raise LogError(f"{log.name} changed while it was read: it had {total} rows, and then {encoder.rows}")

    def _merged(self, ray: Any, told: list[_Learned], answers: Any, merge: Callable[[Any], None]) -> None:
        statistics, *kept = answers
        for own, (statistic, keeps), block in zip(told, _got(ray, statistics), kept, strict=False):
            merge((statistic, Kept(block)) if keeps else statistic)
            progress.get()(own.rows)

    # --- kept blocks --------------------------------------------------------------------------------
    def each(self, function: Callable[[Block], S], parts: Sequence[Any], changes: Changes) -> Iterator[S]:
        """function(block) for every block, changed, in order."""
        ray, tasks = _started(self.address)
        yield from (_got(ray, answer) for answer in self._asked(ray, tasks, function, parts, changes))

    def kept(self, parts: Sequence[Any], changes: Changes) -> list[Kept]:
        """The blocks with their changes made, where they are."""
        ray, tasks = _started(self.address)
        return [Kept(block) for block in self._asked(ray, tasks, _itself, parts, changes)]

    def packed(self, parts: Sequence[Any], changes: Changes) -> list[Kept]:
        """The same, in few full blocks."""
        _, tasks = _started(self.address)
        kept = self.kept(parts, changes)
        groups = packs(list(self.each(size, kept, ())))
        return [Kept(tasks.join.remote(*(kept[i].block for i in group))) for group in groups]

    def _asked(self, ray: Any, tasks: _Tasks, function: Any, parts: Sequence[Any], changes: Changes) -> Iterator[Any]:
        """A task a part, few of them waiting; what they give, unread."""
        jobs, ahead = dict[tuple[int, ...], Any](), 2 * _ahead(ray)
        pending: deque[Any] = deque()
        for part in parts:
            block, before = _known(part)
            key = tuple(map(id, before))  # parts of one origin have their changes in common
            if key not in jobs:
                jobs[key] = ray.put(_packed((function, (*before, *changes))))
            pending.append(tasks.apply.remote(jobs[key], block))
            if len(pending) > ahead:
                ray.wait([pending[0]])
                yield pending.popleft()
        yield from pending


@dataclass(frozen=True)
class Kept:
    """A block in the memory of the cluster."""

    block: Any

    def __call__(self) -> Block:
        found: Block = import_module("ray").get(self.block)
        return found


def _known(part: Any) -> tuple[Any, Changes]:
    """What Ray knows a part by, and the changes that are due to it."""
    if isinstance(part, Later):
        block, before = _known(part.part)
        return block, (*before, *part.changes)
    return (part.block if isinstance(part, Kept) else part), ()


def _itself(block: Block) -> Block:
    return block


# --- what the driver learns ----------------------------------------------------------------------
class _Learned(NamedTuple):
    """What a task learned from one block. labels: of each dictionary, those that it had not met before."""

    rows: int
    labels: list[pl.Series]
    numeric: list[bool]


class _Codes(NamedTuple):
    """How to renumber the blocks of a task. codes: of each dictionary, for every label of the task's.

    arms, values: of each block, see :class:`Block`.
    """

    codes: list[Any]
    arms: list[int]
    values: list[Any]


def _codes(encoder: Encoder, known: list[int], told: list[_Learned]) -> _Codes:
    """Learns the labels of a task in the order in which one reader would have met them.

    known: how many each dictionary held when the pass began, which tasks know too.
    """
    found = _Codes([np.arange(n, dtype=np.int32) for n in known], [], [])
    for own in told:
        for i, dictionary in enumerate(encoder.dictionaries):
            dictionary.numeric |= own.numeric[i]
            found.codes[i] = np.concatenate([found.codes[i], dictionary.encode(own.labels[i])])
        found.arms.append(len(encoder.arms))
        found.values.append(encoder.label_values())
    return found


def _renumbered(block: Block, codes: list[Any], arms: int, value: Any) -> Block:
    """The block with the driver's codes."""

    def own(column: Any, table: Any) -> Any:
        return np.where(column >= 0, table[np.maximum(column, 0)], column) if len(table) else column

    arm, label, *others = codes
    clusters, rest = others[: len(block.clusters)], others[len(block.clusters) :]
    return replace(
        block, arms=arms, a=own(block.a, arm), b=own(block.b, arm),
        label=None if block.label is None else own(block.label, label), value=None if block.value is None else value,
        clusters=tuple(map(own, block.clusters, clusters)), levels=tuple(map(own, block.levels, rest)),
        group=None if block.group is None else own(block.group, rest[-1]),
    )  # fmt: skip


# --- tasks ---------------------------------------------------------------------------------------
def _encode(asked: bytes, start: int, end: int | None) -> tuple[Any, list[Block]]:
    """Some rows of a log as blocks, coded by dictionaries of this task's own; what they learned, or an error."""
    try:
        log, encoder = _unpacked(asked)
        return _encoded(log, encoder, start, end)
    except Exception as error:  # told to whoever asks for either answer, it would be printed for the other
        return error, []


def _encoded(log: PreferenceLog, encoder: Encoder, start: int, end: int | None) -> tuple[list[_Learned], list[Block]]:
    encoder.rows = start
    blocks, told = [], []
    for batch in batches(log, encoder, slice(start, end)):
        before = [len(dictionary) for dictionary in encoder.dictionaries]
        blocks.append(encoder.block(batch))
        met = zip(encoder.dictionaries, before, strict=True)
        labels = [dictionary.series("label").slice(n) for dictionary, n in met]
        told.append(_Learned(batch.height, labels, [dictionary.numeric for dictionary in encoder.dictionaries]))
    return told, blocks


def _count(job: bytes, codes: _Codes, blocks: list[Block]) -> Any:
    """Of each block the statistic, and whether a block comes with it, or an error; then those blocks, or None."""
    statistics: Any = []
    kept: list[Block | None] = []
    try:
        kernel = _unpacked(job)
        with one_blas_thread():
            for block, arms, value in zip(blocks, codes.arms, codes.values, strict=True):
                found = kernel(_renumbered(block, codes.codes, arms, value))
                keeps = isinstance(found, tuple) and isinstance(found[-1], Block)
                statistics.append((found[0] if keeps else found, keeps))
                kept.append(found[1] if keeps else None)
    except Exception as error:  # as above
        statistics = error
    return (statistics, *kept, *[None] * (max(1, len(blocks)) - len(kept)))


def _apply(job: bytes, block: Block) -> Any:
    function, changes = _unpacked(job)
    with one_blas_thread():
        return function(changed(block, changes))


def _join(*blocks: Block) -> Block:
    return concatenated(blocks)


class _Tasks(NamedTuple):
    encode: Any
    count: Any
    apply: Any
    join: Any


@lru_cache(maxsize=1)
def _tasks(ray: Any) -> _Tasks:
    return _Tasks(ray.remote(num_returns=2)(_encode), ray.remote(_count), ray.remote(_apply), ray.remote(_join))


def _started(address: str | None) -> tuple[Any, _Tasks]:
    """Ray, connected, and the tasks."""
    try:
        ray: Any = import_module("ray")
    except ImportError as error:
        raise ImportError("RayExecutor needs Ray: pip install 'steelyard[ray]'") from error
    if not ray.is_initialized():
        local = {} if address else {"include_dashboard": False}
        ray.init(address=address, log_to_driver=False, logging_level="error", **local)
    return ray, _tasks(ray)


def _ahead(ray: Any) -> int:
    """How many tasks wait for a worker, at most."""
    return max(2, int(ray.cluster_resources().get("CPU", 2)))


def _got(ray: Any, answer: Any) -> Any:
    """What a task gave; the error it met, raised here."""
    try:
        found = ray.get(answer)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    except ray.exceptions.RayError as error:
        raise SteelyardError(f"Ray lost a part of the pass: {error}") from error
    if isinstance(found, Exception):
        raise found
    return found


# --- what is sent --------------------------------------------------------------------------------
def _packed(what: Any, whole: bool = False) -> bytes:
    """Bytes of a function with all that it holds, but for rows: tasks get their block by hand. whole: of a log."""
    cloudpickle: Any = import_module("ray.cloudpickle")

    class Pickler(cloudpickle.CloudPickler):  # type: ignore[misc]
        def reducer_override(self, thing: Any) -> Any:
            if isinstance(thing, Blocks):
                return Blocks, ([],)
            if isinstance(thing, PreferenceLog) and not whole:
                return _nothing, ()
            if isinstance(thing, Likelihood):
                return _compiled, (cloudpickle.dumps(thing.functions),)
            return super().reducer_override(thing)

    file = io.BytesIO()
    Pickler(file).dump(what)
    return file.getvalue()


def _unpacked(data: bytes) -> Any:
    return import_module("ray.cloudpickle").loads(data)


def _nothing() -> None:
    """In place of a log, which may hold a frame: kernels read blocks."""


@lru_cache(maxsize=8)
def _compiled(functions: bytes) -> Likelihood:
    """A likelihood of one's own, compiled once a worker."""
    return Likelihood(*_unpacked(functions))
