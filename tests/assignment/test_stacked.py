"""Errors under weights know that these were estimated: brute-force stacks, and the infinitesimal jackknife."""

import numpy as np
import polars as pl
import pytest
import steelyard as sy

from tests.assignment.test_propensity import NUMERIC, design, scanned, simulated
from tests.reference.stacked import class_log_probability, pair_log_probability, stacked_covariance


@pytest.mark.parametrize("method", ["softmax", "group", "label"])
@pytest.mark.parametrize("kind", ["hajek", "overlap"])
@pytest.mark.parametrize("cluster", [False, True])
def test_stacked_errors_equal_brute_force(method, kind, cluster):
    frame, k, ridge = simulated(n=500).with_columns(rater=pl.arange(0, 500) % 60), 4, 2.0
    roles = {"cluster": "rater"} if cluster else {}
    log = scanned(frame, NUMERIC, **roles)
    a, b = frame["a"].to_numpy(), frame["b"].to_numpy()
    y = frame["y"].fill_null(float("nan")).to_numpy()
    x = np.column_stack([np.ones(500), design(frame)[:, :3]])
    spec = {"softmax": sy.PairPropensity, "group": sy.GroupPropensity, "label": sy.LabelPropensity}[method](ridge=ridge)
    if method == "softmax":
        classes, gamma = k, lambda g: g.reshape(k, 4)
        log_p = lambda g: pair_log_probability(gamma(g), x, a, b)  # noqa: E731
        every = [(i, j) for i in range(k) for j in range(i + 1, k)]
        both = [np.full((2, 500), [[i], [j]]) for i, j in every]
        log_all = lambda g: np.stack([pair_log_probability(gamma(g), x, *pair) for pair in both])  # noqa: E731
    else:
        what = np.searchsorted(["u", "v", "w"], frame["group"]) if method == "group" else np.isfinite(y).astype(int)
        classes = 3 if method == "group" else 1
        gamma = lambda g: g.reshape(3, 4) if method == "group" else np.stack([0 * g, g])  # noqa: E731
        log_p = lambda g: class_log_probability(gamma(g), x, what)  # noqa: E731
        log_all = lambda g: np.stack([class_log_probability(gamma(g), x, np.full(500, c))  # noqa: E731
                                      for c in range(len(gamma(g)))])  # fmt: skip
    fit = spec.fit(log)
    at = fit.model.gamma[fit.model.free].ravel()
    tilt = (lambda g: -np.log(np.exp(-log_all(g)).sum(axis=0))) if kind == "overlap" else (lambda g: 0.0)
    weights = fit.weights(log, kind=kind, floor=0.0)
    scale = np.log(weights.mean)
    penalty = np.tile([0.0, ridge, ridge, ridge], classes)
    ours = sy.BradleyTerry(weights=weights).fit(log)
    pairs = np.zeros((500, k))
    pairs[np.arange(500), a], pairs[np.arange(500), b] = 1.0, -1.0
    want = stacked_covariance(log_p, lambda g: tilt(g) - log_p(g) - scale, at, penalty, pairs, y, ours.score,
                              frame["rater"].to_numpy() if cluster else None)  # fmt: skip
    np.testing.assert_allclose(ours.covariance, want, rtol=2e-4, atol=1e-6 * np.abs(want).max())
    known = sy.BradleyTerry(weights=weights.as_known()).fit(log)
    assert np.abs(known.covariance / want - 1).max() > 2e-3  # the stack matters, so the test can fail
    np.testing.assert_array_equal(known.score, ours.score)
    assert "propensity taken as known" in known.estimand


