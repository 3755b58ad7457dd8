"""Logs at the edge of what can be told: tallies, islands, arms that never win, many contexts, thin support."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import steelyard as sy

from tests.causal.simulate import World
from tests.causal.test_doubly_robust import scanned, small
from tests.causal.test_group_rewards import objectives
from tests.causal.test_group_rewards import scanned as grouped
from tests.causal.test_policy_value import LOGGED, responses
from tests.reference.doubly_robust import sigmoid


def by_topic(seed: int, n: int, k: int = 4) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    code = rng.random(n) < 0.5
    a = rng.integers(0, k, n)
    b = (a + 1 + rng.integers(0, k - 1, n)) % k
    eta = (b - a) * np.where(code, 0.5, -0.1)
    y = (rng.random(n) < sigmoid(eta)) * 1.0
    return pl.DataFrame({"a": a, "b": b, "y": y, "code": np.where(code, "yes", "no")}).cast(
        {"a": pl.String, "b": pl.String}
    )


ROLES = {"a": "a", "b": "b", "outcome": "y", "context": "code"}


def test_a_tally_gives_what_its_comparisons_give():
    """A row of a tally has one outcome: whole in one fold, it would tell that outcome apart from the others."""
    frame = by_topic(1, 3000)
    tally = frame.group_by("a", "b", "y", "code", maintain_order=True).len("n")
    rows, counted = (
        sy.DoublyRobust().fit(sy.scan(frame, **ROLES)),
        sy.DoublyRobust().fit(sy.scan(tally, **ROLES, count="n")),
    )
    np.testing.assert_allclose(counted.score, rows.score, atol=0.01)
    np.testing.assert_allclose(counted.covariance, rows.covariance, rtol=0.1, atol=1e-5)
    assert counted.n == rows.n == 3000
    policy = {"0": 0.5, "1": 0.5}
    values = [sy.PolicyValue(policy).fit(log) for log in (sy.scan(frame, **ROLES), sy.scan(tally, **ROLES, count="n"))]
    assert values[0].value == pytest.approx(values[1].value, abs=0.004)
    assert values[0].se == pytest.approx(values[1].se, rel=0.1)


def test_islands_have_no_contrast():
    frame = by_topic(2, 2000).filter(
        ((pl.col("a") < "2") & (pl.col("b") < "2")) | ((pl.col("a") > "1") & (pl.col("b") > "1"))
    )
    fit = sy.DoublyRobust(unsupported=1.0).fit(sy.scan(frame, **ROLES))
    assert fit.contrast("0", "2").estimate is None
    assert "never compared with the main group" in fit.contrast("0", "2").reason
    assert fit.table()["reason"].null_count() == 2
    with pytest.raises(sy.OverlapError, match="was never answered"):
        sy.PolicyValue("0", "2").fit(sy.scan(frame, **ROLES))


def test_a_pair_that_cannot_be_shown_has_no_part_in_the_shared_divisor():
    frame = by_topic(3, 4000, 5).filter(~(pl.col("a").is_in(["0", "1"]) & pl.col("b").is_in(["0", "1"])))
    thin = pl.col("a").is_in(["2", "3"]) & pl.col("b").is_in(["2", "3"])
    frame = pl.concat([frame.filter(~thin), frame.filter(thin).head(12).with_columns(y=(pl.col("a") == "2") * 1.0)])
    shown = sy.PairPropensity(method="frequency")
    win = sy.DoublyRobust(propensity=shown, folds=1).fit(sy.scan(frame, **ROLES)).win[2, 3]
    assert win == pytest.approx(1.0, abs=0.05)  # all that were shown; a divisor with the other pair would exceed it


def test_an_arm_that_never_wins_costs_the_others_nothing():
    frame = by_topic(4, 2000)
    lost = pl.DataFrame({"a": ["9"] * 8, "b": ["0", "1", "2", "3"] * 2, "y": [0.0] * 8, "code": ["yes", "no"] * 4})
    shown = sy.PairPropensity(ridge=10.0)
    for seed in range(4):
        fit = sy.DoublyRobust(propensity=shown, seed=seed).fit(sy.scan(pl.concat([frame, lost]), **ROLES))
        told = fit.table().filter(arm="9")
        if told["score"][0] is None:
            assert "no finite score" in told["reason"][0]
            with pytest.raises(sy.NotIdentifiedError, match="has no score"):
                fit.influence("9")
        moved = fit.compare()
        assert moved["arm"].to_list() == sorted(moved["arm"], key=int) or len(moved) == 4
        assert moved["moved"].mean() == pytest.approx(0.0, abs=1e-12)  # both sides over the same arms
        assert moved["moved"].abs().max() < 0.2


def test_contexts_of_many_values_converge_without_each_fold():
    rng = np.random.default_rng(5)
    frame = by_topic(5, 2000, 3).with_columns(code=pl.Series([f"v{i}" for i in rng.integers(0, 60, 2000)]))
    fit = sy.DoublyRobust(propensity=sy.PairPropensity(method="frequency")).fit(sy.scan(frame, **ROLES))
    assert fit.score is not None
    wide = frame.with_columns(code=pl.Series([f"v{i}" for i in range(2000)]))
    with pytest.raises(sy.NotIdentifiedError, match="fitted for up to 4000"):
        sy.DoublyRobust(propensity=sy.PairPropensity(method="frequency")).fit(sy.scan(wide, **ROLES))


def test_values_that_only_rows_left_out_have_are_no_columns():
    frame = by_topic(6, 1000)
    more = pl.DataFrame({"a": ["0"], "b": ["1"], "y": [None], "code": ["zulu"]}, schema=frame.schema)
    spec = sy.DoublyRobust(folds=1)
    both = [
        spec.fit(sy.scan(source, **ROLES)) for source in (frame, pl.concat([frame, more]), pl.concat([more, frame]))
    ]
    for fit in both[1:]:
        np.testing.assert_allclose(fit.score, both[0].score, atol=1e-10)


def test_targets_of_contexts_that_the_propensity_does_not_read():
    frame = small(7, 600)
    dr = sy.DoublyRobust(propensity=sy.PairPropensity(context="x"), target={"topic": {"code": 0.9, "prose": 0.1}})
    plain = sy.BradleyTerry().fit(scanned(frame))
    fit = dr.fit(scanned(frame))
    np.testing.assert_allclose(fit.naive.covariance, plain.covariance, rtol=1e-9)
    clustered = dr.fit(scanned(frame, cluster="rater"))
    plain = sy.BradleyTerry().fit(scanned(frame, cluster="rater"))
    np.testing.assert_allclose(clustered.naive.covariance, plain.covariance, rtol=1e-9)
    shift = sy.DoublyRobust(target={"topic": {"code": 0.98, "prose": 0.02}}).fit(scanned(frame))
    told = shift.moves().filter(context="topic=prose")
    assert told["shown"].abs().max() < 0.5  # where arms were shown, not where the target would have them


def test_strata_of_numbers_and_logs_of_two_arms():
    rng = np.random.default_rng(8)
    frame = by_topic(8, 800, 3).with_columns(code=pl.Series(rng.integers(0, 2, 800)))
    shown = sy.PairPropensity(method="frequency", strata="code")
    assert sy.DoublyRobust(propensity=shown).fit(sy.scan(frame, **ROLES)).score is not None
    two = by_topic(9, 500, 2)
    for method in ("pairs", "frequency"):
        fit = sy.DoublyRobust(propensity=sy.PairPropensity(method=method)).fit(sy.scan(two, **ROLES))
        assert fit.win_probability("0", "1") == pytest.approx(fit.naive.win_probability("0", "1"), abs=0.02)
    assert fit.win_probability("0", "0") == 0.5


def test_weights_are_the_logs_in_pairs_as_logged():
    frame = by_topic(10, 2000).with_columns(w=pl.when(pl.col("a") == "0").then(5.0).otherwise(1.0))
    shown = sy.PairPropensity(method="frequency")
    fit = sy.DoublyRobust(propensity=shown, pairs="log").fit(sy.scan(frame, **ROLES, weight="w"))
    share = frame.filter(
        ((pl.col("a") == "0") & (pl.col("b") == "1")) | ((pl.col("a") == "1") & (pl.col("b") == "0"))
    )["w"].sum() / frame["w"].sum()  # fmt: skip
    assert fit.omega[0, 1] == pytest.approx(share)


def test_a_few_pairs_asked_of_many_arms_are_not_thin():
    log = World(arms=16).log(1, 4000)
    one = pl.DataFrame({"a": ["0"], "b": ["5"], "weight": [1.0]})
    assert sy.DoublyRobust(pairs=one).fit(log).effective_share > 0.3
    assert sy.PolicyValue("0", "5").fit(log).effective_share > 0.3


def test_classifiers_do_not_hang_on_names():
    from sklearn.tree import DecisionTreeClassifier

    frame = by_topic(11, 600, 3)
    names = {"0": "z", "1": "y", "2": "x"}
    renamed = frame.with_columns(pl.col("a", "b").replace(names))
    spec = sy.DoublyRobust(DecisionTreeClassifier(max_depth=3, random_state=0), sy.PairPropensity(method="frequency"))
    one, two = spec.fit(sy.scan(frame, **ROLES)), spec.fit(sy.scan(renamed, **ROLES))
    assert dict(zip(one.arms, one.score, strict=True)) == pytest.approx(
        {old: two.score[two.arms.index(new)] for old, new in names.items()}, abs=0.02
    )


def test_policies_that_ask_what_was_never_shown_are_refused():
    frame = by_topic(12, 2000, 3).filter(~(pl.col("a").is_in(["0", "2"]) & pl.col("b").is_in(["0", "2"])))
    shown = sy.PairPropensity(method="frequency")
    log = sy.scan(frame, **ROLES)
    with pytest.raises(sy.OverlapError, match=r"50.0 % of what the policies would compare"):
        sy.PolicyValue({"0": 0.5, "1": 0.5}, "2", propensity=shown).fit(log)
    half = sy.PolicyValue({"0": 0.5, "1": 0.5}, "2", propensity=shown, unsupported=1.0, folds=1).fit(log)
    whole = sy.PolicyValue("1", "2", propensity=shown, folds=1).fit(log)
    gap = half.value - half.model  # the shown half is corrected as if alone, the other not at all
    assert gap == pytest.approx(0.5 * (whole.value - whole.model), abs=1e-9)


def test_responses_refuse_what_is_not_theirs_and_ratios_beyond_numbers():
    frame, _ = responses(1, 200)
    log = sy.scan(frame, a="a", b="b", outcome="y")
    for wrong in ({"target": pl.DataFrame()}, {"folds": 2}, {"reference": "r1"}):
        with pytest.raises(ValueError, match="not for Responses"):
            sy.PolicyValue(LOGGED, **wrong)
    far = frame.with_columns(lr_a=pl.when(pl.int_range(pl.len()) == 3).then(-800.0).otherwise("lr_a"))
    with pytest.raises(sy.OverlapError, match=r"first rows \[3\]"):
        sy.PolicyValue(LOGGED).fit(sy.scan(far, a="a", b="b", outcome="y"))
    assert np.isfinite(sy.PolicyValue(LOGGED, clip=10.0).fit(sy.scan(far, a="a", b="b", outcome="y")).value)
    nulls = frame.with_columns(rater=pl.lit(None, pl.String))
    with pytest.raises(sy.LogError, match="null cluster"):
        sy.PolicyValue(LOGGED).fit(sy.scan(nulls, a="a", b="b", outcome="y", cluster="rater"))
    assert log.count() == 200


def test_what_a_group_never_saw_vary_is_null_for_it():
    frame = objectives(3, 800, 0.7).with_columns(f1=pl.when(pl.col("objective") == "brief").then(0.0).otherwise("f1"))
    fit = sy.GroupRewards().fit(grouped(frame))
    told = fit.coefficients().filter(term="f1")
    assert told.filter(group="brief")["estimate"].to_list() == [None]
    assert told.filter(group="kind")["se"][0] > 0
    assert fit.contrast("brief", "kind", "f1").reason is not None
    assert fit.test_equal().df == 1


def test_numeric_arms_are_named_as_numbers_too():
    frame = by_topic(13, 500).with_columns(**{f"s{j}": pl.lit(0.1 * j) for j in range(4)})
    by_number = sy.DoublyRobust({j: f"s{j}" for j in range(4)}, sy.PairPropensity(method="frequency"))
    assert by_number.fit(sy.scan(frame, **ROLES)).score is not None
    value = sy.PolicyValue({0: np.int64(1)}, {1: 1.0}).fit(sy.scan(frame, **ROLES))
    assert 0 < value.value < 1


def test_messages_and_influence_name_rows_of_the_log():
    frame = small(14, 300).with_columns(p=pl.lit(0.1))
    frame = frame.with_columns(p=pl.when(pl.int_range(pl.len()) == 250).then(7.0).otherwise("p"))
    frame = frame.with_columns(y=pl.when(pl.int_range(pl.len()) < 100).then(None).otherwise("y"))
    with pytest.raises(sy.LogError, match=r"first rows \[250\]"):
        sy.DoublyRobust(propensity=sy.PairPropensity(method="logged")).fit(scanned(frame, propensity="p"))
    fit = sy.DoublyRobust(propensity=sy.PairPropensity(method="frequency")).fit(scanned(frame))
    influence = fit.influence()
    assert influence["row"].to_list() == list(range(100, 300))
    first, second = fit.arms[:2]
    renamed = frame.with_columns(pl.col("a", "b").replace({first: "row", second: "fold"}))
    same = sy.DoublyRobust(propensity=sy.PairPropensity(method="frequency")).fit(scanned(renamed)).influence()
    assert same.columns[:2] == ["_row", "_fold"]
    assert {"row", "fold"} < set(same.columns[2:])
    np.testing.assert_array_equal(same[:, 0], influence["row"])


def test_without_a_plain_score_there_are_still_win_rates():
    frame = by_topic(14, 300, 2).with_columns(y=(pl.col("a") == "0") * 1.0)
    tied = pl.DataFrame({"a": ["1", "0"], "b": ["2", "2"], "y": [1.0, 1.0], "code": ["yes", "no"]})
    log = sy.scan(pl.concat([frame, *[tied] * 20]), **ROLES)
    with pytest.raises(sy.NotIdentifiedError, match="no two arms have both won and lost"):
        sy.BradleyTerry().fit(log)
    fit = sy.DoublyRobust(propensity=sy.PairPropensity(method="frequency")).fit(log)
    assert fit.naive is None
    assert fit.win_rates()["win_rate"].null_count() < 3
    with pytest.raises(sy.NotIdentifiedError, match="no finite score to compare"):
        fit.compare()
    assert "largest move" not in str(sy.card(fit))


def test_clusters_in_several_passes_give_the_same_errors(monkeypatch):
    log, shown = scanned(small(15, 400), cluster=["rater", "prompt"]), sy.PairPropensity(method="frequency")
    specs = (sy.DoublyRobust(propensity=shown, folds=1), sy.PolicyValue("m0", propensity=shown, folds=1))
    scores, value = (spec.fit(log) for spec in specs)
    monkeypatch.setattr("steelyard.inference.clusters.CLUSTER_BYTES", 400)  # a few clusters in each pass
    again, beside = (spec.fit(log) for spec in specs)
    np.testing.assert_allclose(again.covariance, scores.covariance, rtol=1e-10, atol=1e-16)
    assert beside.se == pytest.approx(value.se, rel=1e-12)


def test_a_target_of_one_value_takes_its_rows_alone():
    frame = small(16, 800)
    shown = sy.PairPropensity(method="pairs", ridge=0.0)
    for value in ("code", "prose"):  # one of them is the reference
        share = {"topic": {"code": float(value == "code"), "prose": float(value == "prose")}}
        rows = frame.filter(topic=value)
        for target in (share, rows):
            fit = sy.DoublyRobust(propensity=shown, folds=1, target=target, ridge=1.0).fit(
                scanned(frame, context="topic")
            )
            y = np.where(rows["a"] == "m0", rows["y"], 1 - rows["y"])
            pair = (rows["a"].is_in(["m0", "m1"]) & rows["b"].is_in(["m0", "m1"])).to_numpy()
            assert fit.win[0, 1] == pytest.approx(y[pair].mean(), abs=1e-7)


def test_a_softmax_that_does_not_describe_who_met_whom_warns():
    rng = np.random.default_rng(17)
    frame = by_topic(17, 2000, 8)
    near = pl.Series(rng.random(2000) < 0.5)  # half of them between neighbours
    frame = frame.with_columns(b=pl.when(near).then((pl.col("a").cast(int) + 1) % 8).otherwise("b").cast(pl.String))
    frame = frame.filter(pl.col("a") != pl.col("b"))
    with pytest.warns(UserWarning, match="does not describe which pairs were shown"):
        fit = sy.DoublyRobust().fit(sy.scan(frame, **ROLES))
    assert "does not describe" in str(sy.card(fit))
    assert sy.PairPropensity().fit(World().log(1, 3000)).misfit.fits
    expected = sy.PairPropensity().fit(sy.scan(by_topic(18, 4000, 4), **ROLES)).misfit
    assert expected.fits
    assert abs(expected.z) < 4
    assert sy.PairPropensity(method="pairs").fit(sy.scan(frame, **ROLES)).misfit is None


def test_a_group_of_few_rows_is_named():
    frame = objectives(5, 400, 0.7)
    few = frame.head(1).with_columns(objective=pl.lit("rare"))
    with pytest.raises(sy.NotIdentifiedError, match=r"1 groups have all of their comparisons in one fold: rare \(1\)"):
        sy.GroupRewards().fit(grouped(pl.concat([frame, few])))
    some = frame.head(40).with_columns(objective=pl.lit("rare"))
    told = sy.GroupRewards(floor=0.0, unsupported=1.0).fit(grouped(pl.concat([frame, some])))
    assert told.groups == ("brief", "kind", "rare")


def test_logs_beyond_memory_give_the_same(monkeypatch):
    frame, shown = small(19, 500), sy.PairPropensity(method="frequency")
    groups = objectives(6, 500, 0.7)

    def values() -> tuple[float, float, np.ndarray]:
        fit = sy.PolicyValue("m0", propensity=shown).fit(scanned(frame, cluster="rater", weight="w"))
        return fit.value, fit.se, sy.GroupRewards().fit(grouped(groups)).parameter

    held = values()
    monkeypatch.setattr("steelyard.spill.MOST_IN_MEMORY", 0)
    spilled = values()
    assert spilled[:2] == pytest.approx(held[:2], rel=1e-9)
    np.testing.assert_allclose(spilled[2], held[2], atol=1e-9)


def test_a_pair_whose_comparisons_are_in_one_fold_is_named():
    frame = by_topic(6, 900, 3).filter(~((pl.col("a") != "1") & (pl.col("b") != "1")))
    one = pl.concat([frame, pl.DataFrame({"a": ["0"], "b": ["2"], "y": [1.0], "code": ["no"]})])
    for shown in (sy.PairPropensity(method="pairs"), sy.PairPropensity(method="frequency", strata="code")):
        with pytest.raises(sy.NotIdentifiedError, match=r"1 pairs have all .* in one fold: 0 \| 2 \(1\)\. .*'softmax'"):
            sy.DoublyRobust(propensity=shown).fit(sy.scan(one, **ROLES))
        assert sy.DoublyRobust(propensity=shown, pairs="log", folds=1).fit(sy.scan(one, **ROLES)).n == len(one)


def test_much_that_was_never_answered_is_warned_of():
    frame = by_topic(6, 900, 3).filter(~((pl.col("a") != "1") & (pl.col("b") != "1")))
    shown = sy.PairPropensity(method="pairs")
    words = "% of what is asked for was never answered and rests on the outcome model"
    with pytest.warns(UserWarning, match="33.3 " + words):
        sy.DoublyRobust(propensity=shown, unsupported=0.4).fit(sy.scan(frame, **ROLES))
    with pytest.warns(UserWarning, match="50.0 " + words):
        sy.PolicyValue({"0": 0.5, "1": 0.5}, "2", propensity=shown, unsupported=0.6).fit(sy.scan(frame, **ROLES))


def test_clusters_are_summed_a_few_rows_at_a_time(monkeypatch):
    """Scores of rows are made by the thousand, by the row where so little is held: nothing else changes."""
    rng = np.random.default_rng(8)
    frame = by_topic(8, 600).with_columns(rater=pl.Series(rng.integers(0, 60, 600)))
    arms, groups = sy.scan(frame, **ROLES, cluster="rater"), grouped(objectives(3, 400, 0.7), cluster="rater")
    given = {str(j): pl.lit(0.2 * j) for j in range(4)}

    def found() -> list[float]:
        dr = sy.DoublyRobust(folds=2).fit(arms)
        scored = sy.DoublyRobust(folds=2, outcome=given, propensity=sy.PairPropensity(method="pairs")).fit(arms)
        bounds = sy.sensitivity(dr, "0", over="1").bounds["low_limit"].to_list()
        value = sy.PolicyValue({"0": 0.5, "1": 0.5}, folds=2).fit(arms)
        rewards = sy.GroupRewards(folds=2).fit(groups).coefficients()["se"].to_list()
        shown = sy.PairPropensity().fit(arms).coefficients()["se"].to_list()
        return [*dr.table()["se"], *scored.table()["se"], dr.win_rate("0", "1").se, value.se, *bounds, *rewards, *shown]

    whole = found()
    monkeypatch.setattr("steelyard.inference.clusters._CELLS", 7)
    np.testing.assert_allclose(*(np.array(se, float) for se in (found(), whole)), rtol=1e-9)
