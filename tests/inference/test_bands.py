"""Rank sets where some arms always move together; bands are at least as wide as single intervals."""

import numpy as np
import polars as pl
import pytest
import steelyard as sy
from steelyard.inference import arm_critical, bands, rank_sets
from steelyard.inference.bands import quantile


def test_what_rounding_leaves_between_arms_that_move_together_widens_no_rank_set():
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(1000, 5))
    score, covariance = np.array([9.0, 9.0, 3.0, 0.0, -3.0]), np.eye(5)
    draws[:, 1] = draws[:, 0] + 1e-6 * rng.normal(size=1000)
    covariance[0, 1] = covariance[1, 0] = 1.0 - 2.0**-53
    low, high = rank_sets(score, covariance, lambda n: draws[:n], 0.95)
    assert low.tolist() == [1, 1, 3, 3, 4]
    assert high.tolist() == [2, 2, 4, 5, 5]


def test_variances_that_rounding_left_below_zero_are_none():
    with np.errstate(invalid="raise"):
        low, high = rank_sets(np.array([1.0, 0.0]), -1e-20 * np.eye(2), lambda n: np.zeros((n, 2)), 0.95)
    assert (low.tolist(), high.tolist()) == ([1, 1], [2, 2])


@pytest.mark.parametrize("n", [10, 1000])
def test_bands_of_two_arms_are_their_intervals(n):
    """Two scores that sum to 0 move together: what holds for one holds for both."""
    frame = pl.DataFrame({"a": ["x"] * n, "b": ["y"] * n, "y": [1.0, 1.0, 0.0, 1.0, 0.0] * (n // 5)})
    fit = sy.BradleyTerry().fit(sy.scan(frame, a="a", b="b", outcome="y"))
    single, all_at_once = (fit.table(simultaneous=at_once) for at_once in (False, True))
    assert (all_at_once["low"] <= single["low"]).all()
    np.testing.assert_allclose(all_at_once["high"], single["high"], rtol=0.05)


@pytest.mark.parametrize("clusters", [None, 5, 60])
def test_draws_have_the_covariance_of_the_fit(clusters):
    rng, n, k = np.random.default_rng(0), 2000, 12
    a = rng.integers(0, k, n)
    frame = pl.DataFrame({"a": a, "b": (a + rng.integers(1, k, n)) % k, "y": rng.integers(0, 2, n)})
    frame = frame.with_columns(c=pl.Series(rng.integers(0, clusters or 1, n)))
    log = sy.scan(frame, a="a", b="b", outcome="y", cluster="c" if clusters else ())
    fit = sy.BradleyTerry().fit(log)
    draws, size = fit.psi.draws(40_000, seed=1), np.sqrt(np.diag(fit.covariance))
    off = (draws.T @ draws / len(draws) - fit.covariance) / np.outer(size, size)
    assert np.abs(off).max() < 0.03  # some five Monte Carlo errors


@pytest.mark.parametrize("k", [2, 7, 40])
@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
def test_critical_values_are_those_of_millions_of_draws(k, level):
    """A quantile of the same thousand draws misses by up to the tail itself at .999, and by a seventh of it at .95."""
    rng = np.random.default_rng(k)
    root = rng.normal(size=(k, k)) * rng.exponential(size=(k, 1)) @ (np.eye(k) - 1.0 / k)
    covariance = root @ root.T
    se = np.sqrt(np.diag(covariance))
    i, j = np.tril_indices(k, -1)
    precision = np.zeros((k, k))
    precision[i, j] = 1.0 / np.sqrt(
        np.maximum(np.diag(covariance)[i] + np.diag(covariance)[j] - 2 * covariance[i, j], 0)
    )
    draws = rng.normal(size=(1000, k)) @ root.T
    arms, pairs = (
        arm_critical(draws, covariance, level),
        bands._pair_critical(lambda n: draws[:n], covariance, precision, level),
    )
    outside = np.zeros(2)
    for _ in range(20):
        fresh = rng.normal(size=(10_000, k)) @ root.T
        outside[0] += (np.abs(fresh) > arms * se).any(axis=1).sum()
        outside[1] += (np.abs(fresh[:, i] - fresh[:, j]) * precision[i, j] > pairs).any(axis=1).sum()
    expected = 200_000 * (1 - level)
    np.testing.assert_allclose(outside, expected, rtol=0.06, atol=4 * np.sqrt(expected))


def test_bands_leave_out_what_has_no_error():
    covariance = np.diag([1.0, np.nan, 4.0])
    covariance[1] = covariance[:, 1] = np.nan
    draws = np.random.default_rng(0).normal(size=(1000, 3)) * [1.0, 0.0, 2.0]
    both = (1 + np.sqrt(0.95)) / 2  # of two errors that know nothing of each other
    assert arm_critical(draws, covariance, 0.95) == pytest.approx(quantile(2 * both - 1), abs=0.01)
    assert arm_critical(draws[:, 1:2], covariance[1:2, 1:2], 0.95) == quantile(0.95)
    assert np.isnan(arm_critical(draws * np.nan, np.eye(3), 0.95))
