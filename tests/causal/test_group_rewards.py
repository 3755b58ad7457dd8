"""Group rewards against brute force and the truth in simulation: the paper's confounding by objectives."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import polars as pl
import pytest
import scipy.stats
import steelyard as sy

from tests.causal.test_tilt import jackknife
from tests.reference.doubly_robust import sigmoid

OWN = np.array([[1.0, 0.0], [0.0, 1.0]])  # what each objective rewards
SHIFT = np.array([[-0.4, 0.4], [0.4, -0.4]])  # and how much more or less on each kind of prompt


def objectives(seed: int, n: int, agreement: float) -> pl.DataFrame:
    """Prompts of two kinds; a rater's objective agrees with the kind with a given probability."""
    rng = np.random.default_rng(seed)
    c = rng.integers(0, 2, n)
    kind = np.where(rng.random(n) < agreement, c, 1 - c)
    delta = rng.normal(size=(n, 2))
    y = (rng.random(n) < sigmoid(((OWN[c] + SHIFT[kind]) * delta).sum(axis=1))) * 1.0
    return pl.DataFrame({"f0": delta[:, 0], "f1": delta[:, 1], "z0": 0.0, "z1": 0.0, "y": y,
                         "w": rng.uniform(0.5, 2, n),
                         "objective": np.array(["brief", "kind"])[c], "prompt": np.array(["code", "prose"])[kind],
                         "rater": [f"r{i}" for i in rng.integers(0, n // 8, n)]})  # fmt: skip


def scanned(frame: pl.DataFrame, **more: Any) -> sy.PreferenceLog:
    features = (["f0", "f1"], ["z0", "z1"])
    return sy.scan(frame, outcome="y", features=features, group="objective", context="prompt", **more)


def projected(weight: Any, delta: Any, mean: Any) -> Any:
    """(m,) logistic coefficients nearest to mean outcomes (n,), which may leave [0, 1]."""
    beta = np.zeros(delta.shape[1])
    for _ in range(50):
        p = sigmoid(delta @ beta)
        beta += np.linalg.solve((delta * (weight * p * (1 - p))[:, None]).T @ delta, delta.T @ (weight * (mean - p)))
    return beta


class Known:
    """A classifier that takes the chances of groups as given, whatever rows there are."""

    classes_ = np.arange(2)

    def fit(self, x: Any, y: Any, sample_weight: Any = None) -> Known:
        return self

    def predict_proba(self, x: Any) -> Any:
        p = sigmoid(0.8 * np.sign(x[:, 0]))
        return np.column_stack([1 - p, p])


@pytest.mark.parametrize("cluster", [None, "rater"])
@pytest.mark.parametrize("target", ["margins", "rows"])
def test_rewards_over_a_target_err_as_its_weights_do(target, cluster):
    """Against the infinitesimal jackknife, at chances and outcome models that no row's weight moves."""
    frame = objectives(5, 110, 0.6).with_columns(age=pl.Series(np.random.default_rng(1).normal(size=110)))
    rows = pl.DataFrame({"prompt": ["code", "prose", "code"], "age": [0.3, -0.2, 0.4]})
    over = {"margins": {"prompt": {"code": 0.7, "prose": 0.3}}, "rows": rows}[target]
    spec = sy.GroupRewards(sy.GroupPropensity(classifier=Known()), folds=1, target=over, ridge=1e12, floor=0.0)

    def fitted(w: Any) -> Any:
        log = sy.scan(frame.with_columns(w=w), outcome="y", features=(["f0", "f1"], ["z0", "z1"]), group="objective",
                      context=["age", "prompt"], weight="w", cluster=cluster or ())  # fmt: skip
        return spec.fit(log)

    fit = fitted(frame["w"].to_numpy())
    want, _ = jackknife(lambda w: fitted(w).parameter, frame, cluster)
    np.testing.assert_allclose(np.sqrt(np.diag(fit.covariance)), want, rtol=1e-5)


def truth() -> Any:
    """(2, 2) rewards of both objectives over prompts of both kinds alike."""
    delta = np.random.default_rng(9).normal(size=(500_000, 2))
    return [projected(np.ones(len(delta)), delta, sum(sigmoid(delta @ (own + shift)) for shift in SHIFT) / 2)
            for own in OWN]  # fmt: skip


@pytest.mark.parametrize("clusters", [(), ("rater",)])
def test_equals_brute_force(clusters):
    frame = objectives(3, 400, 0.7)
    fit = sy.GroupRewards(folds=3, ridge=0.5, seed=2).fit(scanned(frame, weight="w", cluster=list(clusters)))
    log = scanned(frame, weight="w", cluster=list(clusters))
    fold = folds_of(log, 3, 2)
    w, y = frame["w"].to_numpy(), frame["y"].to_numpy()
    c, prose = (frame["objective"] == "kind").to_numpy() * 1, (frame["prompt"] == "prose").to_numpy() * 1.0
    mean = (w * prose).sum() / w.sum()
    x = np.column_stack([np.ones(400), (prose - mean) / np.sqrt(mean * (1 - mean))])
    delta = frame.select("f0", "f1").to_numpy()
    design = (x[:, :, None] * delta[:, None]).reshape(400, 4)
    m, e = np.zeros((400, 2)), np.zeros(400)
    for f in range(3):
        out, test = fold != f, fold == f
        for group in range(2):
            rows = out & (c == group)
            m[test, group] = sigmoid(design[test] @ shrunk(design[rows], y[rows], w[rows], np.full(4, 0.5)))
        p = sigmoid(x[test] @ shrunk(x[out], c[out] * 1.0, w[out], np.array([0.0, 1.0])))
        e[test] = np.where(c[test] == 1, p, 1 - p)
    psi, beta, phi = [], [], []
    bread = np.zeros((6, 6))
    for group in range(2):
        h = np.where(c == group, w / e, 0.0)
        gap = y - m[:, group]
        r, r0 = (h * gap) @ delta / h.sum(), (h * gap).sum() / h.sum()
        pseudo = m[:, group] + w.sum() / h.sum() * h / w * gap
        b = projected(w, delta, pseudo)
        p = sigmoid(delta @ b)
        at = slice(2 * group, 2 * group + 2)
        bread[at, at] = np.linalg.inv((delta * (w * p * (1 - p))[:, None]).T @ delta)
        scale = w.sum() / h.sum()
        psi.append(
            w[:, None] * ((m[:, group] - p)[:, None] * delta + r) + scale * h[:, None] * (gap[:, None] * delta - r)
        )
        mean_m = (w * m[:, group]).sum() / w.sum()
        phi.append((w * (m[:, group] - mean_m) + scale * h * (gap - r0), mean_m + r0))
        beta.append(b)
    bread[4:, 4:] = np.eye(2) / w.sum()
    rows = np.column_stack([*psi, *(part for part, _ in phi)]) @ bread
    if clusters:
        key = frame["rater"].to_list()
        sums = {name: rows[[i for i, other in enumerate(key) if other == name]].sum(axis=0) for name in set(key)}
        rows = np.stack(list(sums.values())) * np.sqrt(len(sums) / (len(sums) - 1))
    np.testing.assert_allclose(fit.parameter, [*beta[0], *beta[1], phi[0][1], phi[1][1]], atol=1e-9)
    np.testing.assert_allclose(fit.covariance, rows.T @ rows, rtol=1e-7, atol=1e-12)
    gap = np.array([[-1.0, 0, 1, 0], [0, -1.0, 0, 1]])
    difference, spread = gap @ fit.parameter[:4], gap @ (rows.T @ rows)[:4, :4] @ gap.T
    test, wald = fit.test_equal(), difference @ np.linalg.solve(spread, difference)
    assert test.statistic == pytest.approx(wald, rel=1e-6)
    heavy = [((w / e)[c == g] ** 2).sum() ** 2 / ((w / e)[c == g] ** 4).sum() for g in (0, 1)]
    units = [len({x for x, y in zip(key, c, strict=True) if y == g}) if clusters else (c == g).sum() for g in (0, 1)]
    units = int(min(*heavy, *units))
    assert test.p_value == pytest.approx(
        scipy.stats.f.sf(wald * (units - 2) / (2 * (units - 1)), 2, units - 2), rel=1e-5
    )
    h = 1 / e
    share = [h[c == g].sum() ** 2 / (h[c == g] ** 2).sum() / (c == g).sum() for g in range(2)]
    if not clusters:
        unweighted = sy.GroupRewards(folds=1).fit(scanned(frame))
        assert unweighted.share == pytest.approx(share, abs=0.05)


def shrunk(x: Any, y: Any, w: Any, penalty: Any) -> Any:
    beta = np.zeros(x.shape[1])
    for _ in range(60):
        p = sigmoid(x @ beta)
        hessian = (x * (w * p * (1 - p))[:, None]).T @ x + np.diag(penalty)
        beta += np.linalg.solve(hessian, x.T @ (w * (y - p)) - penalty * beta)
    return beta


def folds_of(log: sy.PreferenceLog, folds: int, seed: int) -> Any:
    """The fold of every row, as the estimators draw them."""
    from steelyard.blocks import Encoder
    from steelyard.causal.folds import folded
    from steelyard.dictionary import Dictionary
    from steelyard.inference.clusters import cluster_names
    from steelyard.rows import read_rows

    names = cluster_names(len(log.cluster))
    encoder = Encoder(dict(log.outcomes), clusters={name: Dictionary() for name in names})
    rows = read_rows(log, encoder)
    clusters = [(i, name, len(rows.encoder.clusters[name])) for i, name in enumerate(names)]
    fold = np.empty(len(log.frame().collect()), np.int8)
    for numbers, of in folded(rows.blocks, folds, seed, clusters).each(
        lambda block: (block.numbers(slice(None)), block.fold)
    ):
        fold[numbers] = of
    return fold


@pytest.mark.slow
def test_confounding_by_objectives_is_undone():
    want = np.concatenate(truth())
    found, naive, se = [], [], []
    for seed in range(120):
        fit = sy.GroupRewards().fit(scanned(objectives(seed, 4000, 0.75)))
        frame = fit.coefficients()
        found.append(frame["estimate"].to_numpy())
        naive.append(frame["naive"].to_numpy())
        se.append(frame["se"].to_numpy())
        assert fit.share == pytest.approx(0.75, abs=0.1)
    found, naive, se = np.array(found), np.array(naive), np.array(se)
    assert np.abs(naive.mean(axis=0) - want).min() > 0.12
    assert np.abs(found.mean(axis=0) - want).max() < 0.02
    assert 0.93 <= (np.abs(found - want) < 1.96 * se).mean() <= 0.97
    np.testing.assert_allclose(se.mean(axis=0) / found.std(axis=0), 1.0, atol=0.2)


def test_thin_overlap_is_told_beside_the_plain_figure():
    frame = objectives(1, 600, 0.97)
    fit = sy.GroupRewards().fit(scanned(frame))
    assert fit.share.max() < 0.3
    assert fit.coefficients()["effective_share"].max() == fit.share.max()
    mild = frame.with_columns(y=(pl.Series(np.random.default_rng(0).random(600)) < 0.5) * 1.0)  # no effect to confound
    told = sy.GroupRewards().fit(scanned(mild)).compare()
    assert told["caution"].null_count() < 4
    assert "plain figure may be nearer" in told["caution"].drop_nulls()[0]


def test_agreement_of_one_is_refused_and_bad_input_named():
    with pytest.raises(sy.OverlapError, match="contexts tell the group"):
        sy.GroupRewards().fit(scanned(objectives(1, 500, 1.0)))
    frame = objectives(1, 500, 0.8)
    with pytest.raises(sy.LogError, match="no features"):
        sy.GroupRewards().fit(
            sy.scan(frame, a="prompt", b="objective", outcome="y", context="prompt", group="objective")
        )
    with pytest.raises(sy.LogError, match="no rater group"):
        sy.GroupRewards().fit(sy.scan(frame, outcome="y", features=(["f0"], ["z0"]), context="prompt"))
    with pytest.raises(sy.LogError, match="holds one value"):
        sy.GroupRewards().fit(scanned(frame.with_columns(objective=pl.lit("all"))))
    with pytest.raises(sy.OverlapError, match="effective share"):
        sy.GroupRewards(floor=0.99).fit(scanned(frame))
    with pytest.raises(ValueError, match="must be a GroupPropensity"):
        sy.GroupRewards(propensity=sy.PairPropensity())
    fit = sy.GroupRewards().fit(scanned(frame))
    assert fit.contrast("brief", "kind", "f0").estimate > 0
    assert fit.contrast("brief", "kind").se > 0
    with pytest.raises(sy.NotIdentifiedError, match="no group"):
        fit.contrast("brief", "who")
    with pytest.raises(sy.NotIdentifiedError, match="no term"):
        fit.contrast("brief", "kind", "who")


def test_a_feature_that_never_differs_is_null_with_a_reason():
    frame = objectives(2, 500, 0.7).with_columns(f1=pl.lit(0.0))
    fit = sy.GroupRewards().fit(scanned(frame))
    assert fit.coefficients().filter(term="f1")["estimate"].null_count() == 2
    assert "0 in every row" in fit.coefficients().filter(term="f1")["reason"][0]
    assert fit.test_equal().df == 1


def test_three_groups_and_a_target():
    frame = objectives(4, 3000, 0.7)
    third = pl.Series(np.random.default_rng(1).random(3000) < 0.3)
    frame = frame.with_columns(objective=pl.when(third).then(pl.lit("other")).otherwise("objective"))
    fit = sy.GroupRewards().fit(scanned(frame))
    assert fit.test_equal().df == 4
    assert fit.coefficients()["estimate"].null_count() == 0
    assert fit.rewards()["group"].to_list() == ["brief", "kind", "other"]
    shifted = sy.GroupRewards(target={"prompt": {"code": 0.9, "prose": 0.1}}).fit(scanned(frame))
    told = dict(shifted.coefficients().filter(term="f0").select("group", "estimate").iter_rows())
    assert told["brief"] < dict(fit.coefficients().filter(term="f0").select("group", "estimate").iter_rows())["brief"]
    assert shifted.rewards()["naive"].to_list() == pytest.approx(fit.rewards()["naive"].to_list())
    mean = frame.group_by("objective").agg(pl.col("y").mean()).sort("objective")["y"].to_list()
    assert fit.rewards()["naive"].to_list() == pytest.approx(mean)


def test_a_saved_fit_comes_back_without_its_rows(tmp_path):
    fit = sy.GroupRewards(folds=2, seed=0).fit(scanned(objectives(4, 2000, 0.7)))
    fit.save(tmp_path / "groups.sy")
    back = sy.load(tmp_path / "groups.sy")
    for told in ("coefficients", "rewards", "compare"):
        assert getattr(back, told)().equals(getattr(fit, told)())
    assert back.contrast("brief", "kind", "f0") == fit.contrast("brief", "kind", "f0")
    assert back.test_equal() == fit.test_equal()
    assert (back.estimand, back.n, back.dropped) == (fit.estimand, fit.n, fit.dropped)
    back.save(tmp_path / "again.sy")
    assert (tmp_path / "again.sy").read_bytes() == (tmp_path / "groups.sy").read_bytes()
    with pytest.raises(ValueError, match="lost its rows"):
        sy.card(back)


def test_naive_is_of_the_same_rows():
    frame = objectives(2, 900, 0.7)
    other = frame.head(200).with_columns(prompt=pl.lit(None, pl.String), y=1.0 - pl.col("y"))
    clean, found = (sy.GroupRewards().fit(scanned(rows, on_bad="drop")) for rows in (frame, pl.concat([frame, other])))
    assert found.naive.n == clean.naive.n == 900
    np.testing.assert_allclose(found.coefficients()["naive"], clean.coefficients()["naive"], rtol=1e-9)


def test_groups_of_few_clusters_are_warned_of():
    frame = objectives(4, 800, 0.7)
    few = pl.when(pl.col("objective") == "kind").then("k" + (pl.int_range(pl.len()) % 4).cast(pl.String))
    log = scanned(frame.with_columns(rater=few.otherwise("rater")), cluster="rater")
    with pytest.warns(UserWarning, match=r"fewer than 15 clusters tell of kind \(4\)"):
        sy.GroupRewards(folds=3).fit(log)


def test_a_group_that_lacks_many_prompts_is_refused_however_many_groups_lack_none():
    rng, n = np.random.default_rng(6), 4000
    prompt = rng.choice(["code", "prose"], n, p=[0.4, 0.6])
    group = np.where(prompt == "code", rng.choice(list("ABCD"), n), rng.choice(list("ABCDE"), n))
    frame = pl.DataFrame({"a": pl.Series(rng.normal(size=(n, 2))), "b": pl.Series(rng.normal(size=(n, 2))),
                          "y": rng.integers(0, 2, n) * 1.0, "prompt": prompt, "objective": group})  # fmt: skip
    log = sy.scan(frame, outcome="y", features=("a", "b"), context="prompt", group="objective")
    with pytest.raises(sy.OverlapError, match=r"4\d\.\d % of the target has no support \(prompt=code has no E\)"):
        sy.GroupRewards().fit(log)


def test_groups_whose_errors_rest_on_few_heavy_rows_are_warned_of():
    rng = np.random.default_rng(4)
    x, delta = rng.normal(size=1000), rng.normal(size=(1000, 2))
    group = np.where(rng.random(1000) < sigmoid(x - np.log(11)), "few", "many")
    frame = pl.DataFrame({"x": x, "g": group, "y": (rng.random(1000) < sigmoid(delta @ [0.7, -0.4])) * 1.0,
                          "f0": delta[:, 0], "f1": delta[:, 1], "zero": np.zeros(1000)})  # fmt: skip
    log = sy.scan(frame, outcome="y", features=(["f0", "f1"], ["zero", "zero"]), group="g", context="x")
    with pytest.warns(UserWarning, match=r"the errors of few \(\d+ of \d+\) rest on few rows of large weight"):
        fit = sy.GroupRewards().fit(log)
    assert fit.units < 50
    alike = frame.with_columns(g=pl.Series(np.where(rng.random(1000) < 0.1, "few", "many")))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # as few rows of nearly equal weight tell as much as they can
        sy.GroupRewards().fit(
            sy.scan(alike, outcome="y", features=(["f0", "f1"], ["zero", "zero"]), group="g", context="x")
        )
