"""Whether a softmax of two draws describes which pairs were shown: observed counts of pairs beside those it expects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from steelyard.assignment.models import SoftmaxModel
from steelyard.blocks import Block
from steelyard.errors import warn
from steelyard.models.row_problem import weights
from steelyard.spill import Blocks

_CELLS = 1 << 22  # probabilities of pairs that are made at a time
_ROWS, _COST = 4096, 1 << 27  # rows that the expected counts are taken from, and how many probabilities they may cost
_SURE, _MUCH = 6.0, 0.05  # standard errors, and share of the comparisons, beyond which it warns


@dataclass(frozen=True)
class Misfit:
    """z: overdispersion of the counts of pairs, sum (O - E)^2 / E, in standard errors if rows are independent draws.

    Under sampling weights counts are of as many rows as these are worth, (sum w)^2 / sum w^2 in all. excess: share of
    the comparisons that are of pairs met more often than expected, beyond chance. worst: of the pair with most of them:
    names, rows, and how many were expected.
    """

    z: float
    excess: float
    worst: tuple[str, str, float, float]

    @property
    def fits(self) -> bool:
        return not (self.z > _SURE and self.excess > _MUCH)

    def __str__(self) -> str:
        if self.fits:
            return "the softmax describes which pairs were shown, as far as their counts tell"
        a, b, rows, expected = self.worst
        return (
            f"the softmax does not describe which pairs were shown: {100 * self.excess:.0f} % of the comparisons are "
            f"of pairs met more often than it expects ({a} | {b}: {rows:.0f}, expected {expected:.0f})"
        )

    def warn(self) -> None:
        if not self.fits:
            warn(
                f"{self}. Weights by it do not balance contexts; doubly robust estimates then rest on the outcome "
                "model, and intervals of arms with few rows may be too short. Where arms are few, use "
                "PairPropensity(method='pairs').",
            )


def misfit(model: SoftmaxModel, blocks: Blocks, labels: tuple[str, ...]) -> Misfit:
    """Of a fitted softmax of two draws, from the rows it was fitted to."""
    k = len(labels)
    low, high = np.triu_indices(k, 1)
    rows = sum(blocks.each(lambda block: block.n))
    step = max(1, -(-rows // max(1, min(_ROWS, _COST // len(low)))))

    def one(block: Block) -> tuple[Any, Any, float, float]:
        w = weights(block)
        a, b = (np.minimum(*block.drawn), np.maximum(*block.drawn))
        seen = np.bincount(a.astype(np.int64) * k + b, w, k * k).reshape(k, k)[low, high]
        few, expected = block.where(slice(None, None, step)), np.zeros(len(low))
        at = max(1, _CELLS // len(low))
        for start in range(0, few.n, at):
            part = few.where(slice(start, start + at))
            expected += model.every(part) @ weights(part)
        return seen, expected, float(weights(few).sum()), float(w @ (w if block.count is None else w / block.count))

    seen, expected, kept, square = (sum(part) for part in zip(*blocks.each(one), strict=True))
    seen = seen * (seen.sum() / square)
    total = float(seen.sum())
    expected = np.maximum(expected * total / kept, 1e-9)
    z = float((((seen - expected) ** 2 / expected) - 1.0).sum() / np.sqrt((2.0 + 1.0 / expected).sum()))
    chance = np.minimum(np.sqrt(2.0 * expected / np.pi), 2.0 * expected).sum()
    excess = max(0.0, float(np.abs(seen - expected).sum() - chance)) / (2.0 * total)
    most = int(np.argmax(seen - expected))
    worst = (labels[low[most]], labels[high[most]], float(seen[most]), float(expected[most]))
    return Misfit(z, excess, worst)
