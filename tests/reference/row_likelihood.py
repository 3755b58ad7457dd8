"""Twin of bindings/row_likelihood.pyx: the whole design matrix, row by row."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.reference.pair_likelihood import pair_likelihood


def row_likelihood(
    model: int, own: int, k: int, a: Any, b: Any, columns: Any, offset: Any, y: Any, weight: Any, count: Any,
    parameter: Any, by_eta: Any, score: Any, hessian: Any, meat: Any = None, origin: Any = None, sides: Any = None,
) -> float:  # fmt: skip
    n, ties = len(y), model in (1, 2)
    columns = columns if sides is None else sides[0].T if len(sides) == 1 else (sides[0] - sides[1]).T
    d, p = len(columns), len(score)
    design = np.zeros((n, p))
    for i in range(n):
        if k:
            design[i, a[i]] += 1.0
            design[i, b[i]] -= 1.0
        design[i, k : k + d] = np.array([column[i] for column in columns]) - (0.0 if origin is None else origin)
    eta = design @ parameter + (0.0 if offset is None else offset)
    w, c = (np.ones(n) if values is None else values for values in (weight, count))
    tie = ties & (y == 0.5)
    outcomes = np.stack([np.where(tie, 0.0, y), tie, np.where(tie, 0.0, 1 - y)], axis=1) * (w * c)[:, None]
    out, codes = np.zeros((6, n)), np.arange(n, dtype=np.int32)
    pair_likelihood(model, codes, codes + n, np.zeros(n), outcomes, np.concatenate([eta, np.zeros(n)]), 0.0,
                    parameter[-1] if ties else 0.0, out)  # fmt: skip
    value, d_eta, d_tie, h_eta, h_cross, h_tie = out
    if by_eta is not None:
        by_eta[:] = d_eta, d_tie, h_eta, h_cross
    tie_column = np.zeros((n, p))
    if ties:
        tie_column[:, -1] = 1.0
    rows = design * d_eta[:, None] + tie_column * d_tie[:, None]
    score += rows.sum(axis=0)
    if meat is not None:
        meat += np.triu(rows.T @ (rows / c[:, None]))
    if hessian is not None:
        cross = design.T @ (h_cross[:, None] * tie_column)
        hessian += np.triu(design.T @ (h_eta[:, None] * design) + cross + cross.T
                           + tie_column.T @ (h_tie[:, None] * tie_column))  # fmt: skip
    return float(value.sum())
