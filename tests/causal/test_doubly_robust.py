"""Doubly robust scores against brute force, closed forms and peers, and what must hold whatever the log."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl
import pytest
import steelyard as sy
from polars.testing import assert_frame_equal
from steelyard import blocks, spill

from tests.assignment.simulate import confounded
from tests.reference import doubly_robust as brute

K = 5


def small(seed: int = 0, n: int = 200, k: int = K, answered: float = 1.0) -> pl.DataFrame:
    """A log whose pairs and outcomes hang on two topics and a number; ties, weights, raters, a judge, gaps."""
    rng = np.random.default_rng(seed)
    topic, x = rng.integers(0, 2, n), rng.normal(size=n)
    a = rng.integers(0, k, n)
    b = (a + 1 + rng.integers(0, 1 + (k - 2) * (rng.random(n) < 0.7 + 0.2 * topic), n)) % k
    eta = (a - b) * (0.3 * topic - 0.2) + 0.2 * x * (np.cos(a) - np.cos(b))
    y = rng.choice([0.0, 0.5, 1.0], n, p=[0.4, 0.2, 0.4])
    y = np.where(rng.random(n) < 0.8, (rng.random(n) < brute.sigmoid(eta)) * 1.0, y)
    judge = np.clip(0.7 * brute.sigmoid(eta + rng.normal(size=n)) + 0.3 * y, 0.02, 0.98)
    y = np.where(rng.random(n) < answered, y, np.nan)
    return pl.DataFrame(
        {"a": [f"m{j}" for j in a], "b": [f"m{j}" for j in b], "y": y, "topic": np.array(["code", "prose"])[topic],
         "x": x, "w": rng.uniform(0.5, 2.0, n), "rater": [f"r{i}" for i in rng.integers(0, 40, n)],
         "prompt": [f"p{i}" for i in rng.integers(0, 60, n)], "judge": judge}
    ).with_columns(pl.col("y").fill_nan(None))  # fmt: skip


def scanned(frame: pl.DataFrame, **more: Any) -> sy.PreferenceLog:
    return sy.scan(frame, **{"a": "a", "b": "b", "outcome": "y", "context": ["x", "topic"], **more})


BY_TOPIC = sy.PairPropensity(method="frequency", strata="topic")


def columns(frame: pl.DataFrame) -> dict[str, Any]:
    """What the twin reads: codes, outcomes, weights, the standardised design, pi by topic without each fold."""
    code = {name: i for i, name in enumerate(sorted({*frame["a"], *frame["b"]}))}
    a, b = (np.array([code[name] for name in frame[side]]) for side in "ab")
    w = frame["w"].to_numpy()
    raw = np.column_stack([frame["x"].to_numpy(), frame["topic"].to_numpy() == "prose"])
    mean = (w @ raw) / w.sum()
    scale = np.sqrt(w @ (raw - mean) ** 2 / w.sum())
    return {"a": a, "b": b, "y": frame["y"].to_numpy(), "w": w, "k": len(code), "n": len(frame),
            "x": np.column_stack([np.ones(len(frame)), (raw - mean) / scale]),
            "topic": frame["topic"].to_numpy()}  # fmt: skip


def held_out(c: dict[str, Any], fold: Any, ridge: float, extra: Any = None) -> tuple[Any, Any, Any]:
    """mu (n, K, K), pi (n,) and, with an extra column, nu (n,), each row's without its fold."""
    n, k = c["n"], c["k"]
    mu, pi, nu = np.zeros((n, k, k)), np.zeros(n), np.zeros(n)
    pair = np.minimum(c["a"], c["b"]) * k + np.maximum(c["a"], c["b"])
    for f in np.unique(fold):
        out = (fold != f) if len(np.unique(fold)) > 1 else np.ones(n, bool)
        train, test = out & np.isfinite(c["y"]), np.flatnonzero(fold == f)
        part = [c[name][train] for name in ("a", "b", "y", "w", "x")]
        theta, _ = brute.contextual(*part, k, ridge)
        score = c["x"][test] @ theta.T
        mu[test] = brute.sigmoid(score[:, :, None] - score[:, None])
        if extra is not None:
            theta, slope = brute.contextual(*part, k, ridge, extra[train][:, None])
            score = c["x"][test] @ theta.T
            at = np.arange(len(test))
            gap = score[at, c["a"][test]] - score[at, c["b"][test]]
            nu[test] = brute.sigmoid(gap + slope[0] * extra[test])
        for i in test:
            stratum = out & (c["topic"] == c["topic"][i])
            pi[i] = c["w"][stratum & (pair == pair[i])].sum() / c["w"][stratum].sum()
    return mu, pi, nu


