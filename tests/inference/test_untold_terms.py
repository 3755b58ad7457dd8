"""What has no error: terms, levels and groups of one cluster, row or outcome; means of a handful of answers."""

import numpy as np
import polars as pl
import pytest
import steelyard as sy

from tests.inference.test_untold import comparisons, more, scanned


def rewards(frame, **options):
    return sy.scan(frame, outcome="y", features=(["f"], ["z"]), group="g", context="t", **options)


def grouped(n=2000):
    rng = np.random.default_rng(1)
    rater = rng.integers(0, 60, n)
    return pl.DataFrame(
        {"y": (rng.random(n) < 0.5) * 1.0, "f": rng.normal(size=n), "z": 0.0, "rater": rater,
         "t": rng.choice(["u", "v"], n), "g": np.where(rater == 5, "one", "rest")}
    )  # fmt: skip


def test_a_head_of_one_cluster_has_no_error():
    fit = sy.RewardModel(heads="per-group").fit(rewards(grouped(), cluster="rater"))
    se = dict(fit.coefficients().select("term", "se").iter_rows())
    assert se["f [one]"] is None
    assert se["f [rest]"] > 0.01
    found = sy.effects(fit)
    assert found.filter(term="f [one]")["se"].item() is None
    assert "one cluster" in found.filter(term="f [one]")["reason"].item()
    assert "one cluster" in fit.bootstrap(20).table().filter(term="f [one]")["reason"].item()


def test_a_feature_of_one_row_has_no_error():
    n = 500
    rng = np.random.default_rng(3)
    frame = pl.DataFrame({"y": (rng.random(n) < 0.5) * 1.0, "f": rng.normal(size=n), "g": (np.arange(n) == 0) * 1.0})
    frame = frame.with_columns(z=pl.lit(0.0), y=pl.when(pl.col("g") == 1).then(0.7).otherwise("y"))
    fit = sy.RewardModel().fit(sy.scan(frame, outcome="y", features=(["f", "g"], ["z", "z"])))
    assert fit.coefficients().filter(term="g")["se"].item() is None
    assert fit.coefficients().filter(term="f")["se"].item() > 0.01


def test_levels_of_one_cluster_or_row_have_no_error():
    frame, n = grouped(), 2000
    rng = np.random.default_rng(2)
    new = (pl.col("rater") == 5) & (pl.int_range(n) % 2 == 0)
    frame = frame.with_columns(qa=pl.Series(rng.choice(["p", "q"], n)), qb=pl.Series(rng.choice(["p", "q"], n)))
    frame = frame.with_columns(qa=pl.when(new).then(pl.lit("new")).otherwise("qa"))
    log = sy.scan(frame, a=pl.lit("m"), b=pl.lit("k"), outcome="y", cluster="rater")
    found = sy.effects(log, attributes={"q": ("qa", "qb")}, baselines={"q": "p"})
    rows = {row["level"]: row for row in found.iter_rows(named=True)}
    assert rows["new"]["se"] is None
    assert "one cluster" in rows["new"]["reason"]
    assert rows["q"]["se"] > 0.005


def test_outcomes_that_never_vary_have_no_error_anywhere():
    rng, n = np.random.default_rng(0), 200
    frame = pl.DataFrame(
        {"a": rng.choice(["A", "B"], n), "b": ["C"] * n, "y": [0.5] * n, "t": rng.choice(["u", "v"], n),
         "f": rng.normal(size=n), "z": 0.0, "g": rng.choice(["g1", "g2"], n)}
    )  # fmt: skip
    spec = sy.DoublyRobust(propensity=sy.PairPropensity(method="pairs"), pairs="log")
    fit = spec.fit(scanned(frame))
    group = sy.GroupRewards().fit(rewards(frame))
    tables = (fit.table(), fit.win_rates(), fit.bootstrap(50).table(), group.coefficients(), group.rewards())
    reward = sy.RewardModel().fit(rewards(frame))
    for table in (*tables, reward.coefficients(), sy.effects(reward)):
        assert table["se"].is_null().all()
        assert table["low"].is_null().all()
        assert table["reason"].str.contains("no spread").all()
    assert group.contrast("g1", "g2").se is None


def test_means_of_a_handful_of_answers_have_no_interval(tmp_path):
    log = scanned(more(comparisons(), [1.0, 1.0], [0, 1], "A"))
    value = sy.PolicyValue(policy="D", reference="A").fit(log)
    assert value.se is None
    assert value.reason.startswith("fewer than 20 effective answers")
    value.save(tmp_path / "value.sy")
    assert sy.load(tmp_path / "value.sy").table().equals(value.table())
    few = pl.int_range(2000) < 12
    frame = grouped().with_columns(g=pl.when(few).then(pl.lit("few")).otherwise(pl.lit("rest")))
    fit = sy.GroupRewards(folds=2).fit(rewards(frame))
    row = fit.rewards().filter(group="few").row(0, named=True)
    assert (row["se"], row["low"]) == (None, None)
    assert row["reason"].startswith("fewer than 20 effective answers")
    assert fit.contrast("few", "rest").se is None
    fit.save(tmp_path / "groups.sy")
    assert sy.load(tmp_path / "groups.sy").rewards().equals(fit.rewards())