def test_stacked_errors_of_shares_equal_those_of_the_saturated_softmax():
    frame = simulated(n=2000)
    frame = frame.with_columns(level=pl.col("level").replace({"r": "p", "s": "q"}))
    log = scanned(frame, "level")
    shares = sy.PairPropensity(method="frequency", strata="level").fit(log)
    logit = sy.PairPropensity(method="pairs", ridge=0.0).fit(log)
    for kind in ("hajek", "stabilized"):
        one, other = (sy.BradleyTerry(weights=p.weights(log, kind=kind)).fit(log) for p in (shares, logit))
        np.testing.assert_allclose(one.score, other.score, atol=1e-7)
        np.testing.assert_allclose(one.covariance, other.covariance, rtol=1e-5, atol=1e-9)


MARGINS = {"kind": {"p": 0.3, "q": 0.7}}


@pytest.mark.parametrize(
    ("method", "kind", "target"),
    [("pairs", "stabilized", "uniform"), ("softmax", "hajek", "log"), ("frequency", "stabilized", "uniform"),
     ("frequency", "overlap", "uniform"), ("pairs", "balance", "log"), ("pairs", "balance", MARGINS),
     ("group", "stabilized", MARGINS), ("group", "balance", "log"), ("label", "balance", MARGINS)],
)  # fmt: skip
def test_stacked_errors_are_those_of_weighing_each_row_a_little_more(method, kind, target):
    """The infinitesimal jackknife: everything is fitted anew, the shares of the log and the target's means too."""
    rng, n = np.random.default_rng(5), 90
    x, level = rng.normal(size=n), rng.choice(["p", "q"], n)
    a, b = np.argsort(-np.array([0.6, 0.0, -0.4]) * x[:, None] + rng.gumbel(size=(n, 3)), axis=1)[:, :2].T
    eta = (b - a) * (0.4 + 0.6 * x) + 0.5 * (level == "p") * ((a == 0) * 1.0 - (b == 0))
    frame = pl.DataFrame({"a": a, "b": b, "y": (rng.random(n) < 1 / (1 + np.exp(-eta))) * 1.0, "x": x, "kind": level,
                          "group": np.where(rng.random(n) < 1 / (1 + np.exp(-x)), "u", "v")})  # fmt: skip
    if method == "label":
        frame = frame.with_columns(y=pl.when(pl.Series(rng.random(n) < 1 / (1 + np.exp(-1 - x)))).then("y"))
    spec = {"group": sy.GroupPropensity(ridge=0.0), "label": sy.LabelPropensity(ridge=0.0),
            "frequency": sy.PairPropensity(method="frequency", strata="kind")}  # fmt: skip

    def fitted(w):
        log = sy.scan(frame.with_columns(w=w), a="a", b="b", outcome="y", context=["x", "kind"], weight="w",
                      group="group")  # fmt: skip
        shown = (spec.get(method) or sy.PairPropensity(method=method, ridge=0.0)).fit(log)
        return sy.BradleyTerry(weights=shown.weights(log, target, kind, floor=0.0, unsupported=1.0)).fit(log)

    weight, h = rng.uniform(0.5, 2.0, n), 1e-4
    steps = (1.0 + h * sign * np.eye(n) for sign in (1, -1))
    up, down = (np.array([fitted(weight * row).score for row in rows]) for rows in steps)
    psi = (up - down) / (2 * h)
    found = np.sqrt(np.diag(fitted(weight).covariance))
    np.testing.assert_allclose(found, np.sqrt((psi**2).sum(axis=0)), rtol=1e-4)


def test_a_row_for_many_is_as_many_rows_under_weights():
    frame = simulated(n=600).with_columns(c=pl.Series(np.arange(600) % 3 + 1))
    long = frame.select(pl.all().repeat_by("c")).explode(pl.all())
    fits = [
        sy.BradleyTerry(weights=sy.PairPropensity().fit(log).weights(log, floor=0.0)).fit(log)
        for log in (scanned(frame, NUMERIC, count="c"), scanned(long, NUMERIC))
    ]
    np.testing.assert_allclose(fits[0].score, fits[1].score, atol=1e-6)
    np.testing.assert_allclose(fits[0].covariance, fits[1].covariance, rtol=1e-5)
