"""Labels and their codes 0, 1, ... in order of appearance, from columns of any kind.

String columns become codes through the Arrow string views that polars already holds (kernels/encode_views.c); nothing
copies the strings. Integers, categories and numbers of words are looked up by position.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import takewhile
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import polars as pl

from steelyard._native.encode_integers import UNSEEN, encode_integers
from steelyard._native.encode_views import CACHE_WORDS, encode_views, rehash
from steelyard._native.parquet_pages import RUN_FIELDS, page_codes, page_numbers
from steelyard.errors import LogError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_WIDEST_TABLE = 1 << 22  # integer labels below this are looked up by position


def is_label(kind: pl.DataType) -> bool:
    """Whether values of this type can be told as text."""
    return not (kind.is_nested() or kind in (pl.Binary, pl.Object, pl.Duration))


def alike(a: pl.DataType, b: pl.DataType) -> bool:
    """Whether one value has one text in columns of these types: 1 and 1.0 have two."""
    return a == b or all(kind.is_integer() or kind in (pl.String, pl.Categorical, pl.Enum, pl.Null) for kind in (a, b))


class NewLabelError(Exception):
    """A label has no code yet, and this is not the thread that gives codes."""


class Words(NamedTuple):
    """Text that rows name by number: views (m, 2) into the bytes of a page, and the code of each, once it has one."""

    views: NDArray[np.uint64]
    text: NDArray[np.uint8]
    codes: NDArray[np.int32]
    where: str  # for messages

    @staticmethod
    def of(views: NDArray[np.uint64], text: NDArray[np.uint8], where: str) -> Words:
        return Words(views, text, np.full(len(views), UNSEEN, np.int32), where)


class Page(Protocol):
    """Rows that name words by number. parts: the numbers' bytes, the bits of each, and which rows are not null."""

    words: Words

    @property
    def parts(self) -> tuple[Any, int, NDArray[np.bool_] | None]: ...


class Stretch(NamedTuple):
    """Some rows of a page."""

    page: Page
    start: int
    rows: int

    def there(self) -> NDArray[np.bool_] | None:
        """(rows,) which are not null; None: all."""
        told = self.page.parts[2]
        return None if told is None else told[self.start : self.start + self.rows]

    def numbers(self) -> tuple[Any, int, int]:
        """The numbers' bytes, the bits of each, and how many come before those of these rows."""
        bits, width, there = self.page.parts
        return bits, width, self.start if there is None else int(np.count_nonzero(there[: self.start]))


class Numbered(NamedTuple):
    """A column of text as numbers of words, stretch by stretch."""

    stretches: list[Stretch]

    def __len__(self) -> int:
        return sum(part.rows for part in self.stretches)

    @property
    def dtype(self) -> pl.DataType:
        return pl.String()


_own = threading.local()


def _view_cache() -> NDArray[np.uint64]:
    """Room of this thread for the views that a chunk repeats."""
    if not hasattr(_own, "views"):
        _own.views = np.zeros(CACHE_WORDS, np.uint64)
    room: NDArray[np.uint64] = _own.views
    return room


