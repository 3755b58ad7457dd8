"""One pass: map a kernel over the blocks of a log and merge the statistics in block order.

The calling thread pulls batches, a pool codes their labels, reads their numbers and maps the kernel, and results are
merged in block order, so that any number of threads gives the same bits. Labels are learned on one thread, in row
order. An executor does the same elsewhere (ray.py), on the same blocks, merged in the same order.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import polars as pl

from steelyard.blocks import Batch, Block, Encoder, block_rows
from steelyard.dictionary import NewLabelError
from steelyard.errors import whole
from steelyard.pages import text_batches

if TYPE_CHECKING:
    from steelyard.log import PreferenceLog

S = TypeVar("S")
Changes = tuple[Callable[[Block], Block], ...]
T = TypeVar("T")
progress: ContextVar[Callable[[int], object]] = ContextVar("progress", default=lambda rows: None)
"""Told how many rows were read, each time a block is done; set by whoever shows progress."""


class Executor(Protocol):
    """Where passes run and the blocks they keep live, if not on the threads of this process."""

    def run_pass(
        self, log: PreferenceLog, encoder: Encoder, kernel: Callable[[Block], Any], merge: Callable[[Any], None]
    ) -> None:
        """As :func:`run_pass`."""

    def each(self, function: Callable[[Block], S], parts: Sequence[Any], changes: Changes) -> Iterator[S]:
        """function(block) for every kept block, changed, in order."""

    def kept(self, parts: Sequence[Any], changes: Changes) -> list[Any]:
        """Kept blocks with their changes made once and for all."""

    def packed(self, parts: Sequence[Any], changes: Changes) -> list[Any]:
        """The same, in few full blocks."""


elsewhere: ContextVar[Executor | None] = ContextVar("elsewhere", default=None)
"""The executor of the fit that is under way; None: threads."""
_threads: ContextVar[int | None] = ContextVar("threads", default=None)
"""How many threads passes have; None: one a core."""


@contextmanager
def placed(threads: int | None, executor: Executor | None = None) -> Iterator[None]:
    """Passes inside run on so many threads, or by the executor; of None as they did before."""
    if executor is not None and (isinstance(executor, type) or not hasattr(executor, "run_pass")):
        raise TypeError(f"executor takes a RayExecutor(), not {executor!r}")
    here = _threads.set(_threads.get() if threads is None else whole("threads", threads, 1))
    there = elsewhere.set(executor or elsewhere.get())
    try:
        yield
    finally:
        elsewhere.reset(there)
        _threads.reset(here)


def on(threads: int | None, executor: Executor | None, fit: Callable[..., S], log: PreferenceLog) -> S:
    """fit(log), its passes run there: see :func:`placed`."""
    with placed(threads, executor):
        return fit(log)


def run_pass(
    log: PreferenceLog,
    encoder: Encoder,
    kernel: Callable[[Block], S],
    merge: Callable[[S], None],
) -> None:
    """Calls merge(kernel(block)) for every block, in block order. A block's arrays live until it is merged.

    Where the fit has an executor, that one runs it; a Block beside a statistic, (statistic, block), then stays there,
    and merge gets what stands for it.
    """
    executor = elsewhere.get()
    if executor is not None:
        executor.run_pass(log, encoder, kernel, merge)
        return
    workers = cores()
    pending: deque[Future[Future[tuple[Block, S]]]] = deque()
    known = threading.Event()  # the last block taught no label: the next is likely to hold none that is new
    with ThreadPoolExecutor(1) as learning, ThreadPoolExecutor(workers) as pool:

        def mapped(block: Block, batch: Batch) -> tuple[Block, S]:
            return block, kernel(encoder.numbered(block, batch))

        def at_once(batch: Batch, start: int) -> tuple[Block, S] | None:
            try:
                block = encoder.coded(batch, start, teach=False)
            except NewLabelError:
                return None
            return mapped(block, batch)

        def in_turn(batch: Batch, start: int, tried: Future[Any] | None) -> Future[tuple[Block, S]]:
            if tried is not None and tried.result() is not None:
                return tried
            before = encoder.learned
            block = encoder.coded(batch, start)
            (known.set if encoder.learned == before else known.clear)()
            return pool.submit(mapped, block, batch)

        def merge_first() -> None:
            block, statistic = pending.popleft().result().result()
            merge(statistic)
            progress.get()(block.n)
            encoder.recycle(block)

        for batch in batches(log, encoder):
            start = encoder.next_rows(batch)
            tried = pool.submit(at_once, batch, start) if known.is_set() else None
            pending.append(learning.submit(in_turn, batch, start, tried))
            if len(pending) > workers + 3:
                merge_first()
        while pending:
            merge_first()


def cores() -> int:
    """How many threads passes have: as many as the fit was given, or as this process may use cores."""
    return _threads.get() or len(_cores_by_name()) or os.cpu_count() or 1


def in_order(function: Callable[[T], S], items: Iterable[T]) -> Iterator[S]:
    """function(item) for every item, in order, on all threads; few results wait at any time."""
    if _busy():  # a pass within a pass: the threads are all taken
        yield from map(function, items)
        return
    pending: deque[Future[S]] = deque()
    workers = cores()
    pool = _pool(os.getpid(), _cores_by_name(), workers)
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > workers + 1:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        late = [each for each in pending if not each.cancel()]
        if not _busy():  # a pass that is collected on one of its own threads would wait for itself
            wait(late)


_worker = threading.local()


def _busy() -> bool:
    """Whether this is one of the threads that passes share."""
    return getattr(_worker, "busy", False)


def _cores_by_name() -> frozenset[int]:
    """Which cores this thread may use; none where the system does not tell."""
    return frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else frozenset()


@lru_cache(maxsize=1)
def _pool(process: int, where: frozenset[int], workers: int) -> ThreadPoolExecutor:
    """Threads that all passes over kept blocks share: to start them anew takes as long as a pass over 100,000 rows.

    process: whose they are, since a forked one has none of them. where: the cores they stay on.
    """
    return ThreadPoolExecutor(workers, "steelyard", lambda: setattr(_worker, "busy", True))


def batches(log: PreferenceLog, encoder: Encoder, rows: slice | None = None) -> Iterator[Batch]:
    """The log's columns, or some rows of them, as batches of exactly as many rows as a block has, the last but less."""
    start, length = (0, None) if rows is None else (rows.start, None if rows.stop is None else rows.stop - rows.start)
    text, step = log.text_columns(encoder) if rows is None else {}, block_rows(encoder.wide)
    straight = text_batches(log.files, text, step) if text else None
    if straight is not None:
        told = yield from straight
        if told is None:
            return
        start = told
    at_hand = log.at_hand(encoder)
    if at_hand is None:
        yield from _queried(log, log.selected(encoder).slice(start, length), step)
        return
    whole, query = at_hand[0].slice(start, length), at_hand[1]
    cut = (whole.slice(at, step) for at in range(0, whole.height, step))
    if query is None:
        yield from cut
        return
    for batch, computed in zip(cut, _queried(log, query.slice(start, length), step), strict=True):
        yield batch.hstack(computed.get_columns()[1:])


def _queried(log: PreferenceLog, frame: pl.LazyFrame, step: int) -> Iterator[pl.DataFrame]:
    with log.reading():
        for batch in frame.collect_batches(chunk_size=step, maintain_order=True):
            if batch.height:
                yield batch


def count_rows(log: PreferenceLog, encoder: Encoder) -> int:
    """How many rows :func:`batches` gives in all."""
    with log.reading():
        return int(log.selected(encoder).select(pl.len()).collect().item())
