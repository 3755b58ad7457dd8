"""Rewards of features: peers on the same rows, groups, interactions, wide and narrow, bad input."""

import pickle
from dataclasses import astuple

import numpy as np
import polars as pl
import pytest
import statsmodels.api as sm
import steelyard as sy
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression
from steelyard.errors import NotIdentifiedError
from steelyard.models import design, row_meat, row_problem
from steelyard.models import wide as few

FEATURES = (["x_a", "y_a", "z_a"], ["x_b", "y_b", "z_b"])
BETA = np.array([0.8, -0.5, 0.2])


def simulated(seed, n=800, ties=0.0, groups=False):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(n, 3)), rng.normal(size=(n, 3))
    group = rng.integers(0, 3, n)
    beta = BETA + groups * np.array([[0.0, 0.0, 0.0], [0.5, 0.5, 0.0], [-0.5, 0.0, 0.5]])[group]
    margin = ((a - b) * beta).sum(axis=1)
    y = (rng.random(n) < 1 / (1 + np.exp(-margin))).astype(float)
    y[rng.random(n) < ties] = 0.5
    columns = {f"{name}_{side}": values[:, j] for side, values in (("a", a), ("b", b)) for j, name in enumerate("xyz")}
    extra = {"prompt": rng.normal(size=n), "who": np.array(["u", "v", "w"])[group], "rater": np.arange(n) % 40}
    return pl.DataFrame({**columns, "y": y, **extra})


def scanned(frame, features=FEATURES, **roles):
    return sy.scan(frame, outcome="y", features=features, **roles)


def deltas(frame):
    return frame.select(pl.col(f"{name}_a") - pl.col(f"{name}_b") for name in "xyz").to_numpy()


def lists(frame, dtype=pl.Float64):
    sides = {
        s: pl.concat_arr(pl.col(f"{n}_{s}") for n in "xyz").cast(pl.Array(dtype, 3)).alias(f"emb_{s}") for s in "ab"
    }
    return frame.with_columns(*sides.values())


@pytest.mark.parametrize("widest", [32, 0])
def test_equals_statsmodels(monkeypatch, widest):
    for room in (design, row_problem):
        monkeypatch.setattr(room, "NARROW", widest)
    monkeypatch.setattr(few, "_CELLS", 300)
    frame = simulated(1)
    peer = sm.GLM(frame["y"].to_numpy(), deltas(frame), family=sm.families.Binomial())
    plain = peer.fit(tol=1e-14, maxiter=100, cov_type="HC0")
    fit = sy.RewardModel().fit(scanned(frame))
    table = fit.coefficients()
    assert table["term"].to_list() == ["x_a", "y_a", "z_a"]
    np.testing.assert_allclose(table["estimate"], plain.params, atol=1e-9)
    np.testing.assert_allclose(table["se"], plain.bse, rtol=1e-8)
    clustered = peer.fit(tol=1e-14, maxiter=100, cov_type="cluster",
                         cov_kwds={"groups": frame["rater"].to_numpy(), "use_correction": False})  # fmt: skip
    by_rater = sy.RewardModel().fit(scanned(frame, cluster="rater")).coefficients()
    np.testing.assert_allclose(by_rater["se"], clustered.bse * np.sqrt(40 / 39), rtol=1e-8)
    contrast = fit.contrast("x_a", "y_a")
    assert contrast.se == pytest.approx(np.sqrt(np.array([1, -1, 0]) @ plain.cov_params() @ [1, -1, 0]), rel=1e-8)


