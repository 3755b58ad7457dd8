"""A target: what is said of it errs as the weights toward it do."""

from __future__ import annotations

import warnings

import numpy as np
import polars as pl
import pytest
import steelyard as sy

from tests.causal.test_doubly_robust import BY_TOPIC, scanned, small

SCORES = {f"m{j}": f"s{j}" for j in range(3)}
TARGETS = {
    "margins": {"topic": {"code": 0.7, "prose": 0.3}},
    "rows": pl.DataFrame({"topic": ["code", "prose", "code"], "x": [0.4, -0.2, 0.5]}),
}


def given(n: int) -> pl.DataFrame:  # of three pairs, so that each has a divisor of its own
    rng = np.random.default_rng(8)
    return small(41, n, k=3).with_columns(p=rng.uniform(0.1, 0.4, n), **{f"s{j}": rng.normal(size=n) for j in range(3)})


def jackknife(told, frame: pl.DataFrame, cluster: str | None):
    """The infinitesimal jackknife: each row, or cluster, weighs a little more; standard errors, and each row's part."""
    weight, h = frame["w"].to_numpy(), 1e-4
    up, down = (np.array([told(weight * (1.0 + h * sign * row)) for row in np.eye(len(weight))]) for sign in (1, -1))
    rows = (up - down) / (2 * h)
    psi = rows
    if cluster is not None:
        psi = np.array([rows[(frame[cluster] == one).to_numpy()].sum(axis=0) for one in frame[cluster].unique()])
        psi *= np.sqrt(len(psi) / (len(psi) - 1))
    return np.sqrt((psi**2).sum(axis=0)), rows


@pytest.mark.parametrize("cluster", [None, "rater"])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("pairs", ["uniform", "log"])
def test_scores_and_win_rates_of_a_target_err_as_its_weights_do(target, cluster, pairs):
    frame = given(130)
    spec = sy.DoublyRobust(
        SCORES, sy.PairPropensity(method="logged"), folds=1, target=TARGETS[target], pairs=pairs, floor=0.0
    )

    def fitted(w):
        own = frame.with_columns(w=w)
        return spec.fit(scanned(own, weight="w", propensity="p", cluster=cluster or ()))

    def told(w):
        fit = fitted(w)
        return np.concatenate([fit.score, fit.win_rates().sort("arm")["win_rate"], [fit.win_probability("m0", "m1")]])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 1 / propensity has not the mean 1
        want, rows = jackknife(told, frame, cluster)
        fit = fitted(frame["w"].to_numpy())
        single = fit.win_rate("m0", "m1")
    rates = fit.win_rates().sort("arm")["se"].to_numpy()
    np.testing.assert_allclose(np.concatenate([np.sqrt(np.diag(fit.covariance)), rates, [single.se]]), want, rtol=1e-5)
    if cluster is None:
        np.testing.assert_allclose(fit.influence().select(fit.arms).to_numpy(), rows[:, :3], atol=1e-6)


@pytest.mark.parametrize("cluster", [None, "rater"])
@pytest.mark.parametrize("target", TARGETS)
def test_the_value_of_a_policy_errs_as_its_target_s_weights_do(target, cluster):
    frame = given(130)
    spec = sy.PolicyValue({"m0": 0.5, "m1": 0.5}, "m2", outcome=SCORES, folds=1, target=TARGETS[target], floor=0.0,
                          propensity=sy.PairPropensity(method="logged"))  # fmt: skip

    def fitted(w):
        own = frame.with_columns(w=w)
        return spec.fit(scanned(own, weight="w", propensity="p", cluster=cluster or ()))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        want, _ = jackknife(lambda w: np.array([fitted(w).value]), frame, cluster)
        fit = fitted(frame["w"].to_numpy())
    assert fit.se == pytest.approx(want[0], rel=1e-5)


@pytest.mark.parametrize("cluster", [(), "rater"])
def test_at_lambda_1_intervals_are_those_of_the_fit(cluster):
    fit = sy.DoublyRobust(propensity=BY_TOPIC, target=TARGETS["margins"]).fit(scanned(small(61, 900), cluster=cluster))
    told = sy.sensitivity(fit, "m0", over="m1", lambdas=[1.0]).bounds
    found = fit.contrast("m0", "m1")
    row = told.row(by_predicate=pl.col("quantity") == "score of m0 less that of m1", named=True)
    assert (row["low_limit"], row["high_limit"]) == pytest.approx((found.low, found.high), rel=1e-8)


def test_a_mean_that_the_target_fixes_does_not_err():
    """Outcomes that the topic tells: over a target of known topics their mean is known."""
    frame = given(400).with_columns(y=(pl.col("topic") == "code").cast(pl.Float64) * 0.6 + 0.2, w=1.0, p=1 / 3)
    frame = frame.with_columns(a=pl.lit("m0"), b=pl.lit("m1"))
    log = sy.scan(frame, a="a", b="b", outcome="y", context="topic", propensity="p")
    spec = sy.DoublyRobust({"m0": pl.lit(0.0), "m1": pl.lit(0.0)}, sy.PairPropensity(method="logged"), folds=1,
                           target=TARGETS["margins"])  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        told = spec.fit(log).win_rates().sort("arm")
    assert told["win_rate"][0] == pytest.approx(0.7 * 0.8 + 0.3 * 0.2)
    assert told["se"].is_null().all()
    assert told["reason"].str.contains("no spread").all()
