"""Plans against a general optimiser, Neyman's closed form, and simulation of what they buy."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl
import pytest
import scipy
import steelyard as sy
from steelyard.causal.plan import _filled, _information, _whole
from steelyard.errors import NotIdentifiedError

from tests.causal.test_doubly_robust import scanned, small

SCORE = np.array([1.6, 0.7, 0.0, -0.6, -1.7])
PAIRS = np.array(list(combinations(range(5), 2)))


def drawn(rng: Any, counts: Any) -> pl.DataFrame:
    """counts (10,) comparisons of each pair of five arms."""
    pair = np.repeat(PAIRS, counts, axis=0)
    pair = np.where(rng.random(len(pair))[:, None] < 0.5, pair, pair[:, ::-1])
    y = rng.random(len(pair)) < 1 / (1 + np.exp(SCORE[pair[:, 1]] - SCORE[pair[:, 0]]))
    return pl.DataFrame({"a": [f"m{i}" for i in pair[:, 0]], "b": [f"m{i}" for i in pair[:, 1]], "y": y * 1.0})


def fitted(frame: pl.DataFrame, **more: Any) -> Any:
    return sy.BradleyTerry(**more).fit(sy.scan(frame, a="a", b="b", outcome="y"))


LOPSIDED = np.array([300, 20, 10, 10, 150, 10, 10, 60, 10, 10])


def counts_of(table: pl.DataFrame) -> Any:
    known = {(a, b): n for a, b, n in table.select("a", "b", "comparisons").iter_rows()}
    return np.array([known.get((f"m{i}", f"m{j}"), 0) for i, j in PAIRS])


@pytest.mark.parametrize("n", [50, 500, 5000])
def test_scores_equal_a_general_optimiser(n):
    fit = fitted(drawn(np.random.default_rng(0), LOPSIDED), covariance="model")
    p = 1 / (1 + np.exp(fit.score[PAIRS[:, 1]] - fit.score[PAIRS[:, 0]]))
    x = np.zeros((10, 5))
    x[np.arange(10), PAIRS[:, 0]], x[np.arange(10), PAIRS[:, 1]] = 1.0, -1.0
    have = np.linalg.pinv(fit.covariance)

    def total(share: Any) -> float:
        return float(np.trace(np.linalg.pinv(have + (x.T * (share * p * (1 - p))) @ x)))

    found = scipy.optimize.minimize(
        lambda z: 1e3 * total(n * z), np.full(10, 0.1), bounds=[(0, 1)] * 10, method="SLSQP",
        constraints={"type": "eq", "fun": lambda z: z.sum() - 1}, options={"ftol": 1e-12, "maxiter": 500},
    )  # fmt: skip
    plan = sy.plan(fit, n)
    mine = (plan.forecast["se_plan"].to_numpy() ** 2).sum()
    assert total(n * found.x) <= mine <= 1.001 * total(n * found.x)
    assert (plan.forecast["se_even"].to_numpy() ** 2).sum() == pytest.approx(total(np.full(10, n / 10)))
    np.testing.assert_allclose(plan.forecast["se"], np.sqrt(np.diag(fit.covariance)))
    assert plan.table["comparisons"].sum() == n
    rounded = total(counts_of(plan.table).astype(float))
    assert rounded < 1.01 * total(n * found.x)
    assert plan.factor > 1.0


def test_the_forecast_of_an_even_spread_is_what_comes():
    rng = np.random.default_rng(1)
    have = drawn(rng, 500 * LOPSIDED)
    fit = fitted(have)
    forecast = sy.plan(fit, 1_500_000).forecast
    later = fitted(pl.concat([have, drawn(rng, np.full(10, 150_000))]))
    ratio = np.sqrt(np.diag(later.covariance)) / forecast["se_even"].to_numpy()
    np.testing.assert_allclose(ratio, 1.0, atol=0.02)


def test_repeated_raters_are_expected_again():
    rng = np.random.default_rng(2)
    frame = drawn(rng, LOPSIDED * 2)
    doubled = pl.concat([frame, frame]).with_columns(rater=pl.int_range(pl.len()) % len(frame))
    fit = sy.BradleyTerry().fit(sy.scan(doubled, a="a", b="b", outcome="y", cluster="rater"))
    plain = fitted(frame)
    np.testing.assert_allclose(
        sy.plan(fit, 2000).forecast["se_plan"], sy.plan(plain, 1000).forecast["se_plan"], rtol=0.01
    )


def test_the_forecast_does_not_hang_on_the_unit_of_weights_or_a_small_ridge():
    frame = drawn(np.random.default_rng(7), LOPSIDED)
    plain = sy.plan(fitted(frame), 500).forecast
    heavy = sy.BradleyTerry().fit(sy.scan(frame.with_columns(w=10.0), a="a", b="b", outcome="y", weight="w"))
    for fit in (heavy, fitted(frame, ridge=1e-6)):
        for name in plain.columns[1:]:
            np.testing.assert_allclose(sy.plan(fit, 500).forecast[name], plain[name], rtol=1e-4)
    tens = rewards().frame().with_columns(w=10.0)
    more = {"outcome": "y", "features": (["u", "v"], ["s", "t"])}
    told = [sy.plan(sy.RewardModel().fit(log), 300).forecast["se_plan"]
            for log in (sy.scan(tens, **more), sy.scan(tens, weight="w", **more))]  # fmt: skip
    np.testing.assert_allclose(*told, rtol=1e-6)


def test_covariates_of_any_unit_have_no_part_in_a_plan_of_rewards():
    frame = rewards().frame().with_columns(z=pl.int_range(pl.len()) % 7 - 3.0)
    roles = {"outcome": "y", "features": (["u", "v"], ["s", "t"])}
    told = [sy.plan(sy.RewardModel().fit(sy.scan(frame, covariates={"z": pl.col("z") * unit}, **roles)), 300)
            for unit in (1.0, 1e-3)]  # fmt: skip
    assert told[0].table.equals(told[1].table)
    np.testing.assert_allclose(told[0].factor, told[1].factor, rtol=1e-6)


def test_position_effects_lower_what_comparisons_tell():
    rng = np.random.default_rng(8)

    def some(n: int) -> pl.DataFrame:
        a = rng.integers(0, 4, n)
        b = (a + rng.integers(1, 4, n)) % 4
        y = rng.random(n) < 1 / (1 + np.exp(-2.5 - 0.3 * (b - a)))
        return pl.DataFrame({"a": a, "b": b, "y": y * 1.0})

    have = some(40_000)
    forecast = sy.plan(fitted(have, position=True), 40_000).forecast
    later = fitted(pl.concat([have, some(40_000)]), position=True)
    np.testing.assert_allclose(forecast["se_even"], np.sqrt(np.diag(later.covariance))[:4], rtol=0.03)


@pytest.mark.parametrize("model", [{}, {"link": "probit"}, {"ties": "davidson"}, {"ties": "rao-kupper"}])
def test_information_is_the_expected_curvature(model):
    frame = drawn(np.random.default_rng(3), LOPSIDED).with_columns(i=pl.int_range(pl.len()))
    fit = fitted(frame.with_columns(y=pl.when(pl.col("i") % 4 == 0).then(0.5).otherwise("y")), **model)
    eta, h = np.linspace(-3, 3, 13), 1e-3

    def log_p(at: Any) -> Any:
        p_a, p_tie = fit._outcomes(np.ascontiguousarray(at))
        with np.errstate(divide="ignore"):
            return np.log(np.stack([p_a, p_tie, 1 - p_a - p_tie]))

    p = np.exp(log_p(eta))
    with np.errstate(invalid="ignore"):
        curvature = (log_p(eta + h) - 2 * log_p(eta) + log_p(eta - h)) / h**2
    np.testing.assert_allclose(_information(fit, eta), -np.nansum(p * curvature, axis=0), rtol=1e-4)
    if not model:
        np.testing.assert_allclose(_information(fit, eta), p[0] * p[2], rtol=1e-8)


def rewards(seed: int = 0, n: int = 1500) -> sy.PreferenceLog:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4)) * [0.2, 1.0, 0.2, 1.0]
    group = rng.random(n) < 0.2
    eta = (x[:, 0] - x[:, 2]) * np.where(group, -0.5, 0.5) + 0.8 * (x[:, 1] - x[:, 3])
    frame = pl.DataFrame({"u": x[:, 0], "v": x[:, 1], "s": x[:, 2], "t": x[:, 3], "who": np.where(group, "few", "many"),
                          "y": (rng.random(n) < 1 / (1 + np.exp(-eta))) * 1.0})  # fmt: skip
    return sy.scan(frame, outcome="y", features=(["u", "v"], ["s", "t"]), group="who")


@pytest.mark.parametrize("more", [{}, {"heads": "per-group"}, {"heads": "per-group", "ridge": 2.0}])
def test_rewards_are_sharpened_one_factor_at_a_time(more):
    fit = sy.RewardModel(**more).fit(rewards())
    plan = sy.plan(fit, 400)
    per_group = plan.table["group"].null_count() == 0
    assert per_group == bool(more)
    assert plan.table["comparisons"].sum() == 400
    most = plan.table.row(0, named=True)
    assert most["feature"] == "u"  # it hardly varied in the log
    if per_group:
        assert most["group"] == "few"
    se = fit.coefficients().select("term", "se")
    beside = plan.forecast.join(se, on="term", suffix="_now")
    np.testing.assert_allclose(beside["se"], beside["se_now"], rtol=1e-9)
    assert (plan.forecast["se_plan"] < plan.forecast["se"]).all()


def test_shares_of_means_are_neymans_filled_up():
    rng = np.random.default_rng(4)
    size, held = rng.uniform(0.5, 3, 12), rng.integers(0, 60, 12).astype(float)
    size[3] = 0.0
    for n in (10, 200, 10_000):
        found = scipy.optimize.minimize(
            lambda z, n=n: (size**2 / (held + n * z + 1e-12)).sum(), np.full(12, 1 / 12), bounds=[(1e-9, 1)] * 12,
            constraints={"type": "eq", "fun": lambda z: z.sum() - 1}, options={"ftol": 1e-13, "maxiter": 1000},
        )  # fmt: skip
        mine = _filled(size, held, n)
        assert mine.sum() == pytest.approx(n)
        assert mine[3] == 0.0
        value, best = ((size**2 / np.maximum(held + x, 1e-12)).sum() for x in (mine, n * found.x))
        assert value <= best * (1 + 1e-6)
    np.testing.assert_allclose(_filled(size, np.zeros(12), 100), 100 * size / size.sum())


def test_whole_numbers():
    assert _whole(np.array([1.5, 2.25, 0.25]), 4).tolist() == [2, 2, 0]
    assert _whole(np.array([0.4, 0.4, 0.2]), 1).sum() == 1


def worlds(rng: Any, counts: Any) -> pl.DataFrame:
    """counts (2, 3) comparisons of each pair of three arms in two topics, whose scores differ."""
    pairs = np.array(list(combinations(range(3), 2)))
    score = np.array([[1.0, 0.0, -1.0], [-1.5, 0.0, 2.0]])
    p = 1 / (1 + np.exp(score[:, pairs[:, 1]] - score[:, pairs[:, 0]]))
    parts = []
    for topic, name in enumerate(("code", "prose")):
        pair = np.repeat(np.arange(3), counts[topic])
        y = (rng.random(len(pair)) < p[topic][pair]) * 1.0
        names = [[f"m{i}" for i in pairs[pair, side]] for side in (0, 1)]
        types = {"a": pl.String, "b": pl.String}
        parts.append(pl.DataFrame({"a": names[0], "b": names[1], "y": y, "topic": name}, schema_overrides=types))
    return pl.concat(parts)


HAVE = np.array([[400, 30, 30], [60, 30, 30]])
SPEC = sy.DoublyRobust(propensity=sy.PairPropensity(method="frequency", strata="topic"), folds=2,
                       target={"topic": {"code": 0.3, "prose": 0.7}})  # fmt: skip


def by_cell(table: pl.DataFrame) -> Any:
    known = {(t, a, b): n for a, b, t, n in table.select("a", "b", "topic", "comparisons").iter_rows()}
    return np.array([[known.get((t, f"m{i}", f"m{j}"), 0) for i, j in combinations(range(3), 2)]
                     for t in ("code", "prose")])  # fmt: skip


def test_means_by_cell():
    fit = SPEC.fit(scanned(worlds(np.random.default_rng(5), HAVE), context="topic"))
    plan = sy.plan(fit, 600, context="topic")
    assert by_cell(plan.table).sum() == 600
    assert by_cell(plan.table)[0, 0] == 0  # there are plenty
    whole = sy.plan(fit, 600)
    assert whole.table.columns == ["a", "b", "effective_in_log", "comparisons"]
    for each in (plan, whole):
        assert (each.forecast["se_plan"] < each.forecast["se"]).all()
        assert each.factor > 1.0
    np.testing.assert_allclose(plan.forecast["se"], np.sqrt(np.diag(fit.covariance)))


def test_hardly_more_rows_change_errors_of_means_hardly():
    frame = worlds(np.random.default_rng(2), HAVE)
    frame = frame.with_columns(rater=pl.int_range(pl.len()) % 40)
    for roles in ({}, {"cluster": "rater"}):
        fit = sy.DoublyRobust(pairs="log").fit(scanned(frame, context="topic", **roles))
        forecast = sy.plan(fit, 1).forecast
        for name in ("se_plan", "se_even"):
            np.testing.assert_allclose(forecast[name], forecast["se"], rtol=2e-2)
            assert (forecast[name] <= forecast["se"]).all()


def test_what_it_cannot_plan():
    log = scanned(worlds(np.random.default_rng(5), HAVE), context="topic")
    fit = SPEC.fit(log)
    for call, words in ((lambda: sy.plan(fit, 0), "from 1 to"), (lambda: sy.plan(fit, 5, context="x"), "text"),
                        (lambda: sy.plan(fit.naive, 5, context="topic"), "DoublyRobust")):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            call()
    with pytest.raises(TypeError, match="BradleyTerry"):
        sy.plan(log, 5)
    crossed = sy.scan(rewards().frame().with_columns(c=pl.int_range(pl.len()) % 7), outcome="y", context="c",
                      features=(["u", "v"], ["s", "t"]))  # fmt: skip
    with pytest.raises(ValueError, match="interactions"):
        sy.plan(sy.RewardModel(interactions=[("u", "c")]).fit(crossed), 5)
    same = pl.DataFrame({"a": ["x", "y", "x"], "b": ["y", "z", "z"], "y": [0.5] * 3})
    with pytest.raises(NotIdentifiedError, match="no error to start from"):
        sy.plan(fitted(same), 10)
    few = drawn(np.random.default_rng(9), LOPSIDED).with_columns(rater=pl.int_range(pl.len()) % 3)
    with pytest.raises(NotIdentifiedError, match="fewer clusters"):
        sy.plan(sy.BradleyTerry().fit(sy.scan(few, a="a", b="b", outcome="y", cluster="rater")), 10)
    thin = sy.DoublyRobust().fit(scanned(small(0, 300, 12), context="topic"))
    with pytest.raises(NotIdentifiedError, match=r"fit\.naive"):
        sy.plan(thin, 3, context="topic")
    assert sy.plan(thin.naive, 3).table["comparisons"].sum() == 3
    with pytest.raises(ValueError, match="named once"):
        sy.plan(fit, 5, context=["topic", "topic"])


@pytest.mark.slow
def test_a_plan_beats_an_even_spread_by_what_it_says():
    rng = np.random.default_rng(6)
    have = drawn(rng, LOPSIDED)
    plan = sy.plan(fitted(have), 600)
    planned, even, best = counts_of(plan.table), np.full(10, 60), []
    for counts in (planned, even):
        later = [fitted(pl.concat([drawn(rng, LOPSIDED), drawn(rng, counts)])).score for _ in range(400)]
        best.append(np.var([score - score.mean() for score in later], axis=0, ddof=1).sum())
    assert best[1] / best[0] == pytest.approx(plan.factor, rel=0.12)

    plans = [sy.plan(SPEC.fit(scanned(worlds(rng, 5 * HAVE), context="topic")), 3000, context="topic")
             for _ in range(20)]  # fmt: skip
    plan, best, told = plans[0], [], []
    for counts in (by_cell(plan.table), np.full((2, 3), 500)):
        fits = [SPEC.fit(scanned(pl.concat([worlds(rng, 5 * HAVE), worlds(rng, counts)]), context="topic"))
                for _ in range(400)]  # fmt: skip
        best.append(np.var([f.score for f in fits], axis=0, ddof=1).sum())
        told.append(np.mean([np.diag(f.covariance).sum() for f in fits]))
    # one log of some 150 answers a cell tells their variance to a tenth; several tell what a forecast is on average
    forecast = np.mean(
        [each.forecast.select(pl.col("se_plan", "se_even").pow(2).sum()).row(0) for each in plans], axis=0
    )
    np.testing.assert_allclose(told, forecast, rtol=0.03)
    assert best[1] / best[0] == pytest.approx(plan.factor, rel=0.2)
    assert best[1] > 1.05 * best[0]


@pytest.mark.parametrize("rewards", [False, True])
def test_ties_that_are_dropped_tell_nothing(rewards):
    """Of the comparisons to come as many are ties as of the log's."""
    rng = np.random.default_rng(0)
    spec: Any = sy.RewardModel(ties="drop") if rewards else sy.BradleyTerry(ties="drop")

    def tied(rows: pl.DataFrame) -> pl.DataFrame:
        f, g, chance = rng.normal(size=(3, len(rows)))
        return rows.with_columns(f=f, g=g, y=pl.when(pl.Series(chance < -0.2533)).then(0.5).otherwise("y"))  # 40 %

    ratio = []
    for _ in range(6):
        frame, new = (drawn(rng, np.full(10, n)) for n in (60, 600))
        frame, new = map(tied, (frame, new))
        log, both = (sy.scan(rows, a="a", b="b", outcome="y", features=(["f"], ["g"]))
                     for rows in (frame, pl.concat([frame, new])))  # fmt: skip
        fit = spec.fit(log)
        assert fit.dropped["tie"] == (frame["y"] == 0.5).sum()
        if rewards:  # single-factor comparisons are not what comes here: what is planned tells of one unit
            unit = sy.plan(fit, 1).forecast
            assert unit.height == 1
            ratio.append(sy.plan(fit, 10**9).forecast["se_plan"][0] ** 2 * 1e9 * 0.25 * 0.6)
            continue
        came = spec.fit(both).table().sort("arm")["se"]
        ratio.append((came / sy.plan(fit, 6000).forecast.sort("arm")["se_even"]).to_numpy())
    assert np.mean(ratio) == pytest.approx(1.0, abs=0.06)


