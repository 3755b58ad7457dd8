"""The table of pairs: everything a Bradley-Terry model reads of a log, in one pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from steelyard._native.clean_rows import clean_rows
from steelyard._native.pair_table import pair_table as pair_sums
from steelyard.blocks import Block, Encoder
from steelyard.counters import Hashed, Plain, Square
from steelyard.dictionary import Dictionary
from steelyard.errors import LogError
from steelyard.formats import OUTCOMES
from steelyard.passes import elsewhere, run_pass

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from steelyard.log import PreferenceLog

WIDEST_SQUARE = 1024  # arms up to which a block is counted into a square table
_ZERO = "weight or count of zero"
STATUS = (
    "good",
    "not labelled",
    "null arm",
    "unknown arm",
    "an arm compared with itself",
    "unknown outcome",
    "null, negative or infinite weight, or one beyond 1e-50 to 1e50",
    "null, negative or fractional count",
    _ZERO,
    "null cluster",
    "null position, or one that is neither true nor false",
)
_CLUSTERLESS, _PLACELESS = len(STATUS) - 2, len(STATUS) - 1
HARMLESS = {"not labelled", "unknown arm", _ZERO}
NO_CHANCE = "a propensity that is null or outside (0, 1]"
PROBABILITY = ", a probability"  # ends the name of a covariate that is one, and null where it is not
_KEEP_ROWS = 10
_SLIPS = 0.05  # share of winners' names that may be those of no arm that was shown
_LARGEST = 1e50  # entry of a column, so that sums of squares stay finite


@dataclass(frozen=True, eq=False)
class PairTable:
    """Sums over the comparisons of each ordered pair; mergeable by :meth:`plus`.

    arms: K names, sorted. a, b: (m,) int32 codes, a shown first. first: (m,) 1.0, or 0.0 where the
    order does not count. sums: (m, 3) weights of win, tie, loss from a's side. squares: (m, 3) the same
    of squared weights. rows: (m,) comparisons. soft: rows with labels other than 0, 1/2, 1.
    dropped: rows left out, by reason.
    """

    arms: pl.Series
    a: NDArray[np.int32]
    b: NDArray[np.int32]
    first: NDArray[np.float64]
    sums: NDArray[np.float64]
    squares: NDArray[np.float64]
    rows: NDArray[np.float64]
    soft: int = 0
    weighted: bool = False
    dropped: dict[str, int] = field(default_factory=dict)

    def frame(self) -> pl.DataFrame:
        """One row a cell: a b position win tie loss comparisons; position: whether being shown first counts."""
        return pl.DataFrame(
            {
                "a": self.arms.gather(self.a), "b": self.arms.gather(self.b), "position": self.first > 0,
                **{outcome: self.sums[:, j] for j, outcome in enumerate(("win", "tie", "loss"))},
                "comparisons": self.rows.astype(np.int64),
            }
        )  # fmt: skip

    def plus(self, other: PairTable) -> PairTable:
        """The table of both logs together."""
        names = sorted({*self.arms.to_list(), *other.arms.to_list()})
        place = {name: code for code, name in enumerate(names)}
        parts = []
        for table in (self, other):
            code = np.array([place[name] for name in table.arms], np.int32)
            parts.append((code[table.a], code[table.b], table.first, table.sums, table.squares, table.rows))
        columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
        dropped = {
            reason: self.dropped.get(reason, 0) + other.dropped.get(reason, 0)
            for reason in {**self.dropped, **other.dropped}
        }
        weighted = self.weighted or other.weighted
        return _merged(pl.Series("arm", names, dtype=pl.String), columns, self.soft + other.soft, weighted, dropped)


def _merged(
    names: pl.Series, columns: list[NDArray[Any]], soft: int, weighted: bool, dropped: dict[str, int]
) -> PairTable:
    """A table with one cell for each (a, b, first); the cells of one pair stand together."""
    a, b, first, sums, squares, rows = columns
    key = _cell_key(a, b, first > 0)
    if (key[1:] <= key[:-1]).any():
        order = np.argsort(key, kind="stable")
        key = key[order]
        starts = np.flatnonzero(np.diff(key, prepend=-1))

        def gathered(values: NDArray[Any]) -> NDArray[Any]:
            return values[order] if len(starts) == len(order) else np.add.reduceat(values[order], starts)

        plain = squares is sums
        sums, rows = gathered(sums), gathered(rows)
        squares = sums if plain else gathered(squares)
        a, b, first = _cell_arms(key[starts])
    return PairTable(names, a, b, first.astype(np.float64), sums, squares, rows, soft, weighted, dropped)


def _cell_key(a: NDArray[Any], b: NDArray[Any], first: Any) -> NDArray[np.int64]:
    """Sorts cells by their pair, then by who is a, then by whether being first counts; arms below 2^30."""
    low, high = np.minimum(a, b).astype(np.int64), np.maximum(a, b).astype(np.int64)
    key: NDArray[np.int64] = (low << 32) | (high << 2) | ((a > b).astype(np.int64) << 1) | first
    return key


def _cell_arms(key: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]:
    """a, b and first of cell keys."""
    low, high, flip = (key >> 32).astype(np.int32), (key >> 2 & (1 << 30) - 1).astype(np.int32), (key & 2) > 0
    return np.where(flip, high, low), np.where(flip, low, high), key & 1


@dataclass
class Counted:
    """What one block adds beside the square counts: plain rows, sums by cell, and its bad rows."""

    plain: NDArray[np.int64] | None = None
    sparse: tuple[Any, ...] | None = None
    soft: int = 0
    weighted: bool = False
    bad: dict[str, tuple[int, list[int]]] = field(default_factory=dict)


def clean(block: Block, unlabelled: bool = False) -> tuple[Block, dict[str, tuple[int, list[int]]], NDArray[np.intp]]:
    """The good rows of a block, the others by reason with first row numbers, and where the good rows stood."""
    kept, status, at = good_rows(block, unlabelled)
    bad = {}
    for code, reason in enumerate(STATUS[1:], 1):
        where = np.flatnonzero(status == code)
        if len(where):
            bad[reason] = (len(where), [int(block.start + i) for i in where[:_KEEP_ROWS]])
    return kept, bad, at


def good_rows(block: Block, unlabelled: bool = False) -> tuple[Block, NDArray[np.uint8], NDArray[np.intp]]:
    """The good rows, every row's verdict (an index into STATUS), and where the good rows stood.

    unlabelled: keep those too that are only not labelled; their y is NaN.
    """
    y, status = np.empty(block.n), np.zeros(block.n, np.uint8)
    bad = clean_rows(block.a, block.b, block.label, block.value, block.y, block.weight, block.count, y, status)
    for codes in block.clusters:
        if codes.min(initial=0) < 0:
            status[(codes < 0) & (status <= unlabelled)], bad = _CLUSTERLESS, True
    if block.first is not None and block.first.max(initial=0) > 1:
        status[(block.first > 1) & (status <= unlabelled)], bad = _PLACELESS, True
    at = np.flatnonzero(status <= unlabelled) if bad else np.arange(block.n)
    kept = replace(block, label=None, value=None, y=y)
    return kept if len(at) == block.n else kept.where(at), status, at


def lacking(block: Block, encoder: Encoder) -> tuple[NDArray[np.bool_], dict[str, tuple[int, list[int]]]]:
    """(n,) the rows that lack nothing that is read beside arms and outcome; the others by the first thing they lack."""
    good, bad = np.ones(block.n, bool), {}
    for reason, where in not_finite(block, encoder):
        at = np.flatnonzero(where & good)
        if len(at):
            bad[reason] = (len(at), np.sort(block.numbers(at))[:_KEEP_ROWS].tolist())
        good &= ~where
    return good, bad


def not_finite(block: Block, encoder: Encoder) -> Iterator[tuple[str, Any]]:
    """Reason and rows, (n,) bool, for each covariate, feature and context that is null, infinite or huge somewhere."""
    moderate = block.squares is not None and bool((block.squares <= _LARGEST**2).all())  # what lies in a frame
    covariates = None if moderate and isinstance(block.columns, tuple) else block.columns
    features = None if moderate and block.sides else block.differences()
    features, named = None if features is None or _moderate(features) else features.T, tuple(encoder.features)
    if features is not None and named[0].endswith("[0]") and sum(not _moderate(entries) for entries in features) > 1:
        features, named = features[None], (named[0][:-3],)  # lists, whose entries nobody named
    for role, names, columns in (
        ("covariate", encoder.covariates, covariates),
        ("feature", named, features),
        ("context", encoder.context, block.context),
    ):
        for name, column in zip(names or (), () if columns is None else columns, strict=columns is not None):
            if _moderate(column):
                continue
            finite = _each_row(np.isfinite(column))
            if not finite.all() and name.endswith(PROBABILITY):
                yield f"{name.removesuffix(PROBABILITY)} that is no probability from 0 to 1", ~finite
            elif not finite.all():
                yield f"null or infinite {role} {name!r}", ~finite
            huge = finite & ~_each_row(np.abs(np.asarray(column, np.float64)) <= _LARGEST)
            if huge.any():
                yield f"{role} {name!r} beyond {_LARGEST:g}", huge
    if block.propensity is not None:
        chance = (block.propensity > 0) & (block.propensity <= 1)
        if not chance.all():
            yield NO_CHANCE, ~chance
    coded = zip((*(f"context {name!r}" for name in encoder.levels), "group"), (*block.levels, block.group), strict=True)
    for what, codes in coded:
        if codes is not None and (codes == -1).any():
            yield f"null {what}", codes == -1


def _each_row(entries: Any) -> Any:
    """(n,) whether all entries of a row, (n,) or (m, n), are so."""
    return entries if entries.ndim == 1 else entries.all(axis=0)


def _moderate(values: Any) -> bool:
    """Whether no entry is null, infinite or huge."""
    return not values.size or (float(values.min()) >= -_LARGEST and float(values.max()) <= _LARGEST)


class Tally:
    """The table of pairs in the making: count blocks in any thread, merge the parts in block order.

    unfolded: how many rows of the blocks each row of the source became.
    """

    def __init__(self, unfolded: int = 1) -> None:
        self._unfolded = unfolded
        self._total, self._counts, self._plain, self._soft = Hashed(), Square(), Plain(), 0
        self._weighted = False
        self._here = elsewhere.get() is None
        self.bad: dict[str, tuple[int, list[int]]] = {}

    def count(self, block: Block) -> Counted:
        """Plain rows go to a square table, or among many arms to a sort; others through verdicts and cells.

        Elsewhere all go through cells: a square table would stay with the worker that counted.
        """
        bare = self._here and block.weight is None and block.count is None and block.first is None
        bare = bare and all(codes.min(initial=0) >= 0 for codes in block.clusters)
        if bare and block.arms > WIDEST_SQUARE:
            keys = self._plain.take(block)
            if keys is not None:
                return Counted(plain=keys)
        elif bare:
            done = self._counts.take(block)
            if done == block.n:
                return Counted()
            block = block.rest(done)
        kept, bad, _ = clean(block)
        local = Hashed()
        cell = local.cells(kept.a, kept.b, kept.first)
        m = int(local.count[0])
        sums, squares, rows = np.zeros((m, 3)), np.zeros((m, 3)), np.zeros(m)
        assert kept.y is not None
        soft = pair_sums(cell, kept.y, kept.weight, kept.count, sums, squares, rows)
        cells = (*local.decoded(), np.column_stack([sums, squares, rows]))
        return Counted(None, cells, soft, block.weight is not None, bad)

    def merge(self, part: Counted) -> None:
        """Adds what one block added."""
        self._soft += part.soft
        self._weighted |= part.weighted
        if part.plain is not None:
            self._plain.add(part.plain)
        if part.sparse is not None:
            a, b, first, values = part.sparse
            cell = self._total.cells(a, b, first)
            self._total.values[cell] += values
        self.found(part.bad)

    def found(self, bad: dict[str, tuple[int, list[int]]]) -> None:
        """Adds the bad rows of one block."""
        for reason, (count, rows) in bad.items():
            if self._unfolded > 1 and reason == _ZERO:  # of a tally, whose row counts nonetheless
                continue
            seen, kept = self.bad.get(reason, (0, []))
            places = dict.fromkeys([*kept, *(row // self._unfolded for row in rows)])
            self.bad[reason] = (seen + count, list(places)[:_KEEP_ROWS])

    def table(self, encoder: Encoder) -> tuple[PairTable, NDArray[np.int32]]:
        """The table, its arms sorted; and where each of the encoder's arm codes stands in it."""
        names, code = _sorted(encoder.arms)
        dropped = {reason: count for reason, (count, _) in self.bad.items()}
        counted = [cells for cells in (self._plain.cells(code), self._counts.cells(code)) if len(cells[0])]
        parts = [(a, b, np.ones(len(a)), sums, sums, sums[:, 0] + sums[:, 1] + sums[:, 2]) for a, b, sums in counted]
        a, b, first = self._total.decoded()
        if len(parts) == 1 and not len(a):  # sorted as it is
            return PairTable(names, *parts[0], dropped=dropped), code
        values = self._total.values[: len(a)]
        parts.append((code[a], code[b], first.astype(np.float64), values[:, :3], values[:, 3:6], values[:, 6]))
        columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
        if not self._weighted and not self._soft:
            columns[4] = columns[3]  # the squares of the weights are the counts
        return _merged(names, columns, self._soft, self._weighted, dropped), code

    def refuse(self, log: PreferenceLog, encoder: Encoder, usable: float) -> None:
        """Raises LogError where rows are bad and the log says so, or none is left, or winners are named."""
        refuse_winners(log, encoder)
        real = {reason: found for reason, found in self.bad.items() if reason not in HARMLESS}
        if real and log.on_bad == "raise":
            raise LogError(_complaint(log, real, encoder))
        if usable <= 0:
            gone = "; ".join(f"{count} rows: {reason}" for reason, (count, _) in self.bad.items())
            raise LogError(f"{log.name} has no comparison to learn from ({gone or 'it is empty'}).")


