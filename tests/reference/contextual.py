"""Twin of bindings/contextual.pyx: the whole design matrix, row by row."""

from __future__ import annotations

from typing import Any

import numpy as np


def work_size(wide: int, vectors: int) -> int:
    raise NotImplementedError  # the native module's business


def contextual(
    k: int, a: Any, b: Any, context: Any, columns: Any, y: Any, weight: Any, count: Any, parameter: Any, work: Any,
    value: Any, score: Any, hessian: Any,
) -> None:  # fmt: skip
    n, q, d = len(y), len(context), len(columns)
    design = np.zeros((n, k * q + d))
    for i in range(n):
        if k:
            design[i, a[i] * q : (a[i] + 1) * q] += context[:, i]
            design[i, b[i] * q : (b[i] + 1) * q] -= context[:, i]
        design[i, k * q :] = columns[:, i]
    w = np.prod([np.ones(n) if values is None else values for values in (weight, count)], axis=0)
    for v, beta in enumerate(parameter):
        eta = design @ beta
        p = 1.0 / (1.0 + np.exp(-eta))
        value[v] -= w @ (y * np.logaddexp(0.0, -eta) + (1.0 - y) * np.logaddexp(0.0, eta))
        score[v] += design.T @ (w * (y - p))
    if hessian is not None:
        hessian += np.triu(design.T @ ((w * p * (1.0 - p))[:, None] * design))
