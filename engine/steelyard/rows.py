"""The rows of a log, encoded once for the passes of an iterative fit, with the table of their pairs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from steelyard.blocks import Block, Encoder, block_rows
from steelyard.errors import LogError
from steelyard.pairs import PairTable, Tally, clean, lacking
from steelyard.passes import elsewhere, run_pass
from steelyard.spill import Blocks, Spill, changed

if TYPE_CHECKING:
    from steelyard.log import PreferenceLog


@dataclass(frozen=True)
class Rows:
    """Good rows in log order. pairs: table of the labelled ones. blocks: arm codes are the table's; columns finite.

    encoder: what coded them.
    """

    pairs: PairTable
    blocks: Blocks
    encoder: Encoder


def read_rows(
    log: PreferenceLog,
    encoder: Encoder,
    change: Callable[[Block], Block] | None = None,
    unlabelled: bool = False,
) -> Rows:
    """Encodes the rows of a log in one pass, with all that the encoder brings along.

    change: made to each block once it is found good. unlabelled: keep rows without an outcome too, as y = NaN.
    Raises LogError for bad rows, null or infinite covariates, features and contexts among them, as the log's
    on_bad says.
    """
    executor, there = elsewhere.get(), list[Any]()
    tally, spill = Tally(log.unfolded), Spill()
    keep = spill.add if executor is None else there.append

    def take(block: Block) -> tuple[Any, Block]:
        kept, bad, at = clean(block, unlabelled)
        placed = replace(kept, place=at.astype(np.int32))
        good, lacks = lacking(placed if kept.n < block.n else kept, encoder)
        if not good.all():
            kept = placed.where(good)
        elif kept.n < block.n:
            kept = placed
        kept = change(kept) if change else kept
        part = tally.count(_answered(kept) if unlabelled else kept)
        part.bad.update(bad | lacks)
        return part, replace(kept, a=kept.a.copy(), b=kept.b.copy())  # a pass writes over its codes once merged

    def merge(taken: tuple[Any, Block]) -> None:
        part, block = taken
        tally.merge(part)
        keep(block)

    run_pass(log, encoder, take, merge)
    pairs, code = tally.table(encoder)
    tally.refuse(log, encoder, pairs.rows.sum() + unlabelled * tally.bad.get("not labelled", (0, []))[0])
    blocks = spill.done() if executor is None else Blocks(there, place=executor)
    if (code != np.arange(len(code))).any():
        blocks = blocks.map(lambda block: replace(block, a=code.take(block.a), b=code.take(block.b)))
    return Rows(pairs, blocks, encoder)


@dataclass(frozen=True)
class Beside:
    """Columns that stay in the log, too wide to be kept, and are read beside the rows by each pass that asks for them.

    names: of covariates of the log. blocks: one for each that was read of it; total: rows these had, good or bad;
    wide: numbers a row of theirs, as :attr:`Encoder.wide` counts them.
    """

    log: PreferenceLog
    names: tuple[str, ...]
    blocks: Blocks
    total: int
    wide: int

    def each(self, function: Callable[[Block], Any], take: Callable[[Any], None]) -> None:
        """take(function(block)) for every block, in order; the columns come after those that it has.

        Raises LogError for null or infinite columns, and for a log that has other rows than it had.
        """
        encoder = Encoder(dict(self.log.outcomes), covariates=self.names, beside=self.wide)
        step, tally = block_rows(encoder.wide), Tally(self.log.unfolded)

        def one(read: Block) -> Any:
            if read.n != min(step, self.total - read.start):
                raise self._other(read.start + read.n)
            block = changed(self.blocks.parts[read.start // step], self.blocks.changes)
            columns = np.asarray(read.columns)
            columns = columns if block.place is None else columns.take(block.place, 1)
            lone = replace(block, columns=columns, features=None, context=(), levels=(), group=None)
            bad = lacking(lone, encoder)[1]
            if block.columns is not None:
                columns = np.concatenate([block.columns, columns])
            return bad, None if bad else function(replace(block, columns=columns))

        def merge(told: Any) -> None:
            tally.found(told[0])
            if not tally.bad:
                take(told[1])

        run_pass(self.log, encoder, one, merge)
        tally.refuse(self.log, encoder, 1.0)
        if encoder.rows != self.total:
            raise self._other(encoder.rows)

    def made(self, change: Callable[[Block], Block]) -> Blocks:
        """What a change makes of the blocks with their columns."""
        spill = Spill()
        self.each(change, spill.add)
        return spill.done()

    def _other(self, rows: int) -> LogError:
        return LogError(f"{self.log.name} changed while it was read: it had {self.total} rows, and then {rows}")


def _answered(block: Block) -> Block:
    """The rows with an outcome, with what a table of pairs reads of them and no more."""
    block = replace(block, clusters=(), columns=None, features=None, sides=(), squares=None, context=(), levels=(),
                    group=None, propensity=None)  # fmt: skip
    return block.where(np.isfinite(np.asarray(block.y)))
