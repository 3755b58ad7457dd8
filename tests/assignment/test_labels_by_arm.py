"""Labels that hang on who was shown: logistic regression with indicators, and all that reads such a propensity."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
import statsmodels.api as sm
import steelyard as sy

ARMS = np.array(list("abcde"))
EVERY = [f"has {arm}" for arm in "abcde"]
BY_HAND = EVERY[1:]  # without a ridge the first stands for 0


def labelled(seed: int, n: int = 2000) -> pl.DataFrame:
    """Rows whose labels hang on x, on topic and on both arms, with indicators and scores of arms by hand."""
    rng = np.random.default_rng(seed)
    a = rng.integers(0, 5, n)
    b = (a + rng.integers(1, 5, n)) % 5
    x, topic, effect = rng.normal(size=n), rng.integers(0, 3, n), np.array([0.0, 0.8, -0.6, 0.3, -1.0])
    known = rng.random(n) < 1 / (1 + np.exp(0.2 - 0.5 * x - 0.4 * (topic == 1) - effect[a] - effect[b]))
    y = np.where(known, rng.random(n) < 1 / (1 + np.exp(0.2 * (a - b) - 0.3 * x)), np.nan)
    has = {name: ((a == j) | (b == j)) * 1.0 for j, name in enumerate(EVERY)}
    return pl.DataFrame(
        {"a": ARMS[a], "b": ARMS[b], "y": pl.Series(y, nan_to_null=True), "x": x, "topic": np.array(list("uvw"))[topic],
         "rater": rng.integers(0, 90, n), **has, **{f"score {arm}": 0.1 * j + 0.2 * x for j, arm in enumerate(ARMS)}}
    )  # fmt: skip


def scanned(frame: pl.DataFrame, context: Any = ("x", "topic"), **more: Any) -> sy.PreferenceLog:
    return sy.scan(frame, a="a", b="b", outcome="y", context=context, **more)


def test_equals_a_logistic_regression_with_indicators():
    frame = labelled(0)
    fit = sy.LabelPropensity(ridge=0.0, arms=True).fit(scanned(frame))
    known = frame["y"].is_not_null().to_numpy()
    topics = [(frame["topic"] == topic).to_numpy() for topic in "vw"]
    design = np.column_stack([np.ones(len(known)), frame["x"], *topics, *(frame[name] for name in BY_HAND)])
    want = sm.Logit(known * 1.0, design.astype(float)).fit(disp=0, method="newton", tol=1e-14, cov_type="HC0")
    told = fit.coefficients()
    assert told["term"].to_list() == ["intercept", "x", "topic=v", "topic=w", "arm b", "arm c", "arm d", "arm e"]
    np.testing.assert_allclose(told["estimate"], want.params, atol=1e-7)
    np.testing.assert_allclose(told["se"], want.bse, rtol=1e-6)
    chance = want.predict(design.astype(float))
    np.testing.assert_allclose(fit.probability(scanned(frame)), np.where(known, chance, 1 - chance), atol=1e-8)


@pytest.mark.parametrize("kind", ["hajek", "overlap", "balance"])
@pytest.mark.parametrize("cluster", [(), "rater"])
def test_weighted_fits_are_those_with_contexts_by_hand(kind, cluster):
    """Arms are renumbered on the way, and one of them is never labelled with the others."""
    lone = pl.DataFrame({"a": ["e0"] * 30, "b": ["a"] * 30, "y": [1.0] * 30, "x": np.linspace(-1, 1, 30)})
    frame = pl.concat([lone, labelled(1)], how="diagonal").with_columns(
        pl.col(BY_HAND).fill_null(0.0),
        pl.col("has a").fill_null(1.0),
        pl.col("topic").fill_null("u"),
        pl.col("rater").fill_null(5),
    )
    frame = frame.with_columns(pl.when(pl.int_range(pl.len()) < 20).then(None).otherwise("y").alias("y"))
    frame = frame.with_columns(((pl.col("a") == "e0") * 1.0).alias("has e0"))
    by_arm = sy.LabelPropensity(arms=True), scanned(frame, cluster=cluster)
    arms = BY_HAND if kind == "balance" else EVERY  # where nothing is shrunk all together would tell the constant
    by_hand = sy.LabelPropensity(), scanned(frame, ("x", *arms, "has e0", "topic"), cluster=cluster)
    found = []
    for spec, log in (by_arm, by_hand):
        weights = spec.fit(log).weights(log, kind=kind)
        found.append(sy.BradleyTerry(weights=weights).fit(log))
    assert found[0].main.sum() == 5
    np.testing.assert_allclose(found[0].score, found[1].score, atol=1e-7)
    np.testing.assert_allclose(found[0].covariance, found[1].covariance, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("folds", [1, 3])
def test_doubly_robust_scores_are_those_with_contexts_by_hand(folds):
    frame = labelled(2)
    outcome = {arm: f"score {arm}" for arm in ARMS.tolist()}
    found = []
    for spec, context in (
        (sy.LabelPropensity(context="x", arms=True), "x"),
        (sy.LabelPropensity(context=["x", *EVERY]), ["x", *EVERY]),
    ):
        shown = sy.PairPropensity(context="x")
        made = sy.DoublyRobust(outcome=outcome, propensity=shown, labelled=spec, folds=folds, seed=3)
        found.append(made.fit(scanned(frame, context)))
    assert found[0].n == frame.height
    np.testing.assert_allclose(found[0].score, found[1].score, atol=1e-6)
    np.testing.assert_allclose(found[0].covariance, found[1].covariance, rtol=1e-4, atol=1e-9)


def test_arms_that_are_not_known_or_tell_nothing():
    frame = labelled(3, 400)
    fit = sy.LabelPropensity(arms=True).fit(scanned(frame))
    strange = frame.with_columns(pl.when(pl.int_range(pl.len()) < 3).then(pl.lit("new")).otherwise("a").alias("a"))
    told = fit.probability(scanned(strange))
    assert told.is_null().to_list()[:4] == [True, True, True, False]
    np.testing.assert_allclose(told[3:], fit.probability(scanned(frame))[3:])
    alone = sy.LabelPropensity(arms=True).fit(scanned(frame, ()))
    assert alone.coefficients()["term"].to_list() == ["intercept", *(f"arm {arm}" for arm in "abcde")]
    judged = scanned(frame.filter(pl.col("b") != "a").with_columns(a=pl.lit("a")))
    terms = sy.LabelPropensity(arms=True).fit(judged).coefficients()["term"].to_list()
    assert [term for term in terms if term.startswith("arm")] == [
        "arm b",
        "arm c",
        "arm d",
        "arm e",
    ]  # a is in every row
    with pytest.raises(sy.LogError, match="no context columns"):
        sy.LabelPropensity(arms=True).fit(scanned(frame.with_columns(a=pl.lit("a"), b=pl.lit("b")), ()))
    with pytest.raises(ValueError, match="show no arms"):
        fit.weights(scanned(frame), target=frame.select("x", "topic"))
    armless = sy.scan(frame, outcome="y", features=(["x"], ["has b"]), context="topic")
    with pytest.raises(sy.LogError, match="arms=True"):
        sy.LabelPropensity(arms=True).fit(armless)


def test_arms_that_are_numbers_keep_their_codes():
    """Twelve of them: as text 10 stands before 2, as a number after."""
    rng = np.random.default_rng(4)
    a = rng.integers(0, 12, 3000)
    b = (a + rng.integers(1, 12, 3000)) % 12
    known = rng.random(3000) < 1 / (1 + np.exp(0.3 * (a + b) - 3.0))
    y = pl.Series(np.where(known, rng.integers(0, 2, 3000), np.nan), nan_to_null=True)
    log = scanned(pl.DataFrame({"a": a, "b": b, "y": y}), ())
    fit = sy.LabelPropensity(arms=True).fit(log)
    product = fit.weights(log).frame()["weight"].to_numpy()[known] * fit.probability(log).to_numpy()[known]
    np.testing.assert_allclose(product, product[0])
    assert sy.BradleyTerry(weights=fit.weights(log)).fit(log).main.all()


def test_names_of_arms_change_nothing():
    """Under a ridge the first in order was not shrunk, so that a new name moved every probability."""
    frame = labelled(5, 600)
    renamed = frame.with_columns(pl.col("a", "b").replace({"a": "z"}))
    one, other = (sy.LabelPropensity(arms=True).fit(scanned(f)).probability(scanned(f)) for f in (frame, renamed))
    np.testing.assert_allclose(one, other, atol=1e-9)
