"""What has no error: scores that one cluster has all rows of, or that fit exactly. The other scores keep theirs.

Row scores sum to 0, so that the errors of such were 0 though nothing was known of how they vary.
"""

import numpy as np
import polars as pl
import pytest
import steelyard as sy

ARMS, QUALITY = np.array(list("ABCE")), np.array([0.5, 0.2, -0.2, -0.5])


def comparisons(n=3000, raters=60, seed=0):
    rng = np.random.default_rng(seed)
    a, b = np.argsort(rng.gumbel(size=(n, 4)), axis=1)[:, :2].T
    won = rng.random(n) < 1 / (1 + np.exp(QUALITY[b] - QUALITY[a]))
    return pl.DataFrame(
        {
            "a": ARMS[a],
            "b": ARMS[b],
            "y": won * 1.0,
            "t": rng.choice(["u", "v"], n),
            "rater": rng.integers(0, raters, n),
        }
    )


def more(frame, y, raters, against=None):
    """The same, and rows of an arm D."""
    m = len(y)
    rng = np.random.default_rng(9)
    others = ARMS[rng.integers(0, 4, m)] if against is None else [against] * m
    new = {"a": ["D"] * m, "b": others, "y": y, "t": (["u", "v"] * m)[:m], "rater": raters}
    return pl.concat([frame, pl.DataFrame(new)])


def scanned(frame, **options):
    return sy.scan(frame, a="a", b="b", outcome="y", context="t", **options)


def lone(m=40):
    """D in 40 rows of rater 7."""
    won = (np.random.default_rng(5).random(m) < 0.6) * 1.0
    return scanned(more(comparisons(), won, [7] * m), cluster="rater")


def by_brute_force(log, k):
    """Clustered covariance of score differences to A, from a dense design; arms sorted."""
    frame = log.source.collect()
    names = sorted({*frame["a"], *frame["b"]})
    x = np.zeros((len(frame), len(names)))
    rows = np.arange(len(frame))
    x[rows, [names.index(name) for name in frame["a"]]] += 1.0
    x[rows, [names.index(name) for name in frame["b"]]] -= 1.0
    x, y, beta = x[:, 1:], frame["y"].to_numpy(), np.zeros(k - 1)
    for _ in range(50):
        p = 1 / (1 + np.exp(-x @ beta))
        bread = np.linalg.inv((x.T * (p * (1 - p))) @ x)
        beta += bread @ x.T @ (y - p)
    raters = np.unique(frame["rater"].to_numpy(), return_inverse=True)[1]
    sums = np.zeros((raters.max() + 1, k - 1))
    np.add.at(sums, raters, x * (y - p)[:, None])
    groups = len(sums)
    return names[1:], bread @ (sums.T @ sums) @ bread * groups / (groups - 1)


def test_an_arm_of_one_cluster_has_no_error_and_the_others_keep_theirs():
    log = lone()
    fit, plain = sy.BradleyTerry().fit(log), sy.BradleyTerry(covariance="sandwich").fit(log)
    table = fit.table()
    own, others = table.filter(arm="D").row(0, named=True), table.filter(pl.col("arm") != "D")
    assert [own[name] for name in ("se", "low", "high", "rank_low", "rank_high")] == [None] * 5
    assert "one cluster" in own["reason"]
    assert own["score"] is not None
    names, covariance = by_brute_force(log, 5)
    for x, y in (("B", "C"), ("B", "E")):
        along = np.array([(name == x) * 1.0 - (name == y) for name in names])
        np.testing.assert_allclose(fit.contrast(x, y).se, np.sqrt(along @ covariance @ along), rtol=1e-8)
    assert fit.contrast("D", "A").se is None
    np.testing.assert_allclose(fit.contrast("D", "A").estimate, plain.contrast("D", "A").estimate, atol=1e-9)
    # scores are told from the mean of the arms that have an error, so that theirs does not hang on D
    np.testing.assert_allclose(others["score"].mean(), 0.0, atol=1e-12)
    assert "that have an error" in fit.estimand
    kept = [names.index(name) for name in "BCE"]
    full = np.zeros((4, 4))
    full[1:, 1:] = covariance[np.ix_(kept, kept)]
    centre = np.eye(4) - 0.25
    np.testing.assert_allclose(others.sort("arm")["se"], np.sqrt(np.diag(centre @ full @ centre)), rtol=1e-8)
    assert np.isnan(np.diag(fit.covariance)).tolist() == [False, False, False, True, False]
    assert fit.win_probability("D", "A") == pytest.approx(plain.win_probability("D", "A"))


