"""Row scores summed within clusters, block by block, and the meat that follows (estimators.md, section 5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy  # its parts load when first used

from steelyard.errors import NotIdentifiedError
from steelyard.inference.influence import cluster_sets, multiway


def cluster_names(count: int) -> list[str]:
    """Names of all cluster columns and their intersections, as a log selects them."""
    return ["+".join(f"cluster_{i}" for i in chosen) for chosen in cluster_sets(count)]


def summed(cluster: Any, columns: list[Any], values: list[Any]) -> tuple[Any, Any]:
    """Sums of one block's row scores by cluster and parameter.

    cluster: (n,) codes. columns: for each entry of a row's score the parameter it belongs to, (n,). values:
    the entries, (n,). Returns keys (cluster << 32 | parameter) and their sums.
    """
    cluster = cluster.astype(np.int64)
    key = np.concatenate([(cluster << 32) | column for column in columns])
    unique, group = np.unique(key, return_inverse=True)
    return unique, np.bincount(group, np.concatenate(values), len(unique))


def clustered_meat(parts: list[list[Any]], names: Sequence[str], p: int) -> tuple[Any, float]:
    """Meat (p, p), and the share of the eigenvalue that was clipped, from the sums of all blocks.

    parts: for each block, for each of `names` (of :func:`cluster_names`), what :func:`summed` returned.
    Raises NotIdentifiedError for a single group among the rows, or a row without one.
    """
    scores = {}
    for i, (chosen, name) in enumerate(zip(cluster_sets(sum("+" not in name for name in names)), names, strict=True)):
        key, values = (np.concatenate(column) for column in zip(*(part[i] for part in parts), strict=True))
        row, column = key >> 32, key & 0xFFFFFFFF
        if (row < 0).any():
            raise NotIdentifiedError("the cluster column has nulls: fill them, each with a value of its own")
        groups, row = np.unique(row, return_inverse=True)
        if len(groups) < 2:
            raise NotIdentifiedError(f"cluster column {name!r} has {len(groups)} group; clustered errors need two")
        scores[chosen] = scipy.sparse.coo_array((values, (row, column)), shape=(len(groups), p)).tocsr()
    return multiway(scores)