def _sorted(arms: Dictionary) -> tuple[pl.Series, NDArray[np.int32]]:
    """Names in order, and where each code stands among them."""
    names = arms.series("arm")
    whole = names.cast(pl.Int128, strict=False) if arms.numeric else names
    order = (names if whole.null_count() else whole).arg_sort()  # a column of numbers may stand beside one of text
    code = np.empty(len(names), np.int32)
    code[order] = np.arange(len(names), dtype=np.int32)
    return names.gather(order), code


def pair_table(log: PreferenceLog, clustered: bool = False) -> PairTable:
    """Counts every pair of a log in one pass. clustered: rows without a cluster are bad too.

    Raises
    ------
    LogError
        Where rows are bad and the log says ``on_bad="raise"``, and for a log without usable rows.
    """
    encoder = Encoder(dict(log.outcomes), clusters=cluster_columns(log) if clustered else {})
    tally = Tally(log.unfolded)
    run_pass(log, encoder, tally.count, tally.merge)
    table = tally.table(encoder)[0]
    tally.refuse(log, encoder, table.rows.sum())
    return table


def _complaint(log: PreferenceLog, bad: dict[str, tuple[int, list[int]]], encoder: Encoder) -> str:
    parts = []
    for reason, (count, rows) in bad.items():
        text = (
            f"{count} {'outcome' if log.tallies else 'row'}{'s' * (count != 1)}: {reason} "
            f"({_columns(log, reason)}first rows {rows})"
        )
        if reason == "unknown outcome":
            strange, labels = strange_outcomes(log, encoder), encoder.labels.labels()
            numbers = "numbers that outcomes= does not name" if log.mapped else "numbers must lie in [0, 1]"
            text += f" {strange[:5]}" + ("" if labels else f" ({numbers})")
        parts.append(text)
    named = " name all of them with outcomes= (None: not labelled)," if "unknown outcome" in bad else ""
    if named and labels and len(_arms_among(encoder, strange)) == len(strange):
        named = f" give outcome={_by_name(log, encoder)} where the winner's name is the outcome,"
    return (
        f"{log.name}: {'; '.join(parts)}. Correct them,{named} "
        'or leave such rows out, counted, with on_bad="drop" or "quarantine".'
    )