def test_rank_sets_leave_room_for_an_arm_without_an_error():
    table = sy.BradleyTerry().fit(lone()).table().filter(pl.col("arm") != "D")
    without = sy.BradleyTerry().fit(scanned(comparisons(), cluster="rater")).table()
    widths = [frame["rank_high"] - frame["rank_low"] for frame in (table, without)]
    assert (widths[0] == widths[1] + 1).all()


@pytest.mark.parametrize("covariates", [None, {"z": "z"}])
def test_rows_weights_and_files_say_the_same(tmp_path, covariates):
    frame = lone().source.collect()
    frame = frame.with_columns(z=pl.Series(np.random.default_rng(1).normal(size=len(frame))))
    log = scanned(frame, cluster="rater", covariates=covariates)
    fit = sy.BradleyTerry().fit(log)
    assert "one cluster" in fit.contrast("D", "A").reason
    weights = sy.PairPropensity(context=["t"]).fit(log).weights(log)
    weighed = sy.BradleyTerry(weights=weights).fit(log)
    assert "one cluster" in weighed.contrast("D", "A").reason
    assert weighed.contrast("B", "A").se > 0.01
    fit.save(tmp_path / "fit.sy")
    assert sy.load(tmp_path / "fit.sy").table().equals(fit.table())
    drawn = fit.bootstrap(50, method="multiplier").table().filter(arm="D").row(0, named=True)
    assert drawn["se"] is None
    assert "one cluster" in drawn["reason"]


def test_few_clusters_of_an_arm_are_warned_of():
    won = (np.random.default_rng(5).random(40) < 0.6) * 1.0
    log = scanned(more(comparisons(), won, [1, 2, 3, 4] * 10), cluster="rater")
    with pytest.warns(UserWarning, match=r"fewer than 15 clusters tell of D \(4\)"):
        fit = sy.BradleyTerry().fit(log)
    assert fit.contrast("D", "A").se > 0


@pytest.mark.parametrize("ties", ["half", "davidson", "rao-kupper"])
def test_one_tie_tells_no_error(ties):
    frame = comparisons().with_columns(y=pl.when(pl.int_range(pl.len()) % 5 == 0).then(0.5).otherwise("y"))
    fit = sy.BradleyTerry(ties=ties).fit(scanned(more(frame, [0.5], [0], "A")))
    assert fit.contrast("D", "E").se is None
    assert "met exactly" in fit.table().filter(arm="D")["reason"].item()
    assert fit.contrast("A", "E").se > 0.01
    if ties != "half":  # the likelihood's own error knows
        model = sy.BradleyTerry(ties=ties, covariance="model").fit(scanned(more(frame, [0.5], [0], "A")))
        assert model.contrast("D", "E").se > 1


def test_labels_that_fit_exactly_tell_no_error():
    fit = sy.BradleyTerry().fit(scanned(more(comparisons(), [0.9] * 3, [0, 1, 2], "A")))
    assert fit.contrast("D", "A").se is None
    flat = sy.BradleyTerry().fit(scanned(comparisons().filter(pl.col("b") == "C").with_columns(y=pl.lit(0.7))))
    assert flat.table()["se"].is_null().all()
    assert flat.table()["reason"].str.contains("met exactly").all()


def test_thousands_of_arms_with_one_tie_among_them():
    rng, k = np.random.default_rng(0), 4100
    a, b = np.arange(k), np.roll(np.arange(k), -1)
    a, b = np.tile(a, 6), np.tile(b, 6)
    b[k:] = (a[k:] + rng.integers(1, k, 5 * k)) % k
    y = np.append(rng.integers(0, 2, len(a)), 0.5)
    y[:k] = np.arange(k) % 2  # each wins or loses on the ring, both ways round
    frame = pl.DataFrame({"a": np.append(a, k), "b": np.append(b, 0), "y": y})
    fit = sy.BradleyTerry().fit(sy.scan(frame, a="a", b="b", outcome="y"))
    row = fit.table().filter(arm=str(k)).row(0, named=True)
    assert row["se"] is None
    assert "met exactly" in row["reason"]
    assert fit.contrast(str(k), "0").se is None