@pytest.mark.parametrize("spec", [{"ties": "davidson", "position": True}, {"ties": "rao-kupper"}, {"link": "probit"}])
@pytest.mark.parametrize("ridge", [0.0, 3.0])
@pytest.mark.parametrize("covariance", ["sandwich", "cluster"])
def test_wide_and_narrow_are_one(monkeypatch, spec, ridge, covariance):
    frame = simulated(2, ties=0.2).with_columns(
        w=pl.Series(np.random.default_rng(0).uniform(0.5, 2, 800)), c=pl.Series(np.arange(800) % 3 + 1)
    )
    log = scanned(frame, weight="w", count="c", cluster="rater")
    narrow = sy.RewardModel(ridge=ridge, covariance=covariance, **spec).fit(log)
    for room in (design, row_problem):
        monkeypatch.setattr(room, "NARROW", 0)
    monkeypatch.setattr(few, "_CELLS", 100)
    monkeypatch.setattr(row_meat, "CLUSTER_BYTES", 400)  # some 10 of the 40 raters in each pass
    wide = sy.RewardModel(ridge=ridge, covariance=covariance, **spec).fit(log)
    np.testing.assert_allclose(wide.estimate.parameter, narrow.estimate.parameter, atol=1e-10)
    np.testing.assert_allclose(wide.covariance, narrow.covariance, rtol=1e-8, atol=1e-12)


def test_arms_as_features_are_bradley_terry():
    rng = np.random.default_rng(3)
    a = rng.integers(0, 4, 500)
    b = (a + rng.integers(1, 4, 500)) % 4
    arm = {f"is{j}_{s}": (codes == j) * 1.0 for s, codes in (("a", a), ("b", b)) for j in range(1, 4)}
    frame = pl.DataFrame({"a": a, "b": b, "y": rng.choice([0.0, 0.5, 1.0], 500), "v": rng.normal(size=500), **arm})
    features = ([f"is{j}_a" for j in range(1, 4)], [f"is{j}_b" for j in range(1, 4)])
    for ties in ("half", "davidson", "rao-kupper"):
        log = scanned(frame, features, a="a", b="b", covariates={"v": "v"})
        rewards, scores = (
            sy.RewardModel(ties=ties, position=True).fit(log),
            sy.BradleyTerry(ties=ties, position=True).fit(log),
        )
        np.testing.assert_allclose(rewards.coefficient[:3], scores.score[1:] - scores.score[0], atol=1e-9)
        assert rewards.contrast("is1_a", "is2_a").se == pytest.approx(scores.contrast("1", "2").se, rel=1e-8)
        got, want = rewards.coefficients()[3:], scores.coefficients()
        assert got["term"].to_list() == want["term"].to_list()
        np.testing.assert_allclose(got["se"], want["se"], rtol=1e-8)


def test_embeddings_in_lists_and_in_float32():
    frame = simulated(4)
    want = sy.RewardModel(ridge=1.0).fit(scanned(frame))
    for dtype, close in ((pl.Float64, 1e-10), (pl.Float32, 1e-6)):
        fit = sy.RewardModel(ridge=1.0).fit(scanned(lists(frame, dtype), ("emb_a", "emb_b")))
        assert fit.coefficients()["term"].to_list() == ["emb_a[0]", "emb_a[1]", "emb_a[2]"]
        np.testing.assert_allclose(fit.coefficient, want.coefficient, atol=close)
    as_lists = lists(frame).with_columns(pl.col("emb_a", "emb_b").arr.to_list())
    assert sy.RewardModel(ridge=1.0).fit(scanned(as_lists, ("emb_a", "emb_b"))).coefficient == pytest.approx(
        want.coefficient, abs=1e-10
    )


def test_interactions_are_products():
    frame = simulated(5)
    fit = sy.RewardModel(interactions=[("x_a", "prompt")]).fit(scanned(frame, context=["prompt"]))
    product = frame.with_columns(xp_a=pl.col("x_a") * pl.col("prompt"), xp_b=pl.col("x_b") * pl.col("prompt"))
    by_hand = sy.RewardModel().fit(scanned(product, ([*FEATURES[0], "xp_a"], [*FEATURES[1], "xp_b"])))
    np.testing.assert_allclose(fit.covariance, by_hand.covariance, rtol=1e-8)
    assert fit.coefficients()["term"].to_list() == ["x_a", "y_a", "z_a", "x_a:prompt"]
    everything = sy.RewardModel(interactions="all").fit(scanned(frame, context=["prompt"]))
    assert len(everything.coefficients()) == 6
    scored = fit.predict(scanned(frame, context=["prompt"])).collect()
    np.testing.assert_allclose(scored["margin"], by_hand.predict(scanned(product, ([*FEATURES[0], "xp_a"],
                               [*FEATURES[1], "xp_b"]))).collect()["margin"], atol=1e-10)  # fmt: skip


