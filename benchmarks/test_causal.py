"""Doubly robust estimates beside careful scikit-learn versions, in one run: `pytest benchmarks/test_causal.py`."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import steelyard as sy
from steelyard._native.all_pairs import ROWS, all_pairs, pair_along, pair_ends

from benchmarks import peers

N, D, FOLDS = 1_000_000, 20, 5


def against_reference(arms: int, n: int = N):
    """Every comparison is against one reference arm: contexts (n, D), arm (n,), outcome (n,) of the arm."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, D))
    logits = x @ rng.normal(size=(D, arms)) * 0.1
    arm = np.argmax(logits + rng.gumbel(size=logits.shape), axis=1)
    slope = rng.normal(size=(arms, D)) * 0.1
    return x, arm, (rng.random(n) < 1 / (1 + np.exp(-(x * slope[arm]).sum(axis=1)))) * 1.0


def estimated(x, arm, y):
    arms = int(arm.max()) + 1
    names = [f"x{j}" for j in range(D)]
    code = arm + 1
    frame = pl.DataFrame({"a": code, "b": np.zeros_like(code), "y": y, **dict(zip(names, x.T, strict=True))})
    pairs = pl.DataFrame({"a": ["0"] * arms, "b": [str(j + 1) for j in range(arms)], "weight": [1.0] * arms})
    log = sy.scan(frame, a="a", b="b", outcome="y", context=names)
    shown = sy.PairPropensity(method="pairs")
    return lambda: sy.DoublyRobust(propensity=shown, pairs=pairs, folds=FOLDS).fit(log)


@pytest.fixture(scope="module", params=[2, 50])
def treated(request):
    return request.param, against_reference(request.param)


@pytest.mark.benchmark(group="AIPW of 2 or 50 arms, 1 million x 20, 5 folds")
def test_steelyard_aipw(benchmark, treated):
    benchmark.extra_info["arms"] = treated[0]
    benchmark.pedantic(estimated(*treated[1]), rounds=1 if treated[0] > 2 else 3, warmup_rounds=1)


@pytest.mark.benchmark(group="AIPW of 2 or 50 arms, 1 million x 20, 5 folds")
def test_scikit_learn_aipw(benchmark, treated):
    arms, (x, arm, y) = treated
    benchmark.extra_info["arms"] = arms
    benchmark.pedantic(peers.sklearn_aipw, (x, arm, y, FOLDS), rounds=1)


@pytest.fixture(scope="module")
def many_arms():
    """1 million rows x 100 arms x 20 contexts, two arms drawn by context."""
    rng = np.random.default_rng(0)
    arms, x = 100, rng.normal(size=(N, D))
    slope, shown = rng.normal(size=(2, arms, D)) * 0.15
    a, b, y = np.empty(N, np.int32), np.empty(N, np.int32), np.empty(N)
    for start in range(0, N, 1 << 15):
        cut = slice(start, min(start + (1 << 15), N))
        logits = x[cut] @ shown.T
        top = np.argpartition(-(logits + rng.gumbel(size=logits.shape)), 1, axis=1)[:, :2]
        a[cut], b[cut] = np.where(rng.random(len(top))[:, None] < 0.5, top, top[:, ::-1]).T
        f, row = x[cut] @ slope.T, np.arange(len(top))
        y[cut] = rng.random(len(top)) < 1 / (1 + np.exp(f[row, b[cut]] - f[row, a[cut]]))
    names = [f"x{j}" for j in range(D)]
    frame = pl.DataFrame({"a": a, "b": b, "y": y, **dict(zip(names, x.T, strict=True))})
    return sy.scan(frame, a="a", b="b", outcome="y", context=names)


@pytest.mark.benchmark(group="doubly robust scores of 100 arms, 1 million x 20, end to end")
def test_steelyard_scores(benchmark, many_arms):
    benchmark.pedantic(lambda: sy.DoublyRobust().fit(many_arms), rounds=1)


@pytest.mark.benchmark(group="policy value, 1 million x 50 arms")
def test_steelyard_policy_value(benchmark):
    x, arm, y = against_reference(50)
    score = x[:, :1] * np.linspace(-0.5, 0.5, 51)
    columns = {f"s{j}": score[:, j] for j in range(51)}
    frame = pl.DataFrame({"a": arm + 1, "b": np.zeros_like(arm), "y": y, "p": np.full(N, 0.02), **columns})
    log = sy.scan(frame, a="a", b="b", outcome="y", propensity="p")
    policy = {str(j + 1): 0.02 for j in range(50)}
    spec = sy.PolicyValue(policy, "0", outcome={str(j): f"s{j}" for j in range(51)},
                          propensity=sy.PairPropensity(method="logged"))  # fmt: skip
    benchmark.pedantic(lambda: spec.fit(log), rounds=2, warmup_rounds=1)


