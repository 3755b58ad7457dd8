"""Simulated logs against the closed forms of what their dials do."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import steelyard as sy
from steelyard import simulate
from steelyard.errors import LogError


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_share_of_pairs_that_tell_the_factors_apart(rho):
    """1/2 - arcsin(rho) / pi, read off the features by undoing the mixing, up to their noise."""
    data = simulate.factors(200_000, rho, seed=1)
    mix = np.linalg.qr(np.random.default_rng(0).normal(size=(16, 2)))[0].T * 4.0
    z = (data.a - data.b) @ np.linalg.pinv(mix)
    spread = 1 + simulate._NOISE**2
    seen = rho / np.sqrt(spread.prod())  # noise of its own in each factor lowers the correlation
    assert (z.prod(axis=1) < 0).mean() == pytest.approx(0.5 - np.arcsin(seen) / np.pi, abs=0.004)
    assert np.corrcoef(z.T)[0, 1] == pytest.approx(seen, abs=0.01)
    log = sy.scan(pl.DataFrame({"a1": z[:, 0], "a2": z[:, 1], "o": 0.0, "y": data.label}), outcome="y",
                  features=(["a1", "a2"], ["o", "o"]))  # fmt: skip
    told = sy.latent_overlap(log).frame()["informative"][0]
    assert told == pytest.approx(0.5 - np.arcsin(seen) / np.pi, abs=0.004)


@pytest.mark.parametrize(("rho", "disagree"), [(0.0, False), (0.8, False), (0.3, True)])
def test_accuracy_of_the_best_model_in_closed_form(rho, disagree):
    data = simulate.factors(400_000, rho, seed=2, disagree=disagree)
    assert simulate.factors_accuracy(rho, None, disagree) == pytest.approx(data.ceiling, abs=0.0015)
    mix = np.linalg.qr(np.random.default_rng(0).normal(size=(16, 2)))[0].T * 4.0
    there = np.array([[1.0, 0.6], [0.6, 1.0]])
    best = np.linalg.solve(there + np.diag(simulate._NOISE**2), there @ [0.25, 0.75])
    gap = (data.a - data.b) @ np.linalg.pinv(mix) @ best
    right = np.where(gap > 0, data.probability, 1 - data.probability).mean()
    assert simulate.factors_accuracy(rho, 0.6, disagree) == pytest.approx(right, abs=0.003)


def test_the_reward_is_as_spread_at_every_rho():
    for rho in (-0.5, 0.0, 0.9):
        p = simulate.factors(100_000, rho, seed=3).probability
        assert np.log(p / (1 - p)).std() == pytest.approx(1.7, rel=0.01)


@pytest.mark.parametrize("rho", [0.5, 0.75, 0.9])
def test_effective_share_of_confounded_objectives(rho):
    data = simulate.confounded(40_000, rho, seed=4)
    assert data.consistent.mean() == pytest.approx(rho, abs=0.01)
    propensity = sy.GroupPropensity(ridge=0.0).fit(data.log())
    share = propensity.weights(data.log()).effective_share
    assert share == pytest.approx(simulate.effective_share(rho), abs=0.02)
    assert simulate.effective_share(0.9) == pytest.approx(0.36)


def test_both_objectives_are_alike_and_labels_follow_their_chances():
    data = simulate.confounded(60_000, 0.5, seed=5)
    for part in (data.consistent, ~data.consistent):
        assert data.where(part).ceiling == pytest.approx(data.ceiling, abs=0.005)
    assert (data.label - data.probability).mean() == pytest.approx(0.0, abs=0.006)
    for t in (0, 1):
        assert (data.prompt_type == t).mean() == pytest.approx(0.5, abs=0.01)
    again = simulate.confounded(60_000, 0.5, seed=5)
    assert (again.a == data.a).all()
    assert (again.label == data.label).all()
    assert repr(again) == "Simulated(60000 comparisons, 24 features)"


def test_rewards_of_ones_own():
    rng = np.random.default_rng(6)
    a, b, kind = rng.normal(size=(9000, 2)), rng.normal(size=(9000, 2)), rng.integers(0, 3, 9000)
    rewards = rng.normal(size=(2, 9000, 3))
    data = simulate.compared(a, b, kind, rewards[0], rewards[1], 0.7, seed=1)
    assert data.consistent.mean() == pytest.approx(0.7, abs=0.02)
    others = np.bincount((data.objective - kind)[~data.consistent] % 3, minlength=3) / (~data.consistent).sum()
    np.testing.assert_allclose(others, [0.0, 0.5, 0.5], atol=0.03)
    gap = (rewards[0] - rewards[1])[np.arange(9000), data.objective]
    np.testing.assert_allclose(data.probability, 1 / (1 + np.exp(-gap)), rtol=1e-12)
    assert data.log().count() == 9000


def test_bad_input():
    a, kind, rewards = np.zeros((5, 2)), np.zeros(5, int), np.zeros((5, 2))
    for call in (
        lambda: simulate.compared(a, a[:4], kind, rewards, rewards, 0.5),
        lambda: simulate.compared(a, a, kind + 2, rewards, rewards, 0.5),
        lambda: simulate.compared(a, a, kind, rewards[:, :1], rewards[:, :1], 0.5),
        lambda: simulate.compared(a, a, kind, rewards, rewards, 1.5),
        lambda: simulate.factors(10, 1.0),
        lambda: simulate.factors_accuracy(-1.0),
        lambda: simulate.factors_accuracy(0.0, trained=2.0),
        lambda: simulate.effective_share(2.0),
        lambda: simulate.compared(a, a, kind, rewards, rewards[:, :1], 0.5),
        lambda: simulate.compared(a, a, kind, rewards, rewards * np.nan, 0.5),
        lambda: simulate.confounded(10, 0.5, shared=2.0),
    ):
        with pytest.raises(LogError):
            call()