def uniform(k: int) -> Any:
    return (1.0 - np.eye(k)) / (k * (k - 1) / 2)


@pytest.mark.parametrize("n", [250, 800])  # some pairs share a divisor; every pair has its own
@pytest.mark.parametrize("folds", [1, 3])
@pytest.mark.parametrize("clusters", [(), ("rater",), ("rater", "prompt")])
def test_equals_brute_force(folds, clusters, n):
    frame = small(3, n)
    if len(clusters) == 2:  # twenty groups of raters and prompts that share no cluster
        site = pl.col("rater").str.slice(1).cast(pl.Int64) // 2
        frame = frame.with_columns(rater=pl.format("{} {}", site, "prompt"), prompt=pl.format("{} {}", site, "topic"))
    log = scanned(frame, weight="w", cluster=list(clusters))
    dr = sy.DoublyRobust(propensity=BY_TOPIC, folds=folds, seed=4, ridge=0.5).fit(log)
    c = columns(frame)
    told = dr.influence()
    fold = told["fold"].to_numpy()
    mu, pi, _ = held_out(c, fold, 0.5)
    want = brute.estimate(c["a"], c["b"], c["y"], c["w"], mu, pi, uniform(c["k"]))
    np.testing.assert_allclose(dr.score, want.theta, atol=1e-10)
    np.testing.assert_allclose(dr.win, np.where(np.eye(c["k"], dtype=bool), np.nan, want.win), atol=1e-10)
    np.testing.assert_allclose(told.select(sorted(dr.arms)).to_numpy(), want.influence, atol=1e-10)
    rates = {row["arm"]: row for row in dr.win_rates().iter_rows(named=True)}
    np.testing.assert_allclose([rates[arm]["win_rate"] for arm in dr.arms], want.rate, atol=1e-10)
    meat, rate_meat = (clustered(psi, frame, clusters) for psi in (want.influence, want.rate_influence))
    np.testing.assert_allclose(dr.covariance, meat, atol=1e-10)
    np.testing.assert_allclose([rates[arm]["se"] for arm in dr.arms], np.sqrt(np.diag(rate_meat)), atol=1e-10)


def clustered(psi: Any, frame: pl.DataFrame, clusters: tuple[str, ...]) -> Any:
    """Sum of s s' over rows, or over clusters with G / (G - 1), by inclusion and exclusion."""
    if not clusters:
        return psi.T @ psi
    total = 0.0
    for chosen in [c for size in range(1, len(clusters) + 1) for c in combinations(clusters, size)]:
        key = frame.select(pl.concat_str(chosen, separator="/")).to_series().to_list()
        sums = {name: psi[[i for i, other in enumerate(key) if other == name]].sum(axis=0) for name in set(key)}
        s = np.stack(list(sums.values()))
        total = total + (-1) ** (len(chosen) + 1) * s.T @ s * len(s) / (len(s) - 1)
    if len(clusters) > 1:
        values, vectors = np.linalg.eigh(total)
        total = (vectors * np.clip(values, 0, None)) @ vectors.T
    return total


