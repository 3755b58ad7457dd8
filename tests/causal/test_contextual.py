"""The contextual outcome model: fits without a fold against fits to the other rows, however the rows stand."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
import steelyard as sy
from steelyard.blocks import Block
from steelyard.causal import contextual
from steelyard.causal.contextual import ContextualProblem, by_pair, scattered
from steelyard.spill import Blocks

K, Q = 4, 3


def fold(seed: int, n: int, weighted: bool = False) -> Block:
    rng = np.random.default_rng(seed)
    a = rng.integers(0, K, n)
    b = (a + rng.integers(1, K, n)) % K
    x = np.concatenate([np.ones((1, n)), rng.normal(size=(Q - 1, n))])
    theta = np.random.default_rng(9).normal(size=(K, Q))
    p = 1.0 / (1.0 + np.exp(-((theta[a] - theta[b]).T * x).sum(axis=0)))
    y, z = (rng.random(n) < p) * 1.0, rng.normal(size=(1, n))
    weight = rng.uniform(0.5, 2.0, n) if weighted else None
    return Block(
        0, n, K, a.astype(np.int32), b.astype(np.int32), None, None, y, weight, None, None, columns=z, design=x
    )


def problem(parts: list[Block], ridge: float = 1.0) -> ContextualProblem:
    return ContextualProblem([Blocks([part]) for part in parts], list("abcd"), Q, 1, np.full(K * Q + 1, ridge))


@pytest.mark.parametrize(("rows", "slow"), [(30, True), (4000, False)])
def test_fits_without_a_fold_are_those_to_the_others(rows, slow, monkeypatch):
    """Of few rows steps with one Hessian do not shrink fast enough, and Newton takes over."""
    climbs: list[Any] = []
    climbed = ContextualProblem._climbed
    monkeypatch.setattr(ContextualProblem, "_climbed", lambda self, *a: climbs.append(a[1]) or climbed(self, *a))
    parts = [by_pair(fold(seed, rows, weighted=slow)) for seed in range(4)]
    got = problem(parts).fit()
    assert (len(climbs) > 1) == slow
    for f in range(4):
        want = problem([part for i, part in enumerate(parts) if i != f]).fit()
        theta, beta = got.of(f)
        np.testing.assert_allclose(theta, want.theta, atol=1e-7)
        np.testing.assert_allclose(beta, want.beta, atol=1e-7)


def test_how_the_rows_stand_and_a_fit_to_some_of_them_first_change_nothing(monkeypatch):
    parts = [fold(seed, 3000) for seed in range(3)]
    assert all(scattered(part) for part in parts)
    assert not any(scattered(by_pair(part)) for part in parts)
    plain, sorted_ = problem(parts).fit(), problem([by_pair(part) for part in parts]).fit()
    np.testing.assert_allclose(sorted_.held, plain.held, atol=1e-9)
    monkeypatch.setattr(contextual, "_LONG", 1000)
    long = problem(parts).fit()
    assert np.abs(long.held - plain.held).max() < 1e-6
    assert np.abs(long.theta - plain.theta).max() < 1e-6


def test_unanswered_rows_are_left_out():
    part = fold(1, 3000)
    y = np.where(np.arange(3000) % 5 == 0, np.nan, part.y)
    known = part.where(np.isfinite(y))
    some = by_pair(replace(part, y=y))
    assert some.n == known.n
    assert scattered(replace(by_pair(part), y=np.full(3000, np.nan)))
    np.testing.assert_allclose(problem([some]).fit().theta, problem([known]).fit().theta, atol=1e-9)


def test_one_fold_may_hold_nearly_all_of_the_weight():
    parts = [by_pair(fold(seed, 200, weighted=True)) for seed in range(3)]
    parts[1:] = [replace(part, weight=1e-20 * np.asarray(part.weight)) for part in parts[1:]]
    got = problem(parts).fit()
    want = problem(parts[1:]).fit()
    np.testing.assert_allclose(got.held[0, : K * Q].reshape(K, Q), want.theta, atol=1e-7)


@pytest.mark.parametrize("seed", [194, 271, 302])
def test_a_step_that_grows_is_not_taken(seed):
    """Rare contexts under a weak ridge: a second step with the others' Hessian may be 1e5 times the first."""
    rng = np.random.default_rng(seed)
    n, k = int(rng.integers(150, 1500)), int(rng.integers(2, 5))
    a = rng.integers(0, k, n)
    b = (a + rng.integers(1, k, n)) % k
    q = int(rng.integers(1, 5))
    rare, theta = (rng.random((q, n)) < 0.05) * 1.0, rng.normal(size=(k, q + 1)) * 10 ** rng.uniform(0.3, 1.3)
    x = np.concatenate([np.ones((1, n)), rare])
    y = (rng.random(n) < 1 / (1 + np.exp(-((theta[a] - theta[b]).T * x).sum(axis=0)))) * 1.0
    ridge, folds = [1e-3, 1e-4, 1e-5][seed % 3], int(rng.integers(2, 6))
    frame = pl.DataFrame({"a": a, "b": b, "y": y, "p": np.full(n, 0.3), **{f"c{i}": rare[i] for i in range(q)}})
    log = sy.scan(frame, a="a", b="b", outcome="y", context=[f"c{i}" for i in range(q)], propensity="p")
    spec = sy.PolicyValue("0", "1", ridge=ridge, folds=folds, propensity=sy.PairPropensity(method="logged"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of the propensity, which is none
        assert np.isfinite(spec.fit(log).value)
