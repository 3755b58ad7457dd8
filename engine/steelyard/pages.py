"""Text columns of local Parquet files as the numbers of their words, straight from the pages: no string is made.

Almost every writer stores a column of few words as a dictionary page and, row by row, which word it is. Those numbers
are what a block needs. Files that hold anything else are polars' to read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from steelyard._native.parquet_pages import (
    PAGE_FIELDS,
    RUN_FIELDS,
    RUN_LEFT,
    RUN_PACKED,
    page_header,
    page_numbers,
    page_words,
)
from steelyard.blocks import TextBatch
from steelyard.dictionary import Numbered, Stretch, Words
from steelyard.errors import LogError

_DATA, _DICTIONARY, _DATA_2 = 0, 2, 3  # types of pages
_PLAIN, _PLAIN_DICTIONARY, _RLE, _RLE_DICTIONARY = 0, 2, 3, 8  # encodings
_CODECS = {"UNCOMPRESSED": None, "SNAPPY": "snappy", "GZIP": "gzip", "BROTLI": "brotli", "ZSTD": "zstd"}
_LARGEST = 1 << 30  # bytes of a column in one group of rows, which are read at once


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
    """As kernels/parquet_pages.h has it; and its own length."""

    kind: int
    size: int
    stored: int
    values: int
    encoding: int
    level_encoding: int
    levels: int
    repeats: int
    compressed: int
    length: int


def text_batches(files: Sequence[str], columns: Mapping[str, str], rows: int) -> Iterator[TextBatch] | None:
    """The columns of some files, so many rows at a time; None where a page of one does not hold numbers of words.

    columns: the file's name of each.
    """
    found = _chunks(files, {*columns.values()})
    if found is None:
        return None
    return _batches({name: found[column] for name, column in columns.items()}, rows)


def _batches(chunks: Mapping[str, list[_Chunk]], rows: int) -> Iterator[TextBatch]:
    left = sum(chunk.rows for chunk in next(iter(chunks.values())))
    columns = {name: _Column(several) for name, several in chunks.items()}
    while left:
        n = min(rows, left)
        yield TextBatch(n, {name: column.take(n) for name, column in columns.items()})
        left -= n


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
        if not 0 < chunk.size <= _LARGEST or not _has_numbers(source, chunk):
            return None
        chunks.append(chunk)
    return chunks


def _has_numbers(source: FileIO, chunk: _Chunk) -> bool:
    """Whether a dictionary page comes first, and every other one holds numbers of its words."""
    at, rows = chunk.at, 0
    while rows < chunk.rows:
        head = _header(_bytes(source, at, 1 << 10)) or _header(_bytes(source, at, 1 << 20))  # of very long words
        if head is None or not _is_sound(head, chunk):
            return False
        if (at == chunk.at) != (head.kind == _DICTIONARY):
            return False
        rows += head.values if head.kind != _DICTIONARY else 0
        at += head.length + head.stored
    return rows == chunk.rows and at <= chunk.at + chunk.size


def _is_sound(head: _Header, chunk: _Chunk) -> bool:
    """Whether a page is one of those that are read here."""
    if min(head.size, head.stored, head.values) < 0 or max(head.size, head.stored, head.values) > _LARGEST:
        return False
    if head.kind == _DICTIONARY:
        return head.encoding in (_PLAIN, _PLAIN_DICTIONARY)
    levels = {
        _DATA: head.level_encoding == _RLE or not chunk.nullable,
        _DATA_2: 0 <= head.levels <= min(head.size, head.stored) and head.repeats == 0,
    }
    return levels.get(head.kind, False) and head.encoding in (_RLE_DICTIONARY, _PLAIN_DICTIONARY)


def _bytes(source: FileIO, at: int, count: int) -> bytes:
    source.seek(at)
    return source.read(count)


def _header(data: Any) -> _Header | None:
    fields = np.empty(PAGE_FIELDS, np.int64)
    length = page_header(data, fields)
    return _Header._make([*fields.tolist(), length]) if length else None


@lru_cache
def _codec(name: str) -> Any:
    import pyarrow as pa

    return pa.Codec(name)


def _plain(chunk: _Chunk, stored: Any, size: int) -> Any:
    """Bytes of a page as they were before they were compressed."""
    import pyarrow as pa

    if chunk.codec is None or size == 0:  # of nothing but nulls there may be nothing to take apart
        return stored[:size]
    try:
        return memoryview(_codec(chunk.codec).decompress(pa.py_buffer(stored), size)).cast("B")
    except (pa.ArrowException, OSError) as error:
        raise chunk.damaged(str(error)) from error


@dataclass
class _Page:
    """Numbers of words that are left of a page, with their bits; and the bytes that tell nulls, if there are any."""

    chunk: _Chunk
    words: Words
    left: int
    width: int
    numbers: Any
    levels: Any

    def __post_init__(self) -> None:
        self._at, self._level_at = np.zeros(RUN_FIELDS, np.int64), np.zeros(RUN_FIELDS, np.int64)

    def take(self, rows: int) -> Stretch:
        """The next rows."""
        self.left -= rows
        there, count = None, rows
        if self.levels is not None:
            levels = np.empty(rows, np.int32)
            self._read(self.levels, 1, self._level_at, rows, levels)
            there = levels > 0
            count = int(np.count_nonzero(there))
        place = self._at.copy()
        self._read(self.numbers, self.width, self._at, count)
        return Stretch(rows, self.words, self.numbers, self.width, place, there)

    def _read(self, data: Any, width: int, at: Any, count: int, out: Any = None) -> None:
        if page_numbers(data, width, at, count, out) < count:
            raise self.chunk.damaged("it ends early")


def _pages(chunks: Sequence[_Chunk]) -> Iterator[_Page]:
    """Page after page of a column."""
    for chunk in chunks:
        try:
            with Path(chunk.file).open("rb", buffering=0) as source:
                if _stamp(source) != chunk.stamp:
                    raise LogError(f"{chunk.file} changed while it was read: read it again when it is written")
                data = memoryview(_bytes(source, chunk.at, chunk.size))
        except OSError as error:
            raise LogError(f"could not read {chunk.file}: {error}") from error
        at, rows, words = 0, 0, None
        while rows < chunk.rows:
            head = _header(data[at:])
            if head is None or not _is_sound(head, chunk) or head.stored > len(data) - at - head.length:
                raise chunk.damaged("one has no header of its kind")
            at += head.length + head.stored
            body = data[at - head.stored : at]
            if head.kind == _DICTIONARY:
                words = _words(chunk, _plain(chunk, body, head.size), head.values)
            elif words is not None:
                rows += head.values
                yield _page(chunk, words, head, body)


def _words(chunk: _Chunk, data: Any, count: int) -> Words:
    if not 0 <= count <= len(data) // 4:
        raise chunk.damaged("it has not so many words")
    views = np.zeros((count, 2), np.uint64)
    if page_words(data, views) < count:
        raise chunk.damaged("a word ends early")
    return Words.of(views, np.frombuffer(data, np.uint8), f"column {chunk.column!r} of {chunk.file}")


def _page(chunk: _Chunk, words: Words, head: _Header, body: Any) -> _Page:
    levels = None
    if head.kind == _DATA_2:
        cut = head.levels
        levels = body[:cut] if chunk.nullable else None
        data = body[cut:] if head.compressed == 0 else _plain(chunk, body[cut:], head.size - cut)
    else:
        data = _plain(chunk, body, head.size)
        if chunk.nullable:
            cut = 4 + int.from_bytes(data[:4], "little")
            levels, data = data[4:cut], data[cut:]
    if levels is not None and _all_there(levels, head.values):
        levels = None
    width = data[0] if len(data) else 0  # nothing but nulls
    if width > 31:
        raise chunk.damaged(f"numbers of {width} bits")
    return _Page(chunk, words, head.values, width, data[1:], levels)


def _all_there(levels: Any, count: int) -> bool:
    """Whether the levels of a page are one run that says that no value is null."""
    at, one = np.zeros(RUN_FIELDS, np.int64), np.empty(1, np.int32)
    return bool(
        page_numbers(levels, 1, at, 1, one) and one[0] == 1 and at[RUN_PACKED] < 0 and at[RUN_LEFT] + 1 >= count
    )


class _Column:
    """The rows of a column, from page to page."""

    def __init__(self, chunks: Sequence[_Chunk]) -> None:
        self._pages = _pages(chunks)
        self._page: _Page | None = None

    def take(self, n: int) -> Numbered:
        """The next n rows."""
        stretches = []
        while n:
            if self._page is None or not self._page.left:
                self._page = next(self._pages)
                continue
            part = self._page.take(min(n, self._page.left))
            stretches.append(part)
            n -= part.rows
        return Numbered(stretches)