def test_judge_and_label_propensity_equal_brute_force():
    frame = small(5, 300, answered=0.5)
    log = scanned(frame, weight="w")
    spec = sy.DoublyRobust(propensity=BY_TOPIC, labelled=sy.LabelPropensity(context="x"), judge="judge", folds=3,
                           unsupported=1.0, floor=0.0)  # fmt: skip
    dr = spec.fit(log)
    c = columns(frame)
    fold = dr.influence()["fold"].to_numpy()
    z = np.log(frame["judge"].to_numpy() / (1 - frame["judge"].to_numpy()))
    mu, pi, nu = held_out(c, fold, 1.0, z)
    answered = np.zeros(len(frame))
    x = c["x"][:, :2]
    for f in range(3):
        train, known = fold != f, np.isfinite(c["y"])
        beta = np.zeros(2)
        for _ in range(50):
            p = brute.sigmoid(x[train] @ beta)
            w = c["w"][train]
            hessian = (x[train] * (w * p * (1 - p))[:, None]).T @ x[train] + np.diag([0.0, 1.0])
            beta += np.linalg.solve(hessian, x[train].T @ (w * (known[train] - p)) - np.array([0.0, 1.0]) * beta)
        answered[fold == f] = brute.sigmoid(x[fold == f] @ beta)
    want = brute.estimate(c["a"], c["b"], c["y"], c["w"], mu, pi, uniform(K), answered, nu)
    np.testing.assert_allclose(dr.score, want.theta, atol=1e-9)
    np.testing.assert_allclose(dr.influence().select(sorted(dr.arms)).to_numpy(), want.influence, atol=1e-9)
    alone = brute.estimate(c["a"], c["b"], c["y"], c["w"], mu, pi, uniform(K), answered)
    gain = dr.judge_gain()
    h = uniform(K) * (p := brute.sigmoid(dr.score[:, None] - dr.score)) * (1 - p)
    bread = np.linalg.pinv(np.diag(h.sum(axis=1)) - h)
    rows = alone.rate_influence * uniform(K).sum(axis=1)
    np.testing.assert_allclose(gain["se_alone"], np.sqrt(np.diag(bread @ (rows.T @ rows) @ bread)), rtol=1e-8)
    assert gain["saved"].mean() > 0


def test_saturated_context_equals_the_stratified_means():
    frame = small(7, 600)
    dr = sy.DoublyRobust(propensity=BY_TOPIC, folds=1).fit(scanned(frame, context="topic"))
    c = columns(frame.with_columns(w=pl.lit(1.0)))
    share = {topic: (c["topic"] == topic).mean() for topic in ("code", "prose")}
    for i, j in combinations(range(K), 2):
        y = np.where(c["a"] == i, c["y"], 1 - c["y"])
        here = ((c["a"] == i) & (c["b"] == j)) | ((c["a"] == j) & (c["b"] == i))
        want = sum(share[t] * y[here & (c["topic"] == t)].mean() for t in share)
        assert dr.win[i, j] == pytest.approx(want, abs=1e-10)


def test_margins_of_a_saturated_context():
    frame = small(8, 600)
    target = {"topic": {"code": 0.9, "prose": 0.1}}
    dr = sy.DoublyRobust(propensity=sy.PairPropensity(method="pairs", ridge=0.0), folds=1, target=target).fit(
        scanned(frame, context="topic"))  # fmt: skip
    c = columns(frame.with_columns(w=pl.lit(1.0)))
    y = np.where(c["a"] == 0, c["y"], 1 - c["y"])
    here = ((c["a"] == 0) & (c["b"] == 1)) | ((c["a"] == 1) & (c["b"] == 0))
    want = sum(share * y[here & (c["topic"] == t)].mean() for t, share in target["topic"].items())
    assert dr.win[0, 1] == pytest.approx(want, abs=1e-8)
    rows = pl.DataFrame({"topic": ["code"] * 9 + ["prose"]})
    again = sy.DoublyRobust(propensity=sy.PairPropensity(method="pairs", ridge=0.0), folds=1, target=rows).fit(
        scanned(frame, context="topic"))  # fmt: skip
    np.testing.assert_allclose(again.score, dr.score, atol=1e-9)
    assert "target's contexts" in dr.estimand


def test_randomised_pairs_give_the_plain_scores():
    rng = np.random.default_rng(2)
    n = 20000
    a = rng.integers(0, 4, n)
    b = (a + rng.integers(1, 4, n)) % 4
    x = rng.normal(size=n)
    y = (rng.random(n) < brute.sigmoid(0.3 * (b - a) + 0.3 * x * (np.cos(3 * a) - np.cos(3 * b)))) * 1.0
    log = sy.scan(pl.DataFrame({"a": a, "b": b, "y": y, "x": x}), a="a", b="b", outcome="y", context="x")
    dr = sy.DoublyRobust().fit(log)
    gap = np.abs(dr.score - dr.naive.score)
    assert (gap < 0.35 * dr.naive.table().sort("arm")["se"].to_numpy()).all()
    assert (dr.table().sort("arm")["se"].to_numpy() < dr.naive.table().sort("arm")["se"].to_numpy()).all()


