"""What contexts tell: outcomes, arms, the pair, and values that change after a fit; each is said in words."""

import pickle
import warnings

import numpy as np
import polars as pl
import pytest
import steelyard as sy
from steelyard import blocks
from steelyard.assignment import contexts

from tests.assignment.test_propensity import NUMERIC, scanned, simulated


def test_a_context_that_tells_the_outcome_is_warned_of():
    frame = simulated(n=400).with_columns(y=pl.Series(np.arange(400) % 2 * 1.0), verdict=pl.Series(["no", "yes"] * 200))
    with pytest.warns(UserWarning, match="'verdict=yes' tells the outcome in every row"):
        sy.PairPropensity().fit(scanned(frame, ["x0", "verdict"]))
    with warnings.catch_warnings():  # of an outcome that is always the same, nothing can be said
        warnings.filterwarnings("error", ".*tells the outcome")
        sy.PairPropensity().fit(scanned(frame.with_columns(y=pl.lit(1.0)), ["x0", "verdict"]))


def test_a_text_of_several_values_with_one_outcome_each_is_warned_of():
    rng = np.random.default_rng(0)
    verdict = rng.choice(["no", "tie", "yes", "yes, much"], 400)
    y = pl.Series(verdict).replace_strict({"no": 0.0, "tie": 0.5, "yes": 1.0, "yes, much": 1.0})
    frame = simulated(n=400).with_columns(y, y=y, verdict=pl.Series(verdict))
    with pytest.warns(UserWarning, match="'verdict' tells the outcome in every row"):
        sy.PairPropensity().fit(scanned(frame, ["x0", "verdict"]))
    nearly = frame.with_columns(y=pl.when(pl.int_range(pl.len()) == 399).then(0.5).otherwise("y"))
    each = frame.with_columns(row=pl.int_range(pl.len()).cast(pl.String))  # a value a row tells all, and nothing
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*tells the outcome")
        sy.PairPropensity().fit(scanned(nearly, ["x0", "verdict"]))
        sy.LabelPropensity().fit(scanned(each.with_columns(y=pl.when(pl.col("x0") < 0).then("y")), "row"))


def test_contexts_named_as_an_outcome_and_columns_of_arms():
    frame = simulated(n=400)
    for name in ("Winner", "Y"):
        with pytest.warns(UserWarning, match=f"context '{name}' has the name of an outcome"):
            scanned(frame.with_columns(pl.lit(1).alias(name)), name)
    for spec in (sy.PairPropensity(), sy.PairPropensity(method="pairs", context="a"), sy.DoublyRobust()):
        with pytest.raises(sy.LogError, match="context 'a' is the column of an arm"):
            spec.fit(scanned(frame, ["x0", "a"]))


def test_contexts_that_are_not_read_may_be_arms():
    frame = simulated(n=400).with_columns(pi=pl.lit(1 / 6))
    log = scanned(frame, ["level", "a"], propensity="pi")
    assert sy.PairPropensity(method="frequency", strata="level").fit(log).n == 400
    assert sy.PairPropensity(method="softmax", context="level").fit(log).n == 400
    assert sy.LabelPropensity().fit(log).n == 400
    with pytest.warns(UserWarning, match="mean of 1 / propensity"):
        sy.PairPropensity(method="logged").fit(log)
    with pytest.raises(sy.LogError, match="context 'a' is the column of an arm"):
        sy.PairPropensity(method="frequency", strata="a").fit(log)


def test_contexts_that_follow_from_the_pair_leave_little_of_the_target():
    frame = simulated(n=900).with_columns(topic=pl.concat_str(pl.min_horizontal("a", "b"), pl.max_horizontal("a", "b")))
    log = scanned(frame, "topic")
    with pytest.warns(UserWarning, match=r"add up to 17 % of what they would"):
        sy.PairPropensity().fit(log).weights(log, floor=0.0, unsupported=1.0)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "the weights")
        log = scanned(frame, NUMERIC)
        sy.PairPropensity().fit(log).weights(log, floor=0.0)


@pytest.mark.parametrize("change", [None, 5, 299])
def test_few_rows_only_clear_a_context(monkeypatch, change):
    monkeypatch.setattr(contexts, "_FEW", 4)
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 64)
    y = np.repeat([0.0, 1.0], 150)  # the same in the first rows of every block
    told = 3.0 - 2.0 * y
    if change is not None:
        told[change] += 1e-3
    frame = simulated(n=300).with_columns(y=pl.Series(y), told=pl.Series(told))
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        sy.PairPropensity(method="pairs").fit(scanned(frame, ["x0", "told"]))
    assert ["'told' tells the outcome" in str(warning.message) for warning in shown] == [True] * (change is None)


@pytest.mark.parametrize("told", [lambda y: 2 * y + 1, lambda y: np.round(1e6 * y), lambda y: y.astype(np.float32)])
def test_a_context_that_tells_scores_in_order_is_warned_of(monkeypatch, told):
    monkeypatch.setattr(contexts, "_FEW", 64)
    y = np.sort(np.random.default_rng(1).random(20_000))  # the first ones hardly differ
    frame = pl.DataFrame({"a": ["x", "y"] * 10_000, "b": ["y", "z"] * 10_000, "y": y, "told": told(y)})
    with pytest.warns(UserWarning, match="'told' tells the outcome"):
        sy.PairPropensity(method="pairs").fit(sy.scan(frame, a="a", b="b", outcome="y", context="told"))


def test_contexts_that_change_after_a_fit_are_told():
    frame = simulated().filter(pl.col("group") != "v").with_columns(pl.col("y").fill_null(0.5))
    x = frame["x0"].to_numpy().copy()
    log = sy.scan({**{name: frame[name].to_numpy() for name in ("a", "b", "y", "group")}, "x": x}, a="a", b="b",
                  outcome="y", group="group", context="x")  # fmt: skip
    fit = sy.GroupPropensity().fit(log)
    told = fit.coefficients()
    x *= 2.0
    if fit.blocks.parts[0].context[0][0] == x[0]:  # the log shares the array's memory
        for asked in (fit.coefficients, fit.dependence):
            with pytest.raises(sy.LogError, match="not what they were when the propensity was fitted"):
                asked()
        x /= 2.0
    assert fit.coefficients().equals(told)
    assert pickle.loads(pickle.dumps(fit)).coefficients().equals(told)
