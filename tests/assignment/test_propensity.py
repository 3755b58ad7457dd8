"""Propensities: peers on the same rows, closed forms, what is refused and in which words."""

import pickle
import warnings
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import statsmodels.api as sm
import steelyard as sy
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression
from steelyard.assignment import softmax
from steelyard.models import row_problem
from steelyard.spill import joined

from tests.assignment.simulate import two_drawn
from tests.reference.stacked import pair_log_probability

NUMERIC = ["x0", "x1", "x2"]


def simulated(seed=0, n=3000, k=4):
    rng = np.random.default_rng(seed)
    z, level = rng.normal(size=(n, 3)), rng.choice(list("pqrs"), n)
    a, b = two_drawn(rng, z @ (0.6 * rng.normal(size=(3, k))) + np.linspace(-0.5, 0.5, k))
    group = np.argmax(
        z @ rng.normal(size=(3, 3)) + rng.gumbel(size=(n, 3)) + (level == "q")[:, None] * [1, 0, 0], axis=1
    )
    y = np.where(rng.random(n) < 1 / (1 + np.exp(-z[:, 0])), rng.integers(0, 2, n).astype(float), np.nan)
    columns = {f"x{j}": z[:, j] * size + mean for j, (size, mean) in enumerate([(1, 0), (100, 2024), (1e-3, 5)])}
    frame = {"a": a, "b": b, "y": y, "level": level, "group": np.array(["u", "v", "w"])[group], **columns}
    return pl.DataFrame(frame).with_columns(pl.col("y").fill_nan(None), flag=pl.Series(z[:, 1] > 0))


def scanned(frame, context=(*NUMERIC, "level"), **roles):
    return sy.scan(frame, a="a", b="b", outcome="y", context=context, group="group", **roles)


def design(frame):
    """(n, d) standardised columns, as the package describes them."""
    raw = frame.select(*NUMERIC, *(pl.col("level").eq(v).cast(pl.Float64).alias(v) for v in "qrs")).to_numpy()
    return (raw - raw.mean(axis=0)) / raw.std(axis=0)


@pytest.mark.peers
@pytest.mark.parametrize("groups", ["uvw", "uw"])
@pytest.mark.parametrize(("route", "limit"), [("NARROW", 32), ("NARROW", 1), ("_LONG", 256)])
def test_groups_equal_scikit_learn(monkeypatch, groups, route, limit):
    monkeypatch.setattr(row_problem, route, limit)  # two groups as they are, by the route of wide designs, of long logs
    frame = simulated().filter(pl.col("group").is_in(list(groups)))
    fit = sy.GroupPropensity(ridge=2.0).fit(scanned(frame))
    peer = LogisticRegression(C=0.5, tol=1e-12, max_iter=10000).fit(design(frame), frame["group"])
    want = peer.predict_proba(design(frame))[np.arange(len(frame)), np.searchsorted(list(groups), frame["group"])]
    np.testing.assert_allclose(fit.probability(scanned(frame)), want, atol=1e-6)
    assert fit.gradient_norm < 1e-8


@pytest.mark.peers
def test_unshrunk_equals_statsmodels_on_the_users_scale():
    frame = simulated()
    raw = sm.add_constant(frame.select("x0", "x2").to_numpy())
    labelled = frame["y"].is_not_null().cast(pl.Int32).to_numpy()
    fit = sy.LabelPropensity(context=["x0", "x2"], ridge=0.0).fit(scanned(frame))
    peer = sm.Logit(labelled, raw).fit(disp=0, tol=1e-14, method="newton")
    np.testing.assert_allclose(fit.coefficients()["estimate"], peer.params, rtol=1e-6)
    pi = peer.predict(raw)
    np.testing.assert_allclose(fit.probability(scanned(frame)), np.where(labelled == 1, pi, 1 - pi), atol=1e-8)
    many = sm.MNLogit(np.searchsorted(["u", "v", "w"], frame["group"]), raw)
    params = many.fit(disp=0, method="newton", tol=1e-14, maxiter=200).params
    table = sy.GroupPropensity(context=["x0", "x2"], ridge=0.0).fit(scanned(frame)).coefficients()["estimate"]
    ours = table.to_numpy().reshape(3, 3)
    np.testing.assert_allclose(ours[1:] - ours[0], params.T, rtol=1e-5)


