"""Thousands of arms beside covariates: what the sparse way gives is what the dense one gives, and at full size."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
import steelyard as sy

K = 7


def simulated(seed: int, n: int, k: int = K, ties: float = 0.0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    a = rng.integers(0, k, n)
    b = (a + rng.integers(1, k, n)) % k
    z, theta = rng.normal(size=(2, n)), np.random.default_rng(1).normal(size=k)
    p = 1.0 / (1.0 + np.exp(-(theta[a] - theta[b] + 0.3 * z[0] - 40.0 * (0.01 * z[1]))))
    y = np.where(rng.random(n) < ties, 0.5, rng.random(n) < p)
    return pl.DataFrame({"a": [f"m{i:05d}" for i in a], "b": [f"m{i:05d}" for i in b], "y": y, "z0": z[0],
                         "z1": 0.01 * z[1], "first": rng.random(n) < 0.7, "w": rng.uniform(0.5, 2.0, n),
                         "rater": rng.integers(0, 40, n), "count": rng.integers(1, 4, n)})  # fmt: skip


def scanned(frame: pl.DataFrame, names: tuple[str, ...] = ("z0", "z1"), **more: Any) -> sy.PreferenceLog:
    return sy.scan(frame, a="a", b="b", outcome="y", covariates={name: name for name in names}, **more)


def both(monkeypatch: pytest.MonkeyPatch, spec: sy.BradleyTerry, log: sy.PreferenceLog) -> tuple[Any, Any]:
    dense = spec.fit(log)
    monkeypatch.setattr("steelyard.models.cells.WIDEST_DENSE", 3)
    return dense, spec.fit(log)


@pytest.mark.parametrize(
    ("spec", "more"),
    [
        (sy.BradleyTerry(), {}),
        (sy.BradleyTerry(covariance="model", ties="davidson", position=True), {"position": "first"}),
        (sy.BradleyTerry(ties="rao-kupper"), {"weight": "w"}),
        (sy.BradleyTerry(link="probit", ties="drop", ridge=0.5), {"count": "count"}),
        (sy.BradleyTerry(covariance="cluster"), {"cluster": "rater"}),
    ],
)
def test_equals_the_dense_fit(monkeypatch, spec, more):
    log = scanned(simulated(2, 1500, ties=0.2), **more)
    dense, sparse = both(monkeypatch, spec, log)
    assert sparse.psi is None
    np.testing.assert_allclose(sparse.score, dense.score, atol=1e-8)
    assert sparse.log_likelihood == pytest.approx(dense.log_likelihood, rel=1e-12)
    for x, y in zip(sparse.coefficients().rows(), dense.coefficients().rows(), strict=True):
        assert x[0] == y[0]
        assert x[1:3] == pytest.approx(y[1:3], rel=1e-6)
    for pair in (("m00000", "m00005"), ("m00003", "m00001")):
        one, other = sparse.contrast(*pair), dense.contrast(*pair)
        assert one.estimate == pytest.approx(other.estimate, abs=1e-8)
        assert one.se == pytest.approx(other.se, rel=1e-7)
    table = sparse.table()
    assert table["se"].null_count() == K
    assert set(table["reason"]) == {"beyond 4,000 arms beside covariates or clusters: ask for a contrast"}
    assert table.select("arm", "rank").equals(dense.table().select("arm", "rank"))


@pytest.mark.parametrize(
    ("spec", "more"),
    [
        (sy.BradleyTerry(), {}),
        (sy.BradleyTerry(ties="davidson", position=True), {"position": "first"}),
        (sy.BradleyTerry(ridge=0.5), {"weight": "w"}),
    ],
)
def test_clusters_without_covariates_equal_the_dense_fit(monkeypatch, spec, more):
    log = scanned(simulated(8, 1500, ties=0.2), (), cluster="rater", **more)
    dense, sparse = both(monkeypatch, spec, log)
    assert sparse.psi is None
    assert sparse.n == dense.n
    np.testing.assert_allclose(sparse.score, dense.score, atol=1e-8)
    one, other = sparse.contrast("m00000", "m00005"), dense.contrast("m00000", "m00005")
    assert one.se == pytest.approx(other.se, rel=1e-7)
    assert sparse.coefficients()["se"].to_list() == pytest.approx(dense.coefficients()["se"].to_list(), rel=1e-6)


def test_a_long_log_starts_from_some_of_its_rows(monkeypatch):
    monkeypatch.setattr("steelyard.models.row_problem._LONG", 1000)
    dense, sparse = both(monkeypatch, sy.BradleyTerry(), scanned(simulated(3, 4000)))
    np.testing.assert_allclose(sparse.score, dense.score, atol=1e-8)
    again = sy.BradleyTerry().fit(scanned(simulated(3, 4000)), start=dense)
    np.testing.assert_allclose(again.score, dense.score, atol=1e-8)


def test_what_cannot_be_told_apart_is_named_as_by_the_dense_fit(monkeypatch):
    """A covariate of the arms alone, one that is twice another, and one that is 0 throughout."""
    quality = pl.col("a").str.slice(1).cast(pl.Float64) - pl.col("b").str.slice(1).cast(pl.Float64)
    frame = simulated(4, 800).with_columns(arms=quality, twice=2.0 * pl.col("z0"), none=0.0 * pl.col("z0"))
    names = ("z0", "arms", "twice", "none", "z1")
    dense, sparse = both(monkeypatch, sy.BradleyTerry(), scanned(frame, names))
    columns = ("term", "reason")
    assert sparse.coefficients().select(columns).equals(dense.coefficients().select(columns))
    assert [reason is None for reason in dense.coefficients()["reason"]] == [True, False, False, False, True]
    np.testing.assert_allclose(sparse.score, dense.score, atol=1e-8)


def test_separated_covariates_have_no_fit(monkeypatch):
    frame = simulated(5, 500).with_columns(z0=pl.col("y") - 0.5)
    monkeypatch.setattr("steelyard.models.cells.WIDEST_DENSE", 3)
    with pytest.raises(sy.NotIdentifiedError, match="no finite maximum"):
        sy.BradleyTerry().fit(scanned(frame))


def test_what_needs_a_matrix_is_refused_in_words(monkeypatch, tmp_path):
    frame = simulated(6, 900).with_columns(item=pl.col("rater") % 7)
    monkeypatch.setattr("steelyard.models.cells.WIDEST_DENSE", 3)
    fit = sy.BradleyTerry().fit(scanned(frame))
    for ask in (lambda: fit.covariance, fit.bootstrap, lambda: fit.audit("m00000", "m00001")):
        with pytest.raises(sy.NotIdentifiedError, match="ask for a contrast"):
            ask()
    with pytest.raises(sy.NotIdentifiedError, match="cluster by one"):
        sy.BradleyTerry().fit(scanned(frame, cluster=["rater", "item"]))
    groups = sy.scan(frame, a="a", b="b", outcome="y", covariates={"z0": "z0"}, context="z1", group="item")
    weights = sy.GroupPropensity(ridge=1.0).fit(groups).weights(groups)
    with pytest.raises(sy.NotIdentifiedError, match="as_known"):
        sy.BradleyTerry(weights=weights).fit(groups)
    assert sy.BradleyTerry(weights=weights.as_known()).fit(groups).contrast("m00000", "m00001").se > 0
    fit.save(tmp_path / "fit.sy")
    back = sy.load(tmp_path / "fit.sy")
    assert (back.score == fit.score).all()
    with pytest.raises(sy.NotIdentifiedError, match="no file holds"):
        back.contrast("m00000", "m00001")


@pytest.mark.slow
def test_five_thousand_arms():
    """Coefficients and a contrast within their errors of the truth; as good as the fit that knows the covariates."""
    k, n = 5000, 200_000
    fit = sy.BradleyTerry().fit(scanned(simulated(7, n, k)))
    theta = np.random.default_rng(1).normal(size=k)
    told = fit.coefficients()
    assert np.abs((told["estimate"].to_numpy() - [0.3, -40.0]) / told["se"].to_numpy()).max() < 4
    order = [int(arm[1:]) for arm in fit.arms]
    z = [(fit.contrast(f"m{i:05d}", f"m{i + 1:05d}"), theta[i] - theta[i + 1]) for i in range(0, 60, 2)]
    assert np.mean([((c.estimate - truth) / c.se) ** 2 for c, truth in z]) == pytest.approx(1.0, abs=0.8)
    assert np.corrcoef(fit.score, theta[order])[0, 1] > 0.95
