"""Context columns as a standardised design matrix: numbers as they are, levels of text as indicators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import polars as pl

from steelyard._native.column_moments import column_moments
from steelyard.blocks import Block, Encoder
from steelyard.dictionary import Dictionary
from steelyard.errors import LogError, warn
from steelyard.log import PreferenceLog, scan
from steelyard.models.row_blocks import weights
from steelyard.solve import one_blas_thread
from steelyard.spill import Blocks

_CELLS = 1 << 19  # entries of columns that are made at a time where only their sums are wanted
_FEW, _NEARLY = 1 << 11, 0.9  # rows that tell of most columns, by a correlation below that, that they are no line
_LINE = 1 - 1e-9  # a correlation that is one


@dataclass(frozen=True)
class Contexts:
    """The context columns of a model of assignment.

    numeric: names. levels: name and sorted values of each column of text; the first value is the reference.
    mean, scale: (d,) of the raw columns, numeric ones first, then an indicator for each other value.
    unseen: what a value that was not there does: "raise", or "other" (it counts as the average of all values).
    arms: name and code of each arm that has an indicator too, of whether it is one of the two; they come last.
    origin: (d,) near the mean. sums: of each block that these were learned from, as :meth:`summed` gives them.
    """

    numeric: tuple[str, ...]
    levels: tuple[tuple[str, tuple[str, ...]], ...]
    mean: Any
    scale: Any
    unseen: str = "raise"
    origin: Any = field(default=None, repr=False)
    sums: tuple[Any, ...] = field(default=(), repr=False)
    arms: tuple[tuple[str, int], ...] = ()

    @property
    def terms(self) -> list[str]:
        """Names of the raw columns (d)."""
        levels = [f"{name}={value}" for name, values in self.levels for value in values[1:]]
        return [*self.numeric, *levels, *(f"arm {name}" for name, _ in self.arms)]

    @property
    def names(self) -> list[str]:
        return [*self.numeric, *(name for name, _ in self.levels)]

    def asked_of(self, encoder: Encoder) -> Encoder:
        """The encoder, asked to bring these columns first, values coded by their place; others that it has follow."""
        levels = {name: Dictionary(list(values)) for name, values in self.levels}
        others = [name for name in encoder.context if name not in self.numeric]
        known = levels | encoder.levels | levels  # these first, and coded by their place though others read them too
        return replace(encoder, context=(*self.numeric, *others), levels=known)

    def lying(self, block: Block, cut: slice = slice(None)) -> list[Any]:
        """The d columns of some rows on the user's scale, doubles, as they lie where they can; NaN for a value that
        was not there.
        """
        own = [np.ascontiguousarray(column[cut], np.float64) for column in block.context[: len(self.numeric)]]
        levels, shown = ([codes[cut] for codes in several] for several in (block.levels, block.shown))
        made = np.empty((len(self.mean) - len(own), len(block.a[cut])))
        self._indicators(levels, shown, made)
        return [*own, *made]

    def summed(self, block: Block) -> Any:
        """(1 + d, 2) the weight and the rows of a block; of each column, less the origin, the weighted sum and that of
        its square.
        """
        weight, sums = weights(block), np.zeros((1 + len(self.origin), 2))
        sums[0] = weight.sum(), block.n
        step = max(256, _CELLS // max(len(self.origin) - len(self.numeric), 8))
        for start in range(0, block.n, step):
            cut = slice(start, start + step)
            for j, column in enumerate(self.lying(block, cut)):
                sums[1 + j] += column_moments(column, self.origin[j], weight[cut])
        return sums

    def unchanged(self, i: int, block: Block) -> Block:
        """The i-th block that this was learned from. LogError where its columns, which lie in the log, have changed."""
        if not np.array_equal(self.summed(block), self.sums[i]):
            raise LogError(
                f"the contexts of rows from {block.start} on are not what they were when the propensity was fitted: "
                "fit it again, or scan a copy of what you go on to change"
            )
        return block

    def _indicators(self, levels: Sequence[Any], shown: Sequence[Any], out: Any) -> None:
        """Writes those of the columns of text, codes by column, and of both arms to out."""
        at = 0
        for (_, values), codes in zip(self.levels, levels, strict=False):
            own = out[at : at + len(values) - 1]
            np.equal(codes, np.arange(1, len(values))[:, None], out=own)
            own[:, codes < 0] = np.nan
            at += len(values) - 1
        for row, (_, code) in zip(out[at:], self.arms, strict=True):
            np.logical_or(shown[0] == code, shown[1] == code, out=row)

    def matrix(self, block: Block, order: Any = None) -> Any:
        """(1 + d, n): ones, then the columns with mean 0 and variance 1; as it is where a block brings it along.

        order: places (n,) of the rows as they are to stand; None: as they do.
        """
        if block.design is not None:
            return block.design
        for (name, values), codes in zip(self.levels, block.levels, strict=True):
            strange = np.flatnonzero(codes == -2)
            if len(strange) and self.unseen == "raise":
                raise LogError(
                    f"{len(strange)} rows: context {name!r} has values that were not there when the propensity was "
                    f"fitted (first rows {block.numbers(strange[:10]).tolist()}); it knew {list(values[:5])}. "
                    'Fit it on them too, or choose unseen="other": they count as the average value.'
                )
        matrix = np.empty((1 + len(self.mean), block.n))
        matrix[0] = 1.0
        own = block.context[: len(self.numeric)]
        levels = block.levels if order is None else [codes.take(order) for codes in block.levels]
        shown = block.shown if order is None else [codes.take(order) for codes in block.shown]
        self._indicators(levels, shown, matrix[1 + len(own) :])
        for j, (row, mean, scale) in enumerate(zip(matrix[1:], self.mean, self.scale, strict=True)):
            raw = row if j >= len(own) else own[j] if order is None else _moved(own[j], order, row)
            np.subtract(raw, mean, out=row)
            row /= scale
        if self.unseen == "other":
            at = 1 + len(self.numeric)
            for (_, values), codes in zip(self.levels, levels, strict=True):
                matrix[at : at + len(values) - 1, codes == -2] = 0.0
                at += len(values) - 1
        return matrix

    def on_users_scale(self, coefficient: Any) -> Any:
        """Coefficients (..., 1 + d) of the standardised columns as those of the raw ones."""
        raw = np.array(coefficient, np.float64)
        raw[..., 1:] /= self.scale
        raw[..., 0] -= raw[..., 1:] @ self.mean
        return raw


def _moved(column: Any, order: Any, out: Any) -> Any:
    """Writes the column in an order to out; places are checked by nobody, which lets them be written at once."""
    return column.astype(np.float64, copy=False).take(order, out=out, mode="clip")


def context_encoder(log: PreferenceLog, encoder: Encoder, names: Sequence[str] | None) -> Encoder:
    """The encoder, asked to bring some (default all) context columns of a log along and to learn their values."""
    numeric, text = log.context_kinds(names)
    return replace(encoder, context=tuple(numeric), levels={name: Dictionary() for name in text})


def seen_by(wanted: Encoder, encoder: Encoder) -> tuple[Encoder, Callable[[Block], Block]]:
    """What `wanted` would have read where an encoder read more context columns: its encoder, and a view of blocks."""
    at = [list(encoder.context).index(name) for name in wanted.context]
    known = list(encoder.levels)
    levels = [known.index(name) for name in wanted.levels]
    own = replace(wanted, levels={name: encoder.levels[name] for name in wanted.levels})
    return own, partial(_viewed, at, levels)


def _viewed(at: list[int], levels: list[int], block: Block) -> Block:
    """The block with some of its contexts, by place."""
    context, codes = tuple(block.context[i] for i in at), tuple(block.levels[i] for i in levels)
    return replace(block, context=context, levels=codes, design=None)


def occurring(blocks: Blocks, size: int, of: Callable[[Block], Any]) -> Any:
    """(size,) bool: the codes that some row has; others were read in rows that were left out."""
    counts = np.zeros(size, np.int64)
    for some in blocks.each(lambda block: np.bincount(of(block), minlength=size)):
        counts += some
    return counts > 0


def in_order(codes: Dictionary, used: Any) -> tuple[tuple[str, ...], Any]:
    """Labels that are used (codes,), sorted, and the place of each code among them, -1 for the others."""
    labels, place = codes.series("label"), np.full(len(used), -1, np.int32)
    order = labels.arg_sort().to_numpy()
    order = order[used[order]]
    place[order] = np.arange(len(order), dtype=np.int32)
    return tuple(labels.gather(order).to_list()), place


def by_place(place: Any, block: Block) -> Block:
    """The block with its groups renumbered. place: of each code."""
    return replace(block, group=place[np.asarray(block.group)])


def learned(
    blocks: Blocks, encoder: Encoder, unseen: str, arms: tuple[tuple[str, int], ...] = ()
) -> tuple[Contexts, Callable[[Block], Block]]:
    """The context columns as blocks hold them, and what codes the values of a block by their place.

    arms: those with an indicator, as :class:`Contexts` has them, in blocks that know who was shown.
    Raises LogError for a column that is the same in every row; warns of one that tells the outcome.
    """
    levels, places = [], []
    for i, (name, codes) in enumerate(encoder.levels.items()):
        labels, place = in_order(codes, occurring(blocks, len(codes), partial(_level, i)))
        levels.append((name, labels))
        places.append(place)
    coded = partial(_coded, places)
    d = len(encoder.context) + sum(len(values) - 1 for _, values in levels) + len(arms)
    raw = Contexts(tuple(encoder.context), tuple(levels), np.zeros(d), np.ones(d), unseen, arms=arms)
    contexts = _moments(raw, blocks.map(coded))
    constant = [name for name, s in zip(raw.terms, contexts.scale, strict=True) if s == 0.0]
    constant += [name for name, values in levels if len(values) < 2]
    if constant:
        raise LogError(
            f"context {constant[0]!r} is the same in every row: it can tell nothing. Leave it out of context=."
        )
    _warn_of_outcomes(contexts, blocks.map(coded))
    return contexts, coded


def _coded(places: list[Any], block: Block) -> Block:
    return replace(block, levels=tuple(p[c] for p, c in zip(places, block.levels, strict=True)))


def _level(i: int, block: Block) -> Any:
    return block.levels[i]


def _moments(raw: Contexts, blocks: Blocks) -> Contexts:
    """With weighted mean and standard deviation, in one pass about the first row: large numbers lose nothing."""
    firsts = blocks.each(lambda block: raw.lying(block, slice(0, 1)) if block.n else None)
    first = next((columns for columns in firsts if columns is not None), None)
    if first is None:
        raise LogError("no row is left to fit to: every one is bad, or has no outcome")
    about = replace(raw, origin=np.concatenate([*first, np.empty(0)]))
    sums = tuple(blocks.each(about.summed))
    (total, _), *of_columns = sum(sums)
    mean, square = np.reshape(of_columns, (-1, 2)).T / total
    variance = np.maximum(square - mean**2, 0.0)
    variance[variance <= 1e-14 * square] = 0.0
    return replace(about, mean=about.origin + mean, scale=np.sqrt(variance), sums=sums)


@one_blas_thread()
def _warn_of_outcomes(contexts: Contexts, blocks: Blocks) -> None:
    """Warns of a column that the outcome can be read off, x = a + b y: it was hardly known before the answer.

    A few rows of each block clear most columns of it.
    """

    def correlation(sums: Any) -> Any:
        """(d,) 0 for a column that is the same in all rows, NaN where the outcome is."""
        n, y, yy, x, xx, xy = sums
        rest_y, rest = yy - y**2 / n, xx - x**2 / n
        r = (xy - x * y / n) / np.sqrt(np.where(rest > 1e-12 * xx, rest, np.inf) * rest_y)
        return np.where((n > 2) & (rest_y > 1e-12 * yy), r, np.nan)

    def one(rows: int | None, block: Block) -> Any:
        """(6, d) sums over the first labelled rows of a block, of 1, y, y^2, x, x^2, x y; of few about the first."""
        sums = np.zeros((6, len(contexts.mean)))
        for _, part in block.where(np.flatnonzero(np.isfinite(np.asarray(block.y)))[:rows]).pieces(_FEW):
            columns, y = np.array(contexts.lying(part)), np.asarray(part.y)
            x = (columns - (columns[:, :1] if rows else contexts.mean[:, None])) / contexts.scale[:, None]
            y = y - (y[:1] if rows else 0.5)
            sums[:3] += np.array([part.n, y.sum(), y @ y])[:, None]
            sums[3:] += x.sum(axis=1), (x**2).sum(axis=1), x @ y
        return sums

    ends = blocks.each(lambda block: [end.reduce(np.asarray(block.y), initial=np.nan) for end in (np.fmin, np.fmax)])
    low, high = np.array([*ends]).T
    one_outcome = not np.fmin.reduce(low) < np.fmax.reduce(high)
    if one_outcome or not len(contexts.mean):
        return
    with np.errstate(divide="ignore", invalid="ignore"):
        telling = np.ones(len(contexts.mean), bool)
        for sums in blocks.each(partial(one, _FEW)):
            telling &= ~(np.abs(correlation(sums)) <= _NEARLY)
            if not telling.any():
                break
        else:
            telling = np.abs(correlation(np.sum([*blocks.each(partial(one, None))], axis=0))) > _LINE
    for name in (*(contexts.terms[j] for j in np.flatnonzero(telling)), *_one_outcome_each(contexts, blocks)):
        warn(
            f"context {name!r} tells the outcome in every row: was it known before the answer? A context that came "
            "after it makes every weight and every estimate wrong.",
        )


def _one_outcome_each(contexts: Contexts, blocks: Blocks) -> list[str]:
    """Names of text columns of three values and more of which each has one outcome in all of its rows, some in several.

    Of two values the correlation tells.
    """

    def one(i: int, values: int, rows: int | None, block: Block) -> Any:
        """(3, values) sums over labelled rows of a block, of 1, y, y^2."""
        codes, y = block.levels[i], np.asarray(block.y)
        at = np.flatnonzero(np.isfinite(y) & (codes >= 0))[:rows]
        return np.array([np.bincount(codes[at], power, values) for power in (np.ones(len(at)), y[at], y[at] ** 2)])

    def alike(sums: Any) -> bool:
        n, y, yy = sums
        return bool((yy - y**2 / np.maximum(n, 1.0)).sum() <= 1e-12 * n.sum())

    found = []
    for i, (name, known) in enumerate(contexts.levels):
        told = partial(one, i, len(known))
        if len(known) > 2 and all(map(alike, replace(blocks, parts=blocks.parts[:1]).each(partial(told, _FEW)))):
            total = np.sum([*blocks.each(partial(told, None))], axis=0)
            if alike(total) and total[0].sum() > 2 * len(known):
                found.append(name)
    return found


def target_log(log: PreferenceLog, target: Any) -> PreferenceLog:
    """Rows of a target population as a log without arms and outcomes, with the log's context columns.

    target: another log, whose rows count by its weights and counts, whatever their arms and outcomes; or anything that
    :func:`steelyard.scan` reads.
    """
    roles: dict[str, Any] = {"a": pl.lit("x"), "b": pl.lit("y"), "outcome": pl.lit(None, dtype=pl.Float64)}
    read = target if isinstance(target, PreferenceLog) else scan(target, **roles)
    roles |= {role: read.roles[role] for role in ("weight", "count") if role in read.roles}
    if read.tallies:
        roles["count"] = pl.sum_horizontal(name for name in read.tallies if name in read.schema())
    return replace(
        log, source=read.frame(), name="the target frame", roles=roles, tallies=(), files=(), steady=read.steady,
        held=False, on_bad=read.on_bad if isinstance(target, PreferenceLog) else log.on_bad,
    )  # fmt: skip