def test_an_arm_that_no_row_shows_has_no_propensity():
    frame = simulated(n=900)
    stray = frame.head(1).with_columns(a=pl.lit(9, pl.Int64), y=pl.lit(7.0))
    logs = [scanned(rows, NUMERIC, on_bad="drop") for rows in (frame, pl.concat([stray, frame]))]
    for spec in (sy.PairPropensity(), sy.PairPropensity(ridge=0.0), sy.PairPropensity(method="pairs")):
        clean, found = (spec.fit(log) for log in logs)
        np.testing.assert_allclose(found.coefficients()["estimate"], clean.coefficients()["estimate"], rtol=1e-12)
        np.testing.assert_allclose(found.probability(logs[1])[1:], clean.probability(logs[0]), rtol=1e-12)
        assert found.weights(logs[1]).effective_size == pytest.approx(clean.weights(logs[0]).effective_size, rel=1e-12)
    clean, found = (sy.DoublyRobust().fit(log) for log in logs)
    assert found.table().filter(arm="9")["reason"].to_list() == ["no labelled comparison"]
    scores = [fit.table().drop_nulls("score").sort("arm")["score"].to_numpy() for fit in (clean, found)]
    np.testing.assert_allclose(*scores, atol=0.05)  # rows stand one place further: other folds


def test_propensities_and_what_is_made_of_them_are_pickled():
    log = scanned(simulated(n=400))
    fits = [sy.PairPropensity().fit(log), sy.PairPropensity(method="frequency", strata="level").fit(log),
            sy.GroupPropensity().fit(log), sy.DoublyRobust(folds=2).fit(log)]  # fmt: skip
    fits[0].coefficients()
    for fit in fits:
        again = pickle.loads(pickle.dumps(fit))
        assert str(again.table() if hasattr(fit, "table") else again.probability(log)) == str(
            fit.table() if hasattr(fit, "table") else fit.probability(log)
        )


@pytest.mark.parametrize("ridge", [0.0, 3.0])
def test_softmax_equals_an_independent_maximum(ridge):
    frame, k = simulated(n=800), 4
    z = np.column_stack([np.ones(len(frame)), design(frame)[:, :3]])
    a, b = frame["a"].to_numpy(), frame["b"].to_numpy()

    def loss(flat):
        gamma = flat.reshape(k, 4)
        return (ridge / 2 * (gamma[:, 1:] ** 2).sum() - pair_log_probability(gamma, z, a, b).sum()) / len(frame)

    best = minimize(loss, np.zeros(4 * k), method="BFGS", options={"gtol": 1e-7}).x.reshape(k, 4)
    fit = sy.PairPropensity(context=NUMERIC, ridge=ridge).fit(scanned(frame))
    np.testing.assert_allclose(fit.model.gamma, best - best.mean(axis=0), atol=2e-5)
    np.testing.assert_allclose(np.log(fit.probability(scanned(frame))), pair_log_probability(fit.model.gamma, z, a, b),
                               rtol=1e-10)  # fmt: skip
    assert loss(fit.model.gamma.ravel()) <= loss(best.ravel()) + 1e-12


def test_probabilities_of_every_pair_sum_to_one():
    frame = simulated(n=300)
    for spec in (sy.PairPropensity(), sy.PairPropensity(method="pairs"),
                 sy.PairPropensity(method="frequency", strata="level")):  # fmt: skip
        fit = spec.fit(scanned(frame))
        block = next(fit.blocks.each(lambda block: block))
        np.testing.assert_allclose(fit.model.every(block).sum(axis=0), 1.0, rtol=1e-12)


def test_frequency_is_shares_within_strata():
    frame = simulated()
    fit = sy.PairPropensity(method="frequency", strata=["level", "flag"]).fit(
        scanned(frame, [*NUMERIC, "level", "flag"])
    )
    pair = pl.concat_str(pl.min_horizontal("a", "b"), pl.max_horizontal("a", "b"), separator=" ")
    want = frame.select(pl.len().over("level", "flag", pair) / pl.len().over("level", "flag")).to_series()
    np.testing.assert_allclose(fit.probability(scanned(frame, [*NUMERIC, "level", "flag"])), want, rtol=1e-14)


