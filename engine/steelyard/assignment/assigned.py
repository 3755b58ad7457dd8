"""What was assigned in a row of a log: two arms, a rater's group, or a label."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Literal

import numpy as np

from steelyard.blocks import Block, Encoder
from steelyard.dictionary import Dictionary
from steelyard.models.row_blocks import weights

Kind = Literal["pair", "group", "label"]
_TABLE = 1 << 20  # entries of a table of all pairs, in a fifth of the time of a search


@dataclass(frozen=True)
class Assigned:
    """What was assigned. kind: "pair" of arms, rater's "group", or "label". labels: of arms, groups, or no and yes.

    pairs: (P, 2) the pairs of arms that are classes, codes in order; None where arms are drawn one by one. shown: arms
    by code, where a label hangs on who was shown.
    """

    kind: Kind
    labels: tuple[str, ...]
    pairs: Any = None
    shown: tuple[str, ...] = ()

    @property
    def known(self) -> tuple[str, ...]:
        """Arms by their codes in blocks; none where arms do not matter."""
        return self.labels if self.kind == "pair" else self.shown

    @property
    def classes(self) -> int:
        return len(self.labels) if self.pairs is None else len(self.pairs)

    @property
    def every(self) -> int:
        """How many classes, or pairs, there are."""
        k = len(self.labels)
        return k * (k - 1) // 2 if self.kind == "pair" and self.pairs is None else self.classes

    def asked_of(self, encoder: Encoder, learn: bool = False) -> Encoder:
        """The encoder, asked to code what is assigned as here. learn: other arms too, after these."""
        if self.known:
            return replace(encoder, arms=Dictionary(list(self.known), learn))
        return replace(encoder, group=Dictionary(list(self.labels))) if self.kind == "group" else encoder

    def of(self, block: Block) -> Block:
        """The block with what was drawn, -1 where it is not known here; once it is there it stays."""
        if block.drawn:
            return block
        return replace(block, drawn=self._codes(block), shown=self._both(block) if self.shown else ())

    def arms(self, block: Block) -> Any:
        """(2, n) codes of both arms of a block with what was drawn."""
        return np.stack(block.drawn) if self.pairs is None else self.pairs.T.take(block.drawn[0], axis=1)

    def by_label(self, block: Block) -> Any:
        """(L,) weight of a block's rows with each arm, group or label, where what was drawn is known of all."""
        members = self.arms(block) if self.kind == "pair" else np.stack(block.drawn)
        return sum(np.bincount(codes, weights(block), len(self.labels)) for codes in members)

    def _codes(self, block: Block) -> tuple[Any, ...]:
        if self.kind == "group":
            assert block.group is not None
            return (block.group,)
        if self.kind == "label":
            labelled = np.isfinite(np.asarray(block.y)).astype(np.int32)
            return (np.where(self._both(block)[0] < 0, -1, labelled) if self.shown else labelled,)
        a, b = self._both(block)
        if self.pairs is None:
            return a, b
        k = len(self.labels)
        key = np.where(a >= 0, pair_number(k, a, b), -1)
        keys = self.pairs[:, 0].astype(np.int64) * k + self.pairs[:, 1]
        if k * k <= _TABLE:
            place = np.full(k * k + 1, -1, np.int32)  # the last of them, which -1 asks for, is no pair's
            place[keys] = np.arange(len(keys))
            return (place[key],)
        near = np.minimum(np.searchsorted(keys, key), len(keys) - 1)
        return (np.where(keys[near] == key, near, -1).astype(np.int32),)

    def _both(self, block: Block) -> tuple[Any, Any]:
        """Codes of both arms, -1 where one is not known here or they are the same."""
        k = len(self.known)
        known = (block.a >= 0) & (block.a < k) & (block.b >= 0) & (block.b < k) & (block.a != block.b)
        return np.where(known, block.a, -1), np.where(known, block.b, -1)

    def names(self) -> list[str]:
        """Of every class or pair, in the order of a model's `every`."""
        if self.kind != "pair":
            return list(self.labels)
        pairs = combinations(range(len(self.labels)), 2) if self.pairs is None else self.pairs
        return [f"{self.labels[i]} | {self.labels[j]}" for i, j in pairs]


def pair_number(k: int, a: Any, b: Any) -> Any:
    """(n,) int64: the lower of two arms times k plus the higher."""
    return np.minimum(a, b).astype(np.int64) * k + np.maximum(a, b)
