"""From a polars batch to a block of codes and numbers that kernels read.

A block is up to 2^17 rows, fewer where they carry many features or contexts, cut by global row position. Labels
become codes through dictionaries, which learn them in row order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from steelyard._native.column_moments import column_moments, sides_squares
from steelyard.dictionary import Dictionary, Numbered
from steelyard.errors import LogError

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK_ROWS = 1 << 17
_BLOCK_CELLS = 1 << 22  # of features and contexts
NARROW = 32  # features up to which they lie column by column, as the kernels read them; more lie row by row, for BLAS
_TURNED = 1 << 10  # rows of them that are turned at a time


def block_rows(wide: int) -> int:
    """Rows of a block: 2^17, or the power of two whose rows hold at most 2^22 numbers where each has so many."""
    return int(min(BLOCK_ROWS, 1 << max(_BLOCK_CELLS // max(wide, 1), 1).bit_length() - 1))


@dataclass(frozen=True)
class TextBatch:
    """A batch of text columns as numbers of words, by name, which blocks read as they read a frame."""

    height: int
    named: dict[str, Numbered]

    @property
    def columns(self) -> list[str]:
        return [*self.named]

    def __getitem__(self, name: str) -> Any:
        return self.named[name]


Batch = pl.DataFrame | TextBatch


SEVERAL = ("clusters", "levels", "drawn", "shown", "context")  # fields of a block that are tuples of arrays, by row
ARRAYS = ("a", "b", "y", "weight", "count", "first", "columns", "features", "group", "propensity", "sampling", "design",
          "fold", "place")  # fmt: skip
"""Fields that are arrays, by row; the last axis is the rows', of features the first."""


@dataclass(frozen=True)
class Block:
    """Rows start..start+n-1 of a log, as the kernels read them; optional columns are None.

    a, b: arm codes (n,), negative where null or unknown. Outcome either as label codes (n,) with the
    value of each label, NaN for one that is not an outcome, or as numbers y (n,), NaN where null.
    weight, count: (n,) NaN where null. first: (n,) 1 where being shown first counts, 2 where that is not said.
    clusters: codes.
    columns: (d, n) covariates, NaN where null; a tuple of d, (n,) each, where they stay as they lie in a frame in
    memory, to be read only. features: (n, m) those of a minus those of b, NaN where null; in their place `sides`,
    (n, m) of a and of b, where those stay as they lie. squares: (d,) or (m,) sums of squares of what lies so,
    over all n rows.
    context: numeric context columns as they lie in the batch, each of its own type, to be read only. levels: codes of
    each context column of text, negative where null or unknown. group: codes of the rater's group. propensity: (n,)
    logged, NaN where null. drawn: codes of what a propensity model says was assigned, by its own count. shown: codes of
    both arms, by the count of a propensity of labels that hangs on them. sampling: the log's own weights, where
    `weight` holds more than those. design: (1 + d, n) what the contexts' model makes of them, once it is made, or what
    else a model reads beside `columns`. fold: which rows are held out together; they stand together, fold by fold.
    place: where the rows stood in the batch; None: where they stand.
    arms: how many arms the dictionary held when this block was encoded.
    """

    start: int
    n: int
    arms: int
    a: NDArray[np.int32]
    b: NDArray[np.int32]
    label: NDArray[np.int32] | None
    value: NDArray[np.float64] | None
    y: NDArray[np.float64] | None
    weight: NDArray[np.float64] | None
    count: NDArray[np.float64] | None
    first: NDArray[np.uint8] | None
    clusters: tuple[NDArray[np.int32], ...] = ()
    columns: NDArray[np.float64] | tuple[NDArray[np.float64], ...] | None = None
    features: NDArray[Any] | None = None
    sides: tuple[NDArray[Any], ...] = ()
    squares: NDArray[np.float64] | None = None
    context: tuple[NDArray[Any], ...] = ()
    levels: tuple[NDArray[np.int32], ...] = ()
    group: NDArray[np.int32] | None = None
    propensity: NDArray[np.float64] | None = None
    drawn: tuple[NDArray[np.int32], ...] = ()
    shown: tuple[NDArray[np.int32], ...] = ()
    sampling: NDArray[np.float64] | None = None
    design: NDArray[np.float64] | None = None
    fold: NDArray[np.int8] | None = None
    place: NDArray[np.int32] | None = None

    def numbers(self, at: Any) -> Any:
        """Row numbers in the log of some rows of a whole block."""
        return self.start + (at if self.place is None else self.place[at])

    def where(self, good: Any, view: bool = False) -> Block:
        """Some of the rows, by a mask (n,), their places or a slice; start is then no row number any more.

        view: of a slice, without a copy; matrices are then not contiguous, and few kernels read them as they are.
        """
        kept = np.asarray if view else np.ascontiguousarray
        places = isinstance(good, np.ndarray)
        good = np.flatnonzero(good) if places and good.dtype == bool else good

        def cut(column: Any, axis: int = -1) -> Any:
            if column is None:
                return None
            if isinstance(column, tuple):
                return tuple(map(cut, column)) if view else _stacked([*map(cut, column)], len(self.a[good]))
            if places:
                return column.take(good, axis)  # in half the time of an index
            return kept(column[good] if axis == 0 else column[..., good])

        sides = tuple(cut(side, 0) for side in self.sides)
        features = _less(*sides) if sides else cut(self.features, 0)
        arrays: dict[str, Any] = {name: cut(getattr(self, name)) for name in (*ARRAYS, "label") if name != "features"}
        several: dict[str, Any] = {name: tuple(map(cut, getattr(self, name))) for name in SEVERAL}
        n = len(good) if places else len(self.a[good])
        return replace(self, n=n, features=features, sides=(), squares=None, **arrays, **several)

    def pieces(self, rows: int) -> Iterator[tuple[slice, Block]]:
        """A few rows at a time, as views, with where they stand: what is made of them stays near the core."""
        for start in range(0, max(self.n, 1), rows):
            cut = slice(start, min(start + rows, self.n))
            part = self.where(cut, view=True)
            yield cut, part if self.place is not None else replace(part, start=self.start + start)

    def differences(self, rows: slice = slice(None)) -> Any:
        """(rows, m) features of a minus those of b."""
        if self.sides:
            return _less(self.sides[0][rows], self.sides[1][rows])
        return None if self.features is None else self.features[rows]

    def together(self) -> Block:
        """The block with columns and features of its own, where they lay in a frame."""
        columns = _stacked(self.columns, self.n) if isinstance(self.columns, tuple) else self.columns
        return replace(self, columns=columns, features=self.differences(), sides=(), squares=None)

    def rest(self, start: int) -> Block:
        """The block without its first rows."""
        return replace(self.where(slice(start, None)), start=self.start + start)