def test_groups_apart_are_fits_apart():
    frame = simulated(6, groups=True)
    fit = sy.RewardModel(heads="per-group").fit(scanned(frame, group="who"))
    table = {row["term"]: row for row in fit.coefficients().iter_rows(named=True)}
    for who in "uvw":
        alone = sy.RewardModel().fit(scanned(frame.filter(pl.col("who") == who))).coefficients()
        for row in alone.iter_rows(named=True):
            assert table[f"{row['term']} [{who}]"]["estimate"] == pytest.approx(row["estimate"], abs=1e-9)
            assert table[f"{row['term']} [{who}]"]["se"] == pytest.approx(row["se"], rel=1e-8)


def test_groups_of_rows_that_were_left_out_have_no_head():
    frame = simulated(6, groups=True)
    stray = frame.head(2).with_columns(who=pl.Series(["stray", "w"]), y=pl.lit(7.0))
    clean, found = (
        sy.RewardModel(heads="per-group", ridge=1.0).fit(scanned(rows, group="who", on_bad="drop")).coefficients()
        for rows in (frame, pl.concat([stray, frame]))
    )
    assert found["term"].to_list() == clean["term"].to_list()
    np.testing.assert_allclose(found["estimate"], clean["estimate"], atol=1e-9)


def test_pooled_groups_equal_the_penalised_optimum():
    frame, ridge = simulated(7, groups=True), 20.0
    fit = sy.RewardModel(heads="per-group", ridge=ridge).fit(scanned(frame, group="who"))
    delta, y, group = deltas(frame), frame["y"].to_numpy(), np.unique(frame["who"], return_inverse=True)[1]

    def loss(parameter):
        shared, own = parameter[:3], parameter[3:].reshape(3, 3)
        margin = (delta * (shared + own[group])).sum(axis=1)
        rest = 1 / (1 + np.exp(margin)) - (1 - y)
        gradient = np.array([(rest[group == g, None] * delta[group == g]).sum(axis=0) for g in range(3)])
        value = -(y * margin - np.log1p(np.exp(margin))).sum() + ridge / 2 * (own**2).sum()
        return value, np.concatenate([-gradient.sum(axis=0), (ridge * own - gradient).ravel()])

    best = minimize(loss, np.zeros(12), jac=True, method="BFGS", options={"gtol": 1e-9}).x
    own = best[3:].reshape(3, 3)
    table = dict(fit.coefficients().select("term", "estimate").iter_rows())
    firsts = frame["who"].unique(maintain_order=True).to_list()
    assert len(table) == 12
    for j, name in enumerate(FEATURES[0]):
        assert table[name] == pytest.approx(best[j], abs=1e-6)
        for g, who in enumerate("uvw"):
            assert who in firsts
            assert table[f"{name} [{who}]"] == pytest.approx(best[j] + own[g, j], abs=1e-6)
    hard = sy.RewardModel(heads="per-group", ridge=1e9).fit(scanned(frame, group="who"))
    shared = sy.RewardModel().fit(scanned(frame))
    np.testing.assert_allclose(hard.coefficient[:3], shared.coefficient, atol=1e-6)


def test_shared_ridge_is_scikit_learns():
    frame = simulated(8)
    peer = LogisticRegression(C=0.5, fit_intercept=False, tol=1e-12, max_iter=1000).fit(deltas(frame), frame["y"])
    fit = sy.RewardModel(ridge=2.0).fit(scanned(frame))
    np.testing.assert_allclose(fit.coefficient, peer.coef_[0], atol=1e-6)


@pytest.mark.slow
def test_rewards_cover():
    inside = []
    for seed in range(500):
        table = sy.RewardModel().fit(scanned(simulated(seed, n=600))).coefficients()
        inside.append((table["low"].to_numpy() <= BETA) & (table["high"].to_numpy() >= BETA))
    assert 0.93 <= np.mean(inside) <= 0.97


