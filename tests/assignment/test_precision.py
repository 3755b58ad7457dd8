"""Errors of a propensity's coefficients: peers on the same rows, coverage, and what has no interval."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import statsmodels.api as sm
import steelyard as sy

from tests.assignment.simulate import two_drawn
from tests.assignment.test_propensity import NUMERIC, scanned, simulated


@pytest.mark.peers
@pytest.mark.parametrize("cluster", [None, "c"])
def test_errors_of_coefficients_equal_statsmodels(cluster):
    frame = simulated()
    frame = frame.with_columns(c=pl.Series(np.arange(len(frame)) // 7))
    raw, by = sm.add_constant(frame.select("x0", "x2").to_numpy()), frame["c"].to_numpy()
    robust, groups = {"cov_type": "HC0"}, by.max() + 1
    if cluster:
        robust = {"cov_type": "cluster", "cov_kwds": {"groups": by, "use_correction": False}}
    factor = np.sqrt(groups / (groups - 1)) if cluster else 1.0
    log, context = scanned(frame, cluster=cluster), ["x0", "x2"]
    found = sy.LabelPropensity(context=context, ridge=0.0).fit(log).coefficients()
    labelled = frame["y"].is_not_null().cast(pl.Int32).to_numpy()
    peer = sm.Logit(labelled, raw).fit(disp=0, tol=1e-14, method="newton", **robust)
    np.testing.assert_allclose(found["se"], factor * peer.bse, rtol=1e-6)
    if not cluster:
        np.testing.assert_allclose(found["p_value"], peer.pvalues, rtol=1e-4)
    found = sy.GroupPropensity(context=context, ridge=0.0).fit(log).coefficients()
    many = sm.MNLogit(np.searchsorted(["u", "v", "w"], frame["group"]), raw)
    covariance = np.asarray(many.fit(disp=0, method="newton", tol=1e-14, maxiter=200, **robust).cov_params())
    centred = np.kron(np.eye(3)[:, 1:] - 1 / 3, np.eye(3))  # from the first group as reference to a sum of 0
    np.testing.assert_allclose(found["se"], factor * np.sqrt(np.diag(centred @ covariance @ centred.T)), rtol=1e-6)


@pytest.mark.slow
def test_intervals_of_two_draws_cover():
    k, n, slopes, covered = 4, 400, np.array([[0.5, -0.4, 0.2, -0.3]]), []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=n)
        a, b = two_drawn(rng, x[:, None] @ slopes)
        frame = pl.DataFrame({"a": a, "b": b, "y": 1.0, "x": x})
        log = sy.scan(frame, a="a", b="b", outcome="y", context="x")
        found = sy.PairPropensity(ridge=0.0).fit(log).coefficients().filter(term="x")
        covered.append(found["low"].to_numpy() < slopes[0])
        covered[-1] &= slopes[0] < found["high"].to_numpy()
    assert len(found) == k
    assert 0.93 < np.mean(covered) < 0.97


def test_errors_of_coefficients_that_are_not_given(monkeypatch):
    frame = simulated(n=300).with_columns(one=pl.lit("same"))
    spec = sy.GroupPropensity(context=NUMERIC)
    found = spec.fit(scanned(frame, cluster="one")).coefficients()
    assert found["se"].null_count() == len(found) == 12
    assert set(found["reason"]) == {"one cluster only (one): nothing tells how the coefficients would vary"}
    assert found["estimate"].null_count() == 0
    monkeypatch.setattr("steelyard.assignment.precision.INFORMATION", 300 * 12 * 12 - 1)
    found = spec.fit(scanned(frame)).coefficients()
    assert set(found["reason"]) == {"12 coefficients are too many for errors from 300 rows: fit fewer contexts"}
    monkeypatch.setattr("steelyard.assignment.precision.INFORMATION", 300 * 12 * 12)
    assert spec.fit(scanned(frame)).coefficients()["se"].null_count() == 0


def test_clusters_of_rows_that_were_left_out_do_not_count():
    frame = simulated(n=300).with_columns(one=pl.lit("same"))
    stray = frame.head(2).with_columns(one=pl.Series(["p", "q"]), y=pl.lit(7.0))
    log = scanned(pl.concat([stray, frame]), NUMERIC, cluster="one", on_bad="drop")
    fit = sy.GroupPropensity().fit(log)
    assert fit.coefficients()["se"].null_count() == 12
    assert "1 clusters (one) are too few" in fit.dependence().reason
    many = frame.with_columns(one=pl.Series(np.arange(300) // 5).cast(pl.String))
    stray = pl.concat([stray, many.tail(1).with_columns(y=pl.lit(8.0))])
    spec, found = sy.DoublyRobust(folds=3), []
    for rows in (many, pl.concat([stray, many])):
        log = scanned(rows, NUMERIC, cluster="one", on_bad="drop")
        found.append(spec.fit(log).influence().sort("row")["fold"])
        with pytest.raises(sy.NotIdentifiedError, match="58 groups of rows"):
            replace(spec, folds=61).fit(log)
    assert (found[0] == found[1]).all()


def test_what_few_rows_tell_of_has_no_interval():
    frame = simulated(n=400).with_columns(
        rare=pl.when(pl.int_range(400) < 6).then(pl.lit("t")).otherwise(pl.col("level")),
        first=pl.when(pl.int_range(400) < 6).then(pl.lit("a")).otherwise(pl.col("level")),
    )
    found = sy.GroupPropensity().fit(scanned(frame, ["x0", "rare"])).coefficients()
    assert set(found.filter(pl.col("se").is_null())["term"]) == {"rare=t"}
    found = sy.GroupPropensity().fit(scanned(frame, ["x0", "first"])).coefficients()  # "a" is what others compare to
    assert set(found.filter(pl.col("se").is_null())["term"]) == {"intercept", *(f"first={v}" for v in "pqrs")}
    assert set(found["reason"].drop_nulls()) == {"some 6 rows tell of it: too few for an interval"}
    odd = frame.with_columns(group=pl.when(pl.int_range(400) < 7).then(pl.lit("z")).otherwise("group"))
    found = sy.GroupPropensity().fit(scanned(odd, ["x0"])).coefficients()
    assert found.filter(pl.col("se").is_null())["class"].to_list() == ["z", "z"]


def test_values_of_few_clusters_have_no_interval():
    rng = np.random.default_rng(0)
    rater = np.repeat(np.arange(60), 20)
    a, b = two_drawn(rng, np.tile([0.3, 0.0, -0.3], (1200, 1)))
    frame = pl.DataFrame({"a": a, "b": b, "y": 1.0, "rater": rater, "kind": np.where(rater == 0, "q", "p")})
    for cluster, told in (((), [None, None]), ("rater", [None, "some 1 clusters tell of it: too few for an interval"])):
        log = sy.scan(frame, a="a", b="b", outcome="y", context="kind", cluster=cluster)
        assert sy.PairPropensity().fit(log).coefficients()["reason"].to_list() == told * 3


@pytest.mark.parametrize("whole", [False, True])
def test_what_was_never_drawn_at_a_value_has_no_interval(whole):
    rng = np.random.default_rng(0)
    rare = np.arange(900) < 30
    a, b = two_drawn(rng, np.where(rare[:, None], [0.0, 0.0, 0.0, -50.0], np.zeros(4)))
    frame = pl.DataFrame({"a": a, "b": b, "y": 1.0, "x": rng.normal(size=900), "kind": rare})
    frame = frame if whole else frame.with_columns(kind=pl.when("kind").then(pl.lit("q")).otherwise(pl.lit("p")))
    found = sy.PairPropensity().fit(sy.scan(frame, a="a", b="b", outcome="y", context=["x", "kind"])).coefficients()
    null = found.filter(pl.col("se").is_null())
    assert set(null["term"]) == {"kind" if whole else "kind=q"}
    assert len(null) == 4  # one of four arms is much of what the others stand against
    assert null["reason"].str.starts_with("drawn never, or always, at a value").all()


def test_two_arms_leave_nothing_to_chance():
    frame = simulated(n=300, k=2)
    for spec in (sy.PairPropensity(), sy.PairPropensity(method="pairs")):
        fit = spec.fit(scanned(frame))
        assert set(fit.coefficients()["reason"]) == {"nothing was left to chance: no spread, so no interval"}
        assert fit.dependence().p_value is None
        assert "cannot be told: only one of them could be drawn" in str(fit.dependence())
