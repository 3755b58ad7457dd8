"""Text columns of local Parquet files as the numbers of their words, straight from the pages: no string is made.

Almost every writer stores a column of few words as a dictionary page and, row by row, which word it is. Those numbers
are what a block needs. From the first page that holds anything else the rows are polars' to read.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from io import FileIO
from pathlib import Path
from threading import get_ident
from typing import Any, NamedTuple

import numpy as np

from steelyard._native.parquet_pages import (
    PAGE_PLACES,
    RUN_FIELDS,
    RUN_LEFT,
    RUN_PACKED,
    page_headers,
    page_numbers,
    page_words,
)
from steelyard.blocks import TextBatch
from steelyard.dictionary import Numbered, Stretch, Words
from steelyard.errors import LogError

_DICTIONARY, _DATA_2 = 2, 3  # types of pages
_CODECS = {"UNCOMPRESSED": None, "SNAPPY": "snappy", "GZIP": "gzip", "BROTLI": "brotli", "ZSTD": "zstd"}
_LARGEST = 1 << 30  # bytes of a column in one group of rows, which are read at once
_TOGETHER = 256  # headers that are read at a time


class _OtherPageError(Exception):
    """A page holds something else than numbers of words."""


class _Chunk(NamedTuple):
    """A column in one group of rows of a file: its first byte, how many follow, its rows, whether some may be null.

    stamp: tells whether the file is still the one that this was told of.
    """

    file: str
    stamp: tuple[int, ...]
    column: str
    at: int
    size: int
    rows: int
    codec: str | None
    nullable: bool

    def damaged(self, why: str) -> LogError:
        return LogError(f"could not read {self.file}: the pages of column {self.column!r} are damaged ({why})")


class _Header(NamedTuple):
    """As kernels/parquet_pages.h has it, and what else that tells of the page."""

    kind: int
    size: int
    stored: int
    values: int
    encoding: int
    level_encoding: int
    levels: int
    repeats: int
    compressed: int
    begin: int
    end: int
    sound: int


Batches = Generator[TextBatch, None, int | None]
"""Batches; and in the end None, or how many rows they had where a page holds something else."""


def text_batches(files: Sequence[str], columns: Mapping[str, str], rows: int) -> Batches | None:
    """The columns of some files, so many rows at a time; None where they are not stored as numbers of words.

    columns: the file's name of each.
    """
    found = _chunks(files, {*columns.values()})
    if found is None:
        return None
    return _batches({name: found[column] for name, column in columns.items()}, rows)


def _batches(chunks: Mapping[str, list[_Chunk]], rows: int) -> Batches:
    total, done = sum(chunk.rows for chunk in next(iter(chunks.values()))), 0
    columns = {name: _Column(several) for name, several in chunks.items()}
    while done < total:
        n = min(rows, total - done)
        try:
            batch = TextBatch(n, {name: column.take(n) for name, column in columns.items()})
        except _OtherPageError:
            return done
        yield batch
        done += n
    return None


def _chunks(files: Sequence[str], columns: set[str]) -> dict[str, list[_Chunk]] | None:
    """Where the columns of some files lie; None where files differ, are broken or hold anything else."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    found: dict[str, list[_Chunk]] = {column: [] for column in columns}
    first: Any = None
    for file in files:
        try:
            with Path(file).open("rb", buffering=0) as source:
                stamp, told = _stamp(source), pq.read_metadata(source)
                schema = told.schema.to_arrow_schema()
                first = first or schema
                if not schema.equals(first):
                    return None
                leaves = [told.schema.column(i).path for i in range(told.num_columns)]
                for column in columns:
                    chunks = _in_file(file, source, stamp, column, told, schema, leaves)
                    if chunks is None:
                        return None
                    found[column] += chunks
        except (pa.ArrowException, OSError):
            return None
    return found


def _stamp(source: FileIO) -> tuple[int, ...]:
    told = os.fstat(source.fileno())
    return told.st_size, told.st_mtime_ns  # not the inode, which some shared folders give anew


def _in_file(
    file: str, source: FileIO, stamp: tuple[int, ...], column: str, told: Any, schema: Any, leaves: list[str]
) -> list[_Chunk] | None:
    """leaves: the path of each column that is stored."""
    import pyarrow as pa

    if leaves.count(column) != 1 or schema.get_field_index(column) < 0:
        return None
    place = leaves.index(column)
    kind, leaf = schema.field(column).type, told.schema.column(place)
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    if not text or leaf.max_repetition_level or leaf.max_definition_level > 1:
        return None
    chunks = []
    for group in map(told.row_group, range(told.num_row_groups)):
        part = group.column(place)
        if part.compression not in _CODECS or not part.has_dictionary_page or part.num_values != group.num_rows:
            return None
        chunk = _Chunk(
            file, stamp, column, part.dictionary_page_offset, part.total_compressed_size,
            part.num_values, _CODECS[part.compression], leaf.max_definition_level > 0,
        )  # fmt: skip
        if not 0 < chunk.size <= _LARGEST:
            return None
        chunks.append(chunk)
    return chunks


@lru_cache
def _codec(name: str, thread: int) -> Any:
    """Of each thread its own: that of gzip has a state."""
    import pyarrow as pa

    return pa.Codec(name)


