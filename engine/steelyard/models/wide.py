"""Rows of columns or of features, a few at a time: margins, scores, Gram matrices, and their entries in double."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from steelyard._native.wide_rows import rows_times, times_rows
from steelyard.blocks import Block

_CELLS = 1 << 18  # entries that are read together: they stay near the core


def pieces(block: Block) -> Iterator[tuple[slice, Any]]:
    """Columns or features of a few rows at a time, (rows, d)."""
    apart, columns = isinstance(block.columns, tuple), block.columns
    d = block.differences(slice(0)).shape[1] if columns is None else len(columns)
    step = max(1, _CELLS // max(d, 1))
    for start in range(0, block.n, step):
        rows = slice(start, min(start + step, block.n))
        if columns is None:
            yield rows, block.differences(rows)
        else:
            yield rows, np.stack([column[rows] for column in columns], 1) if apart else np.asarray(columns).T[rows]


def widened(block: Block) -> Iterator[tuple[slice, Any]]:
    """The same in double."""
    return ((rows, x.astype(np.float64, copy=False)) for rows, x in pieces(block))


def times(x: Any, v: Any) -> Any:
    """(n,) x v of rows x (n, d): features as they are; columns, which stand the other way, by BLAS."""
    if not x.flags.c_contiguous:
        return x @ v
    out = np.empty(len(x))
    rows_times(x, v, out)
    return out


def add_scores(x: Any, w: Any, score: Any) -> None:
    """Adds w x to the score (d,)."""
    if x.flags.c_contiguous:
        times_rows(x, w, score)
    else:
        score += w @ x


def add_gram(matrix: Any, x: Any, root: Any, cross: Any, corner: Any) -> None:
    """Adds x' root^2 x, and beside it what the tie parameter has."""
    d, wide = x.shape[1], x.astype(np.float64, copy=False)
    scaled = wide * root[:, None]
    matrix[:d, :d] += scaled.T @ scaled
    if len(corner):
        matrix[:d, d:] += (cross @ wide)[:, None]
        matrix[d:, d:] += corner