def strange_outcomes(log: PreferenceLog, encoder: Encoder) -> list[Any]:
    """Labels, or numbers, that are no outcome; of numbers the first five, as the log holds them."""
    labels = encoder.labels.labels()
    if labels:
        return [label for label in labels if label not in log.outcomes]
    plain, outcome = replace(log, mapped=False, unanswered=()), pl.col("outcome").cast(pl.Float64)
    known = pl.Series([*log.outcomes, *log.unanswered]).cast(pl.Float64, strict=False).drop_nulls()
    none = ~(outcome.is_in(known.implode()) if log.mapped else outcome.is_between(0.0, 1.0))
    strange = plain.selected(Encoder(dict(log.outcomes))).select(pl.col("outcome").filter(none).unique())
    with log.reading():
        return strange.collect().to_series().sort().head(5).to_list()


def refuse_winners(log: PreferenceLog, encoder: Encoder) -> None:
    """Raises LogError where outcomes known by default, as "A" of a's side, are names of arms that were shown instead.

    A winner's name is always that of an arm of its row, and now and then of the other side; among arms called "A" and
    "B" nothing else would tell the two apart. Where some are names of neither (a few slips aside) they are sides.
    """
    if log.mapped or log.outcomes != OUTCOMES:
        return
    shared = [label for label in encoder.labels.labels() if OUTCOMES.get(label, 0.5) != 0.5]
    shared = _arms_among(encoder, shared) if shared else []
    if not shared:
        return
    outcome, a, b = (pl.col(name).cast(pl.String) for name in ("outcome", "a", "b"))
    won = outcome.is_in([label for label in shared if OUTCOMES[label] == 1.0])
    other = outcome == pl.when(won).then(b).otherwise(a)
    rows = log.selected(Encoder(dict(log.outcomes))).with_row_index("row").filter(outcome.is_in(shared) & (a != b))
    asked = rows.select(
        other.sum().alias("other"), ((outcome != a) & (outcome != b)).mean().alias("neither"),
        pl.col("row").filter(other).head(_KEEP_ROWS).implode().alias("first"),
    )  # fmt: skip
    with log.reading():
        count, neither, first = asked.collect().row(0)
    if count and neither < _SLIPS:
        raise LogError(
            f"{log.name}: {count} row{'s' * (count != 1)} ({_columns(log, 'unknown outcome')}first rows {first}): "
            f"outcomes {shared} are sides by default, and here name the arm of the other side. Where the winner's name "
            f"is the outcome give outcome={_by_name(log, encoder)}; where it is a side say so, as in "
            f"outcomes={ {label: OUTCOMES[label] for label in shared} }."
        )