def test_a_group_whose_rewards_run_away_is_refused_in_words():
    """The steps of a fit without a maximum grew until a power of them was no number."""
    few = pl.int_range(2000) < 4
    frame = grouped().with_columns(
        g=pl.when(few).then(pl.lit("few")).otherwise(pl.lit("rest")), y=pl.when(few).then(1.0).otherwise("y")
    )
    with pytest.raises(sy.NotIdentifiedError, match="group 'few': no finite rewards"):
        sy.GroupRewards(folds=2).fit(rewards(frame))


def test_a_head_of_one_cluster_has_no_error_under_estimated_weights():
    rng = np.random.default_rng(3)
    pair = rng.integers(0, 3, 2000)
    frame = grouped().with_columns(a=pl.Series(np.array(list("xxy"))[pair]), b=pl.Series(np.array(list("yzz"))[pair]))
    for cluster in ("rater", ()):
        log = sy.scan(
            frame, a="a", b="b", outcome="y", features=(["f"], ["z"]), group="g", context="t", cluster=cluster
        )
        weights = sy.PairPropensity().fit(log).weights(log)
        fit = sy.RewardModel(heads="per-group", weights=weights).fit(log)
        told = {row["term"]: row for row in fit.coefficients().iter_rows(named=True)}
        assert told["f [rest]"]["se"] > 0.01
        assert (told["f [one]"]["se"] is None) == (cluster == "rater")


def test_groups_that_share_no_cluster_are_warned_of_each():
    frame = grouped().with_columns(g=pl.when(pl.col("rater") < 10).then(pl.lit("one")).otherwise(pl.lit("two")))
    log = rewards(frame.filter(pl.col("rater") < 20), cluster="rater")
    with pytest.warns(UserWarning, match=r"fewer than 15 clusters tell of one \(10\), two \(10\)"):
        sy.GroupRewards(folds=2).fit(log)


def test_levels_that_stand_against_one_that_a_cluster_has(tmp_path):
    rng = np.random.default_rng(0)
    n = 2000
    rater = rng.integers(0, 60, n)
    t = np.where(rater == 5, "a", rng.choice(["b", "c"], n))
    frame = pl.DataFrame({"y": rng.integers(0, 2, n) * 1.0, "f": rng.normal(size=n), "z": 0.0, "t": t, "rater": rater})
    frame = frame.with_columns(x=(pl.col("rater") != 5).cast(pl.Float64))
    log = sy.scan(frame, outcome="y", features=(["f"], ["z"]), context=["t", "x"], cluster="rater")
    for context in ("t", "x"):
        fit = sy.RewardModel(context=context).fit(log)
        assert fit.coefficients()["se"].is_null().all()
    by_text = sy.RewardModel(context="t").fit(log)
    assert by_text.contrast("f:t=b", "f:t=c").se > 0.03  # neither is set apart from the other by that one
    by_text.save(tmp_path / "reward.sy")
    back = sy.load(tmp_path / "reward.sy")
    assert back.coefficients().equals(by_text.coefficients())
    assert back.contrast("f:t=b", "f:t=c") == by_text.contrast("f:t=b", "f:t=c")
    last = frame.with_columns(pl.col("t").replace({"a": "z"}))
    log = sy.scan(last, outcome="y", features=(["f"], ["z"]), context=["t", "x"], cluster="rater")
    se = dict(sy.RewardModel(context="t").fit(log).coefficients().select("term", "se").iter_rows())
    assert se["f:t=z"] is None
    assert se["f"] > 0.03


def test_effects_that_stand_against_a_baseline_that_a_cluster_has():
    rng, n = np.random.default_rng(1), 1000
    rater = rng.integers(0, 60, n)
    q = np.where(rater == 5, "p", rng.choice(["q", "r"], n))
    frame = pl.DataFrame({"y": rng.integers(0, 2, n) * 1.0, "qa": q, "qb": rng.choice(["q", "r"], n), "rater": rater})
    log = sy.scan(frame, a=pl.lit("m"), b=pl.lit("k"), outcome="y", cluster="rater")
    found = {base: sy.effects(log, attributes={"q": ("qa", "qb")}, baselines={"q": base}) for base in "pq"}
    assert found["p"]["se"].is_null().all()
    se = dict(found["q"].select("level", "se").iter_rows())
    assert se["p"] is None
    assert se["r"] > 0.01


def test_a_feature_that_one_cluster_has_within_a_group():
    rng, n = np.random.default_rng(0), 2000
    rater = rng.integers(0, 60, n)
    g = np.where(rater % 2 == 1, "p", "q")
    h = rng.normal(size=n) * ((g == "q") | (rater == 5))
    frame = pl.DataFrame({"y": rng.integers(0, 2, n) * 1.0, "f": rng.normal(size=n), "h": h, "z": 0.0, "g": g,
                          "rater": rater, "t": rng.choice(["u", "v"], n)})  # fmt: skip
    log = sy.scan(frame, outcome="y", features=(["f", "h"], ["z", "z"]), group="g", context="t", cluster="rater")
    found = sy.GroupRewards(folds=1).fit(log).coefficients()
    assert found.filter(group="p", term="h")["se"].item() is None
    assert found["se"].null_count() == 1