def test_save_load_predict_and_sink(tmp_path):
    frame = simulated(9, groups=True)
    log = scanned(frame, group="who", context="prompt")
    fit = sy.RewardModel(heads="per-group", ridge=2.0, interactions=[("x_a", "prompt")], position=True).fit(log)
    fit.save(tmp_path / "reward.sy")
    loaded = sy.load(tmp_path / "reward.sy")
    assert loaded.coefficients().equals(fit.coefficients())
    scored = fit.predict(log).collect()
    assert loaded.predict(log).collect().equals(scored)
    assert scored["log_likelihood"].sum() == pytest.approx(fit.log_likelihood, rel=1e-10)
    fit.sink(log, tmp_path / "scored.parquet")
    assert pl.read_parquet(tmp_path / "scored.parquet").equals(scored)
    stranger = fit.predict(scanned(frame.with_columns(who=pl.lit("t")), group="who", context="prompt")).collect()
    assert stranger["margin"].null_count() == 800


def test_bad_features_are_refused_in_words():
    frame = simulated(10)
    rows = pl.int_range(pl.len())
    ragged = lists(frame).with_columns(pl.col("emb_a", "emb_b").arr.to_list()).with_columns(
        emb_a=pl.when(rows == 5).then(pl.col("emb_a").list.head(2)).otherwise("emb_a")
    )  # fmt: skip
    with pytest.raises(sy.LogError, match=r"1 rows: features of a are not 3 numbers but \[2\] \(first rows \[5\]\)"):
        sy.RewardModel().fit(scanned(ragged, ("emb_a", "emb_b")))
    holes = frame.with_columns(y_a=pl.when(rows == 7).then(np.nan).otherwise("y_a"))
    with pytest.raises(sy.LogError, match=r"1 row: null or infinite feature 'y_a' \(first rows \[7\]\)"):
        sy.RewardModel().fit(scanned(holes))
    left = scanned(
        holes, covariates={"prompt": pl.col("prompt").replace(frame["prompt"][3], None)}, on_bad="quarantine"
    )
    assert left.quarantined()["reason"].to_list() == [
        "null or infinite covariate 'prompt'",
        "null or infinite feature 'y_a'",
    ]
    assert sy.RewardModel().fit(left).n == 798
    nulls = lists(frame).with_columns(emb_b=pl.when(rows == 2).then(None).otherwise("emb_b"))
    with pytest.raises(sy.LogError, match=r"1 row: null or infinite feature 'emb_a' \(first rows \[2\]\)"):
        sy.RewardModel().fit(scanned(nulls, ("emb_a", "emb_b")))
    with pytest.raises(sy.LogError, match="has no features"):
        sy.RewardModel().fit(sy.scan(frame, a="x_a", b="x_b", outcome="y"))
    with pytest.raises(sy.LogError, match=r"\['who'\] \(role features\) do not hold numbers"):
        sy.RewardModel().fit(scanned(frame, (["who"], ["who"])))
    with pytest.raises(sy.LogError, match="as many"):
        scanned(frame, (["x_a", "y_a"], ["x_b"]))
    with pytest.raises(sy.LogError, match="names no column"):
        scanned(frame, ([], []))
    with pytest.raises(sy.LogError, match="without a= and b="):
        sy.BradleyTerry().fit(scanned(frame))
    with pytest.raises(sy.LogError, match="interaction"):
        sy.RewardModel(interactions=[("x_a", "prompt")]).fit(scanned(frame))
    with pytest.raises(sy.LogError, match="no rater group"):
        sy.RewardModel(heads="per-group").fit(scanned(frame))
    unknown = frame.with_columns(who=pl.when(rows == 1).then(None).otherwise("who"))
    with pytest.raises(sy.LogError, match="1 row: null group"):
        sy.RewardModel(heads="per-group").fit(scanned(unknown, group="who"))
    with pytest.raises(ValueError, match="heads must be"):
        sy.RewardModel(heads="own")