def test_doubly_robust_means_of_one_cluster_have_no_error():
    log = lone()
    fit = sy.DoublyRobust(folds=1, pairs="log").fit(log)  # in which D counts for little
    assert "one cluster" in fit.contrast("D", "A").reason
    rate = fit.win_rates().filter(arm="D").row(0, named=True)
    assert (rate["se"], rate["low"]) == (None, None)
    assert fit.contrast("B", "A").se > 0.01
    often = sy.DoublyRobust(folds=1).fit(lone(200))
    assert "one cluster" in often.win_rate("D", "A").reason
    assert often.win_rate("B", "A").se > 0.01
    value = sy.PolicyValue(policy="D", folds=1).fit(log)
    assert value.se is None
    assert "one cluster" in value.reason
    assert value.table()["reason"][0] == value.reason


def test_a_pair_that_one_cluster_has_leaves_both_arms_without_an_error():
    """Over every pair alike that pair is much of their scores: its residuals sum to 0 in the one cluster, always."""
    fit = sy.DoublyRobust(folds=1).fit(lone())
    assert fit.table()["se"].null_count() == 5
    assert fit.win_rates()["reason"].str.contains("one cluster").all()
    rng = np.random.default_rng(0)
    pairs = [(x, y) for i, x in enumerate("ABCDEF") for y in "ABCDEF"[i + 1 :]]
    rows = [(x, y, float(rng.random() < 0.5), r, "uv"[m % 2]) for r, (x, y) in enumerate(pairs) for m in range(30)]
    each = pl.DataFrame(rows, schema=["a", "b", "y", "rater", "t"], orient="row")  # a rater to a pair
    alone = sy.DoublyRobust(folds=1).fit(scanned(each, cluster="rater"))
    assert alone.table()["se"].is_null().all()
    plain = sy.DoublyRobust(folds=1).fit(scanned(each)).table()["se"]
    assert (plain > 0.05).all()
    two = each.with_columns(rater=2 * pl.col("rater") + pl.int_range(pl.len()) % 2)
    with pytest.warns(UserWarning, match=r"fewer than 15 clusters tell of A \(2\)"):
        both = sy.DoublyRobust(folds=1).fit(scanned(two, cluster="rater")).table()["se"]
    assert (both > 0.03).all()


@pytest.mark.parametrize("outcome", [0.1, 0.3, 0.7, 0.5])
def test_outcomes_that_never_vary_break_no_table(outcome):
    """What then is left of the second moments is what large sums that cancel leave."""
    rng = np.random.default_rng(0)
    frame = pl.DataFrame({"a": rng.choice(["A", "B"], 200), "b": ["C"] * 200, "y": [outcome] * 200})
    frame = frame.with_columns(t=pl.Series(rng.choice(["u", "v"], 200)))
    for folds in (1, 5):
        spec = sy.DoublyRobust(propensity=sy.PairPropensity(method="pairs"), pairs="log", folds=folds)
        fit = spec.fit(scanned(frame))
        for table in (fit.table(), fit.table(simultaneous=True), fit.win_rates(simultaneous=True)):
            assert table["se"].fill_null(0.0).max() < 1e-3  # what the propensity's own error makes
        assert fit.bootstrap(50).table().height == 3


@pytest.mark.parametrize("clustered", [False, True])
def test_draws_do_not_know_the_order_of_rows(clustered):
    """Rank sets and bands hung on which of two equal pivots came first."""
    options = {"cluster": "rater"} if clustered else {}
    for seed in range(6):
        frame = comparisons(400, raters=3, seed=seed)
        fits = [
            sy.BradleyTerry().fit(scanned(f, **options))
            for f in (frame, frame.sample(fraction=1.0, shuffle=True, seed=1))
        ]
        np.testing.assert_allclose(fits[0]._draws, fits[1]._draws, atol=1e-6 * fits[0].table()["se"].max())