class Dictionary:
    """Labels of one or more columns and their codes 0, 1, ... in order of appearance.

    One thread at a time may teach it labels; any number may look up those it knows meanwhile.
    """

    def __init__(self, labels: list[str] | None = None, learn: bool = False) -> None:
        """labels: known from the start; then others are learned only if `learn` says so."""
        self._count = np.zeros(1, np.int64)
        self._table = _Table.of(1 << 10, 1 << 16)
        self._by_integer = np.empty(0, np.int32)
        self._by_category: _Categories | None = None
        self.numeric = False
        self.learn = True
        if labels is not None:
            self.encode(pl.Series(labels, dtype=pl.String))
            self.learn = learn

    def __len__(self) -> int:
        return int(self._count[0])

    def labels(self) -> list[str]:
        return self.series("label").to_list()

    def series(self, name: str) -> pl.Series:
        """The labels in the order of their codes."""
        return pl.Series(name, self._text(), dtype=pl.String)

    def _text(self, known: int = 0) -> Any:
        """The labels after the first `known` as Arrow sees them."""
        import pyarrow as pa

        count = len(self) - known  # first: the table of that moment, or a later one, has them all
        buffers = [None, pa.py_buffer(self._table.offsets), pa.py_buffer(self._table.arena)]
        return pa.Array.from_buffers(pa.large_string(), count, buffers, offset=known)

    def encode(
        self, column: pl.Series | Numbered, out: NDArray[np.int32] | None = None, teach: bool = True
    ) -> NDArray[np.int32]:
        """Codes of a column: -1 for null, -2 for a label that is unknown and may not be learned.

        out: room for the codes, at least as long as the column; it may go unused. teach: False where another thread
        may be teaching; raises NewLabelError for a label that would have to be learned first.
        """
        if isinstance(column, Numbered):
            return self._encode_numbered(column, out, teach)
        if column.dtype == pl.String:
            return self._encode_strings(column, out, teach)
        if column.dtype.is_integer():
            return self._encode_integers(column, out, teach)
        if isinstance(column.dtype, pl.Categorical | pl.Enum):
            return self._encode_categories(column, out, teach)
        if not is_label(column.dtype):
            raise LogError(f"column role {column.name!r} holds {column.dtype}: give text, numbers or dates")
        column = column.fill_nan(None) if column.dtype.is_float() else column
        return self._encode_strings(column.cast(pl.String), None, teach)

    def _encode_strings(
        self, column: pl.Series, out: NDArray[np.int32] | None = None, teach: bool = True
    ) -> NDArray[np.int32]:
        codes = np.empty(len(column), np.int32) if out is None else out[: len(column)]
        at = 0
        for chunk in column.get_chunks():
            part = codes[at : at + len(chunk)]
            self._encode_chunk(chunk, part, self.learn and teach)
            if self.learn and not teach and int(part.min(initial=0)) == -2:
                raise NewLabelError
            at += len(chunk)
        return codes

    def _encode_chunk(self, chunk: pl.Series, codes: NDArray[np.int32], learn: bool) -> None:
        if len(chunk) == 0:
            return
        array = chunk.to_arrow(compat_level=pl.CompatLevel.newest())
        validity, views, *buffers = array.buffers()
        window = slice(array.offset, array.offset + len(array))
        rows = np.frombuffer(views, np.uint64).reshape(-1, 2)[window]
        valid = np.frombuffer(validity, np.uint8) if validity is not None and array.null_count else None
        self._encode_views(
            rows, valid, array.offset, [np.frombuffer(buffer, np.uint8) for buffer in buffers], codes, learn
        )

    def _encode_views(
        self, rows: NDArray[np.uint64], valid: Any, offset: int, data: list[Any], codes: NDArray[np.int32], learn: bool
    ) -> None:
        done = 0
        while True:
            done = encode_views(done, rows, valid, offset, data, learn, *self._table, self._count, _view_cache(), codes)
            if done == len(rows):
                return
            self._table = self._table.grown(len(self), int(rows[done, 0] & 0xFFFFFFFF))

    def _encode_integers(self, column: pl.Series, out: NDArray[np.int32] | None, teach: bool) -> NDArray[np.int32]:
        self.numeric = True
        whole = column if column.dtype == pl.Int32 else column.cast(pl.Int64, strict=False)
        if whole.null_count() or not len(whole):
            return self._encode_strings(column.cast(pl.String), out, teach)
        values = whole.to_numpy()
        codes = np.empty(len(values), np.int32) if out is None else out[: len(values)]
        done = encode_integers(values, self._by_integer, codes)
        if done < len(values):
            if values.min() < 0 or values.max() >= _WIDEST_TABLE:
                return self._encode_strings(column.cast(pl.String), out, teach)
            if not teach:
                raise NewLabelError
            self._by_integer = self._with_new(
                self._by_integer, values, lambda row: self._encode_strings(pl.Series(values[row]).cast(pl.String))
            )
            encode_integers(values[done:], self._by_integer, codes[done:])
        return codes

    def _with_new(
        self, table: NDArray[np.int32], values: NDArray[Any], coded: Callable[[NDArray[np.intp]], NDArray[np.int32]]
    ) -> NDArray[np.int32]:
        """The codes by number with those of every new number, each looked up once, by its first row, as text.

        coded: codes of some rows of the column that the numbers are of; -2 stands where a label may not be learned.
        """
        high = int(values.max())
        if high >= len(table):
            wider = np.full(high * 2 + 1, UNSEEN, np.int32)
            wider[: len(table)] = table
            table = wider
        row = np.flatnonzero(table[values] == UNSEEN)
        new, first = values[row], np.empty(len(table), np.int32)
        first[new[::-1]] = row[::-1]  # of rows of one number, the last to be written is the first
        row = row[first[new] == row]
        table[values[row]] = coded(row)
        return table

    def _encode_numbered(self, column: Numbered, out: NDArray[np.int32] | None, teach: bool) -> NDArray[np.int32]:
        """By the numbers that words have in a page. Each new one is looked up once, as text."""
        rows = len(column)
        codes = np.empty(rows, np.int32) if out is None else out[:rows]
        left, start = column.stretches, 0
        while left:  # many pages at once, until one has a null or a word that is new here
            whole = [*takewhile(lambda part: part.there() is None, left)]
            for part in whole:
                self._look_up(part.page.words)
            done = page_codes([(*part.numbers(), part.rows, part.page.words.codes) for part in whole], codes[start:])
            start += sum(part.rows for part in left[:done])
            if done < len(left):
                part = left[done]
                self._encode_stretch(part, codes[start : start + part.rows], teach)
                start += part.rows
            left = left[done + 1 :]
        return codes

    def _encode_stretch(self, part: Stretch, codes: NDArray[np.int32], teach: bool) -> None:
        (bits, width, before), there, words = part.numbers(), part.there(), part.page.words
        own = codes if there is None else np.empty(np.count_nonzero(there), np.int32)
        at = np.zeros(RUN_FIELDS, np.int64)
        found = page_numbers(bits, width, at, before, None) + page_numbers(bits, width, at, len(own), own)
        if found < before + len(own):
            raise LogError(f"could not read {words.where}: a page is damaged, it ends early")
        self._encode_words(words, own, teach)
        if there is not None:
            codes[:] = -1
            codes[there] = own

    def _encode_words(self, words: Words, codes: NDArray[np.int32], teach: bool) -> None:
        """Codes in the place of the numbers of words."""
        self._look_up(words)
        codes = codes[encode_integers(codes, words.codes, codes) :]
        if not len(codes):
            return
        if not teach:
            raise NewLabelError
        if int(codes.max()) >= len(words.codes):
            raise LogError(f"could not read {words.where}: it names word {codes.max()} of {len(words.codes)}")
        known = len(self)
        self._with_new(words.codes, codes, lambda row: self._of_words(words, codes[row], self.learn))
        self._refuse_bytes(known, words.where)
        codes[:] = words.codes[codes]

    def _look_up(self, words: Words) -> None:
        """Of a page's words those that are known from others, at once."""
        if words.codes.max(initial=UNSEEN) == UNSEEN:
            found = self._of_words(words, slice(None), learn=False)
            final = (found >= 0) | (not self.learn)
            np.copyto(words.codes, found, where=final)  # where another thread has learned one meanwhile, that stays

    def _of_words(self, words: Words, which: Any, learn: bool) -> NDArray[np.int32]:
        views = words.views[which]
        codes = np.empty(len(views), np.int32)
        self._encode_views(views, None, 0, [words.text], codes, learn)
        return codes

    def _refuse_bytes(self, known: int, where: str) -> None:
        """Raises LogError where what was learned after the first `known` labels is no text."""
        import pyarrow as pa

        try:
            self._text(known).validate(full=True)
        except pa.ArrowInvalid as error:
            raise LogError(f"could not read {where}: {error}") from error

    def _encode_categories(self, column: pl.Series, out: NDArray[np.int32] | None, teach: bool) -> NDArray[np.int32]:
        """By the numbers that categories have. Each new one is looked up once, as text."""
        known = self._by_category
        if known is None or known.kind != column.dtype:
            if not teach:
                raise NewLabelError
            known = self._by_category = _Categories(column.dtype, column.head(1), np.empty(0, np.int32))
        codes = np.empty(len(column), np.int32) if out is None else out[: len(column)]
        there = column.drop_nulls()
        values = there.to_physical().cast(pl.UInt32).to_numpy().view(np.int32)
        own = codes if len(there) == len(column) else np.empty(len(there), np.int32)
        if encode_integers(values, known.codes, own) < len(values):
            if not teach:
                raise NewLabelError
            known = known._replace(
                codes=self._with_new(
                    known.codes, values, lambda row: self._encode_strings(there.gather(row).cast(pl.String))
                )
            )
            self._by_category = known
            encode_integers(values, known.codes, own)
        if own is not codes:
            codes[:] = -1
            codes[column.is_not_null().to_numpy()] = own
        return codes

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_by_category": None}  # numbers of categories are those of a process


