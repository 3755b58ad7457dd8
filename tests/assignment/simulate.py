"""Logs in which what was shown depends on the context, with the truth by quadrature."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

K = 6
SCORE, SCORE_SLOPE = np.linspace(0.8, -0.8, K), 0.4 * np.array([1, -1, 0.5, -0.5, 1, -1])
SHOWN, SHOWN_SLOPE = np.linspace(-0.3, 0.3, K), 0.4 * np.array([1, 1, -1, -1, 0.5, -0.5])


def two_drawn(rng: Any, logits: Any) -> tuple[Any, Any]:
    """Two arms without replacement from softmax(logits), the order shown by chance."""
    top = np.argsort(-(logits + rng.gumbel(size=logits.shape)), axis=1)[:, :2]
    flip = rng.random(len(top)) < 0.5
    return np.where(flip, top[:, 0], top[:, 1]), np.where(flip, top[:, 1], top[:, 0])


def confounded(seed: int, n: int) -> pl.DataFrame:
    """a b y x: both the pair shown and the scores depend on x."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    a, b = two_drawn(rng, SHOWN + SHOWN_SLOPE * x[:, None])
    eta = SCORE[a] - SCORE[b] + (SCORE_SLOPE[a] - SCORE_SLOPE[b]) * x
    return pl.DataFrame({"a": a, "b": b, "y": (rng.random(n) < 1 / (1 + np.exp(-eta))) * 1.0, "x": x})


def projection(win: Any) -> Any:
    """Scores (K,) of the Bradley-Terry model nearest to a win matrix, every pair as often."""
    theta = np.zeros(len(win))
    for _ in range(200):
        p = 1 / (1 + np.exp(theta - theta[:, None]))
        gap, h = win - p, p * (1 - p)
        np.fill_diagonal(gap, 0.0)
        np.fill_diagonal(h, 0.0)
        theta = theta + np.linalg.lstsq(np.diag(h.sum(axis=1)) - h, gap.sum(axis=1), rcond=None)[0]
    return theta - theta.mean()


def truth() -> Any:
    """(K,) what the scores of :func:`confounded` are if every pair is as likely in every context."""
    nodes, weight = np.polynomial.hermite_e.hermegauss(80)
    eta = SCORE[:, None] - SCORE + (SCORE_SLOPE[:, None] - SCORE_SLOPE) * nodes[:, None, None]
    return projection((weight[:, None, None] / (1 + np.exp(-eta))).sum(axis=0) / weight.sum())