def test_a_classifier_in_place_of_the_logistic_model():
    frame = simulated()
    peer = LogisticRegression(C=1.0, tol=1e-10, max_iter=10000)
    own = sy.GroupPropensity().fit(scanned(frame)).probability(scanned(frame))
    np.testing.assert_allclose(sy.GroupPropensity(classifier=peer).fit(scanned(frame)).probability(scanned(frame)), own,
                               atol=1e-5)  # fmt: skip
    pairs = sy.PairPropensity(classifier=peer).fit(scanned(frame)).probability(scanned(frame))
    np.testing.assert_allclose(pairs, sy.PairPropensity(method="pairs").fit(scanned(frame)).probability(scanned(frame)),
                               atol=1e-5)  # fmt: skip
    assert not hasattr(peer, "classes_")  # fitted was a copy


def test_any_order_of_threads_blocks_and_long_logs(monkeypatch):
    frame = simulated(n=2000)
    whole = sy.PairPropensity().fit(scanned(frame), threads=1).model.gamma
    assert (sy.PairPropensity().fit(scanned(frame), threads=2).model.gamma == whole).all()
    monkeypatch.setattr("steelyard.assignment.softmax._THINNED", 300)  # thinned rows give the inner solves
    np.testing.assert_allclose(sy.PairPropensity().fit(scanned(frame)).model.gamma, whole, atol=1e-6)
    swapped = frame.rename({"a": "b", "b": "a"})
    np.testing.assert_allclose(sy.PairPropensity().fit(scanned(swapped)).model.gamma, whole, atol=1e-8)


def test_weights_and_counts_are_repeated_rows():
    frame = simulated(n=500).with_columns(c=pl.Series(np.arange(500) % 3 + 1))
    long = frame.select(pl.all().repeat_by("c")).explode(pl.all())
    for spec in (sy.PairPropensity(), sy.GroupPropensity(), sy.PairPropensity(method="frequency", strata="level")):
        once = spec.fit(scanned(frame, count="c")).probability(scanned(frame))
        often = spec.fit(scanned(long)).probability(scanned(frame))
        np.testing.assert_allclose(once, often, rtol=1e-7)
        if getattr(spec, "method", "softmax") == "softmax":
            once, often = (spec.fit(log).coefficients()["se"] for log in (scanned(frame, count="c"), scanned(long)))
            np.testing.assert_allclose(once, often, rtol=1e-5)


def test_collinear_columns_without_ridge_have_no_coefficient():
    frame = simulated(n=800).with_columns(twice=2 * pl.col("x0") + 3)
    three, frame = scanned(frame, ["x0", "x1", "twice"]), frame.filter(pl.col("group") != "v")
    both, one = scanned(frame, ["x0", "x1", "twice"]), scanned(frame, ["x0", "x1"])
    fit, alone = sy.GroupPropensity(ridge=0.0).fit(both), sy.GroupPropensity(ridge=0.0).fit(one)
    table = fit.coefficients()
    why = "collinear: x0, twice tell each other"
    assert table.select("term", "reason").rows() == [("intercept", why), ("x0", why), ("x1", None), ("twice", why)]
    assert table["estimate"].is_null().to_list() == [True, True, False, True]
    assert table["estimate"][2] == pytest.approx(alone.coefficients()["estimate"][2], rel=1e-6)
    assert table["se"].is_null().to_list() == [True, True, False, True]
    assert table["se"][2] == pytest.approx(alone.coefficients()["se"][2], rel=1e-6)
    np.testing.assert_allclose(fit.probability(both), alone.probability(one), atol=1e-8)
    assert sy.GroupPropensity().fit(both).coefficients()["estimate"].null_count() == 0
    for spec in (sy.GroupPropensity(ridge=0.0), sy.PairPropensity(ridge=0.0)):
        with pytest.raises(sy.NotIdentifiedError, match=r"\['x0', 'twice'\] tell each other"):
            spec.fit(three)


