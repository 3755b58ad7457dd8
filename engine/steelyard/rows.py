"""The rows of a log, encoded once for the passes of an iterative fit, with the table of their pairs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from steelyard.blocks import Block, Encoder
from steelyard.pairs import PairTable, Tally, clean, not_finite
from steelyard.passes import run_pass
from steelyard.spill import Blocks, Spill

if TYPE_CHECKING:
    from steelyard.log import PreferenceLog


@dataclass(frozen=True)
class Rows:
    """Good rows in log order. pairs: their table. blocks: arm codes are those of the table; columns are finite."""

    pairs: PairTable
    blocks: Blocks


def read_rows(log: PreferenceLog, encoder: Encoder, threads: int | None = None) -> Rows:
    """Encodes the rows of a log in one pass, with all that the encoder brings along.

    Raises LogError for bad rows, null or infinite covariates, features and contexts among them, as the log's
    on_bad says.
    """
    tally, spill = Tally(log.unfolded), Spill()

    def take(block: Block) -> tuple[Any, Block]:
        kept, bad, at = clean(block)
        good = np.ones(kept.n, bool)
        for reason, where in not_finite(kept, encoder):
            good &= ~where
            bad[reason] = (int(where.sum()), [int(block.start + at[i]) for i in np.flatnonzero(where)[:10]])
        kept = kept if good.all() else kept.where(good)
        part = tally.count(kept)
        part.bad.update(bad)
        return part, replace(kept, a=kept.a.copy(), b=kept.b.copy())  # a pass writes over its codes once merged

    def merge(taken: tuple[Any, Block]) -> None:
        part, block = taken
        tally.merge(part)
        spill.add(block)

    run_pass(log, encoder, take, merge, threads)
    pairs, code = tally.table(log, encoder)
    tally.refuse(log, encoder, pairs.rows.sum())
    blocks = spill.done().map(lambda block: replace(block, a=code[block.a], b=code[block.b]))
    return Rows(pairs, blocks)
