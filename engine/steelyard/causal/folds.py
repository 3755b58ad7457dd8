"""Folds: which rows are held out together when the models are fitted to the others. Folds never split a cluster."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import scipy  # its parts load when first used

from steelyard.blocks import Block
from steelyard.errors import NotIdentifiedError
from steelyard.spill import Blocks, settled

MOST = 100
_MASK = (1 << 64) - 1


def ordered(block: Block, order: Any) -> Block:
    """The rows at their places (n,) in an order; None: as they stand."""
    return block if order is None else block.where(order)


def folded(
    blocks: Blocks, folds: int, seed: int, clusters: Sequence[tuple[int, str, int]],
    taken: Callable[[Block, Any], Block] = ordered,
) -> Blocks:  # fmt: skip
    """The blocks with the fold of each row, fold by fold once and for all; of one fold they stay in order.

    clusters: place among the blocks' codes, name and number of codes of each cluster column. Rows that share a
    cluster of any column, directly or through others, share a fold; folds are as even as that allows. Without
    clusters a row's fold hangs on (seed, its place among the rows) alone, and the comparisons of a row with a count are
    dealt to the folds. taken: makes of a block and an order (n,) of places, or None, the block in that order.
    Raises NotIdentifiedError where there are fewer groups of clusters than folds.
    """
    if clusters and folds > 1:
        fold = _by_group(blocks, folds, seed, clusters)
        at = clusters[0][0]
        return settled(blocks.map(lambda block: _together(block, fold[block.clusters[at]], taken)))
    first, rows = {}, 0
    for start, n in blocks.each(lambda block: (block.start, block.n)):
        first[start], rows = rows, rows + n

    def drawn(block: Block) -> Block:
        if block.count is not None:
            return _dealt(block, folds, np.random.default_rng([seed, block.start]), taken)
        if folds == 1:
            return taken(replace(block, fold=np.zeros(block.n, np.int8)), None)
        place = np.arange(first[block.start], first[block.start] + block.n, dtype=np.uint64)
        return _together(block, (_mixed(place, seed) % np.uint64(folds)).astype(np.int8), taken)

    made = blocks.map(drawn)
    return settled(made) if folds > 1 else made


def _dealt(block: Block, folds: int, rng: np.random.Generator, taken: Callable[[Block, Any], Block]) -> Block:
    """The comparisons that each row stands for, dealt to the folds one by one: the row in each fold that got some.

    A row of a tally is made of comparisons with one outcome; all in one fold, they would tell it apart from the others.
    """
    got = rng.multinomial(np.asarray(block.count).astype(np.int64), np.full(folds, 1.0 / folds))
    at, fold = np.nonzero(got)
    place = np.arange(block.n, dtype=np.int32) if block.place is None else block.place
    block = replace(block, place=place).where(at)
    return _together(replace(block, count=got[at, fold].astype(np.float64)), fold.astype(np.int8), taken)


def _together(block: Block, fold: Any, taken: Callable[[Block, Any], Block]) -> Block:
    """The rows of each fold together, and there, where arms are few, those of each pair; else in order."""
    place = np.arange(block.n, dtype=np.int32) if block.place is None else block.place
    block, key = replace(block, fold=fold, place=place), fold
    k = 1 + int(max(block.a.max(initial=0), block.b.max(initial=0)))
    if (1 + int(fold.max(initial=0))) * k * k < 1 << 16:  # numbers that are sorted in two passes
        key = (fold * np.uint16(k) + np.minimum(block.a, block.b)) * np.uint16(k) + np.maximum(block.a, block.b)
        key = key.astype(np.uint16)
    return taken(block, None if (key[1:] >= key[:-1]).all() else np.argsort(key, kind="stable"))


def fold_slices(block: Block, step: int | None = None) -> Iterator[tuple[int, slice]]:
    """Fold and place of the rows of each fold, some at a time where there are many."""
    fold = np.asarray(block.fold)
    starts = np.flatnonzero(np.diff(fold, prepend=-1))
    step = step or max(block.n, 1)
    for low, high in itertools.pairwise([*starts.tolist(), block.n]):
        for start in range(low, high, step):
            yield int(fold[low]), slice(start, min(start + step, high))


def refuse_lone_arms(blocks: Blocks, folds: int, arms: Sequence[str]) -> None:
    """Raises NotIdentifiedError where one fold holds every labelled row of an arm."""
    k = len(arms)

    def one(block: Block) -> Any:
        known = np.isfinite(np.asarray(block.y))
        fold = np.asarray(block.fold)[known].astype(np.int64)
        return sum(np.bincount(fold * k + side[known], minlength=folds * k) for side in (block.a, block.b))

    refuse_lone(sum(blocks.each(one)).reshape(folds, k), arms, "arms", "leave them out")


def refuse_lone(rows: Any, names: Sequence[str], what: str, out: str) -> None:
    """Raises NotIdentifiedError where one fold holds every row of something: nothing outside tells of it.

    rows: (folds, m) counts. what: the m things with these names are; out: a way out beside fewer folds.
    """
    lone = np.flatnonzero((rows > 0).sum(axis=0) == 1)
    if len(rows) > 1 and len(lone):
        told = ", ".join(f"{names[j]} ({rows[:, j].max()})" for j in lone[:10])
        raise NotIdentifiedError(
            f"{len(lone)} {what} have all of their comparisons in one fold: {told}. The models of the other folds know "
            f"nothing of them: {out}, or use fewer folds (folds=1 where one cluster has them)."
        )


def _by_group(blocks: Blocks, folds: int, seed: int, clusters: Sequence[tuple[int, str, int]]) -> Any:
    """(codes of the first column,) fold: the largest groups first, each to the smallest fold, ties by chance."""
    at, _, codes = clusters[0]

    def one(block: Block) -> tuple[Any, Any]:
        found, first = np.unique(block.clusters[at], return_index=True)
        return np.bincount(block.clusters[at], minlength=codes), found[np.argsort(first)]

    counts, met = zip(*blocks.each(one), strict=True)
    group = _groups(blocks, clusters)[:codes]
    met = group[np.concatenate(met)]
    known = met[np.sort(np.unique(met, return_index=True)[1])]  # as rows met them, whatever else was left out
    rows = np.bincount(group, sum(counts))[known]
    if len(rows) < folds:
        columns = " and ".join(repr(name) for _, name, _ in clusters)
        raise NotIdentifiedError(
            f"cluster column {columns}: {len(rows)} groups of rows that share no cluster, fewer than folds={folds}. "
            "Use fewer folds (folds=1: no cross-fitting, for small models), or cluster by fewer columns."
        )
    order = np.random.default_rng(seed).permutation(len(rows))
    order = order[np.argsort(-rows[order], kind="stable")]
    heap, fold = [(0.0, f) for f in range(folds)], np.zeros(1 + int(group.max()), np.int8)
    for place in order:
        size, smallest = heapq.heappop(heap)
        fold[known[place]] = smallest
        heapq.heappush(heap, (size + rows[place], smallest))
    return fold[group]


def _groups(blocks: Blocks, clusters: Sequence[tuple[int, str, int]]) -> Any:
    """Number of the group of every code, column after column: codes that share a row share a group."""
    sizes = [codes for _, _, codes in clusters]
    offset = np.concatenate([[0], np.cumsum(sizes)])
    if len(clusters) == 1:
        return np.arange(sizes[0])
    links = []
    for place, (at, _, codes) in enumerate(clusters[1:], 1):

        def one(block: Block, at: int = at, codes: int = codes) -> Any:
            return np.unique(block.clusters[clusters[0][0]].astype(np.int64) * codes + block.clusters[at])

        key = np.unique(np.concatenate(list(blocks.each(one))))
        links.append(np.stack([key // codes, offset[place] + key % codes]))
    tail, head = np.concatenate(links, axis=1)
    graph = scipy.sparse.coo_array((np.ones(len(tail)), (tail, head)), shape=(offset[-1], offset[-1]))
    return scipy.sparse.csgraph.connected_components(graph, directed=False)[1]


def _mixed(place: Any, seed: int) -> Any:
    """64 random bits of each place (Stafford's variant 13 of MurmurHash3's finaliser)."""
    x = place + np.uint64((seed * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) & _MASK)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