@dataclass
class Encoder:
    """Turns batches with the columns a, b, outcome, ... into blocks, in row order."""

    outcomes: dict[str, float]
    arms: Dictionary = field(default_factory=Dictionary)
    labels: Dictionary = field(default_factory=Dictionary)
    clusters: dict[str, Dictionary] = field(default_factory=dict)
    covariates: Sequence[str] | None = None
    features: Sequence[str] = ()
    context: Sequence[str] = ()  # names of numeric context columns
    levels: dict[str, Dictionary] = field(default_factory=dict)  # of context columns as text, by name
    group: Dictionary | None = None
    propensity: bool = False
    beside: int = 0  # numbers a row of other blocks, which these are to have the rows of
    armless: bool = False  # a and b are the same two in every row
    in_place: bool = False  # the frame is in memory, and covariates and features may stay where they lie in it
    rows: int = 0
    _room: list[NDArray[np.int32]] = field(default_factory=list)  # of blocks that are done with
    _values: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))  # of the outcome labels met so far

    @property
    def wide(self) -> int:
        """Numbers a row that make blocks shorter: features and numeric contexts."""
        return len(self.features) + len(self.context) + self.beside

    def recycle(self, block: Block) -> None:
        """Takes back the memory of a block's codes: fresh pages cost as much as the encoding itself."""
        whole = (codes if codes is None else codes.base for codes in (block.a, block.b, block.label))
        self._room += [room for room in whole if isinstance(room, np.ndarray) and len(room) == BLOCK_ROWS]

    def _codes(self, dictionary: Dictionary, column: pl.Series | Numbered, teach: bool) -> NDArray[np.int32]:
        try:
            room = self._room.pop()
        except IndexError:
            room = np.empty(BLOCK_ROWS, np.int32)
        return dictionary.encode(column, room if len(column) <= BLOCK_ROWS else None, teach)

    def block(self, batch: Batch) -> Block:
        """The next rows of the log. The arrays hold until the block is recycled: copy what is to be kept."""
        return self.numbered(self.coded(batch, self.next_rows(batch)), batch)

    def _arms(self, column: pl.Series | Numbered, teach: bool) -> NDArray[np.int32]:
        if not (self.armless and isinstance(column, pl.Series)):
            return self._codes(self.arms, column, teach)
        return np.repeat(self.arms.encode(column.head(1), None, teach), len(column))

    def next_rows(self, batch: Batch) -> int:
        """Takes note that a batch is the next of the log; its first row."""
        start, self.rows = self.rows, self.rows + batch.height
        return start

    @property
    def dictionaries(self) -> list[Dictionary]:
        """Those of all columns of labels, always in the same order."""
        group = () if self.group is None else (self.group,)
        return [self.arms, self.labels, *self.clusters.values(), *self.levels.values(), *group]

    @property
    def learned(self) -> int:
        """How many labels of any column have codes."""
        return sum(map(len, self.dictionaries))

    def coded(self, batch: Batch, start: int, teach: bool = True) -> Block:
        """The rows of a batch from `start` on with their codes alone.

        Batch after batch, since labels are learned in row order; or with `teach` False on any thread, whatever the
        others do: raises NewLabelError where a label must be learned first.
        """
        a, b = (self._arms(batch[side], teach) for side in "ab")
        told = _is_number(batch["outcome"].dtype)
        label = None if told else self._codes(self.labels, batch["outcome"], teach)
        return Block(
            start=start, n=batch.height, arms=len(self.arms), a=a, b=b, label=label,
            value=None if told else self.label_values(), y=None, weight=None, count=None, first=None,
            clusters=tuple(codes.encode(batch[name], None, teach) for name, codes in self.clusters.items()),
            levels=tuple(codes.encode(batch[f"level {name}"], None, teach) for name, codes in self.levels.items()),
            group=None if self.group is None else self.group.encode(batch["group"], None, teach),
        )  # fmt: skip

    def numbered(self, block: Block, batch: Batch) -> Block:
        """The block of a batch that is coded, with its numbers: what any thread can make, whatever the others do."""
        return replace(
            block, y=_outcomes(batch["outcome"]), weight=_optional(batch, "weight"), count=_optional(batch, "count"),
            first=batch["position"].to_numpy() if "position" in batch.columns else None,
            **self._rows(batch, block.start),
            context=tuple(_column(batch, "context", name) for name in self.context),
            propensity=_optional(batch, "propensity"),
        )  # fmt: skip

    def label_values(self) -> NDArray[np.float64]:
        """The value of each outcome label met so far, NaN for one that is not an outcome."""
        if len(self._values) < max(len(self.labels), 1):
            self._values = np.array([self.outcomes.get(text, np.nan) for text in self.labels.labels()] or [np.nan])
        return self._values

    def _rows(self, batch: Batch, start: int) -> dict[str, Any]:
        """Columns, features, sides and squares of a block, those that it has."""
        named, width = [f"covariate {name}" for name in self.covariates or ()], len(self.features)
        columns: Any = tuple(_column(batch, "covariate", name) for name in self.covariates or ())
        if self.in_place and named and not width and _in_one_piece([batch[name] for name in named], {pl.Float64}):
            return {"columns": columns, "squares": squared(columns, batch.height)}
        columns = None if self.covariates is None else _stacked(columns, batch.height)
        if not width:
            return {"columns": columns}
        both = [batch[f"feature_{side}"] for side in "ab"]
        sides = tuple(
            _matrix(column, width, f"features of {side}", start) for side, column in zip("ab", both, strict=True)
        )
        if not (self.in_place and width <= NARROW and _in_one_piece(both, {pl.Float32, pl.Float64})):
            return {"columns": columns, "features": _differences(*sides)}
        return {"columns": columns, "sides": sides, "squares": sides_squares(sides[0], sides[1])}