def test_the_same_bits_on_any_number_of_threads_and_from_a_file(tmp_path, monkeypatch):
    frame = small(9, 3000)
    frame.write_parquet(tmp_path / "log.parquet")
    spec = sy.DoublyRobust(propensity=sy.PairPropensity(context="x"), folds=3)
    fits = [spec.fit(scanned(source, cluster="rater"), threads) for source, threads in
            ((frame, 1), (frame, 2), (tmp_path / "log.parquet", 2))]  # fmt: skip
    monkeypatch.setattr("steelyard.spill.MOST_IN_MEMORY", 0)
    fits.append(spec.fit(scanned(frame, cluster="rater")))
    for fit in fits[1:3]:
        assert (fit.score == fits[0].score).all()
        assert (fit.covariance == fits[0].covariance).all()
    np.testing.assert_allclose(fits[3].score, fits[0].score, atol=1e-12)  # its blocks are packed otherwise
    np.testing.assert_allclose(fits[3].covariance, fits[0].covariance, rtol=1e-9)


@pytest.mark.parametrize("method", ["softmax", "pairs"])
@pytest.mark.parametrize("memory", [None, 0])
def test_a_design_that_both_models_share_says_what_two_do(monkeypatch, method, memory):
    """In another order the propensity's contexts are another design, made for it alone."""
    if memory is not None:
        monkeypatch.setattr(spill, "MOST_IN_MEMORY", memory)
    log = scanned(small(31, 900).with_columns(z=pl.Series(np.random.default_rng(3).normal(size=900))),
                  context=["x", "z", "topic"])  # fmt: skip
    shared, own = (
        sy.DoublyRobust(propensity=sy.PairPropensity(method=method, context=order), folds=3, unsupported=1.0).fit(log)
        for order in (None, ["z", "x", "topic"])
    )
    np.testing.assert_allclose(shared.score, own.score, atol=1e-9)
    np.testing.assert_allclose(shared.covariance, own.covariance, rtol=1e-6, atol=1e-12)
    one, two = (sy.sensitivity(fit, "m0", over="m1").contexts.sort("context") for fit in (shared, own))
    assert_frame_equal(one, two, rel_tol=1e-6)
    one, two = (fit.overlap.balance().sort("column", "label") for fit in (shared, own))
    assert_frame_equal(one, two, rel_tol=1e-6)


def test_swapping_sides_changes_nothing_and_counts_are_repeated_rows():
    frame = small(10, 600)
    spec = sy.DoublyRobust(propensity=BY_TOPIC, folds=1)
    once = spec.fit(scanned(frame))
    flip = pl.Series(np.random.default_rng(0).random(len(frame)) < 0.5)
    swapped = frame.with_columns(
        a=pl.when(flip).then("b").otherwise("a"), b=pl.when(flip).then("a").otherwise("b"),
        y=pl.when(flip).then(1 - pl.col("y")).otherwise("y"),
    )  # fmt: skip
    np.testing.assert_allclose(spec.fit(scanned(swapped)).score, once.score, atol=1e-11)
    double = sy.DoublyRobust(propensity=BY_TOPIC, folds=1, ridge=2.0).fit(scanned(pl.concat([frame, frame])))
    np.testing.assert_allclose(double.score, once.score, atol=1e-10)
    np.testing.assert_allclose(double.covariance, once.covariance / 2, rtol=1e-7)
    counted = sy.DoublyRobust(propensity=BY_TOPIC, folds=1, ridge=2.0).fit(
        scanned(frame.with_columns(n=pl.lit(2)), count="n")
    )
    np.testing.assert_allclose(counted.score, once.score, atol=1e-10)
    np.testing.assert_allclose(counted.covariance, double.covariance, rtol=1e-7)
    assert counted.n == 1200


