"""Simulated logs in which either model, or both, may be wrong, with the truth; `python -m tests.causal.simulate`.

Arms' scores and the logits of being shown are linear in the first contexts; a hidden curve of the first context, which
linear models miss, is added to either. Raters may answer several prompts of one kind, and lean their own way.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl
import steelyard as sy

from tests.assignment.simulate import projection, two_drawn
from tests.reference.doubly_robust import estimate, sigmoid


@dataclass(frozen=True)
class World:
    """arms, contexts; outcome, assignment: "right", or "wrong" where the models lack a curve. raters: rows of each."""

    arms: int = 6
    contexts: int = 1
    outcome: str = "right"
    assignment: str = "right"
    raters: int = 1

    @property
    def _coefficients(self) -> tuple[Any, ...]:
        j = np.arange(self.arms)
        score, shown = np.linspace(0.8, -0.8, self.arms), np.linspace(-0.3, 0.3, self.arms)
        slopes = [np.cos(2.0 * j + c) * 0.4 / np.sqrt(c + 1) for c in range(self.contexts)]
        logits = [np.cos(2.0 * j + c + 0.5) * 0.4 / np.sqrt(c + 1) for c in range(self.contexts)]
        return score, shown, np.stack(slopes), np.stack(logits), 0.5 * np.sin(1.5 * j)

    def scores(self, x: Any) -> Any:
        score, _, slopes, _, bend = self._coefficients
        return score + x @ slopes + (self.outcome == "wrong") * bend * (x[:, :1] ** 2 - 1)

    def logits(self, x: Any) -> Any:
        _, shown, _, logits, bend = self._coefficients
        return shown + x @ logits + (self.assignment == "wrong") * bend * (x[:, :1] ** 2 - 1)

    def _latent(self, rng: Any, raters: int) -> tuple[Any, Any]:
        """Contexts (raters, d) and scores (raters, K), each rater's own."""
        x = rng.normal(size=(raters, self.contexts))
        lean = 0.5 * rng.normal(size=raters)[:, None] * np.cos(np.arange(self.arms)) if self.raters > 1 else 0.0
        return x, self.scores(x) + lean

    def drawn(self, seed: int, n: int) -> tuple[Any, ...]:
        """x (n, d), a, b, y, rater, and the scores (n, K) that y was drawn by."""
        rng = np.random.default_rng(seed)
        rater = np.arange(n) // self.raters
        x, scores = (values[rater] for values in self._latent(rng, rater[-1] + 1))
        a, b = two_drawn(rng, self.logits(x))
        at = np.arange(n)
        y = (rng.random(n) < sigmoid(scores[at, a] - scores[at, b])) * 1.0
        return x, a, b, y, rater, scores

    def log(self, seed: int, n: int) -> sy.PreferenceLog:
        x, a, b, y, rater, _ = self.drawn(seed, n)
        names = [f"x{c}" for c in range(self.contexts)]
        frame = pl.DataFrame({"a": a, "b": b, "y": y, "rater": rater}).hstack(pl.DataFrame(x, schema=names))
        cluster = ["rater"] if self.raters > 1 else []
        return sy.scan(frame, a="a", b="b", outcome="y", context=names, cluster=cluster)

    def truth(self, n: int = 2_000_000) -> Any:
        """(K,) scores nearest to the mean outcomes of every pair over all contexts, by simulation of contexts."""
        win, parts = np.full((self.arms, self.arms), 0.5), n // 100_000
        win[~np.eye(self.arms, dtype=bool)] = 0.0
        for part in range(parts):
            scores = self._latent(np.random.default_rng(10**6 + part), 100_000)[1]
            for i, j in combinations(range(self.arms), 2):
                win[i, j] += sigmoid(scores[:, i] - scores[:, j]).mean() / parts
        return projection(np.triu(win) + np.tril(1.0 - win.T, -1))

    def bound(self, n: int = 20_000) -> Any:
        """(K,) standard errors of the efficient estimator times sqrt(n): both models known; independent rows."""
        x, a, b, y, _, scores = self.drawn(10**6 + 1, n)
        q = np.exp(self.logits(x))
        q /= q.sum(axis=1, keepdims=True)
        at, k = np.arange(n), self.arms
        pi = q[at, a] * q[at, b] * (1 / (1 - q[at, a]) + 1 / (1 - q[at, b]))
        mu = sigmoid(scores[:, :, None] - scores[:, None])
        omega = (1.0 - np.eye(k)) / (k * (k - 1) / 2)
        return np.sqrt(n * (estimate(a, b, y, np.ones(n), mu, pi, omega).influence ** 2).sum(axis=0))


@dataclass(frozen=True)
class Study:
    """Of every arm (K,): bias, its Monte Carlo error, coverage of 95 % intervals, mean standard error over the true
    one, bias of the naive scores."""

    bias: Any
    error: Any
    coverage: Any
    ratio: Any
    naive: Any
    se: Any


def study(world: World, n: int, repeats: int, first: int = 0) -> Study:
    truth, spec = world.truth(), sy.DoublyRobust()
    fits = [spec.fit(world.log(seed, n)) for seed in range(first, first + repeats)]
    order = np.argsort([int(arm) for arm in fits[0].arms])
    score, naive = (np.array([fit.score[order] for fit in some]) for some in (fits, [fit.naive for fit in fits]))
    se = np.array([np.sqrt(np.diag(fit.covariance))[order] for fit in fits])
    spread = score.std(axis=0, ddof=1)
    covered = (np.abs(score - truth) < 1.959964 * se).mean(axis=0)
    return Study(score.mean(axis=0) - truth, spread / np.sqrt(repeats), covered, se.mean(axis=0) / spread,
                 naive.mean(axis=0) - truth, se.mean(axis=0))  # fmt: skip


def grid(repeats: int) -> None:
    """The whole grid, one line a world."""
    for arms, contexts, n, raters in ((6, 1, 6000, 1), (6, 3, 6000, 1), (6, 2, 6000, 5), (20, 2, 50000, 1)):
        for outcome, assignment in (("right", "right"), ("wrong", "right"), ("right", "wrong"), ("wrong", "wrong")):
            world = World(arms, contexts, outcome, assignment, raters)
            found = study(world, n, repeats)
            z, ratio = found.bias / found.error, found.ratio.mean()
            print(
                f"arms {arms:2d} contexts {contexts} n {n:5d} rows a rater {raters}  outcome {outcome} assignment "
                f"{assignment}: largest bias {np.abs(found.bias).max():.4f} (z^2 mean {np.mean(z**2):5.2f}), naive "
                f"{np.abs(found.naive).max():.3f}, coverage {found.coverage.mean():.3f}, se ratio {ratio:.3f}",
                flush=True,
            )


if __name__ == "__main__":
    grid(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
