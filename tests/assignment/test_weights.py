"""Weights: closed forms, brute-force stacked errors, targets, refusals, and simulations with known truth."""

import warnings

import numpy as np
import polars as pl
import pytest
import steelyard as sy
from threadpoolctl import threadpool_limits

from tests.assignment.simulate import K, confounded, truth
from tests.assignment.test_propensity import NUMERIC, scanned, simulated


def two_by_two(rho, n=4000):
    """Two groups and two prompt types that agree in a share rho of the rows; both halves alike."""
    agree = np.arange(n) % 1000 < round(1000 * rho)
    group = np.arange(n) // 1000 % 2
    return pl.DataFrame({"a": ["m", "k"] * (n // 2), "b": ["k", "m"] * (n // 2), "y": np.arange(n) % 3 / 2,
                         "group": np.where(group, "u", "v"),
                         "x": np.where(agree == group, "code", "prose")})  # fmt: skip


@pytest.mark.parametrize("rho", [0.5, 0.7, 0.9, 0.97])
def test_effective_share_of_two_groups_and_two_prompt_types(rho):
    log = scanned(two_by_two(rho), "x")
    weights = sy.GroupPropensity(ridge=0.0).fit(log).weights(log)
    assert weights.effective_share == pytest.approx(4 * rho * (1 - rho), rel=1e-8)
    assert weights.effective_size == pytest.approx(4000 * 4 * rho * (1 - rho), rel=1e-8)
    after = weights.balance()["difference_after"]
    np.testing.assert_allclose(after, 0.0, atol=1e-8)
    stabilized = sy.GroupPropensity(ridge=0.0).fit(log).weights(log, kind="stabilized")
    assert stabilized.effective_share == pytest.approx(4 * rho * (1 - rho), rel=1e-8)  # groups are halves
    overlap = sy.GroupPropensity(ridge=0.0).fit(log).weights(log, kind="overlap")
    assert overlap.effective_share == pytest.approx(4 * rho * (1 - rho), rel=1e-8)  # rho (1 - rho) in every cell


def test_no_overlap_at_all_is_refused_whatever_the_ridge():
    log = scanned(two_by_two(1.0), "x")
    with pytest.raises(sy.NotIdentifiedError, match="contexts tell the group"):
        sy.GroupPropensity(ridge=0.0).fit(log)
    with pytest.raises(sy.OverlapError, match=r"support is empty and the effective share is 0\. Use coarser contexts"):
        sy.GroupPropensity(ridge=1.0).fit(log).weights(log)


def test_thin_overlap_is_refused_with_figures_and_ways_out():
    log = scanned(two_by_two(0.999), "x")
    fit = sy.GroupPropensity(ridge=0.0).fit(log)
    with pytest.raises(sy.OverlapError, match=r"share 0.0040\).* floor is 0.01.*kind='overlap'.*lower floor="):
        fit.weights(log)
    assert fit.weights(log, floor=0.001).effective_share == pytest.approx(4 * 0.999 * 0.001, rel=1e-6)
    alone = pl.arange(0, 4000) % 1000 < 300
    gap = two_by_two(0.9).with_columns(x=pl.when(alone).then(pl.lit("only ") + pl.col("group")).otherwise("x"))
    with pytest.raises(sy.OverlapError, match=r"% of the target has no support \(x=only u has no v.*unsupported="):
        sy.GroupPropensity().fit(scanned(gap, "x")).weights(scanned(gap, "x"))
    allowed = sy.GroupPropensity().fit(scanned(gap, "x")).weights(scanned(gap, "x"), unsupported=0.5)
    assert allowed.overlap().unsupported == pytest.approx(0.15, abs=0.01)
    assert allowed.overlap().empty_cells.height == 2


@pytest.mark.parametrize("spec", [sy.PairPropensity(), sy.PairPropensity(method="pairs"), sy.GroupPropensity()])
def test_balance_hits_its_moments(spec):
    frame = simulated()
    log = scanned(frame)
    for options in ({}, {"target": frame.head(900)}, {"target": "log"}):
        weights = spec.fit(log).weights(log, kind="balance", floor=0.0, **options)
        table = weights.balance()
        assert table["difference_after"].abs().max() < 1e-10
        assert table["difference_before"].abs().max() > 0.05
    means = scanned(frame.head(900)).frame().select(pl.col("x1").mean()).collect().item()
    aimed = spec.fit(log).weights(log, kind="balance", floor=0.0, target=frame.head(900)).balance()
    assert aimed.filter(pl.col("column") == "x1")["after"].to_numpy() == pytest.approx(means, rel=1e-10)


def test_a_target_frame_and_margins_are_met():
    frame = simulated()
    log = scanned(frame)
    fit = sy.PairPropensity(method="frequency", strata="level").fit(log)
    margins = {"level": {"p": 0.4, "q": 0.3, "r": 0.2, "s": 0.1}}
    shares = frame.with_columns(w=fit.weights(log, target=margins).frame()["weight"])
    total = shares.group_by("level").agg(pl.col("w").sum() / shares["w"].sum()).sort("level")
    np.testing.assert_allclose(total["w"], [0.4, 0.3, 0.2, 0.1], rtol=1e-9)
    like = frame.filter(pl.col("level") != "p").head(400).vstack(frame.filter(pl.col("level") == "p").head(100))
    shares = frame.with_columns(w=fit.weights(log, target=like).frame()["weight"])
    got = shares.filter(pl.col("level") == "p")["w"].sum() / shares["w"].sum()
    assert got == pytest.approx(0.2, rel=1e-9)
    with pytest.raises(sy.LogError, match=r"target frame lacks the columns \['level'\]"):
        fit.weights(log, target=frame.drop("level"))
    with pytest.raises(sy.LogError, match="must give each of"):
        fit.weights(log, target={"level": {"p": 1.0}})
    with pytest.raises(sy.LogError, match="contexts with values are"):
        fit.weights(log, target={"x9": {"p": 1.0}})


@pytest.mark.parametrize("roles", [{"count": "n"}, {"weight": "n"}, {"format": "pairs"}])
def test_rows_of_a_target_log_count_as_often_as_it_says(roles):
    log = scanned(two_by_two(0.7), "x")
    fit = sy.GroupPropensity(ridge=0.0).fit(log)
    rows = pl.DataFrame({"a": ["m", "m"], "b": ["k", "k"], "y": [1.0, 0.0], "x": ["code", "prose"], "n": [9, 1],
                         "n_a_wins": [5, 0], "n_b_wins": [4, 1]})  # fmt: skip
    outcome = {} if "format" in roles else {"outcome": "y"}
    weights = fit.weights(log, target=sy.scan(rows, a="a", b="b", **outcome, **roles)).frame()["weight"]
    margins = fit.weights(log, target={"x": {"code": 0.9, "prose": 0.1}}).frame()["weight"]
    np.testing.assert_allclose(weights, margins, rtol=1e-9)


@pytest.mark.parametrize("role", ["count", "weight"])
def test_a_log_is_its_own_target(role):
    frame = two_by_two(0.7).with_columns(n=pl.when(pl.col("x") == "code").then(3).otherwise(1))
    log = scanned(frame, "x", **{role: "n"})
    fit = sy.GroupPropensity(ridge=0.0).fit(log)
    weights, plain = (fit.weights(log, **target).frame()["weight"] for target in ({"target": log}, {}))
    np.testing.assert_allclose(weights, plain, rtol=1e-9)


@pytest.mark.parametrize("method", ["softmax", "pairs"])
def test_overlap_weights_are_made_of_a_few_rows_at_a_time(monkeypatch, method):
    """Of every pair's probability no more is held at once."""
    log = scanned(simulated(3, 500))
    fit = sy.PairPropensity(method=method).fit(log)
    want, rows = fit.weights(log, kind="overlap", floor=0.0).frame(), []
    every = type(fit.model).every
    monkeypatch.setattr("steelyard.assignment.weights._CELLS", 400)
    monkeypatch.setattr(type(fit.model), "every", lambda self, block: rows.append(block.n) or every(self, block))
    assert fit.weights(log, kind="overlap", floor=0.0).frame().equals(want)
    assert max(rows) * len(fit.assigned.names()) <= 400


def test_a_propensity_of_almost_0_is_refused_in_words():
    frame = simulated(3, 500).with_columns(p=pl.when(pl.int_range(500) == 5).then(1e-305).otherwise(0.3))
    fit = sy.PairPropensity(method="logged").fit(scanned(frame, propensity="p"))
    for more in ({}, {"clip": 0.99}, {"clip": 5.0}):
        with pytest.raises(sy.OverlapError, match=r"too little overlap|almost 0 leaves none to the others"):
            fit.weights(scanned(frame, propensity="p"), **more)


@pytest.mark.parametrize("repeats", [1, 3, 7, 10])
def test_a_target_that_lacks_the_first_value_of_a_text_and_a_later_one(repeats):
    """Rows that are told again change no mean, but what rounding leaves of it."""
    frame = simulated(3, 500).with_columns(kind=pl.Series([["p", "q", "r", "s"][i % 4] for i in range(500)]))
    log = scanned(frame, context=["kind"])
    weights = sy.PairPropensity().fit(log).weights(log, target=pl.DataFrame({"kind": ["q", "r"] * repeats}), floor=0.0)
    kept = weights.frame().with_columns(frame["kind"]).group_by("kind").agg(pl.col("weight").sum()).sort("kind")
    assert kept["weight"].to_list()[::3] == [0.0, 0.0]
    assert kept["weight"][1] > 0


def test_clips_and_trims_are_counted():
    frame = simulated()
    log = scanned(frame)
    fit = sy.PairPropensity().fit(log)
    plain = fit.weights(log, floor=0.0)
    raw = plain.frame()["weight"]
    assert raw.mean() == pytest.approx(1.0)
    for clip in (2.0, 0.9):
        weights = fit.weights(log, clip=clip, floor=0.0)
        facts, told = weights.overlap(), weights.frame()
        limit = 2.0 if clip == 2.0 else raw.quantile(0.9)
        assert facts.limit == pytest.approx(limit, rel=4e-3)
        assert facts.clipped == told["clipped"].sum() == (raw > facts.limit).sum()
        assert told["weight"].max() <= facts.limit * (1 + 1e-12)
        cut = (raw - told["weight"]).sum() / raw.sum()
        assert facts.clipped_mass == pytest.approx(cut, rel=1e-6)
        assert facts.effective_share > plain.effective_share
    trimmed = fit.weights(log, trim=0.1, floor=0.0)
    low = (trimmed.frame()["propensity"] < 0.1).sum()
    assert trimmed.overlap().trimmed == low == trimmed.frame()["trimmed"].sum() > 0
    assert (trimmed.frame().filter("trimmed")["weight"] == 0).all()
    w = plain.frame()["weight"]
    assert plain.effective_size == pytest.approx(w.sum() ** 2 / (w**2).sum())
    assert plain.overlap().largest_share == pytest.approx(w.max() / w.sum())
    assert plain.overlap().histogram.group_by("label").agg(pl.col("rows").sum())["rows"].sum() == 2 * len(frame)
    assert "effective size" in str(plain.overlap())


def test_rows_in_a_file_and_other_threads_give_the_same_bits(monkeypatch):
    log = scanned(simulated(n=150_000, k=3), ["x0", "level"])  # two blocks
    tables = []
    for threads, memory in ((1, 1 << 28), (2, 1 << 28), (2, 0)):
        monkeypatch.setattr("steelyard.spill.MOST_IN_MEMORY", memory)
        for spec in (sy.PairPropensity(), sy.GroupPropensity(), sy.PairPropensity(method="frequency", strata="level")):
            weights = spec.fit(log, threads).weights(log, floor=0.0, clip=4.0)
            tables.append(sy.BradleyTerry(weights=weights).fit(log, threads).table())
    for i in range(3):
        assert tables[i].equals(tables[3 + i])
        assert tables[i].equals(tables[6 + i])


def test_bad_rows_that_were_dropped_have_no_weight():
    at = pl.arange(0, 600)
    frame = simulated(n=600).with_columns(
        x0=pl.when(at == 3).then(None).otherwise("x0"), b=pl.when(at == 9).then("a").otherwise("b")
    )
    log = scanned(frame, ["x0", "level"], on_bad="drop")
    for spec in (sy.PairPropensity(), sy.PairPropensity(method="pairs"), sy.GroupPropensity()):
        fit = spec.fit(log)
        weights = fit.weights(log, floor=0.0)
        told = weights.frame()
        assert told.height == 600
        assert told.filter(pl.col("weight").is_null())["row"].to_list() == [3, 9]
        sy.BradleyTerry(weights=weights).fit(log)


def test_every_reason_to_drop_a_row_leaves_it_without_weight():
    frame, at = simulated(n=600).with_columns(y=pl.lit(1.0)), pl.arange(0, 600)
    answers = pl.when(at % 3 == 0).then(None).when(at % 2 == 0).then(pl.lit("a")).otherwise(pl.lit("b"))
    frame = frame.with_columns(y=answers, w=pl.when(at < 4).then(-1.0).when(at < 7).then(0.0).otherwise(1.0))
    frame = frame.with_columns(y=pl.when(at == 20).then(pl.lit("?")).otherwise("y"),
                               a=pl.when(at == 30).then(None).otherwise("a"))  # fmt: skip
    log = scanned(frame, "x0", weight="w", on_bad="drop")
    for spec in (sy.PairPropensity(), sy.GroupPropensity(), sy.LabelPropensity()):
        fit = spec.fit(log)
        told = fit.weights(log, floor=0.0).frame()
        gone = told.filter(pl.col("weight").is_null())["row"].to_list()
        assert set(range(7)) - {0, 3, 6} < set(gone) <= {*range(7), 20, 30}
        assert {20, 30} < set(gone)
        assert told.filter(pl.col("propensity").is_not_null()).height == fit.n
        assert fit.probability(log).is_null().sum() == 600 - fit.n


def test_errors_that_know_of_the_estimate_need_one_log_for_both():
    frame = simulated(n=900)
    log, few = scanned(frame, NUMERIC), scanned(frame.head(400), NUMERIC)
    for weights in (sy.PairPropensity().fit(few).weights(log, floor=0.0),
                    sy.PairPropensity().fit(few).weights(few, floor=0.0, kind="balance")):  # fmt: skip
        with pytest.raises(sy.LogError, match=r"not estimated on the rows that this fit reads.*as_known"):
            sy.BradleyTerry(weights=weights).fit(log)
        assert sy.BradleyTerry(weights=weights.as_known()).fit(log).table()["se"].null_count() == 0


@pytest.mark.parametrize("spec", [sy.PairPropensity(), sy.GroupPropensity(), sy.LabelPropensity()])
@pytest.mark.parametrize("options", [{}, {"target": "log"}, {"kind": "balance"}])
def test_logs_of_as_many_rows_are_told_apart(spec, options):
    rng = np.random.default_rng(0)
    frame = simulated(n=900).with_columns(w=pl.Series(rng.integers(1, 3, 900) * 1.0))
    frame = frame.with_columns(y=pl.when(pl.Series(rng.random(900) < 0.7)).then("y"))
    log = scanned(frame, NUMERIC)
    resampled = frame.sample(900, with_replacement=True, seed=1)
    for other in (scanned(resampled, NUMERIC), scanned(frame, NUMERIC, weight="w")):
        weights = spec.fit(other).weights(log, floor=0.0, **options)
        if options.get("kind") == "balance":  # its weights were made of the log that they are for
            sy.BradleyTerry(weights=weights).fit(log)
            continue
        with pytest.raises(sy.LogError, match="not estimated on the rows that this fit reads"):
            sy.BradleyTerry(weights=weights).fit(log)
    again = scanned(frame.clone(), NUMERIC)
    sy.BradleyTerry(weights=spec.fit(again).weights(again, floor=0.0, **options)).fit(log)


def test_what_weights_do_not_go_with():
    frame = simulated(n=400)
    log = scanned(frame)
    fit = sy.PairPropensity().fit(log)
    weights = fit.weights(log, floor=0.0)
    table = sy.BradleyTerry().fit(log).pairs
    for refused in (
        lambda: fit.weights(log, kind="balance", trim=0.05), lambda: sy.BradleyTerry(weights=weights).fit_table(table),
        lambda: sy.BradleyTerry(weights=np.ones(400)), lambda: sy.RewardModel(weights=1.0),
        lambda: fit.weights(log, target={}), lambda: fit.weights(log, target={"level": "p"}),
        lambda: sy.PairPropensity(context=["x0", "x0"]),
    ):  # fmt: skip
        with pytest.raises(
            ValueError, match=r"use one of them|use fit\(log\)|use scan\(weight=\)|margins are|named once"
        ):
            refused()
    only = fit.weights(log, target={"level": {"p": 1.0, "q": 0.0, "r": 0.0, "s": 0.0}}, floor=0.0, unsupported=1.0)
    assert (only.frame()["weight"].to_numpy()[(frame["level"] != "p").to_numpy()] == 0.0).all()
    own = fit.weights(log, target=frame.head(200), floor=0.0).frame()
    for target in (frame.head(200).to_pandas(), frame.head(200).to_arrow(), scanned(frame.head(200))):
        np.testing.assert_allclose(fit.weights(log, target=target, floor=0.0).frame()["weight"], own["weight"])
    tallies = pl.DataFrame({"model_a": list("xyz") * 2, "model_b": list("yzx") * 2, "n_a_wins": [30, 20, 10] * 2,
                            "n_b_wins": [10, 20, 25] * 2, "t": list("pppqqq")})  # fmt: skip
    log = sy.scan(tallies, format="pairs", context="t")
    fit = sy.PairPropensity().fit(log)
    for refused in (lambda: fit.probability(log), lambda: fit.weights(log).frame()):
        with pytest.raises(sy.LogError, match="no single comparisons"):
            refused()


@pytest.mark.parametrize("kind", [pl.Categorical, pl.Enum(list("pqrs"))])
def test_contexts_of_any_kind_of_text(kind):
    frame = simulated(n=600)
    want = sy.PairPropensity().fit(scanned(frame, "level")).probability(scanned(frame, "level"))
    cast = frame.with_columns(pl.col("level").cast(kind))
    got = sy.PairPropensity().fit(scanned(cast, "level")).probability(scanned(cast, "level"))
    assert got.equals(want)


@pytest.mark.parametrize("spec", [{"ties": "drop"}, {"ties": "davidson"}, {"link": "probit"}, {"position": True}])
def test_every_model_takes_weights_and_clusters(spec):
    at = pl.arange(0, 900)
    frame = simulated(n=900).with_columns(
        y=pl.when(at % 5 == 0).then(0.5).otherwise("y"), rater=at % 90, screen=at // 15
    )
    log = scanned(frame, NUMERIC, cluster=["rater", "screen"])
    weights = sy.PairPropensity().fit(log).weights(log, floor=0.0)
    fit = sy.BradleyTerry(weights=weights, **spec).fit(log)
    assert np.isfinite(fit.table()["se"].to_numpy()).all()
    by_hand = frame.with_columns(w=weights.frame()["weight"])
    plain = sy.BradleyTerry(**spec).fit(scanned(by_hand, cluster=["rater", "screen"], weight="w"))
    np.testing.assert_allclose(fit.estimate.parameter, plain.estimate.parameter, atol=1e-7)
    known = sy.BradleyTerry(weights=weights.as_known(), **spec).fit(log)
    np.testing.assert_allclose(known.covariance, plain.covariance, rtol=1e-6, atol=1e-12)


def test_flat_weights_leave_the_plain_fit():
    frame = confounded(1, 900)
    log = sy.scan(frame, a="a", b="b", outcome="y", context="x")
    flat = sy.PairPropensity(method="frequency").fit(log).weights(log, kind="stabilized")
    assert flat.effective_share == pytest.approx(1.0)
    plain, weighted = sy.BradleyTerry().fit(log), sy.BradleyTerry(weights=flat.as_known()).fit(log)
    np.testing.assert_allclose(weighted.score, plain.score, atol=1e-9)
    np.testing.assert_allclose(weighted.covariance, plain.covariance, rtol=1e-8)
    with pytest.raises(ValueError, match="no model-based errors"):
        sy.BradleyTerry(weights=flat, covariance="model").fit(log)
    with pytest.raises(ValueError, match="unweighted rows"):
        weighted.audit("0", over="5")


def test_weighted_fits_are_saved_with_their_words(tmp_path):
    log = sy.scan(confounded(1, 900), a="a", b="b", outcome="y", context="x")
    fit = sy.BradleyTerry(weights=sy.PairPropensity().fit(log).weights(log)).fit(log)
    fit.save(tmp_path / "board.sy")
    loaded = sy.load(tmp_path / "board.sy")
    assert loaded.estimand == fit.estimand
    assert "every pair equally often" in loaded.estimand
    assert loaded.table().equals(fit.table())
    with pytest.raises(ValueError, match="lost its weights"):
        loaded.spec.fit(log)


def test_weights_beside_covariates_features_and_interactions():
    rng = np.random.default_rng(0)
    frame = simulated(n=800).with_columns(pl.Series(name, rng.normal(size=800)) for name in ("z", "fa", "fb"))
    log = scanned(frame, covariates={"z": "z"}, features=(["fa"], ["fb"]))
    weights = sy.GroupPropensity(context=["x1", "level"]).fit(log).weights(log)
    scores = sy.BradleyTerry(weights=weights).fit(log).coefficients()
    assert scores["term"].to_list() == ["z"]
    log = scanned(frame, features=(["fa"], ["fb"]))
    reward = sy.RewardModel(weights=weights, heads="per-group", interactions=[("fa", "x0")]).fit(log)
    by_hand = frame.with_columns(w=weights.frame()["weight"])
    for who in "uvw":
        alone = sy.RewardModel(interactions=[("fa", "x0")]).fit(
            scanned(by_hand.filter(pl.col("group") == who), features=(["fa"], ["fb"]), weight="w")
        )
        term = reward.coefficients().filter(pl.col("term") == f"fa [{who}]")
        assert term["estimate"][0] == pytest.approx(alone.coefficients()["estimate"][0], abs=1e-8)
    assert reward.predict(log).collect()["margin"].null_count() == 0


def test_overlap_counts_comparisons_whatever_the_weights_unit():
    frame = simulated(n=600).with_columns(c=pl.Series(np.arange(600) % 3 + 1), w=pl.lit(1000.0))
    long = frame.select(pl.all().repeat_by("c")).explode(pl.all())
    logs = [scanned(frame, NUMERIC, count="c"), scanned(long, NUMERIC), scanned(long, NUMERIC, weight="w")]
    facts = [sy.PairPropensity(ridge=0.0).fit(log).weights(log, floor=0.0).overlap() for log in logs]
    for other in facts[1:]:
        assert facts[0].rows == other.rows == len(long)
        assert facts[0].effective_size == pytest.approx(other.effective_size, rel=1e-5)
        assert facts[0].largest_share == pytest.approx(other.largest_share, rel=1e-5)
        np.testing.assert_array_equal(facts[0].by_label["rows"], other.by_label["rows"])
        np.testing.assert_allclose(facts[0].by_label["effective_share"], other.by_label["effective_share"], rtol=1e-5)


def test_a_log_the_propensity_does_not_know_is_refused():
    frame = simulated(n=400)
    weights = sy.PairPropensity(context=NUMERIC).fit(scanned(frame)).weights(scanned(frame), floor=0.0)
    other = frame.with_columns(a=pl.when(pl.arange(0, 400) == 5).then(77).otherwise("a"),
                               y=pl.lit(1.0))  # fmt: skip
    with pytest.raises(sy.LogError, match=r"1 rows have no finite weight \(first rows \[5\]\)"):
        sy.BradleyTerry(weights=weights, ridge=1.0).fit(scanned(other))
    balanced = sy.PairPropensity(context=NUMERIC).fit(scanned(frame)).weights(scanned(frame), kind="balance", floor=0.0)
    with pytest.raises(sy.LogError, match=r"1 rows have no finite weight \(first rows \[5\]\)"):
        sy.BradleyTerry(weights=balanced, ridge=1.0).fit(scanned(other))
    for kind in ("hajek", "balance", "stabilized"):
        with pytest.raises(sy.OverlapError, match=r"1 rows have an arm, pair or group .*first rows \[5\]"):
            weights.propensity.weights(scanned(other), kind=kind)
    with pytest.raises(sy.LogError, match="no context column 'x0'"):
        sy.BradleyTerry(weights=weights).fit(scanned(frame, "level"))


@pytest.mark.slow
def test_weights_take_the_confounding_away_and_their_intervals_cover():
    """Pair choice depends on the prompt: plain scores are off by .09, shares by pair leave it, the softmax takes it."""
    names, true = ("plain", "frequency", "softmax", "known", "balance"), truth()
    error: dict = {name: [] for name in names}
    spread: dict = {name: [] for name in names}
    for seed in range(300):
        log = sy.scan(confounded(seed, 3000), a="a", b="b", outcome="y", context="x")
        shown = sy.PairPropensity().fit(log)
        softmax = shown.weights(log)
        used = {"softmax": softmax, "known": softmax.as_known(), "balance": shown.weights(log, kind="balance")}
        if seed < 100:  # as many show that these are far off
            used |= {"plain": None, "frequency": sy.PairPropensity(method="frequency").fit(log).weights(log)}
        for name, weights in used.items():
            table = sy.BradleyTerry(weights=weights).fit(log).table().sort("arm")
            error[name].append(table["score"].to_numpy() - true)
            spread[name].append(table["se"].to_numpy())
    bias = {name: np.abs(np.mean(error[name], axis=0)).mean() for name in names}
    covered = {name: (np.abs(error[name]) < 1.96 * np.array(spread[name])).mean() for name in names}
    assert bias["plain"] > 0.06
    assert bias["frequency"] > 0.8 * bias["plain"]
    assert bias["softmax"] < 0.01
    assert bias["balance"] < 0.01
    assert covered["plain"] < 0.75
    assert 0.93 <= covered["softmax"] <= 0.97
    assert np.mean(spread["softmax"]) <= np.mean(spread["known"])
    monte_carlo = np.std(error["softmax"], axis=0)
    np.testing.assert_allclose(np.mean(spread["softmax"], axis=0), monte_carlo, rtol=0.1)
    assert len(true) == K


def test_chance_makes_flat_weights(data):
    """A randomised conjoint: the first tax rate shown does not depend on who answers."""
    frame = pl.read_parquet(data / "conjoint_taxes.parquet")
    frame = frame.filter(pl.col("left") != pl.col("right"), pl.col("partyid").is_not_null())
    log = sy.scan(frame, a="left", b="right", outcome="left_chosen", context="partyid", cluster="respondent")
    shown = sy.PairPropensity().fit(log)
    assert shown.dependence().p_value > 0.05
    weights = shown.weights(log, kind="stabilized")
    assert weights.effective_share > 0.98
    assert weights.balance()["difference_before"].abs().max() < 0.1


def test_logged_propensities_give_the_other_policys_click_rate(data):
    frame = pl.read_parquet(data / "open_bandit.parquet")
    by_chance = frame.filter(pl.col("behavior_policy") == "random")["click"]
    log = sy.scan(frame.filter(pl.col("behavior_policy") == "bts"), a="item", b=pl.lit("nothing"), outcome="click",
                  propensity="propensity_score")  # fmt: skip
    with pytest.warns(UserWarning, match="mean of 1 / propensity"):  # positions and campaigns are drawn apart
        fit = sy.PairPropensity(method="logged").fit(log)
    weight = fit.weights(log, floor=0.001).frame()["weight"].to_numpy()
    click = frame.filter(pl.col("behavior_policy") == "bts")["click"].to_numpy()
    rate = weight @ click / weight.sum()
    error = np.sqrt((weight**2 * (click - rate) ** 2).sum()) / weight.sum()
    both = np.hypot(error, np.sqrt(by_chance.mean() * (1 - by_chance.mean()) / len(by_chance)))
    assert abs(rate - by_chance.mean()) < 1.96 * both


@pytest.mark.parametrize("scale", [1.0, 1e-25, 1e-140])
def test_the_unit_of_logged_propensities_changes_nothing(scale):
    """However small they are: what is told of the weights is in units of their mean."""
    rng = np.random.default_rng(6)
    p = rng.uniform(0.05, 0.5, 500)
    frame = pl.DataFrame({"a": ["x"] * 500, "b": ["y"] * 500, "won": 1.0, "p": p * scale})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # they are no probabilities of the pair
        log = sy.scan(frame, a="a", b="b", outcome="won", propensity="p")
        facts = sy.PairPropensity(method="logged").fit(log).weights(log).overlap()
    raw = 1.0 / p
    assert facts.effective_size == pytest.approx(raw.sum() ** 2 / (raw**2).sum(), rel=1e-9)
    assert facts.largest_share == pytest.approx(raw.max() / raw.sum(), rel=1e-9)
    assert facts.quantiles["0.5"] == pytest.approx(np.quantile(raw, 0.5) / raw.mean(), rel=0.01)


EVEN = {"level": dict.fromkeys("pqrs", 0.25)}


@pytest.mark.parametrize(("kind", "target"), [("hajek", "uniform"), ("stabilized", EVEN), ("balance", "uniform")])
def test_weights_have_the_same_bits_whatever_threads_blas_has(kind, target):
    frame = simulated(n=100_000)
    log = scanned(frame)
    shown, told = sy.PairPropensity().fit(log), []
    for threads in (1, 2):
        with threadpool_limits(threads, user_api="blas"):
            found = shown.weights(log, target, kind=kind, floor=0.0)
            told.append((found.mean, found.effective_size, found.frame()["weight"], found.balance()))
    one, two = told
    assert one[:2] == two[:2]
    assert one[2].equals(two[2])
    assert one[3].equals(two[3])


def test_sampling_weights_are_no_number_of_rows():
    """Of data in which nothing depends on anything: no test is surer of it, or less so, for weights that are large."""
    sure, fits = [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        a, b = np.argpartition(rng.gumbel(size=(400, 8)) + np.linspace(0.5, -0.5, 8), -2, axis=1)[:, -2:].T
        frame = pl.DataFrame({"a": a, "b": b, "y": rng.integers(0, 2, 400) * 1.0, "x": rng.normal(size=400),
                              "group": rng.choice(["u", "v"], 400)})  # fmt: skip
        for weight in (np.full(400, 10.0), rng.exponential(size=400)):
            log = scanned(frame.with_columns(w=weight), "x", weight="w")
            shown = sy.PairPropensity().fit(log)
            sure += [shown.dependence().p_value < 0.05, sy.GroupPropensity().fit(log).dependence().p_value < 0.05]
            fits.append(shown.misfit.fits)
    assert 0.01 < np.mean(sure) < 0.11
    assert all(fits)


def test_score_test_counts_a_row_for_many_as_many_rows():
    frame = simulated(n=300).with_columns(c=pl.Series(np.arange(300) % 3 + 1), w=pl.lit(2.0))
    long = frame.select(pl.all().repeat_by("c")).explode(pl.all())
    logs = scanned(frame, NUMERIC, count="c", weight="w"), scanned(long, NUMERIC, weight="w")
    one, two = (sy.GroupPropensity().fit(log).dependence() for log in logs)
    assert one.method == "score test"
    assert one.statistic == pytest.approx(two.statistic, rel=1e-6)