def _plain(chunk: _Chunk, stored: Any, size: int) -> Any:
    """Bytes of a page as they were before they were compressed."""
    import pyarrow as pa

    if chunk.codec is None or size == 0:  # of nothing but nulls there may be nothing to take apart
        return stored[:size]
    try:
        return memoryview(_codec(chunk.codec, get_ident()).decompress(pa.py_buffer(stored), size)).cast("B")
    except (pa.ArrowException, OSError) as error:
        raise chunk.damaged(str(error)) from error


class _Page:
    """A page of numbers of words, taken apart by the thread that first asks for its rows; two may do it at once."""

    def __init__(self, chunk: _Chunk, words: Words, head: _Header, body: Any) -> None:
        self.chunk, self.words, self.head, self.body = chunk, words, head, body

    @cached_property
    def parts(self) -> tuple[Any, int, Any]:
        """The numbers' bytes, the bits of each, and (rows,) which are not null; None: all."""
        chunk, head, levels = self.chunk, self.head, None
        if head.kind == _DATA_2:
            levels, data = self.body[: head.levels], self.body[head.levels :]
            data = data if head.compressed == 0 else _plain(chunk, data, head.size - head.levels)
        else:
            data = _plain(chunk, self.body, head.size)
            if chunk.nullable:
                cut = 4 + int.from_bytes(data[:4], "little")
                levels, data = data[4:cut], data[cut:]
        width = data[0] if len(data) else 0  # nothing but nulls
        if width > 31:
            raise chunk.damaged(f"numbers of {width} bits")
        return data[1:], width, _there(chunk, levels, head.values) if chunk.nullable else None


def _pages(chunks: Sequence[_Chunk]) -> Iterator[_Page]:
    """Page after page of a column. Raises _OtherPageError for the first that is none of numbers."""
    for chunk in chunks:
        data, words, rows = _stored(chunk), None, 0
        for head in _headers(chunk, data):
            if not head.sound or (words is None) != (head.kind == _DICTIONARY):
                raise _OtherPageError
            body = data[head.begin : head.end]
            if words is None:
                words = _words(chunk, _plain(chunk, body, head.size), head.values)
                continue
            rows += head.values
            if rows > chunk.rows:
                raise _OtherPageError
            yield _Page(chunk, words, head, body)


def _stored(chunk: _Chunk) -> memoryview:
    """The bytes of a column in one group of rows."""
    try:
        with FileIO(chunk.file) as source:
            if _stamp(source) != chunk.stamp:
                raise LogError(f"{chunk.file} changed while it was read: read it again when it is written")
            source.seek(chunk.at)
            return memoryview(source.read(chunk.size))
    except OSError as error:
        raise LogError(f"could not read {chunk.file}: {error}") from error


def _headers(chunk: _Chunk, data: memoryview) -> Iterator[_Header]:
    """Of every page, until the rows are all there."""
    at, rows, table = 0, chunk.rows, np.empty((_TOGETHER, PAGE_PLACES), np.int64)
    while rows > 0:
        count = page_headers(data, chunk.nullable, at, rows, table)
        for head in map(_Header._make, table[:count].tolist()):
            if head.kind < 0 or head.end > len(data):
                raise chunk.damaged("one has no header of its kind")
            yield head
            at, rows = head.end, rows - (head.kind != _DICTIONARY) * max(head.values, 0)
        if not count:
            raise chunk.damaged("one has no header")


def _words(chunk: _Chunk, data: Any, count: int) -> Words:
    if not 0 <= count <= len(data) // 4:
        raise chunk.damaged("it has not so many words")
    views = np.zeros((count, 2), np.uint64)
    if page_words(data, views) < count:
        raise chunk.damaged("a word ends early")
    return Words.of(views, np.frombuffer(data, np.uint8), f"column {chunk.column!r} of {chunk.file}")


def _there(chunk: _Chunk, levels: Any, count: int) -> Any:
    """(count,) bool: which values are not null; None: all."""
    at, one = np.zeros(RUN_FIELDS, np.int64), np.empty(1, np.int32)
    if page_numbers(levels, 1, at, 1, one) and one[0] == 1 and at[RUN_PACKED] < 0 and at[RUN_LEFT] + 1 >= count:
        return None  # one run says so
    told = np.empty(count, np.int32)
    if page_numbers(levels, 1, np.zeros(RUN_FIELDS, np.int64), count, told) < count:
        raise chunk.damaged("it ends early")
    return told > 0


class _Column:
    """The rows of a column, from page to page."""

    def __init__(self, chunks: Sequence[_Chunk]) -> None:
        self._pages = _pages(chunks)
        self._page: _Page | None = None
        self._at = 0  # rows of the page that are taken

    def take(self, n: int) -> Numbered:
        """The next n rows."""
        stretches = []
        while n:
            if self._page is None or self._at == self._page.head.values:
                self._page, self._at = next(self._pages), 0
                continue
            part = Stretch(self._page, self._at, min(n, self._page.head.values - self._at))
            stretches.append(part)
            self._at += part.rows
            n -= part.rows
        return Numbered(stretches)
