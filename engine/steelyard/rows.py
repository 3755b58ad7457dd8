"""The rows of a log, encoded once for the passes of an iterative fit, with the table of their pairs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from steelyard.blocks import Block, Encoder
from steelyard.pairs import PairTable, Tally, clean, not_finite
from steelyard.passes import elsewhere, run_pass
from steelyard.spill import Blocks, Spill

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
    threads: int | None = None,
    weigh: Callable[[Block], Block] | None = None,
    unlabelled: bool = False,
) -> Rows:
    """Encodes the rows of a log in one pass, with all that the encoder brings along.

    weigh: gives each block its weights. unlabelled: keep rows without an outcome too, as y = NaN.
    Raises LogError for bad rows, null or infinite covariates, features and contexts among them, as the log's
    on_bad says.
    """
    executor, there = elsewhere.get(), list[Any]()
    tally, spill = Tally(log.unfolded), Spill()
    keep = spill.add if executor is None else there.append

    def take(block: Block) -> tuple[Any, Block]:
        kept, bad, at = clean(block, unlabelled)
        good = np.ones(kept.n, bool)
        for reason, where in not_finite(kept, encoder):
            good &= ~where
            bad[reason] = (int(where.sum()), [int(block.start + at[i]) for i in np.flatnonzero(where)[:10]])
        if kept.n < block.n or not good.all():
            kept = replace(kept, place=at.astype(np.int32))
        kept = kept if good.all() else kept.where(good)
        kept = weigh(kept) if weigh else kept
        part = tally.count(_answered(kept) if unlabelled else kept)
        part.bad.update(bad)
        return part, replace(kept, a=kept.a.copy(), b=kept.b.copy())  # a pass writes over its codes once merged

    def merge(taken: tuple[Any, Block]) -> None:
        part, block = taken
        tally.merge(part)
        keep(block)

    run_pass(log, encoder, take, merge, threads)
    pairs, code = tally.table(encoder)
    tally.refuse(log, encoder, pairs.rows.sum() + unlabelled * tally.bad.get("not labelled", (0, []))[0])
    blocks = spill.done() if executor is None else Blocks(there, place=executor)
    blocks = blocks.map(lambda block: replace(block, a=code[block.a], b=code[block.b]))
    return Rows(pairs, blocks, encoder)


def _answered(block: Block) -> Block:
    """The rows with an outcome, with what a table of pairs reads of them and no more."""
    block = replace(
        block, clusters=(), columns=None, features=None, context=None, levels=(), group=None, propensity=None
    )
    return block.where(np.isfinite(np.asarray(block.y)))