class _Categories(NamedTuple):
    """Codes by the number of a category, of columns of one kind. held: a column of it, which keeps the numbers."""

    kind: pl.DataType
    held: pl.Series
    codes: NDArray[np.int32]


class _Table(NamedTuple):
    """Where a dictionary looks labels up: slots of codes by hash, and of each code its hash and its text.

    Grown as a whole, into new arrays: who reads meanwhile goes on in the old ones.
    """

    slots: NDArray[np.int32]
    hashes: NDArray[np.uint64]
    offsets: NDArray[np.int64]
    arena: NDArray[np.uint8]

    @staticmethod
    def of(labels: int, characters: int) -> _Table:
        """An empty one, with room for so many."""
        return _Table(
            np.full(4 * labels, -1, np.int32), np.zeros(labels, np.uint64), np.zeros(labels + 1, np.int64),
            np.zeros(characters, np.uint8),
        )  # fmt: skip

    def grown(self, count: int, longest: int) -> _Table:
        """The same `count` labels with room for more, one of so many characters the next."""
        labels, characters = len(self.hashes), len(self.arena)
        if count == labels:
            labels *= 4
        if self.offsets[count] + longest > characters:
            characters = 4 * characters + longest
        wider = _Table.of(labels, characters)
        wider.hashes[: len(self.hashes)] = self.hashes
        wider.offsets[: len(self.offsets)] = self.offsets
        wider.arena[: len(self.arena)] = self.arena
        rehash(count, wider.hashes, wider.slots)
        return wider