def test_naive_and_doubly_robust_are_compared_over_the_arms_that_have_an_error():
    fit = sy.DoublyRobust(folds=1, pairs="log").fit(lone())
    table = fit.compare()
    assert table.filter(arm="D").select("naive_low", "low").row(0) == (None, None)
    others = table.filter(pl.col("arm") != "D")
    assert others.select("naive_low", "naive_high", "low", "high").null_count().row(0) == (0, 0, 0, 0)
    np.testing.assert_allclose(others.select("naive", "score").mean().row(0), 0.0, atol=1e-12)


def test_what_reads_errors_knows_those_that_are_none():
    fit = sy.DoublyRobust(folds=1, pairs="log").fit(lone())
    found = sy.sensitivity(fit, "A", over="B", lambdas=[1.0])
    assert np.isfinite(found.e_value_limit)
    with pytest.raises(sy.NotIdentifiedError, match="one cluster"):
        sy.sensitivity(fit, "A", over="D")
    for each in (fit, sy.BradleyTerry().fit(lone())):
        with pytest.raises(sy.NotIdentifiedError, match="no error to start from"):
            sy.plan(each, 100)
    assert sy.card(fit)


def test_a_unit_of_weights_changes_no_error():
    frame = comparisons(600).with_columns(f=pl.Series(np.random.default_rng(1).normal(size=600)), z=pl.lit(0.0))
    found = []
    for weight in (1.0, 1e-9, 1e9):
        log = scanned(frame.with_columns(w=pl.lit(weight)), weight="w", features=(["f"], ["z"]))
        effects = sy.effects(log, attributes={"arm": ("a", "b")})
        fits = sy.BradleyTerry().fit(log).table(), sy.RewardModel().fit(log).coefficients()
        found.append(np.concatenate([table["se"].drop_nulls().to_numpy() for table in (*fits, effects)]))
        assert sy.DoublyRobust(folds=2).fit(log).table()["se"].null_count() == 0
    assert len(found[0]) == 4 + 1 + 3
    np.testing.assert_allclose(found[1:], [found[0]] * 2, rtol=1e-6)


def test_labels_of_little_noise_have_their_small_errors():
    rng = np.random.default_rng(0)
    frame = comparisons(2000).with_columns(y=pl.Series(0.5 + 1e-5 * rng.normal(size=2000)))
    assert (sy.BradleyTerry().fit(scanned(frame)).table()["se"] > 1e-8).all()


@pytest.mark.parametrize("covariates", [None, {"z": "z"}])
def test_beyond_thousands_of_arms_contrasts_know_it_too(monkeypatch, covariates):
    frame = lone().source.collect().with_columns(z=pl.int_range(pl.len()) % 7)
    monkeypatch.setattr("steelyard.models.cells.WIDEST_DENSE", 3)
    fit = sy.BradleyTerry().fit(scanned(frame, cluster="rater", covariates=covariates))
    assert fit.psi is None
    assert "one cluster" in fit.contrast("D", "A").reason
    assert fit.contrast("B", "A").se > 0.01


def test_refits_are_told_from_the_arms_that_have_an_error():
    log = scanned(more(comparisons(300), [0.5] * 4, [0] * 4, "A"))
    fit = sy.BradleyTerry().fit(log)
    found = fit.bootstrap(100)
    row = found.table().filter(arm="D").row(0, named=True)
    assert row["se"] is None
    assert "met exactly" in row["reason"]
    known = [arm != "D" for arm in found.arms]
    np.testing.assert_allclose(found.draws[:, known].mean(axis=1), 0.0, atol=1e-12)
    assert found.failed == 0
    others = found.table().filter(pl.col("arm") != "D").sort("arm")
    np.testing.assert_allclose(others["se"], fit.table().filter(pl.col("arm") != "D").sort("arm")["se"], rtol=0.35)


def test_words_on_where_scores_stand():
    flat = comparisons().filter(pl.col("b") == "C").with_columns(y=pl.lit(0.7))
    assert "that have an error" not in sy.BradleyTerry().fit(scanned(flat)).estimand
    assert "that have an error" in sy.BradleyTerry().fit(lone()).estimand