def test_a_column_of_probabilities_as_outcome():
    frame = small(17, 400)
    c = columns(frame.with_columns(w=pl.lit(1.0)))
    fit = sy.DoublyRobust("judge", BY_TOPIC, folds=1).fit(scanned(frame))
    theta, _ = brute.contextual(c["a"], c["b"], frame["judge"].to_numpy(), c["w"], c["x"], K, 1.0)
    score = c["x"] @ theta.T
    _, pi, _ = held_out(c, np.zeros(400, int), 1.0)
    mu = brute.sigmoid(score[:, :, None] - score[:, None])
    want = brute.estimate(c["a"], c["b"], c["y"], c["w"], mu, pi, uniform(K))
    np.testing.assert_allclose(fit.score, want.theta, atol=1e-9)
    worse = sy.DoublyRobust(1 - pl.col("judge"), BY_TOPIC, folds=1).fit(scanned(frame))
    assert np.abs(worse.score - fit.score).max() < 0.15  # never trusted to be right


def test_columns_of_scores_and_classifiers_as_outcomes():
    from sklearn.linear_model import LogisticRegression

    frame = small(11, 400)
    c = columns(frame.with_columns(w=pl.lit(1.0)))
    theta, _ = brute.contextual(c["a"], c["b"], c["y"], c["w"], c["x"], K, 1.0)
    score = c["x"] @ theta.T
    given = frame.with_columns(**{f"s{j}": score[:, j] for j in range(K)})
    by_columns = sy.DoublyRobust(outcome={f"m{j}": f"s{j}" for j in reversed(range(K))}, propensity=BY_TOPIC, folds=1)
    fitted = sy.DoublyRobust(propensity=BY_TOPIC, folds=1)
    np.testing.assert_allclose(by_columns.fit(scanned(given)).score, fitted.fit(scanned(given)).score, atol=1e-10)
    learner = LogisticRegression(tol=1e-10, max_iter=1000)
    dr = sy.DoublyRobust(outcome=learner, propensity=BY_TOPIC, folds=2, unsupported=1.0, floor=0.0)
    got = dr.fit(scanned(frame))
    fold = got.influence()["fold"].to_numpy()
    mu = np.zeros((c["n"], K, K))
    for f in range(2):
        train, test = fold != f, np.flatnonzero(fold == f)
        eye = np.eye(K)
        sides = [np.hstack([sign * (eye[c["a"]] - eye[c["b"]]), c["x"][:, 1:]])[train] for sign in (1, -1)]
        y = c["y"][train]
        weight = np.concatenate([y, 1 - y, 1 - y, y]) / 2
        x = np.concatenate([sides[0], sides[0], sides[1], sides[1]])
        model = learner.fit(x, np.repeat([1, 0, 1, 0], train.sum()), weight)
        for i, j in combinations(range(K), 2):
            pair = [
                np.hstack([np.tile(sign * (eye[i] - eye[j]), (len(test), 1)), c["x"][test, 1:]]) for sign in (1, -1)
            ]
            up, down = (model.predict_proba(side)[:, 1] for side in pair)
            mu[test, i, j] = 0.5 * (up + 1 - down)
            mu[test, j, i] = 1 - mu[test, i, j]
    _, pi, _ = held_out(c, fold, 1.0)
    want = brute.estimate(c["a"], c["b"], c["y"], c["w"], mu, pi, uniform(K))
    np.testing.assert_allclose(got.score, want.theta, atol=1e-5)


