"""The rows of a log, encoded once for the passes of an iterative fit, with the table of their pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from steelyard.blocks import Block, Dictionary, Encoder
from steelyard.pairs import PairTable, Tally, clean
from steelyard.passes import run_pass
from steelyard.spill import Blocks, Spill

if TYPE_CHECKING:
    from steelyard.log import PreferenceLog


@dataclass(frozen=True)
class Rows:
    """Good rows in log order. pairs: their table. blocks: codes are those of the table; columns (d, n) finite.

    clusters: the labels of each cluster column, by its name.
    """

    pairs: PairTable
    blocks: Blocks
    clusters: dict[str, Dictionary]


def read_rows(
    log: PreferenceLog,
    covariates: Sequence[str],
    clusters: Sequence[str] = (),
    threads: int | None = None,
    features: Sequence[str] = (),
) -> Rows:
    """Encodes the rows of a log in one pass. covariates, features: their names.

    Raises LogError for bad rows, null or infinite covariates among them, as the log's on_bad says.
    """
    encoder = Encoder(
        dict(log.outcomes),
        clusters={name: Dictionary() for name in clusters},
        covariates=covariates,
        features=bool(features),
    )
    tally, spill = Tally(), Spill()

    def take(block: Block) -> tuple[Any, Block]:
        kept, bad, at = clean(block)
        kept, more = _finite(kept, at + block.start, covariates, features)
        part = tally.count(kept)
        part.bad.update(bad | more)
        return part, replace(kept, a=kept.a.copy(), b=kept.b.copy())  # a pass writes over its codes once merged

    def merge(taken: tuple[Any, Block]) -> None:
        part, block = taken
        tally.merge(part)
        spill.add(block)

    run_pass(log, encoder, take, merge, threads)
    pairs, code = tally.table(log, encoder)
    tally.refuse(log, encoder, pairs.rows.sum())
    blocks = spill.done().map(lambda block: replace(block, a=code[block.a], b=code[block.b]))
    return Rows(pairs, blocks, encoder.clusters)


def _finite(
    block: Block, row: Any, names: Sequence[str], features: Sequence[str]
) -> tuple[Block, dict[str, tuple[int, list[int]]]]:
    """The rows whose covariates and features are all finite; the others by column. row: (n,) in the log."""
    good = np.ones(block.n, bool)
    bad = {}
    for kind, labels, columns in (("covariate", names, block.columns), ("feature", features, block.features)):
        if columns is None or np.isfinite(columns).all():
            continue
        finite = np.isfinite(columns if kind == "covariate" else columns.T)
        good &= finite.all(axis=0)
        for name, column in zip(labels, finite, strict=True):
            where = np.flatnonzero(~column)
            if len(where):
                bad[f"null or infinite {kind} {name!r}"] = (len(where), [int(row[i]) for i in where[:10]])
    return block if good.all() else block.where(good), bad