def test_what_a_judge_saves_of_an_arm_without_an_error_is_null():
    won = (np.random.default_rng(5).random(40) < 0.6) * 1.0
    frame = more(comparisons(), won, [7] * 40).with_columns(p=0.5 + 0.2 * (pl.col("y") - 0.5) * (pl.col("a") != "D"))
    answered = pl.when(pl.int_range(pl.len()) % 3 == 0).then(None).otherwise("y")
    one = pl.when(pl.int_range(pl.len()) > 3000).then(None).when(pl.int_range(pl.len()) == 3000).then(0.5)
    log = scanned(frame.with_columns(y=one.otherwise(answered)))
    gain = (
        sy.DoublyRobust(judge="p", labelled=sy.LabelPropensity(), folds=1, unsupported=1.0, floor=0.0)
        .fit(log)
        .judge_gain()
    )
    assert gain.filter(arm="D").select("se", "se_alone", "saved").row(0) == (None, None, None)
    assert gain["saved"].null_count() == 2  # and the arm that D met, of whose score that is much


def two_sets(joined):
    """Two sets of three arms that met in a few rows alone."""
    some, others = comparisons(1500, seed=1), comparisons(1500, seed=2)
    others = others.with_columns(a="n" + pl.col("a"), b="n" + pl.col("b"))
    return pl.concat([some, others, joined])


@pytest.mark.parametrize("by", ["row", "cluster"])
def test_sets_of_arms_that_one_row_or_cluster_joins(by):
    m = 1 if by == "row" else 40
    won = [0.5] if by == "row" else ((np.random.default_rng(3).random(m) < 0.6) * 1.0).tolist()
    joined = pl.DataFrame({"a": ["A"] * m, "b": ["nA"] * m, "y": won, "t": ["u"] * m, "rater": [7] * m})
    options = {} if by == "row" else {"cluster": "rater"}
    fit = sy.BradleyTerry().fit(scanned(two_sets(joined), **options))
    assert "sets it apart" in fit.contrast("A", "nA").reason
    for x, y in (("A", "B"), ("nA", "nB")):
        assert fit.contrast(x, y).se > 0.03
    table = fit.table()
    assert table["se"].null_count() == 4  # one set is told from its own mean
    assert table.filter(pl.col("se").is_not_null())["score"].mean() == pytest.approx(0.0, abs=1e-12)
    alone = two_sets(joined).filter(pl.col("a").str.len_chars() == 1 + (table.drop_nulls("se")["arm"][0][0] == "n"))
    want = sy.BradleyTerry().fit(
        scanned(alone.filter(pl.col("b").str.len_chars() == pl.col("a").str.len_chars()), **options)
    )
    told = table.drop_nulls("se").sort("arm")
    np.testing.assert_allclose(
        told["se"], want.table().filter(pl.col("arm").is_in(told["arm"].implode())).sort("arm")["se"], rtol=0.02
    )


def test_an_arm_met_exactly_beside_one_of_one_cluster():
    """Two reasons in one log: clustered errors start from the inverse as it is, not from one that is told anew."""
    log = scanned(more(more(comparisons(), [0.5], [3], "A").with_columns(pl.col("a").replace("D", "F")), *two_raters()),
                  cluster="rater")  # fmt: skip
    fit = sy.BradleyTerry().fit(log)
    told = {row["arm"]: row for row in fit.table().iter_rows(named=True)}
    assert "met exactly" in told["F"]["reason"]
    assert "one cluster" in told["D"]["reason"]
    assert all(told[arm]["se"] > 0.03 for arm in ARMS)
    want = sy.BradleyTerry().fit(scanned(comparisons(), cluster="rater"))
    for x, y in (("A", "B"), ("C", "E")):
        assert fit.contrast(x, y).se == pytest.approx(want.contrast(x, y).se, rel=0.05)


def two_raters():
    """Outcomes and raters of an arm that one rater has."""
    return (np.random.default_rng(5).random(40) < 0.6) * 1.0, [7] * 40
