"""Pairs as often as in the log: what is said of them errs as their shares do."""

from __future__ import annotations

import warnings

import numpy as np
import polars as pl
import pytest
import steelyard as sy

from tests.causal.test_doubly_robust import BY_TOPIC, scanned, small


@pytest.mark.parametrize("cluster", [None, "rater"])
def test_pairs_as_often_as_in_the_log_err_as_their_shares_do(cluster, tmp_path):
    """The infinitesimal jackknife, of given scores and chances: each row, or cluster, weighs a little more."""
    n, rng = 150, np.random.default_rng(8)  # of three pairs, so that each has a divisor of its own
    frame = small(41, n, k=3).with_columns(
        p=rng.uniform(0.1, 0.4, n), **{f"s{j}": rng.normal(size=n) for j in range(3)}
    )
    spec = sy.DoublyRobust(
        {f"m{j}": f"s{j}" for j in range(3)}, sy.PairPropensity(method="logged"), folds=1, pairs="log"
    )

    def fitted(w):
        return spec.fit(scanned(frame.with_columns(w=w), weight="w", propensity="p", context=(), cluster=cluster or ()))

    def told(fit):
        return np.append(fit.score, fit.win_rates().sort("arm")["win_rate"])

    weight, h = frame["w"].to_numpy(), 1e-4
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 1 / propensity has not the mean 1
        up, down = (np.array([told(fitted(weight * (1.0 + h * sign * row))) for row in np.eye(n)]) for sign in (1, -1))
        fit = fitted(weight)
    psi = (up - down) / (2 * h)
    if cluster is not None:
        psi = np.array([psi[(frame[cluster] == one).to_numpy()].sum(axis=0) for one in frame[cluster].unique()])
        psi *= np.sqrt(len(psi) / (len(psi) - 1))
    rates = fit.win_rates().sort("arm")["se"].to_numpy()
    np.testing.assert_allclose(
        np.append(np.sqrt(np.diag(fit.covariance)), rates), np.sqrt((psi**2).sum(axis=0)), rtol=1e-5
    )
    own = fit.influence().select(fit.arms).to_numpy()
    if cluster is None:
        np.testing.assert_allclose(own, psi[:, :3], atol=1e-6)
    fit.save(tmp_path / "fit.sy")
    assert sy.load(tmp_path / "fit.sy").win_rates().equals(fit.win_rates())


@pytest.mark.parametrize("cluster", [(), "rater"])
def test_at_lambda_1_intervals_are_those_of_the_fit_whose_pairs_are_the_log_s(cluster):
    fit = sy.DoublyRobust(pairs="log", propensity=BY_TOPIC).fit(scanned(small(61, 900), cluster=cluster))
    told = sy.sensitivity(fit, "m0", over="m1", lambdas=[1.0]).bounds
    rates = fit.win_rates()
    for quantity, found in (("score of m0 less that of m1", fit.contrast("m0", "m1")),
                            *((f"win rate of {arm}", rates.row(by_predicate=pl.col("arm") == arm, named=True))
                              for arm in ("m0", "m1"))):  # fmt: skip
        low, high = (found.low, found.high) if quantity.startswith("score") else (found["low"], found["high"])
        row = told.row(by_predicate=pl.col("quantity") == quantity, named=True)
        assert (row["low_limit"], row["high_limit"]) == pytest.approx((low, high), rel=1e-8)