def test_prompt_only_and_collinear_features_are_null_with_a_reason():
    frame = simulated(11).with_columns(twice_a=2 * pl.col("x_a"), twice_b=2 * pl.col("x_b"))
    features = (["x_a", "twice_a", "prompt"], ["x_b", "twice_b", "prompt"])
    rows = {row["term"]: row for row in sy.RewardModel().fit(scanned(frame, features)).coefficients().to_dicts()}
    assert "cancels out" in rows["prompt"]["reason"]
    assert "collinear with x_a" in rows["twice_a"]["reason"]
    assert rows["x_a"]["se"] > 0


def test_a_feature_and_a_covariate_of_one_name_are_refused():
    with pytest.raises(sy.LogError, match="two terms are named 'x_a'"):
        sy.RewardModel().fit(scanned(simulated(12), covariates={"x_a": "prompt"}))


def test_null_lists_are_dropped_wherever_they_stand():
    frame = lists(simulated(13)).with_columns(pl.col("emb_a", "emb_b").arr.to_list())
    rows = pl.int_range(pl.len())
    for bad in (rows == 0, rows < 400):
        holed = frame.with_columns(emb_a=pl.when(bad).then(None).otherwise("emb_a"))
        fit = sy.RewardModel().fit(scanned(holed, ("emb_a", "emb_b"), on_bad="drop"))
        assert fit.n == holed["emb_a"].count()
    narrow = frame.with_columns(emb_b=pl.col("emb_b").list.head(2))
    with pytest.raises(sy.LogError, match="features of b are not 3 numbers"):
        sy.RewardModel().fit(scanned(narrow, ("emb_a", "emb_b")))


def test_predicting_other_features_is_refused():
    frame = simulated(14)
    fit = sy.RewardModel(interactions=[("x_a", "prompt")]).fit(scanned(frame, context=["prompt"]))
    turned = tuple(side[::-1] for side in FEATURES)
    with pytest.raises(sy.LogError, match="in this order"):
        fit.predict(scanned(frame, turned, context=["prompt"]))
    with pytest.raises(sy.LogError, match="no context column 'prompt'"):
        fit.predict(scanned(frame))
    with pytest.raises(sy.LogError, match="has no features"):
        fit.predict(sy.scan(frame, a="x_a", b="x_b", outcome="y", context=["prompt"]))
    by_list = sy.RewardModel().fit(scanned(lists(frame), ("emb_a", "emb_b")))
    assert by_list.predict(scanned(lists(frame), ("emb_a", "emb_b"))).collect().height == 800


def test_tie_models_need_ties_and_drop_needs_more():
    frame = simulated(15)
    with pytest.raises(sy.NotIdentifiedError, match="no ties in the log"):
        sy.RewardModel(ties="davidson").fit(scanned(frame))
    with pytest.raises(sy.NotIdentifiedError, match="only ties"):
        sy.RewardModel(ties="drop").fit(scanned(frame.with_columns(y=0.5)))


def test_a_null_context_is_named_and_quarantined(tmp_path):
    frame = simulated(16).with_columns(prompt=pl.when(pl.int_range(pl.len()) == 3).then(None).otherwise("prompt"))
    model = sy.RewardModel(interactions=[["x_a", "prompt"]])
    with pytest.raises(sy.LogError, match="null or infinite context 'prompt'"):
        model.fit(scanned(frame, context=["prompt"]))
    log = scanned(frame, context=["prompt"], on_bad="quarantine")
    assert log.quarantined()["row"].to_list() == [3]
    fit = model.fit(log)
    fit.save(tmp_path / "reward.sy")
    assert sy.load(tmp_path / "reward.sy").spec == model


@pytest.mark.parametrize("widest", [32, 0])
@pytest.mark.parametrize("spec", [{}, {"ridge": 2.0, "heads": "per-group"}, {"ties": "davidson", "position": True}])
def test_a_fit_starts_from_the_one_before(monkeypatch, widest, spec):
    for room in (design, row_problem):
        monkeypatch.setattr(room, "NARROW", widest)
    frame = simulated(31, n=2000, ties=0.2 * ("ties" in spec))
    roles = {"group": "who"} if "heads" in spec else {}
    before = sy.RewardModel(**spec).fit(scanned(frame.head(1900), **roles))
    want = sy.RewardModel(**spec).fit(scanned(frame, **roles))
    fit = sy.RewardModel(**spec).fit(scanned(frame, **roles), start=before)
    assert fit.iterations < want.iterations
    np.testing.assert_allclose(fit.coefficient, want.coefficient, atol=1e-9)
    np.testing.assert_allclose(fit.covariance, want.covariance, rtol=1e-7, atol=1e-12)
    assert sy.RewardModel(**spec).fit(scanned(frame, **roles), start=fit).iterations <= 1
    with pytest.raises(TypeError, match="start takes a fit of a RewardModel, not BradleyTerry"):
        sy.RewardModel(**spec).fit(scanned(frame, **roles), start=sy.BradleyTerry())