def test_pairs_that_are_weighted_extrapolated_or_outside_the_target():
    frame = small(12, 400).filter(~((pl.col("a") == "m0") & (pl.col("b") == "m1")))
    frame = frame.filter(~((pl.col("a") == "m1") & (pl.col("b") == "m0")))
    spec = {"propensity": BY_TOPIC, "folds": 1, "unsupported": 1.0}
    dr = sy.DoublyRobust(**spec).fit(scanned(frame))
    matrix = dr.win_matrix()
    assert matrix.filter("extrapolated").select("a", "b").rows() == [("m0", "m1"), ("m1", "m0")]
    assert dr.unsupported_pairs().rows() == [("m0", "m1")]
    bad("1 pairs, 10.0 % of what pairs= asks for", sy.OverlapError, frame, folds=1, unsupported=0.09)
    logged = sy.DoublyRobust(**spec, pairs="log").fit(scanned(frame))
    assert not logged.win_matrix()["extrapolated"].any()
    assert logged.win_probability("m0", "m1") is None
    few = pl.DataFrame({"a": ["m0", "m2"], "b": ["m2", "m4"], "weight": [1.0, 3.0]})
    some = sy.DoublyRobust(**spec, pairs=few).fit(scanned(frame))
    assert some.table()["reason"].null_count() == 3
    assert some.table().filter(pl.col("reason").is_not_null())["score"].null_count() == 2
    logit = np.log(some.win[0, 2] / (1 - some.win[0, 2]))
    assert some.contrast("m0", "m2").estimate == pytest.approx(logit, abs=1e-9)


def test_clusters_share_a_fold_and_seeds_reproduce():
    frame = small(13, 500)
    spec = sy.DoublyRobust(propensity=BY_TOPIC, folds=4, seed=1, unsupported=1.0, floor=0.0)
    log = scanned(frame, cluster="rater")
    one, two = spec.fit(log), spec.fit(log)
    assert (one.score == two.score).all()
    fold = one.influence()["fold"]
    assert frame.with_columns(fold=fold).group_by("rater").agg(pl.col("fold").n_unique())["fold"].max() == 1
    assert fold.value_counts()["count"].min() > 100
    other = sy.DoublyRobust(propensity=BY_TOPIC, folds=4, seed=2, unsupported=1.0, floor=0.0).fit(log)
    assert (other.influence()["fold"] != fold).any()
    plain = spec.fit(scanned(frame)).influence()["fold"].value_counts()["count"]
    assert plain.min() > 80


def test_the_naive_fit_is_that_of_the_same_rows():
    frame = small(14, 400)
    for clusters in ([], ["rater"], ["rater", "prompt"]):
        log = scanned(frame, cluster=clusters)
        dr = sy.DoublyRobust(propensity=BY_TOPIC, folds=1).fit(log)
        plain = sy.BradleyTerry().fit(log)
        np.testing.assert_allclose(dr.naive.score, plain.score, atol=1e-12)
        np.testing.assert_allclose(dr.naive.covariance, plain.covariance, rtol=1e-9, atol=1e-14)
    table = dr.compare()
    assert table["moved"].to_list() == pytest.approx((table["score"] - table["naive"]).to_list())


def test_arms_that_both_fits_score_are_compared_among_themselves():
    """An arm outside the target moves neither side's scores, nor what is known of them."""
    log = scanned(small(51, 800))
    pairs = [("m0", "m1"), ("m1", "m2"), ("m0", "m2")]
    frame = pl.DataFrame([(a, b, 1.0) for a, b in pairs], schema=["a", "b", "weight"], orient="row")
    fit = sy.DoublyRobust(pairs=frame, propensity=BY_TOPIC).fit(log)
    told = fit.compare().sort("arm")
    plain = fit.naive
    kept = [plain.arms.index(arm) for arm in told["arm"]]
    centre = np.eye(3) - 1 / 3
    se = np.sqrt(np.diag(centre @ plain.covariance[np.ix_(kept, kept)] @ centre))
    np.testing.assert_allclose(told["naive"], centre @ plain.score[kept], atol=1e-12)
    np.testing.assert_allclose(told["naive_high"] - told["naive_low"], 2 * 1.959963984540054 * se, rtol=1e-9)
    np.testing.assert_allclose(told.select("score", "low", "high"), fit.table().drop_nulls("score").sort("arm").select(
        "score", "low", "high"), atol=1e-12)  # fmt: skip


def test_moves_name_the_context_that_moved_an_arm():
    dr = sy.DoublyRobust().fit(sy.scan(confounded(1, 20000), a="a", b="b", outcome="y", context="x"))
    moved = dr.compare().sort("arm")["moved"].to_numpy()
    told = dr.moves().sort("arm")["contribution"].to_numpy()
    assert np.corrcoef(moved, told)[0, 1] > 0.95
    assert dr.influence("0").columns == ["row", "fold", "0"]
    draws = dr.bootstrap(2000, seed=1).table().sort("arm")["se"].to_numpy()
    np.testing.assert_allclose(draws, dr.table().sort("arm")["se"].to_numpy(), rtol=0.1)