@pytest.mark.benchmark(group="policy value, 1 million x 50 arms")
def test_numpy_policy_value(benchmark):
    x, arm, y = against_reference(50)
    score = x[:, :1] * np.linspace(-0.5, 0.5, 51)

    def run():
        mu = 1 / (1 + np.exp(score[:, :1] - score[:, 1:]))
        psi = mu.mean(axis=1) + 0.02 / 0.02 * (y - mu[np.arange(N), arm])
        return psi.mean(), psi.std() / np.sqrt(N)

    benchmark.pedantic(run, rounds=2, warmup_rounds=1)


@pytest.mark.benchmark(group="every pair of 100 arms in 16,384 rows, and as many divisions")
def test_steelyard_all_pairs(benchmark):
    k, n = 100, 1 << 14
    score, omega = np.random.default_rng(0).normal(size=(k, n)), 1.0 - np.eye(k)
    sums, means, work = np.empty((k, n)), np.zeros((k, k)), np.empty((2 * k + 1, ROWS))
    benchmark.pedantic(lambda: all_pairs(score, omega, np.ones(n), work, sums, means), rounds=10, warmup_rounds=2)


@pytest.mark.benchmark(group="every pair of 100 arms in 16,384 rows, and as many divisions")
@pytest.mark.parametrize("what", ["ends", "along"])
def test_steelyard_pair_ends(benchmark, what):
    k, n = 100, 1 << 14
    rng = np.random.default_rng(0)
    score, omega, along = rng.normal(size=(k, n)), 1.0 - np.eye(k), np.triu(rng.normal(size=(k, k)), 1)
    ends, value, work, weight = np.zeros((2, k, k)), np.empty(n), np.empty((k + 1, ROWS)), np.ones(n)
    run = {"ends": lambda: pair_ends(score, omega, weight, 1.5, work, ends),
           "along": lambda: pair_along(score, along, 1.5, work, value)}[what]  # fmt: skip
    benchmark.pedantic(run, rounds=10, warmup_rounds=2)


@pytest.mark.benchmark(group="every pair of 100 arms in 16,384 rows, and as many divisions")
def test_numpy_divisions(benchmark):
    x, y, out = np.random.default_rng(0).random(8192), np.full(8192, 1.5), np.empty(8192)
    times = (1 << 14) * 4950 // 8192

    def run():
        for _ in range(times):
            np.divide(x, y, out=out)

    benchmark.pedantic(run, rounds=5, warmup_rounds=1)


@pytest.mark.benchmark(group="clustered errors of 100 arms and 1,000 draws, 1 million rows")
def test_steelyard_clustered(benchmark):
    rng = np.random.default_rng(0)
    a = rng.integers(0, 100, N)
    frame = pl.DataFrame({"a": a, "b": (a + rng.integers(1, 100, N)) % 100, "y": rng.integers(0, 2, N),
                          "rater": rng.integers(0, 50_000, N)})  # fmt: skip
    log = sy.scan(frame, a="a", b="b", outcome="y", cluster="rater")
    benchmark.pedantic(lambda: sy.BradleyTerry().fit(log).bootstrap(1000, method="multiplier"), rounds=3)


@pytest.fixture(scope="module")
def few_arms():
    """200,000 rows x 20 arms x 3 contexts, two arms drawn by context."""
    rng = np.random.default_rng(0)
    n, arms, x = 200_000, 20, rng.normal(size=(200_000, 3))
    slope, shown = rng.normal(size=(2, arms, 3)) * 0.2
    top = np.argsort(-(x @ shown.T + rng.gumbel(size=(n, arms))), axis=1)[:, :2]
    f = np.take_along_axis(x @ slope.T + np.linspace(0.5, -0.5, arms), top, axis=1)
    y = (rng.random(n) < 1 / (1 + np.exp(f[:, 1] - f[:, 0]))) * 1.0
    frame = pl.DataFrame({"a": top[:, 0], "b": top[:, 1], "y": y, "x0": x[:, 0], "x1": x[:, 1], "x2": x[:, 2]})
    return sy.scan(frame, a="a", b="b", outcome="y", context=["x0", "x1", "x2"])


@pytest.mark.benchmark(group="what comes after a doubly robust fit, 200,000 rows x 20 arms x 3 contexts")
@pytest.mark.parametrize("what", ["the fit itself", "sensitivity", "plan"])
def test_steelyard_afterwards(benchmark, few_arms, what):
    fit = sy.DoublyRobust().fit(few_arms)
    run = {"the fit itself": lambda: sy.DoublyRobust().fit(few_arms), "plan": lambda: sy.plan(fit, 10_000),
           "sensitivity": lambda: sy.sensitivity(fit, "0", over="19")}[what]  # fmt: skip
    benchmark.pedantic(run, rounds=2, warmup_rounds=1)