def test_covariates_beside_features_in_single_precision_keep_their_own():
    frame = lists(simulated(47), pl.Float32).with_columns(z=pl.col("prompt") * 1e-3 + pl.int_range(pl.len()) % 2 * 1e6)
    doubles = frame.with_columns(pl.col(f"emb_{side}").cast(pl.Array(pl.Float64, 3)) for side in "ab")
    same = doubles.with_columns(  # differences are taken in the features' own type
        emb_a=(frame["emb_a"].to_numpy() - frame["emb_b"].to_numpy()).astype(np.float64), emb_b=np.zeros((800, 3))
    )
    fits = [sy.RewardModel().fit(scanned(some, ("emb_a", "emb_b"), covariates={"z": "z"})) for some in (frame, same)]
    np.testing.assert_allclose(fits[0].coefficient, fits[1].coefficient, rtol=1e-9)
    with pytest.raises(sy.LogError, match="beyond 1e"):
        sy.RewardModel().fit(scanned(frame, ("emb_a", "emb_b"), covariates={"z": pl.col("z") * 1e60}))
    huge = scanned(frame, ("emb_a", "emb_b"), covariates={"z": pl.col("z") * 1e35})
    np.testing.assert_allclose(sy.RewardModel().fit(huge).coefficient[:3], fits[0].coefficient[:3], rtol=1e-7)


@pytest.mark.parametrize("long", [1 << 30, 1 << 10])
@pytest.mark.parametrize("spec", [
    {}, {"covariance": "model", "ties": "drop"}, {"ties": "davidson", "position": True}, {"ties": "rao-kupper"},
    {"heads": "per-group"}, {"covariance": "cluster", "position": True},
])  # fmt: skip
def test_beyond_thousands_of_columns_no_matrix_is_held(monkeypatch, tmp_path, spec, long):
    frame = simulated(41, n=4000, ties=0.2 * ("ties" in spec))
    frame = frame.with_columns(c=pl.Series(np.random.default_rng(1).integers(1, 4, 4000)))
    roles = {"cluster": "rater"} if spec.get("covariance") == "cluster" else {"count": "c"}
    log = scanned(frame, **roles, group="who")
    model = sy.RewardModel(ridge=2.0, **spec)
    want = model.fit(log)
    monkeypatch.setattr("steelyard.models.cells.WIDEST_DENSE", 3 if len(want.design.names) == 4 else 2)
    monkeypatch.setattr(row_problem, "_LONG", long)
    monkeypatch.setattr(design, "NARROW", 0)
    if "heads" in spec:  # the shared head has no ridge
        with pytest.raises(NotIdentifiedError, match="3 columns without a ridge: which of so many can be told apart"):
            model.fit(log)
        monkeypatch.setattr("steelyard.models.cells.WIDEST_DENSE", 3)
    fit = model.fit(log)
    assert fit.psi is None
    np.testing.assert_allclose(fit.estimate.parameter, want.estimate.parameter, atol=1e-9)
    table = fit.coefficients()
    assert table["se"].null_count() == table.height
    assert set(table["reason"]) == {"beyond 4,000 columns: ask for a contrast"}
    terms = [f"{name} [v]" if "heads" in spec else name for name in ("x_a", "y_a", "z_a")]
    for x, y in ((terms[0], terms[1]), (terms[2], terms[0])):
        one, other = (astuple(some.contrast(x, y))[:4] for some in (fit, want))
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-8)
    with pytest.raises(NotIdentifiedError, match="ask for a contrast"):
        _ = fit.covariance
    fit.save(tmp_path / "fit.sy")
    loaded = sy.load(tmp_path / "fit.sy")
    assert loaded.coefficients().equals(table)
    with pytest.raises(NotIdentifiedError, match="asks the rows, which no file holds"):
        loaded.contrast(*terms[:2])