def test_information_of_some_rows_is_near_that_of_all_whatever_they_weigh():
    frame = simulated(n=4000).with_columns(w=pl.lit(1000.0))
    for roles in ({}, {"weight": "w"}):
        model = sy.PairPropensity().fit(scanned(frame, NUMERIC, **roles)).model
        q = len(model.free) * model.problem.d
        whole, some = (model.problem.information(model.gamma, model.free, cost) for cost in (1 << 40, 1000 * q * q))
        size = np.sqrt(np.diag(whole))
        np.testing.assert_allclose(some / np.outer(size, size), whole / np.outer(size, size), atol=0.15)
        assert not np.array_equal(some, whole)


def test_values_that_were_not_there():
    frame = simulated(n=600)
    fitted, other = (sy.PairPropensity(unseen=how).fit(scanned(frame)) for how in ("raise", "other"))
    strange = frame.head(5).with_columns(level=pl.lit("z"))
    with pytest.raises(
        sy.LogError, match=r"5 rows: context 'level' has values that were not there .*first rows \[0, 1"
    ):
        fitted.probability(scanned(strange))
    assert other.probability(scanned(strange)).is_between(0, 1).all()
    new_arm = frame.head(5).with_columns(a=pl.lit(99))
    assert fitted.probability(scanned(new_arm)).null_count() == 5


def test_dependence():
    frame = simulated()
    found = sy.GroupPropensity().fit(scanned(frame)).dependence()
    assert found.p_value < 1e-12
    assert "it was not randomised" in str(found)
    rng = np.random.default_rng(1)
    shuffled = frame.with_columns(pl.Series("group", rng.permutation(frame["group"])), rater=pl.arange(0, 3000) % 500)
    for roles in ({}, {"cluster": "rater"}):
        fit = sy.GroupPropensity().fit(scanned(shuffled, **roles))
        assert fit.dependence().p_value > 0.01
        assert fit.dependence().df == 12


@pytest.mark.slow
def test_the_test_of_dependence_holds_its_level():
    """Also where raters repeat themselves, by cluster; without clusters it then rejects far too often."""
    rejected = {"plain": 0, "cluster": 0, "naive": 0}
    for seed in range(400):
        rng = np.random.default_rng(seed)
        rater = np.repeat(np.arange(200), 5)
        group, x = rng.choice(list("uv"), 200)[rater], rng.normal(size=200)[rater]
        alone = rng.choice(list("uv"), 1000)
        arms = {"a": ["m"] * 1000, "b": ["k"] * 1000, "y": [1.0] * 1000, "x": x, "rater": rater}
        for name, column, roles in (
            ("plain", alone, {}),
            ("cluster", group, {"cluster": "rater"}),
            ("naive", group, {}),
        ):
            log = scanned(pl.DataFrame({**arms, "group": column}), "x", **roles)
            rejected[name] += sy.GroupPropensity().fit(log).dependence().p_value < 0.05
    assert 0.025 <= rejected["plain"] / 400 <= 0.08
    assert 0.025 <= rejected["cluster"] / 400 <= 0.08
    assert rejected["naive"] / 400 > 0.2


