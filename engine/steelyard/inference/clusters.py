"""Row scores summed within clusters, block by block, and the meat that follows (docs/estimators.md, 3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy  # its parts load when first used

from steelyard._native.row_squares import row_squares
from steelyard.blocks import Block
from steelyard.inference.influence import Meat, Squares, cluster_sets, multiway
from steelyard.spill import Blocks

CLUSTER_BYTES = 1 << 27  # of cluster sums that are held at a time
_CELLS = 1 << 22  # entries of the rows' scores that are made at a time


def cluster_names(count: int) -> list[str]:
    """Names of all cluster columns and their intersections, as a log selects them."""
    return ["+".join(f"cluster_{i}" for i in chosen) for chosen in cluster_sets(count)]


class Part(NamedTuple):
    """One block's sums. arms: (clusters, k) sparse. cluster: (m,) those that occur. columns: (m, d) their sums."""

    arms: Any
    cluster: Any
    columns: Any


def summed(
    cluster: Any, arms: tuple[Any, Any, Any] | None, k: int, columns: Iterable[tuple[slice, Any]], d: int
) -> Part:
    """Sums of one block's row scores by cluster.

    cluster: (n,) codes. arms: a, b, and the score entry of a, each (n,); b's is its negative. columns: the entries
    of d columns, (rows, d) for each slice of the block's rows.
    """
    high = int(cluster.max(initial=-1)) + 1
    occurs, place = np.zeros(high, bool), np.empty(high, np.int32)
    occurs[cluster] = True
    occurring = np.flatnonzero(occurs)
    place[occurring] = np.arange(len(occurring), dtype=np.int32)
    by_arm = scipy.sparse.csr_array((high, k))
    if arms is not None:
        a, b, entry = arms
        where = (np.concatenate([cluster, cluster]), np.concatenate([a, b]))
        by_arm = scipy.sparse.coo_array((np.concatenate([entry, -entry]), where), shape=(high, k)).tocsr()
    sums = np.zeros((len(occurring), d))
    for cut, entries in columns if d else ():
        here, row = np.unique(place[cluster[cut]], return_inverse=True)
        member = scipy.sparse.coo_array((np.ones(len(row)), (row, np.arange(len(row)))), shape=(len(here), len(row)))
        sums[here] += member.tocsr() @ entries
    return Part(by_arm, occurring, sums)


class ClusterSums:
    """Row scores of k arms and d columns summed within clusters: add the parts of all blocks, in order."""

    def __init__(self, k: int, d: int) -> None:
        self._arms: Any = scipy.sparse.csr_array((0, k))
        self._waiting: list[Any] = []  # sums by arm, merged when together they are as many as those merged before
        self._columns = np.zeros((0, d))
        self._occurs = np.zeros(0, bool)

    def add(self, part: Part) -> None:
        high, held = part.arms.shape[0], len(self._occurs)
        if high > held:
            more = max(high, 2 * held) - held
            self._occurs = np.append(self._occurs, np.zeros(more, bool))
            self._columns = np.concatenate([self._columns, np.zeros((more, self._columns.shape[1]))])
        self._occurs[part.cluster] = True
        self._columns[part.cluster] += part.columns
        self._waiting.append(part.arms)
        if sum(waiting.nnz for waiting in self._waiting) >= self._arms.nnz:
            self._merge()

    def _merge(self) -> None:
        for waiting in [self._arms, *self._waiting]:
            waiting.resize((len(self._occurs), waiting.shape[1]))
        self._arms, self._waiting = sum(self._waiting, self._arms), []

    def squared(self) -> Squares:
        """Of k + d parameters. A cluster tells of an arm that it has a row of, of a column by a sum that is not 0."""
        self._merge()
        arms, columns, own = self._arms, self._columns, np.zeros((self._arms.shape[1],) * 2)
        row_squares(arms.indptr.astype(np.int64), arms.indices.astype(np.int32), arms.data, own)
        across = arms.T @ columns
        square = np.block([[own + own.T - np.diag(np.diag(own)), across], [across.T, columns.T @ columns]])
        told = np.concatenate([np.bincount(arms.indices, minlength=arms.shape[1]), np.count_nonzero(columns, axis=0)])
        return Squares(square, int(self._occurs.sum()), told)


def squared_sums(blocks: Blocks, cluster: tuple[int, str, int], width: int, scores: Callable[[Block], Any]) -> Squares:
    """Sums of the scores (n, width) of a column's clusters. scores: of a block's rows.

    cluster: the column's place, name and number of codes. As many clusters at a time as memory holds.
    """
    total = Squares(np.zeros((width, width)), 0, np.zeros(width, np.int64))
    column, _, codes = cluster
    step = max(1, CLUSTER_BYTES // (8 * (width + 1)))
    for low in range(0, max(codes, 1), step):

        def part(block: Block, low: int = low) -> Part:
            code = block.clusters[column]
            if codes > step:
                block = block.where((code >= low) & (code < low + step))
            entries = ((cut, scores(some)) for cut, some in block.pieces(max(1, _CELLS // width)))
            return summed(block.clusters[column] - low, None, 0, entries, width)

        sums = ClusterSums(0, width)
        for some in blocks.each(part):
            sums.add(some)
        total = joined(total, sums.squared())
    return total


def clustered_meat(
    blocks: Blocks, clusters: Sequence[tuple[int, str, int]], width: int, scores: Callable[[Block], Any]
) -> Meat:
    """The meat of scores (n, width), summed within clusters first; of several columns as :func:`multiway` has it."""
    squares = [squared_sums(blocks, cluster, width, scores) for cluster in clusters]
    return multiway([name for _, name, _ in clusters], squares)


def joined(some: Squares, others: Squares) -> Squares:
    """Of some clusters and of others."""
    return Squares(*(mine + more for mine, more in zip(some, others, strict=True)))


def told_by(
    blocks: Blocks, clusters: Sequence[tuple[int, str, int]], size: int, codes: Callable[[Block], Sequence[Any]]
) -> Any:
    """(size,) how many comparisons tell of each code; or clusters, of the column that has fewest.

    codes: (n,) arrays of a block's rows, which tell of each of theirs; negative: of none.
    """

    def one(block: Block) -> list[Any]:
        each = [(code, np.flatnonzero(code >= 0)) for code in map(np.asarray, codes(block))]
        if not clusters:
            count = np.ones(block.n) if block.count is None else block.count
            return [sum(np.bincount(code[at], count[at], size) for code, at in each)]
        pairs = [[block.clusters[place].astype(np.int64)[at] * size + code[at] for code, at in each]
                 for place, *_ in clusters]  # fmt: skip
        return [np.unique(np.concatenate(both)) for both in pairs]

    if not clusters:
        return sum((some for (some,) in blocks.each(one)), np.zeros(size))
    columns = zip(*blocks.each(one), strict=True)
    met = [np.bincount(np.unique(np.concatenate(pairs)) % size, minlength=size) for pairs in columns]
    return np.min(met, axis=0)