def test_columns_free_of_a_ridge_are_told_apart_among_thousands(monkeypatch):
    frame = simulated(42, n=500).with_columns(twice=2.0 * pl.col("prompt"))
    log = scanned(frame, covariates={"prompt": "prompt", "twice": "twice"})
    want = sy.RewardModel(ridge=1.0).fit(log)
    monkeypatch.setattr("steelyard.models.cells.WIDEST_DENSE", 3)
    fit = sy.RewardModel(ridge=1.0).fit(log)
    np.testing.assert_allclose(fit.coefficient, want.coefficient, atol=1e-9)
    assert fit.coefficients()["reason"][4] == want.coefficients()["reason"][4]


def test_bootstrap_of_coefficients():
    frame = simulated(51).with_columns(twice=2.0 * pl.col("prompt"))
    roles = {"covariates": {"prompt": "prompt", "twice": "twice"}, "group": "who", "cluster": "rater"}
    fit = sy.RewardModel(heads="per-group", ridge=1.0).fit(scanned(frame, **roles))
    want = fit.coefficients()
    boot = fit.bootstrap(4000, seed=2)
    table = want.select("term").join(boot.table(), on="term", how="left", maintain_order="left")
    np.testing.assert_allclose(table["estimate"].drop_nulls(), want["estimate"].drop_nulls(), atol=1e-12)
    np.testing.assert_allclose(table["se"].drop_nulls(), want["se"].drop_nulls(), rtol=0.05)
    assert table.filter(pl.col("term") == "twice").select("se", "low", "high").row(0) == (None, None, None)
    assert (boot.draws == fit.bootstrap(4000, seed=2).draws)[:, :5].all()
    with pytest.raises(ValueError, match='use method="multiplier"'):
        fit.bootstrap(method="multinomial")


@pytest.mark.parametrize(("n", "d"), [(12_000, 40), (1 << 13, 3)])
@pytest.mark.parametrize("told", [False, True])
def test_a_rare_feature_that_some_rows_lack_and_whose_answers_are_all_alike(monkeypatch, n, d, told):
    monkeypatch.setattr(row_problem, "_LONG", 1 << 13)
    rng = np.random.default_rng(3)
    x = rng.normal(size=(n, d))
    y = (rng.random(n) < 1 / (1 + np.exp(-0.3 * x[:, : d - 1].sum(axis=1) / np.sqrt(d)))) * 1.0
    rare = np.arange(1, 171, 17)  # none of them a multiple of 8
    x[:, -1] = 0.0
    x[rare, -1], y[rare] = 1.0, 1.0 - told * (np.arange(10) % 2)
    log = sy.scan(pl.DataFrame({"y": y, "f": pl.Series(x), "g": pl.Series(0.0 * x)}), outcome="y", features=("f", "g"))
    if not told:
        with pytest.raises(NotIdentifiedError, match="tells the outcome of every row, or of all rows where"):
            sy.RewardModel().fit(log)
        return
    fit = sy.RewardModel().fit(log)
    peer = sm.GLM(y, x, family=sm.families.Binomial()).fit(tol=1e-14, cov_type="HC0")
    np.testing.assert_allclose(fit.coefficient, peer.params, atol=1e-9)
    np.testing.assert_allclose(fit.coefficients()["se"], peer.bse, rtol=1e-8)
    assert fit.iterations < 20