def bad(
    match: str, error: Any, frame: pl.DataFrame | None = None, log: dict[str, Any] | None = None, **spec: Any
) -> None:
    with pytest.raises(error, match=match):
        sy.DoublyRobust(**{"propensity": BY_TOPIC, **spec}).fit(
            scanned(small(15, 300) if frame is None else frame, **(log or {}))
        )


def test_where_the_blocks_live_changes_no_bit(monkeypatch):
    """Folds are packed into full blocks, in memory and in a file alike; a block without a good row is no harm."""
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 1 << 9)
    frame = small(21, 2400).with_columns(w=pl.when(pl.int_range(pl.len()) < 600).then(-1.0).otherwise("w"))
    log = scanned(frame, weight="w", on_bad="drop")
    target = {"target": frame.select("topic", "x").tail(500)}
    fits = []
    for most in (1 << 28, 0):
        monkeypatch.setattr(spill, "MOST_IN_MEMORY", most)
        fits += [sy.DoublyRobust(**more).fit(log) for more in ({}, target)]
    assert fits[0].table().equals(fits[2].table())
    assert (fits[0].covariance == fits[2].covariance).all()
    assert fits[1].table().equals(fits[3].table())


@pytest.mark.filterwarnings("ignore:context 'topic=v' tells the outcome")
def test_bad_input_is_named():
    frame = small(15, 300)
    bad("fewer than folds=5", sy.NotIdentifiedError, frame.with_columns(c=pl.lit("one")), {"cluster": "c"})
    bad("null cluster", sy.LogError, frame.with_columns(c=pl.lit(None, pl.String)), {"cluster": "c"})
    bad("target frame lacks", sy.LogError, target=pl.DataFrame({"y": [1.0]}))
    bad("needs a, b and weight", sy.LogError, pairs=pl.DataFrame({"a": ["m0"]}))
    bad("the log's arms are", sy.LogError, pairs=pl.DataFrame({"a": ["m0"], "b": ["who"], "weight": [1.0]}))
    bad("finite numbers", sy.LogError, pairs=pl.DataFrame({"a": ["m0"], "b": ["m1"], "weight": [-1.0]}))
    bad("have none", sy.LogError, outcome={"m0": "x"})
    bad("no context columns", sy.LogError, log={"context": ()}, propensity=sy.PairPropensity())
    bad("null or infinite context 'x'", sy.LogError, frame.with_columns(x=pl.lit(None, pl.Float64)))
    bad("too little overlap", sy.OverlapError, floor=0.999)
    tells = frame.with_columns(topic=pl.when(pl.col("a") < pl.col("b")).then(pl.lit("u")).otherwise(pl.lit("v")))
    tells = tells.with_columns(y=(pl.col("topic") == "u").cast(pl.Float64))
    bad("no finite best fit", sy.NotIdentifiedError, tells, ridge=0.0)
    rare = pl.concat([frame, frame.head(1).with_columns(a=pl.lit("rare"), b=pl.lit("m0"))])
    bad("propensity 0 in their context", sy.OverlapError, small(15, 100), folds=10, unsupported=1.0, floor=0.0)
    bad("rare \\(1\\)", sy.NotIdentifiedError, rare)
    bad("judge= helps where answers are missing", ValueError, judge="judge")
    bad("outcome must be", ValueError, outcome=3)
    bad("column 'judg' .* Did you mean 'judge'", sy.LogError, outcome="judg")
    bad("column 'judg' .* Did you mean 'judge'", sy.LogError, judge="judg", labelled=sy.LabelPropensity())
    bad("labelled must be", ValueError, labelled=True)
    bad("folds must be", ValueError, folds=0)
    bad("pairs must be", ValueError, pairs="all")
    judged = {"judge": "judge", "labelled": sy.LabelPropensity()}
    bad("judge 'judge' that is no probability from 0 to 1", sy.LogError, frame.with_columns(judge=7.0), **judged)
    bad("judge 'judge' holds String", sy.LogError, frame.with_columns(judge=pl.lit("0.7")), **judged)
    bad("outcome 'judge' that is no", sy.LogError, frame.with_columns(judge=7.0), outcome="judge")