def squared(columns: Sequence[Any], n: int) -> NDArray[np.float64]:
    """(d,) each column's sum of squares; with the bits that its rows, where both sides lie, are summed to."""
    return np.array([column_moments(column, 0.0, ones(n))[1] for column in columns])


@lru_cache(maxsize=2)
def ones(n: int) -> NDArray[np.float64]:
    """The constant of blocks of n rows, to be read only: one for all stays near the core."""
    return np.ones(n)


def _stacked(columns: Sequence[Any], n: int) -> NDArray[np.float64]:
    """(d, n) of d columns."""
    matrix = np.empty((len(columns), n))
    for column, to in zip(columns, matrix, strict=True):
        to[:] = column
    return matrix


def _in_one_piece(columns: Sequence[pl.Series], kinds: set[Any]) -> bool:
    """Whether columns, or what their lists hold, lie in one piece as kernels read them: of one kind, no null."""
    found = {getattr(column.dtype, "inner", column.dtype) for column in columns}
    whole = all(column.n_chunks() == 1 and not column.null_count() for column in columns)
    return len(found) == 1 and found <= kinds and whole


def _differences(a: Any, b: Any) -> Any:
    """(n, m) a less b; few are made column by column, as kernels read them."""
    if a.shape[1] > NARROW:
        return _less(a, b)
    columns = np.empty((a.shape[1], len(a)), np.result_type(a, b))
    for at in range(0, len(a), _TURNED):
        cut = slice(at, at + _TURNED)
        columns[:, cut] = _less(a[cut], b[cut]).T
    return columns.T