def test_what_no_matrix_can_be_told_of_is_refused_or_said(monkeypatch):
    monkeypatch.setattr("steelyard.models.cells.WIDEST_DENSE", 2)
    frame = simulated(43, n=2000).with_columns(z=pl.Series((np.random.default_rng(0).random(2000) < 0.2) * 1.0))
    model = sy.RewardModel(ridge=1.0)
    alike = frame.with_columns(y=pl.when(pl.col("z") > 0).then(1.0).otherwise(pl.col("y")))
    with pytest.raises(NotIdentifiedError, match="with a step of"):
        model.fit(scanned(alike, covariates={"z": "z"}))
    with pytest.raises(NotIdentifiedError, match="among thousands of arms or columns cluster by one column"):
        model.fit(scanned(frame, cluster=["rater", "who"]))
    with pytest.raises(NotIdentifiedError, match="has 1 group"):
        model.fit(scanned(frame.with_columns(rater=1), cluster="rater"))
    with pytest.raises(sy.LogError, match="null cluster"):
        model.fit(scanned(frame.with_columns(rater=pl.lit(None, pl.Int64)), cluster="rater"))
    fit = model.fit(scanned(frame))
    assert "not computed beyond 4,000 columns" in str(sy.card(fit))
    monkeypatch.setattr("steelyard.spill.MOST_IN_MEMORY", 0)
    again = pickle.loads(pickle.dumps(model.fit(scanned(frame))))
    assert again.coefficients().equals(fit.coefficients())
    blank = pl.concat([frame, frame.with_columns(y=0.5).gather_every(1)] * 1)
    monkeypatch.setattr("steelyard.blocks.BLOCK_ROWS", 2000)  # the second block has ties only
    dropped = sy.RewardModel(ridge=1.0, ties="drop").fit(scanned(blank))
    assert dropped.contrast("x_a", "y_a").se == pytest.approx(fit.contrast("x_a", "y_a").se, rel=1e-6)


def test_bootstrap_of_a_feature_without_spread():
    frame = simulated(52).with_columns(none_a=pl.lit(0.0), none_b=pl.lit(0.0))
    fit = sy.RewardModel(ridge=1.0).fit(scanned(frame, (["x_a", "none_a"], ["x_b", "none_b"])))
    row = fit.bootstrap(50).table().filter(term="none_a").row(0, named=True)
    assert (row["se"], row["low"], row["high"]) == (None, None, None)
    assert row["reason"].startswith("no spread, so no interval")


def test_outputs_never_take_the_place_of_the_log(tmp_path):
    frame = simulated(3)
    fit = sy.RewardModel(ridge=1.0).fit(scanned(frame))
    for name in ("own/a.parquet", "own/b.parquet"):
        (tmp_path / "own").mkdir(exist_ok=True)
        frame.write_parquet(tmp_path / name)
    folder, one = scanned(str(tmp_path / "own")), scanned(str(tmp_path / "own" / "a.parquet"))
    for log, out in (
        (folder, tmp_path / "own"),
        (folder, tmp_path / "own" / "a.parquet"),
        (one, tmp_path / "own" / "a.parquet"),
    ):
        with pytest.raises(ValueError, match="a file of the log itself"):
            fit.sink(log, out)
    assert pl.read_parquet(tmp_path / "own" / "a.parquet").equals(frame)
    frame.write_parquet(tmp_path / "own" / "a.pq")
    both = scanned([str(tmp_path / "own" / name) for name in ("a.parquet", "a.pq")])
    with pytest.raises(ValueError, match="two files of the log would both be written to"):
        fit.sink(both, tmp_path / "out")
    fit.sink(folder, tmp_path / "scored")
    assert sorted(path.name for path in (tmp_path / "scored").iterdir()) == ["a.parquet", "b.parquet"]


def test_contrasts_of_features_in_any_unit_have_their_errors():
    rng, n = np.random.default_rng(0), 600
    a, b = rng.normal(size=(2, n, 2))
    y = (rng.random(n) < 1 / (1 + np.exp(-(a - b) @ [0.5, 0.2]))) * 1.0
    told = []
    for unit in (1.0, 1e8):
        columns = {"f": a[:, 0] * unit, "h": a[:, 1] * unit, "f_": b[:, 0] * unit, "h_": b[:, 1] * unit, "y": y}
        fit = sy.RewardModel().fit(sy.scan(columns, outcome="y", features=(["f", "h"], ["f_", "h_"])))
        told.append(np.array([fit.contrast("f", "h").estimate, fit.contrast("f", "h").se]) * unit)
    np.testing.assert_allclose(told[1], told[0], rtol=1e-6)
