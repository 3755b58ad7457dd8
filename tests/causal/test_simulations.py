"""Simulated worlds, trimmed: either model right is enough, both wrong is not, intervals hold; the unit is the pair.

The whole grid: `python -m tests.causal.simulate 200`.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import numpy as np
import polars as pl
import pytest
import steelyard as sy

from tests.causal.simulate import World, study
from tests.reference.doubly_robust import sigmoid

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("outcome", "assignment"), [("right", "right"), ("wrong", "right"), ("right", "wrong")])
def test_one_model_right_is_enough(outcome, assignment):
    found = study(World(outcome=outcome, assignment=assignment), 3000, 120)
    assert (np.abs(found.bias) < 3.3 * found.error).all()
    assert np.abs(found.naive).max() > 0.08
    if (outcome, assignment) == ("right", "right"):
        assert 0.93 <= found.coverage.mean() <= 0.97
        assert found.ratio.mean() == pytest.approx(1.0, abs=0.06)
        assert found.se * np.sqrt(3000) == pytest.approx(World().bound(), rel=0.05)


def test_both_models_wrong_is_biased():
    found = study(World(outcome="wrong", assignment="wrong"), 3000, 60)
    assert np.abs(found.bias / found.error).max() > 6


def test_raters_that_repeat_themselves():
    found = study(World(contexts=2, raters=5), 3000, 120)
    assert (np.abs(found.bias) < 3.3 * found.error).all()
    assert 0.92 <= found.coverage.mean() <= 0.98


def test_many_arms_of_which_most_pairs_met_a_few_times_or_never():
    found = study(World(arms=25), 2500, 60)
    assert 0.925 <= found.coverage.mean() <= 0.975
    assert found.ratio.mean() == pytest.approx(1.0, abs=0.06)


@pytest.mark.parametrize("pairs", ["uniform", "log"])
def test_a_scheduled_log(pairs):
    """The design of llmfao: most pairs never met, a third of the votes are against one arm, and voters repeat."""
    path = str(files("steelyard") / "data/llmfao.parquet")
    votes = pl.read_parquet(path).filter(pl.col("judge") == "crowd").drop("winner")
    arms = sorted({*votes["left"], *votes["right"]})
    a, b = (np.searchsorted(arms, votes[side].to_list()) for side in ("left", "right"))
    truth = np.linspace(-0.9, 0.9, len(arms))[np.random.default_rng(0).permutation(len(arms))]
    error, spread = [], []
    for seed in range(20):
        y = np.random.default_rng(seed).random(len(a)) < sigmoid(truth[a] - truth[b])
        log = sy.scan(votes.with_columns(y=y * 1.0), a="left", b="right", outcome="y", context="prompt_type",
                      cluster="judge_id")  # fmt: skip
        table = sy.DoublyRobust(pairs=pairs).fit(log).table().sort("arm")
        error.append(table["score"].to_numpy() - truth)
        spread.append(table["se"].to_numpy())
    assert 0.93 <= np.mean(np.abs(error) < 1.96 * np.array(spread)) <= 0.98
    assert np.mean(np.mean(spread, axis=0) / np.std(error, axis=0, ddof=1)) == pytest.approx(1.0, abs=0.15)


def test_pairs_that_were_never_shown():
    """Eight arms in a ring, whose distant pairs never met: they rest on the outcome model, whose error counts."""
    truth, k = np.linspace(-0.8, 0.8, 8), 8
    i, j = np.triu_indices(k, 1)
    near = ~np.isin(j - i, (3, 4))
    i, j, found = i[near], j[near], []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        pair, flip, x = rng.integers(0, len(i), 1500), rng.random(1500) < 0.5, rng.normal(size=1500)
        a, b = np.where(flip, i[pair], j[pair]), np.where(flip, j[pair], i[pair])
        y = rng.random(1500) < sigmoid((truth[a] - truth[b]) * (1 + 0.3 * x))
        log = sy.scan({"a": a, "b": b, "y": y * 1.0, "x": x}, a="a", b="b", outcome="y", context="x")
        spec = sy.DoublyRobust(propensity=sy.PairPropensity(method="pairs"), unsupported=1.0)
        with pytest.warns(UserWarning, match="intervals know of its error"):
            found.append(spec.fit(log).table().sort("arm").select("score", "se").to_numpy())
    score, se = np.moveaxis(np.array(found), 2, 0)
    assert np.mean(se.mean(axis=0) / score.std(axis=0, ddof=1)) == pytest.approx(1.0, abs=0.08)


def two_rows(x: Any, a: Any, b: Any, y: Any, k: int, folds: Any) -> tuple[Any, Any]:
    """Mean outcome of each arm, each comparison as two rows of a standard package: AIPW by arm, rows independent."""
    from sklearn.linear_model import LogisticRegression

    x, arm, y = np.concatenate([x, x]), np.concatenate([a, b]), np.concatenate([y, 1 - y])
    fold, n = np.concatenate([folds, folds]), 2 * len(folds)
    psi = np.empty((n, k))
    for f in np.unique(fold):
        out, test = fold != f, fold == f
        pi = LogisticRegression(C=1e6).fit(x[out], arm[out]).predict_proba(x[test])
        for j in range(k):
            mine = out & (arm == j)
            mu = LogisticRegression(C=1e6).fit(x[mine], y[mine]).predict_proba(x[test])[:, 1]
            psi[test, j] = mu + (arm[test] == j) / pi[:, j] * (y[test] - mu)
    return psi.mean(axis=0), psi.std(axis=0) / np.sqrt(n)


def test_the_unit_is_the_pair():
    """Two rows a comparison estimate an arm against the opponents it happened to meet, and call rows independent."""
    world = World()
    scores = world._latent(np.random.default_rng(1), 400_000)[1]
    rates = np.array([np.mean([sigmoid(scores[:, i] - scores[:, j]).mean() for j in range(6) if j != i])
                      for i in range(6)])  # fmt: skip
    ours, theirs = [], []
    for seed in range(30):
        x, a, b, y, _, _ = matched(seed, 6000)
        log = sy.scan({"a": a, "b": b, "y": y, "x0": x[:, 0]}, a="a", b="b", outcome="y", context="x0")
        fit = sy.DoublyRobust(propensity=sy.PairPropensity(method="pairs")).fit(log)
        table = fit.win_rates().sort("arm")
        ours.append(np.abs(table["win_rate"].to_numpy() - rates) < 1.96 * table["se"].to_numpy())
        mean, se = two_rows(x, a, b, y, 6, np.arange(6000) % 3)
        theirs.append(np.abs(mean - rates) < 1.96 * se)
    assert np.mean(ours) > 0.91
    assert np.mean(theirs) < 0.3


def matched(seed: int, n: int) -> tuple[Any, ...]:
    """Matchmaking: arms of like strength meet more often, more so for some contexts."""
    world, rng = World(), np.random.default_rng(seed)
    x = rng.normal(size=(n, 1))
    scores = world.scores(x)
    pairs = np.array([(i, j) for i in range(6) for j in range(i + 1, 6)])
    logits = -0.6 * np.abs(pairs[:, 0] - pairs[:, 1]) + 0.3 * x * np.cos(pairs.sum(axis=1))
    pick = np.argmax(logits + rng.gumbel(size=logits.shape), axis=1)
    a, b = pairs[pick].T
    at = np.arange(n)
    y = (rng.random(n) < sigmoid(scores[at, a] - scores[at, b])) * 1.0
    return x, a, b, y, None, scores