def _arms_among(encoder: Encoder, labels: list[str]) -> list[str]:
    """Which labels of outcomes are names of arms too."""
    named: list[str] = encoder.arms.series("arm").filter(encoder.arms.series("arm").is_in(labels)).to_list()
    return [label for label in labels if label in named]


def _by_name(log: PreferenceLog, encoder: Encoder) -> str:
    """The expression of an outcome, of winners' names, as it is typed; of roles that are expressions the name."""
    columns = {role: log.roles[role] for role in ("outcome", "a", "b")}
    outcome, a, b = (f"pl.col({each!r})" if isinstance(each, str) else role for role, each in columns.items())
    ties = [label for label in encoder.labels.labels() if log.outcomes.get(label) == 0.5]
    told = f"pl.when({outcome} == {a}).then(1.0).when({outcome} == {b}).then(0.0)"
    return told + (f".when({outcome}.is_in({ties})).then(0.5)" if ties else "")


def _columns(log: PreferenceLog, reason: str) -> str:
    """In words, the columns that a reason does not name itself."""
    if "'" in reason:
        return ""
    beside: dict[str, Sequence[Any]] = {"null cluster": log.cluster, "null group": (log.group,),
                                        NO_CHANCE: (log.propensity,)}  # fmt: skip
    arms, number = ("a", "b"), ("weight" if "weight" in reason else "count",)
    roles = {"null arm": arms, "an arm compared with itself": arms, "unknown outcome": ("outcome",),
             STATUS[_PLACELESS]: ("position",)}.get(reason, number)  # fmt: skip
    columns = beside.get(reason) or [log.roles.get(role, role) for role in roles]
    return f"column {', '.join(map(str, columns))}; "


def refuse_other_names(log: PreferenceLog, arms: Sequence[str]) -> None:
    """Raises LogError for a log whose arms are numbers of a kind that is told otherwise than those of a fit: 1 as 1.0.

    None would be known, or each would be taken for a new one.
    """
    if not arms or not all(arm.lstrip("-").replace(".", "", 1).isdecimal() for arm in arms):
        return
    parts = ["." in arm for arm in arms]
    for side in "ab":
        kind = log.kind(log.expression(log.roles[side], side), side)
        if ((kind.is_float() or kind.is_decimal()) and not any(parts)) or (kind.is_integer() and all(parts)):
            raise LogError(
                f"{log.name}: {side} holds {kind}, whose values are told otherwise (1.0 is not 1) than the arms of the "
                f"fit, {list(arms[:3])}: give it the type that it had there, as in {side}=pl.col(...).cast(...)"
            )


def cluster_columns(log: PreferenceLog) -> dict[str, Dictionary]:
    """All cluster columns of a log, for an encoder: rows without one are bad wherever one is read."""
    return {f"cluster_{i}": Dictionary() for i in range(len(log.cluster))}