def test_refusals():
    frame = simulated(n=400)
    for context, change, words in (
        ("x0", {"x0": pl.lit(1.0)}, "'x0' is the same in every row"),
        ("level", {"level": pl.lit("p")}, "'level' is the same in every row"),
        ("x0", {"x0": pl.when(pl.arange(0, 400) == 7).then(float("nan")).otherwise("x0")},
         r"null or infinite context 'x0' \(first rows \[7\]"),
        ("level", {"level": pl.when(pl.arange(0, 400) < 2).then(None).otherwise("level")},
         r"2 rows: null context 'level' \(first rows \[0, 1\]"),
    ):  # fmt: skip
        with pytest.raises(sy.LogError, match=words):
            sy.PairPropensity().fit(scanned(frame.with_columns(**change), context))
    with pytest.raises(sy.LogError, match="holds one value"):
        sy.GroupPropensity().fit(scanned(frame.with_columns(group=pl.lit("u"))))
    with pytest.raises(sy.LogError, match=r"several context columns are named \['x0'\]"):
        scanned(frame, ["x0", pl.col("x1").alias("x0")])
    with pytest.raises(sy.LogError, match="context 'two' holds List"):
        sy.PairPropensity().fit(scanned(frame.with_columns(two=pl.concat_list("x0", "x1")), "two"))
    with pytest.raises(sy.LogError, match="no context column 'nope'"):
        sy.PairPropensity(context="nope").fit(scanned(frame))
    with pytest.raises(sy.LogError, match="strata for 400 rows"):
        sy.PairPropensity(method="frequency", strata=["i", "level"]).fit(
            scanned(frame.with_columns(i=pl.arange(0, 400).cast(pl.String)), ["i", "level"])
        )
    with pytest.raises(sy.LogError, match="every row is labelled"):
        sy.LabelPropensity().fit(scanned(frame.with_columns(y=pl.lit(1.0))))
    with pytest.raises(sy.NotIdentifiedError, match="contexts tell"):
        sy.GroupPropensity(ridge=0.0).fit(scanned(frame.with_columns(group=pl.col("flag").cast(pl.String)), "flag"))
    three = pl.col("level").replace_strict({"p": "u", "q": "v", "r": "w", "s": "w"})
    with pytest.raises(sy.NotIdentifiedError, match="contexts tell the group of some or all rows"):
        sy.GroupPropensity(ridge=0.0).fit(scanned(frame.with_columns(group=three), "level"))
    for wrong in ({"method": "best"}, {"ridge": -1.0}, {"unseen": "?"}, {"strata": "x"}, {"classifier": 3}):
        with pytest.raises(ValueError, match=r"must|go with|predict_proba"):
            sy.PairPropensity(**wrong)


@pytest.mark.peers
@pytest.mark.parametrize("limit", [1 << 18, 256])
def test_two_groups_of_contexts_in_any_units_equal_scikit_learn(monkeypatch, limit):
    monkeypatch.setattr(row_problem, "_LONG", limit)
    frame = simulated().filter(pl.col("group") != "v")
    names = ["x0", "x1", "x2", "level"]
    units = {"x0": 1e8 + 10.0 * pl.col("x0"), "x1": 1e-9 * pl.col("x1"), "x2": (1000 * pl.col("x2")).cast(pl.Int64)}
    odd = frame.with_columns(**units)
    fit = sy.GroupPropensity(ridge=0.7).fit(scanned(odd, names))
    raw = odd.select(*names[:3], *(pl.col("level").eq(v).cast(pl.Float64).alias(v) for v in "qrs")).to_numpy()
    columns = (raw - raw.mean(axis=0)) / raw.std(axis=0)
    peer = LogisticRegression(C=1 / 0.7, tol=1e-12, max_iter=10000).fit(columns, odd["group"])
    want = peer.predict_proba(columns)[np.arange(len(odd)), odd["group"].eq("w").cast(pl.Int8)]
    np.testing.assert_allclose(fit.probability(scanned(odd, names)), want, atol=1e-6)
    slopes = fit.coefficients()["estimate"].to_numpy()[1:]
    np.testing.assert_allclose(slopes * raw.std(axis=0), peer.coef_[0], atol=1e-5)


def test_units_of_contexts_cost_no_steps(monkeypatch):
    monkeypatch.setattr(row_problem, "_LONG", 256)  # the rough start by some rows is shrunk in the columns' own units
    frame = simulated().filter(pl.col("group") != "v")
    fits = [sy.GroupPropensity(ridge=0.0).fit(scanned(frame.with_columns(pl.col(NUMERIC) * unit), NUMERIC))
            for unit in (1.0, 1e-6, 1e6)]  # fmt: skip
    assert len({fit.iterations for fit in fits}) == 1
    one, *others = (fit.probability(scanned(frame.with_columns(pl.col(NUMERIC) * unit), NUMERIC))
                    for fit, unit in zip(fits, (1.0, 1e-6, 1e6), strict=True))  # fmt: skip
    for other in others:
        np.testing.assert_allclose(other, one, rtol=1e-7)


def test_one_line_is_warned_once():
    frame = simulated(n=300).with_columns(y=pl.col("y").fill_null(1.0)).with_columns(verdict=2 * pl.col("y") + 1)
    log = scanned(frame, ["verdict", "x0"])
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("default")
        sy.DoublyRobust(folds=2).fit(log)  # two models of contexts, each of which would say so
    told = [warning for warning in shown if "tells the outcome" in str(warning.message)]
    assert [warning.filename for warning in told] == [__file__]


