"""Whether a softmax of two draws describes which pairs were shown: observed counts of pairs beside those it expects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from steelyard.assignment.assigned import pair_number
from steelyard.assignment.models import SoftmaxModel
from steelyard.blocks import Block
from steelyard.errors import warn
from steelyard.models.row_blocks import weights
from steelyard.spill import Blocks

_CELLS = 1 << 22  # probabilities of pairs that are made at a time
_ROWS, _COST = 4096, 1 << 27  # rows that the expected counts are taken from, and how many probabilities they may cost
_COUNTED = 1 << 23  # rows times columns that pairs are counted by
_CLUSTERED = 1 << 18  # rows whose clusters tell how often one pair is met again
_FEWEST = 400  # rows with a value of a context from which what is expected there is known well enough
_SURE, _MUCH = 6.0, 0.05  # standard errors, and share of the comparisons, beyond which it warns


@dataclass(frozen=True)
class Misfit:
    """z: overdispersion of the counts of pairs, sum (O - E)^2 / E, in standard errors if clusters are independent.

    Of all rows, or of those on one side of the mean of a context if there it is worse, as `where` says. Counts are of
    as many rows as these are worth: under sampling weights (sum w)^2 / sum w^2 in all, and less where clusters meet one
    pair again. excess: share of the comparisons that are of pairs met more often than expected, beyond chance. worst:
    of the pair with most of them: names, rows, and how many were expected.
    """

    z: float
    excess: float
    worst: tuple[str, str, float, float]
    where: str = ""

    @property
    def fits(self) -> bool:
        return not (self.z > _SURE and self.excess > _MUCH)

    def __str__(self) -> str:
        if self.fits:
            return "the softmax describes which pairs were shown, as far as their counts tell"
        a, b, rows, expected = self.worst
        return (
            f"the softmax does not describe which pairs were shown{self.where}: {100 * self.excess:.0f} % of the "
            f"comparisons are of pairs met more often than it expects ({a} | {b}: {rows:.0f}, expected {expected:.0f})"
        )

    def warn(self) -> None:
        if not self.fits:
            warn(
                f"{self}. Weights by it do not balance contexts; doubly robust estimates then rest on the outcome "
                "model, and their intervals do not know whether that is right. Where arms are few, use "
                "PairPropensity(method='pairs'); doubly robust scores may ask for the log's own pairs (pairs='log').",
            )


def misfit(model: SoftmaxModel, blocks: Blocks, labels: tuple[str, ...]) -> Misfit:
    """Of a fitted softmax of two draws, from the rows it was fitted to: of all, and of each side of each context."""
    k, sets = len(labels), 1 + len(model.contexts.mean)
    low, high = np.triu_indices(k, 1)
    rows = sum(blocks.each(lambda block: block.n))
    thin = max(1, -(-rows // max(1, min(_ROWS, _COST // len(low)))))

    def members(block: Block) -> Any:
        """(sets, n) what each row weighs in: all; of each context, the rows above its mean."""
        return weights(block) * np.concatenate([np.ones((1, block.n)), model.contexts.matrix(block)[1:] > 0])

    def one(block: Block) -> tuple[Any, ...]:
        few, block = _some(block, thin), _some(block, rows * sets // _COUNTED)
        pair, seen, square = pair_number(k, *block.drawn), np.zeros((sets, len(low))), np.zeros(sets)
        for j, w in enumerate(members(block)):
            seen[j] = np.bincount(pair, w, k * k).reshape(k, k)[low, high]
            square[j] = w @ (w if block.count is None else w / block.count)
        expected, kept = np.zeros((sets, len(low))), np.zeros((2, sets))
        at = max(1, _CELLS // len(low))
        for start in range(0, few.n, at):
            part = few.where(slice(start, start + at))
            w = members(part)
            expected += w @ model.every(part).T
            kept += w.sum(axis=1), (w > 0).sum(axis=1)
        return seen, square, expected, *kept

    sums = [sum(part) for part in zip(*blocks.each(one), strict=True)]
    again = _met_again(blocks, k, rows)
    of_all = _compared([part[0] for part in sums], again, labels, "")
    found = [of_all]
    for j, term in enumerate(model.contexts.terms, 1):
        above = [part[j] for part in sums]
        below = [part[0] - part[j] for part in sums]
        sides = ("with", "without") if "=" in term else ("above the mean of", "up to the mean of")
        found += [_compared(part, again, labels, f" in rows {side} {term}")
                  for part, side in zip((above, below), sides, strict=True) if part[4] >= _FEWEST]  # fmt: skip
    return max((one for one in found if not one.fits), key=lambda one: one.z, default=of_all)


def _compared(sums: list[Any], again: float, labels: tuple[str, ...], where: str) -> Misfit:
    """Counts seen (P,) beside those expected. sums: of one set of rows, as misfit() makes them."""
    seen, square, expected, kept, _ = sums
    seen = seen * (seen.sum() / square / again)
    total = float(seen.sum())
    expected = np.maximum(expected * total / kept, 1e-9)
    z = float((((seen - expected) ** 2 / expected) - 1.0).sum() / np.sqrt((2.0 + 1.0 / expected).sum()))
    chance = np.minimum(np.sqrt(2.0 * expected / np.pi), 2.0 * expected).sum()
    excess = max(0.0, float(np.abs(seen - expected).sum() - chance)) / (2.0 * total)
    low, high = np.triu_indices(len(labels), 1)
    most = int(np.argmax(seen - expected))
    return Misfit(z, excess, (labels[low[most]], labels[high[most]], float(seen[most]), float(expected[most])), where)


def _some(block: Block, step: int) -> Block:
    """One row of so many, by chance: contexts may take turns."""
    return block if step < 2 else block.where(np.random.default_rng(block.start).random(block.n) < 1.0 / step)


def _met_again(blocks: Blocks, k: int, rows: int) -> float:
    """How much more the counts of pairs vary than by rows: pairs that a cluster meets again and again were drawn once.

    1 where there are no clusters, or each of them meets pairs by chance: the variance by cluster about shares that are
    the same in all, over that of independent rows.
    """
    every = 1 + rows // _CLUSTERED

    def one(block: Block) -> tuple[Any, Any]:
        if not block.clusters:
            return np.empty(0, np.int64), np.empty((2, 0))
        at = np.flatnonzero(block.clusters[0] % every == 0)
        w, count = weights(block)[at], 1.0 if block.count is None else block.count[at]
        pair = pair_number(k, *block.drawn)[at]
        return block.clusters[0][at].astype(np.int64) * k * k + pair, np.array([w, w * w / count])

    keys, w = (np.concatenate(part, axis=-1) for part in zip(*blocks.each(one), strict=True))
    if not len(keys):
        return 1.0
    cells, place = np.unique(keys, return_inverse=True)
    cell = np.bincount(place, w[0])
    cluster = np.unique(cells // (k * k), return_inverse=True)[1]
    pair = np.unique(cells % (k * k), return_inverse=True)[1]
    size, share = np.bincount(cluster, cell), np.bincount(pair, cell) / cell.sum()
    spread = cell @ (cell - 2.0 * size[cluster] * share[pair]) + size @ size * (share @ share)
    return max(1.0, float(spread / max(w[1].sum() * (1.0 - share @ share), 1e-300)))