def test_ties_are_counted_under_weights_too():
    rng = np.random.default_rng(0)
    frame = drawn(rng, np.full(10, 60)).with_columns(
        f=pl.Series(rng.normal(size=600)), g=pl.Series(rng.normal(size=600))
    )
    frame = frame.with_columns(y=pl.when(pl.int_range(600) % 5 == 0).then(0.5).otherwise("y"),
                               w=pl.when(pl.int_range(600) % 2 == 0).then(0.0).otherwise(1.0), c=3)  # fmt: skip
    spec = sy.RewardModel(ties="drop")
    for roles in ({}, {"weight": "w"}, {"count": "c"}):
        fit = spec.fit(sy.scan(frame, a="a", b="b", outcome="y", features=(["f"], ["g"]), **roles))
        assert fit.decided == pytest.approx(0.8)
        assert fit.dropped.get("tie") == {"": 120, "count": 360}.get("".join(roles))


def test_a_ridge_is_warned_of():
    with pytest.warns(UserWarning, match="from a fit with ridge=2"):
        sy.plan(fitted(drawn(np.random.default_rng(0), LOPSIDED), ridge=2.0), 100)


def test_contexts_of_a_short_log_are_not_forecast_from_noise():
    """The rarest of five arms: what contexts add to its error was told by a difference of squares, which is noise."""
    theta, drawn_by = np.linspace(0.8, -0.8, 5), np.array([[0.4, -0.4, 0.2, -0.2, 0.0], [0.4, -0.3, -0.4, 0.3, 0.0]])
    slope, liked = np.array([[0.5, -0.5, 0.3, -0.3, 0.0], [0.4, 0.2, -0.5, -0.3, 0.2]]), [0.8, 0.3, 0.0, -0.4, -0.7]

    def compared(rng: Any, a: Any, b: Any, x: Any, topic: Any) -> pl.DataFrame:
        score, row = theta + np.column_stack([x, topic]) @ slope, np.arange(len(a))
        y = rng.random(len(a)) < 1 / (1 + np.exp(score[row, b] - score[row, a]))
        return pl.DataFrame({"a": [f"m{i}" for i in a], "b": [f"m{i}" for i in b], "y": y * 1.0, "x": x,
                             "topic": np.where(topic > 0, "u", "v")})  # fmt: skip

    spec, contexts = sy.DoublyRobust(propensity=sy.PairPropensity(method="pairs"), folds=3), ["x", "topic"]
    ratios = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        topic = np.where(rng.random(1500) < 0.6, 1.0, -1.0)
        x = rng.normal(size=1500) + 0.4 * topic
        noise = rng.gumbel(size=(1500, 5))
        shown = np.argsort(-(liked + np.column_stack([x, topic]) @ drawn_by + noise), axis=1)[:, :2]
        frame = compared(rng, *rng.permuted(shown, axis=1).T, x, topic)
        plan = sy.plan(spec.fit(scanned(frame, context=contexts)), 9000, context="topic")
        parts = [frame]
        for own, value in (("u", 1.0), ("v", -1.0)):
            pair = np.repeat(PAIRS, counts_of(plan.table.filter(topic=own)), axis=0)
            of = np.full(len(pair), value)
            parts.append(compared(rng, *rng.permuted(pair, axis=1).T, rng.normal(size=len(pair)) + 0.4 * of, of))
        target = frame.select(contexts)  # collected by topic, the log itself has other shares
        refit = replace(spec, target=target).fit(scanned(pl.concat(parts), context=contexts))
        ratios.append(plan.forecast.sort("arm")["se_plan"][4] / refit.table().sort("arm")["se"][4])
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.12)