def test_logged_propensities_are_checked():
    frame = simulated(n=400).with_columns(pi=pl.lit(1 / 6))
    fit = sy.PairPropensity(method="logged").fit(scanned(frame.with_columns(pi=_share(frame)), propensity="pi"))
    assert fit.probability(scanned(frame, propensity="pi"))[0] == pytest.approx(1 / 6)
    bad = frame.with_columns(pi=pl.when(pl.arange(0, 400) == 3).then(1.5).otherwise(0.2), y=pl.col("y").fill_null(1.0))
    with pytest.raises(sy.LogError, match=r"null or outside \(0, 1\] \(column pi; first rows \[3\]"):
        sy.PairPropensity(method="logged").fit(scanned(bad, propensity="pi"))
    log = scanned(bad, propensity="pi", on_bad="quarantine")
    assert log.check().bad == {"a propensity that is null or outside (0, 1]": (1, [3])}
    assert log.quarantined()["row"].to_list() == [3]
    with pytest.warns(UserWarning, match="mean of 1 / propensity"):
        assert sy.PairPropensity(method="logged").fit(log).n == 399
    with pytest.warns(UserWarning, match="mean of 1 / propensity"):
        sy.PairPropensity(method="logged").fit(scanned(frame.with_columns(pi=_share(frame) * 0.5), propensity="pi"))
    with pytest.raises(sy.LogError, match="no logged propensity"):
        sy.PairPropensity(method="logged").fit(scanned(frame))


def _share(frame):
    pair = pl.concat_str(pl.min_horizontal("a", "b"), pl.max_horizontal("a", "b"), separator=" ")
    return frame.select(pl.len().over(pair) / pl.len()).to_series()


@pytest.mark.parametrize("memory", [1 << 29, 0])
def test_narrow_contexts_are_kept_as_they_are_and_change_no_bit(monkeypatch, memory):
    monkeypatch.setattr("steelyard.spill.MOST_IN_MEMORY", memory)
    columns, context = ["x0", "x1", "x2"], ["x0", "x1", "x2", "level"]
    narrow = simulated().with_columns(pl.col(columns).cast(pl.Float32))
    wide, mixed = (
        narrow.with_columns(pl.col(columns).cast(pl.Float64)),
        narrow.with_columns(pl.col("x1").cast(pl.Float64)),
    )
    for spec in (sy.GroupPropensity(ridge=1.0), sy.LabelPropensity(ridge=1.0), sy.PairPropensity(ridge=1.0)):
        want = spec.fit(scanned(wide, context)).coefficients()
        assert all(spec.fit(scanned(frame, context)).coefficients().equals(want) for frame in (narrow, mixed))
    effects = [
        sy.DoublyRobust(folds=2).fit(scanned(frame.drop_nulls("y"), context)).table() for frame in (narrow, wide)
    ]
    assert effects[0].equals(effects[1])


def test_inner_solves_of_some_rows_with_preconditioners_that_go_stale(monkeypatch):
    rng = np.random.default_rng(3)
    x, n = rng.normal(size=(3000, 2)), 3000
    group = np.argmax(x @ rng.normal(size=(2, 4)) + rng.gumbel(size=(n, 4)), axis=1).astype(str)
    frame = pl.DataFrame({"a": ["l"] * n, "b": ["r"] * n, "y": 1.0, "g": group, "x0": x[:, 0], "x1": x[:, 1]})
    log = sy.scan(frame, a="a", b="b", outcome="y", context=["x0", "x1"], group="g")
    plain = sy.GroupPropensity().fit(log)
    for name, value in (("_THINNED", 500), ("_PIECE", 64), ("_STALE", 0)):
        monkeypatch.setattr(softmax, name, value)
    made = sy.GroupPropensity().fit(log)
    np.testing.assert_allclose(made.model.gamma, plain.model.gamma, atol=1e-7)
    pieces = [np.asarray(block.columns) for block in made.model.problem.thinned.blocks.parts]
    assert [piece.shape[1] for piece in pieces] == [64] * 7 + [52]
    np.testing.assert_array_equal(np.concatenate(pieces, axis=1), made.model.problem.blocks.parts[0].columns[:, ::6])


