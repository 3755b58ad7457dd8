"""Doubly robust win rates against DoubleML: every comparison with one reference arm is a treatment of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
import steelyard as sy

from tests.reference.doubly_robust import sigmoid

pytestmark = pytest.mark.peers


def against_reference(seed: int, n: int, arms: int) -> tuple[pl.DataFrame, Any, Any, Any]:
    """A log in which every comparison is against "ref": the frame, contexts (n, 2), arm (n,) and its outcome (n,)."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2))
    logits = x @ rng.normal(size=(2, arms)) * 0.5
    arm = np.argmax(logits + rng.gumbel(size=logits.shape), axis=1)
    y = (rng.random(n) < sigmoid(0.3 * arm + x[:, 0] * (0.5 - 0.3 * arm))) * 1.0
    first = rng.random(n) < 0.5
    name = np.char.add("t", arm.astype(str))
    frame = pl.DataFrame({"a": np.where(first, name, "ref"), "b": np.where(first, "ref", name),
                          "y": np.where(first, y, 1 - y), "x0": x[:, 0], "x1": x[:, 1]})  # fmt: skip
    return frame, x, arm, y


def fitted(frame: pl.DataFrame, arms: int) -> sy.DoublyRobustFit:
    pairs = pl.DataFrame({"a": ["ref"] * arms, "b": [f"t{j}" for j in range(arms)], "weight": [1.0] * arms})
    log = sy.scan(frame, a="a", b="b", outcome="y", context=["x0", "x1"])
    shown = sy.PairPropensity(method="pairs", ridge=0.0)
    return sy.DoublyRobust(propensity=shown, pairs=pairs, ridge=0.0, folds=3, seed=1).fit(log)


def splitting(dr: sy.DoublyRobustFit) -> Any:
    fold = dr.influence()["fold"].to_numpy()
    return [(np.flatnonzero(fold != f), np.flatnonzero(fold == f)) for f in range(3)]


def test_two_arms_against_a_reference_are_the_interactive_regression_model():
    import doubleml
    from sklearn.linear_model import LogisticRegression

    frame, x, arm, y = against_reference(1, 1500, 2)
    dr = fitted(frame, 2)
    learner = LogisticRegression(C=np.inf, tol=1e-10, max_iter=10000)
    model = doubleml.DoubleMLIRM(
        doubleml.DoubleMLData.from_arrays(x, y, arm), learner, learner, n_folds=3, normalize_ipw=True
    )
    model.set_sample_splitting([splitting(dr)])
    model.fit()
    gap = dr.win_probability("t1", "ref") - dr.win_probability("t0", "ref")
    assert gap == pytest.approx(model.coef[0], abs=1e-6)


def test_a_reference_arm_gives_average_potential_outcomes():
    import doubleml
    from sklearn.linear_model import LogisticRegression

    frame, x, arm, y = against_reference(2, 2500, 4)
    dr = fitted(frame, 4)
    learner = LogisticRegression(C=np.inf, tol=1e-12, max_iter=10000)
    pi = np.empty((len(frame), 4))
    for train, test in splitting(dr):
        pi[test] = (
            LogisticRegression(C=np.inf, tol=1e-12, max_iter=10000).fit(x[train], arm[train]).predict_proba(x[test])
        )
    rates = dr.win_rates().filter(pl.col("arm") != "ref").sort("arm")
    for j in range(4):
        model = doubleml.DoubleMLAPO(
            doubleml.DoubleMLData.from_arrays(x, y, arm), learner, learner, j, n_folds=3, normalize_ipw=True
        )
        model.set_sample_splitting([splitting(dr)])
        model.fit(external_predictions={"d": {"ml_m": pi[:, [j]]}})
        assert rates["win_rate"][j] == pytest.approx(model.coef[0], abs=1e-6)
        assert rates["se"][j] == pytest.approx(model.se[0], rel=2e-3)  # its psi keeps the mean residual, ours does not