def test_answers_that_were_missing_are_missed_again():
    rng = np.random.default_rng(2)
    truth = np.array([0.6, 0.2, -0.2, -0.6])

    def some(n: int) -> pl.DataFrame:
        a = rng.integers(0, 4, n)
        b, x = (a + rng.integers(1, 4, n)) % 4, rng.normal(size=n)
        y = np.where(rng.random(n) < 0.3, (rng.random(n) < 1 / (1 + np.exp(truth[b] - truth[a]))) * 1.0, np.nan)
        return pl.DataFrame({"a": a, "b": b, "y": y, "x": x}).with_columns(pl.col("y").fill_nan(None))

    def means(frame: pl.DataFrame) -> Any:
        spec = sy.DoublyRobust(propensity=sy.PairPropensity(method="pairs"), labelled=sy.LabelPropensity())
        return spec.fit(sy.scan(frame, a="a", b="b", outcome="y", context="x"))

    have = some(4000)
    told = sy.plan(means(have), 8000).forecast["se_even"]
    found = [means(pl.concat([have, some(8000)])).table().sort("arm")["se"].to_numpy() for _ in range(3)]
    np.testing.assert_allclose(told, np.mean(found, axis=0), rtol=0.06)


def test_rewards_under_a_position_effect():
    """Singles are read of both orders, as far as the margin is told beside the position effect."""
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(2, 4000)), rng.random(4000)
    won = (y < 1 / (1 + np.exp(-1.5 - 0.3 * x[0] + 0.2 * x[1]))) * 1.0
    log = sy.scan({"u": x[0], "v": x[1], "z": np.zeros(4000), "y": won}, outcome="y", features=(["u", "v"], ["z", "z"]))
    fit = sy.RewardModel(position=True).fit(log)
    told = dict(fit.coefficients().select("term", "estimate").iter_rows())
    plan = sy.plan(fit, 2000)
    p = [1 / (1 + np.exp(-told["u"] - side * told["position"])) for side in (1, -1)]
    tells = np.mean([each * (1 - each) for each in p])
    row = plan.forecast.filter(pl.col("term") == "u")
    want = 1 / (1 / row["se"][0] ** 2 + 1000 * tells)
    assert row["se_even"][0] == pytest.approx(np.sqrt(want), rel=0.02)
