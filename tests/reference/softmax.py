"""Twin of bindings/softmax.pyx: every row by itself, derivatives by the definition over the order of the draws."""

from __future__ import annotations

from typing import Any

import numpy as np


def _one(logits: Any, drawn: Any) -> tuple[float, Any, Any]:
    """log P, gradient and minus the Hessian (k, k) of one class."""
    q = np.exp(logits - logits.max())
    q /= q.sum()
    return float(np.log(q[drawn])), np.eye(len(q))[drawn] - q, np.diag(q) - np.outer(q, q)


def _ordered(logits: Any, first: int, second: int) -> tuple[float, Any, Any]:
    """The same of drawing `first`, then `second` from what is left."""
    left = np.delete(np.arange(len(logits)), first)
    value, gradient, curve = _one(logits, first)
    more, slope, bend = _one(logits[left], int(np.flatnonzero(left == second)[0]))
    gradient[left] += slope
    curve[np.ix_(left, left)] += bend
    return value + more, gradient, curve


def row(logits: Any, a: int, b: int | None) -> tuple[float, Any, Any]:
    """log P, gradient and minus the Hessian of what was drawn, in either order."""
    if b is None:
        return _one(logits, a)
    (v, g, h), (w, k, l) = _ordered(logits, a, b), _ordered(logits, b, a)  # noqa: E741
    r = 1 / (1 + np.exp(w - v))
    return float(np.logaddexp(v, w)), r * g + (1 - r) * k, r * h + (1 - r) * l - r * (1 - r) * np.outer(g - k, g - k)


def work_size(k: int, d: int) -> int:
    return 0


def softmax(a: Any, b: Any, weight: Any, logits: Any, gradient: Any, roots: Any) -> None:
    """roots: not unique, so that only their t is written; what they give is compared with :func:`row` instead."""
    for i in range(len(a)):
        w = 1.0 if weight is None else weight[i]
        _, slope, _ = row(logits[:, i], a[i], None if b is None else b[i])
        gradient[:, i] = w * slope
        if roots is not None:
            drawn = np.bincount([a[i]] if b is None else [a[i], b[i]], minlength=len(logits))
            roots[0, :, i] = w * (drawn - slope)


def softmax_sums(
    a: Any, b: Any, weight: Any, columns: Any, gamma: Any, work: Any, value: Any, gradient: Any
) -> float:  # fmt: skip
    total = 0.0
    for i in range(len(a)):
        w, x = 1.0 if weight is None else weight[i], columns[:, i]
        v, slope, _ = row(gamma @ x, a[i], None if b is None else b[i])
        total += w * v
        if value is not None:
            value[i] = v
        if gradient is not None:
            gradient += w * np.outer(slope, x)
    return total


def softmax_product(
    a: Any, b: Any, weight: Any, columns: Any, gamma: Any, direction: Any, work: Any, product: Any
) -> None:  # fmt: skip
    for i in range(len(a)):
        w, x = 1.0 if weight is None else weight[i], columns[:, i]
        _, _, curve = row(gamma @ x, a[i], None if b is None else b[i])
        product += w * np.outer(curve @ (direction @ x), x)