@pytest.mark.parametrize("k", [3, 6])
def test_fits_without_a_fold_are_those_to_the_others(monkeypatch, k):
    """As exact as other fits where all rows give the steps; to a hundredth of a standard error where some do."""
    rng, n = np.random.default_rng(4), 3000
    x = rng.normal(size=(n, 2))
    group = np.argmax(x @ rng.normal(size=(2, k)) + rng.gumbel(size=(n, k)), axis=1).astype(str)
    frame = pl.DataFrame({"a": ["l"] * n, "b": ["r"] * n, "y": 1.0, "g": group, "x0": x[:, 0], "x1": x[:, 1]})
    model = sy.GroupPropensity().fit(sy.scan(frame, a="a", b="b", outcome="y", context=["x0", "x1"], group="g")).model
    fold = np.repeat(np.arange(3, dtype=np.int8), 1000)
    whole = replace(model.problem, blocks=model.problem.blocks.map(lambda block: replace(block, fold=fold)))
    parts = whole.blocks.split(3)
    others = [joined([part for f, part in enumerate(parts) if f != left]) for left in range(3)]
    want = [replace(whole, blocks=rows).maximise(model.gamma).gamma for rows in others]
    np.testing.assert_allclose(whole.held_out(3, model.gamma), want, atol=1e-7)
    monkeypatch.setattr(softmax, "_THINNED", 1000)
    thinned = replace(whole, ridge=whole.ridge)  # anew: what it has thinned is kept
    np.testing.assert_allclose(thinned.held_out(3, model.gamma), want, atol=1e-4)
    slow = []
    monkeypatch.setattr(softmax, "FAST", 0.0)  # no step is foreseen: Newton looks at each
    climbed = type(whole)._newton
    monkeypatch.setattr(type(whole), "_newton", lambda self, *a: slow.append(1) or climbed(self, *a))
    np.testing.assert_allclose(whole.held_out(3, model.gamma), want, atol=1e-7)
    assert len(slow) == 3


@pytest.mark.parametrize("more", [{}, {"cluster": "rater"}, {"weight": "w"}])
def test_contexts_that_others_tell_take_no_degrees_of_freedom(more):
    rng, n = np.random.default_rng(6), 300
    x, u = rng.normal(size=(2, n))
    frame = pl.DataFrame({"a": "m", "b": "o", "y": 1.0, "x": x, "u": u, "both": x + u,
                          "level": np.where(x > 0, "p", "q"), "above": x > 0, "g": rng.choice(list("rst"), n),
                          "w": rng.uniform(0.5, 2, n), "rater": np.arange(n) // 3})  # fmt: skip
    for plain, told in ((["x", "u"], ["x", "u", "both"]), (["level"], ["level", "above"])):
        tests = [
            sy.GroupPropensity()
            .fit(sy.scan(frame, a="a", b="b", outcome="y", group="g", context=c, **more))
            .dependence()
            for c in (plain, told)
        ]
        assert tests[0].df == tests[1].df == 2 * len(plain)
        assert tests[0].statistic == pytest.approx(tests[1].statistic, rel=1e-6)


def test_weights_so_small_that_a_ridge_holds_all_are_warned_of():
    rng = np.random.default_rng(5)
    frame = pl.DataFrame({"a": ["x"] * 400, "b": ["y"] * 400, "y": np.where(rng.random(400) < 0.6, 1.0, np.nan),
                          "x": rng.normal(size=400), "w": np.full(400, 1 / 400)})  # fmt: skip
    frame = frame.with_columns(pl.col("y").fill_nan(None))
    log = sy.scan(frame, a="a", b="b", outcome="y", context="x", weight="w")
    with pytest.warns(UserWarning, match=r"weights are 0.0025 on average, so that ridge=1 counts .* divide weights by"):
        sy.LabelPropensity().fit(log)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sy.LabelPropensity(ridge=0.0).fit(log)
        sy.LabelPropensity().fit(sy.scan(frame.with_columns(w=1.0), a="a", b="b", outcome="y", context="x", weight="w"))