def _less(a: Any, b: Any) -> Any:
    with np.errstate(invalid="ignore", over="ignore"):  # infinite or huge on both sides: a bad row, told later
        return a - b


def _is_number(kind: pl.DataType) -> bool:
    """Whether outcomes of this type are numbers, or all null; else they are labels."""
    return kind == pl.Null or (kind.is_numeric() and not isinstance(kind, pl.Categorical | pl.Enum))


def _outcomes(column: pl.Series) -> NDArray[np.float64] | None:
    """(n,) outcomes that are numbers; NaN where null."""
    if not _is_number(column.dtype):
        return None
    if column.dtype == pl.Null:
        return np.full(len(column), np.nan)
    column = column.cast(pl.Float64)
    some_nan = np.isnan(float(column.sum()))  # or infinities of both signs
    return numbers(column.fill_nan(2.0) if some_nan else column)  # NaN: no outcome, yet no null


def _column(batch: Batch, role: str, name: str) -> NDArray[Any]:
    """(n,) a column of numbers, without a copy where it can be; float32 as it is."""
    column = batch[f"{role} {name}"]
    if not (column.dtype.is_numeric() or column.dtype == pl.Boolean):
        raise LogError(f"{role} {name!r} holds {column.dtype}, but numbers belong there")
    return _filled(column).to_numpy() if column.dtype == pl.Float32 else numbers(column)


def _matrix(column: pl.Series, width: int, what: str, start: int) -> Any:
    """(n, width) a column of lists, NaN rows where null; LogError for lists of another length. start: its first row."""
    kind: Any = column.dtype
    if not isinstance(kind, pl.List | pl.Array) or not kind.inner.is_numeric():
        raise LogError(f"{what} hold {kind}; give columns of lists of numbers, all of one length")
    if isinstance(kind, pl.List):
        other = (column.list.len() != width).arg_true()
    else:
        other = pl.Series(np.arange(len(column) if kind.size != width else 0))
    if len(other):
        lengths = column.gather(other).list.len() if isinstance(kind, pl.List) else [kind.size]
        raise LogError(
            f"{len(other)} rows: {what} are not {width} numbers but {sorted(set(lengths))[:5]} "
            f"(first rows {(other[:10] + start).to_list()}). Every list must have one length, on both sides: correct "
            "such rows, or filter them out, which on_bad= does not."
        )
    column = column.list.to_array(width) if isinstance(kind, pl.List) else column
    column = column.cast(pl.Array(pl.Float32 if kind.inner == pl.Float32 else pl.Float64, width))
    if column.null_count():
        blank = pl.lit([np.nan] * width, dtype=column.dtype)
        column = pl.select(pl.when(column.is_null()).then(blank).otherwise(column)).to_series()
    return column.reshape((-1,)).fill_null(np.nan).to_numpy().reshape(len(column), width)


def numbers(column: pl.Series) -> NDArray[np.float64]:
    """A numeric column as contiguous float64, null as NaN."""
    return np.ascontiguousarray(_filled(column.cast(pl.Float64)).to_numpy())


def _filled(column: pl.Series) -> pl.Series:
    """The column with NaN where null; to fill none takes as long as to read a block."""
    return column.fill_null(np.nan) if column.null_count() else column


def _optional(batch: Batch, name: str) -> NDArray[np.float64] | None:
    if name not in batch.columns:
        return None
    if not (batch[name].dtype.is_numeric() or batch[name].dtype == pl.Boolean):
        raise LogError(f"column role {name!r} holds {batch[name].dtype}, but numbers belong there")
    return numbers(batch[name])