def test_an_arm_without_an_answer_has_no_score():
    frame = small(16, 300).with_columns(
        y=pl.when((pl.col("a") == "m1") | (pl.col("b") == "m1")).then(None).otherwise("y")
    )
    dr = sy.DoublyRobust(propensity=BY_TOPIC, labelled=sy.LabelPropensity(), folds=1, unsupported=1.0, floor=0.0).fit(
        scanned(frame))  # fmt: skip
    assert dr.table().filter(arm="m1")["reason"].to_list() == ["no labelled comparison"]
    assert dr.win_rates().filter(arm="m1")["win_rate"].to_list() == [None]


@pytest.mark.parametrize("cluster", [[], "rater"])
def test_win_rate_of_a_pair_is_that_of_a_fit_to_the_pair_alone(cluster):
    log = scanned(small(8, 900, answered=0.8), weight="w", cluster=cluster)
    spec = sy.DoublyRobust(labelled=sy.LabelPropensity(), judge="judge", folds=3, seed=4)
    dr = spec.fit(log)
    for x, y in (("m0", "m1"), ("m4", "m2")):
        told = dr.win_rate(x, y)
        one = replace(spec, pairs=pl.DataFrame({"a": [x], "b": [y], "weight": [1.0]})).fit(log)
        row = one.win_rates().row(by_predicate=pl.col("arm") == x, named=True)
        assert told.estimate == pytest.approx(row["win_rate"], abs=1e-12)
        assert told.se == pytest.approx(row["se"], rel=1e-9)
        assert (told.low, told.high) == pytest.approx((row["low"], row["high"]), abs=1e-9)
        back = dr.win_rate(y, x)
        assert (back.estimate, back.se, back.p_value) == pytest.approx((1 - told.estimate, told.se, told.p_value))


def test_win_rate_without_an_interval_says_why(tmp_path):
    frame = small(8, 300).filter(~(pl.col("a").is_in(["m0", "m1"]) & pl.col("b").is_in(["m0", "m1"])))
    dr = sy.DoublyRobust(folds=2).fit(scanned(frame))
    assert dr.win_rate("m0", "m1").se is None
    assert "fewer than 20 effective" in dr.win_rate("m0", "m1").reason
    heavy = small(8, 900, answered=0.8).with_row_index("i")
    lone = heavy.filter(pl.col("y").is_null(), pl.col("a").is_in(["m0", "m1"]), pl.col("b").is_in(["m0", "m1"]))["i"][0]
    heavy = heavy.with_columns(w=pl.when(pl.col("i") == lone).then(300.0).otherwise("w"))  # and thin is what was judged
    judged = sy.DoublyRobust(labelled=sy.LabelPropensity(), judge="judge", folds=2).fit(scanned(heavy, weight="w"))
    assert "fewer than 20 effective" in judged.win_rate("m0", "m1").reason
    ties = pl.DataFrame({"a": ["m0", "m1"] * 1500, "b": ["m1", "m0"] * 1500, "y": 0.5, "x": np.arange(3000) % 7 + 0.5,
                         "topic": ["code", "prose", "prose"] * 1000, "s": 0.3})  # fmt: skip
    flat = sy.DoublyRobust(outcome={"m0": "s", "m1": "s"}, folds=2).fit(scanned(ties))
    assert flat.win_rate("m0", "m1").reason.startswith("no spread")
    assert dr.win_rate("m0", "m0").estimate == 0.5
    assert dr.win_rate("m0", "m0").reason == "the same arm"
    some = replace(dr.spec, pairs=pl.DataFrame({"a": ["m0"], "b": ["m2"], "weight": [1.0]})).fit(scanned(frame))
    assert some.win_rate("m0", "m3").reason == "no pair of the target"
    dr.save(tmp_path / "dr.sy")
    with pytest.raises(ValueError, match="lost its rows"):
        sy.load(tmp_path / "dr.sy").win_rate("m0", "m2")
