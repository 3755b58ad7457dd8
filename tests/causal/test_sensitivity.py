"""Sensitivity against a linear program, enumeration, a log that attains the bound, closed forms and simulation."""

from __future__ import annotations

from itertools import combinations, product
from math import sqrt
from typing import Any

import numpy as np
import polars as pl
import pytest
import scipy
import steelyard as sy
from sklearn.linear_model import LogisticRegression
from steelyard.causal.marginal import Marginal
from steelyard.causal.matched import sign_test
from steelyard.causal.projection import project
from steelyard.causal.sensitivity import e_value
from steelyard.errors import NotIdentifiedError

from tests.causal.test_doubly_robust import BY_TOPIC, scanned, small


class CellMeans:
    """The mean outcome of every pair in every context, exactly: a saturated classifier."""

    classes_ = np.array([0, 1])

    def _keys(self, x: Any) -> Any:
        return (x @ 7.3 ** np.arange(x.shape[1])).round(6)

    def fit(self, x: Any, y: Any, sample_weight: Any = None) -> CellMeans:
        w = np.ones(len(y)) if sample_weight is None else sample_weight
        self.keys, place = np.unique(self._keys(x), return_inverse=True)
        self.mean = np.bincount(place, w * y) / np.bincount(place, w)
        return self

    def predict_proba(self, x: Any) -> Any:
        p = self.mean[np.searchsorted(self.keys, self._keys(x))]
        return np.column_stack([1 - p, p])


def discrete(seed: int = 0, n: int = 900, k: int = 3) -> pl.DataFrame:
    """Pairs and outcomes that hang on a topic; outcomes 0 and 1."""
    rng = np.random.default_rng(seed)
    topic, pairs = rng.integers(0, 2, n), np.array(list(combinations(range(k), 2)))
    shares = rng.dirichlet(np.full(len(pairs), 4.0), 2)
    pair = np.array([rng.choice(len(pairs), p=shares[t]) for t in topic])
    a, b = np.where(rng.random(n)[:, None] < 0.5, pairs[pair], pairs[pair][:, ::-1]).T
    y = (rng.random(n) < 1 / (1 + np.exp((a - b) * (0.9 * topic - 0.2)))) * 1.0
    return pl.DataFrame({"a": [f"m{j}" for j in a], "b": [f"m{j}" for j in b], "y": y,
                         "topic": np.array(["code", "prose"])[topic]})  # fmt: skip


def saturated(frame: pl.DataFrame) -> sy.DoublyRobustFit:
    spec = sy.DoublyRobust(outcome=CellMeans(), propensity=BY_TOPIC, folds=1)
    return spec.fit(scanned(frame, context="topic"))


@pytest.mark.parametrize("lam", [1.0, 1.4, 4.0])
def test_win_rates_equal_the_linear_program_over_all_weights(lam):
    frame = discrete()
    fit = saturated(frame)
    bounds = sy.sensitivity(fit, "m0", over="m2", lambdas=[lam]).bounds
    a, b = (np.array([int(name[1]) for name in frame[side]]) for side in "ab")
    y, topic = frame["y"].to_numpy(), frame["topic"].to_numpy()

    def program(arm: int, other: int, sign: float) -> float:
        total = 0.0
        for value in np.unique(topic):
            cell = topic == value
            at = cell & np.isin(a, [arm, other]) & np.isin(b, [arm, other])
            won = np.where(a == arm, y, 1 - y)[at]
            off = cell.sum() / at.sum() - 1
            found = scipy.optimize.linprog(
                -sign * won, A_eq=np.ones((1, len(won))), b_eq=[cell.sum()], bounds=(1 + off / lam, 1 + off * lam)
            )
            total += float(found.x @ won)
        return total / len(y)

    for arm in (0, 2):
        row = bounds.filter(pl.col("quantity") == f"win rate of m{arm}").row(0, named=True)
        for end, sign in (("low", -1.0), ("high", 1.0)):
            want = np.mean([program(arm, other, sign) for other in range(3) if other != arm])
            assert row[end] == pytest.approx(want, abs=1e-9)


def vertices(fit: sy.DoublyRobustFit, model: Marginal) -> Any:
    """(2^P, K) scores at every choice of the least or the largest mean of every pair."""
    k = len(fit.score)
    win = np.stack([model._win(side * np.triu(np.ones((k, k)), 1)) for side in (-1.0, 1.0)])
    pairs, found = list(combinations(range(k), 2)), []
    for choice in product((0, 1), repeat=len(pairs)):
        matrix = np.full((k, k), 0.5)
        for (i, j), end in zip(pairs, choice, strict=True):
            matrix[i, j], matrix[j, i] = win[end, i, j], 1 - win[end, i, j]
        found.append(project(matrix, fit.omega).theta)
    return np.array(found)


@pytest.mark.parametrize("propensity", [BY_TOPIC, sy.PairPropensity()])
def test_scores_equal_the_farthest_vertex(propensity):
    fit = sy.DoublyRobust(propensity=propensity).fit(scanned(small(2, 700, 4)))
    for lam in (1.2, 2.0):
        theta = vertices(fit, Marginal.of(fit.problem, fit.residuals, lam))
        reached = theta[:, 0] - theta[:, 3]
        row = sy.sensitivity(fit, "m0", over="m3", lambdas=[lam]).bounds.row(0, named=True)
        assert row["low"] == pytest.approx(min(reached), abs=1e-9)
        assert row["high"] == pytest.approx(max(reached), abs=1e-9)


@pytest.mark.parametrize("more", [{}, {"cluster": ["rater"]}, {"cluster": ["rater", "prompt"]}, {"weight": "w"}])
def test_lambda_of_one_is_the_estimate_itself(more):
    folds = 1 if "prompt" in more.get("cluster", []) else 5
    fit = sy.DoublyRobust(folds=folds).fit(scanned(small(1, 600), **more))
    found = sy.sensitivity(fit, "m1", over="m4", lambdas=[1.0])
    score, rate, _ = found.bounds.rows(named=True)
    contrast = fit.contrast("m1", "m4")
    rates = fit.win_rates().filter(pl.col("arm") == "m1").row(0, named=True)
    for row, value, low, high in ((score, contrast.estimate, contrast.low, contrast.high),
                                  (rate, rates["win_rate"], rates["low"], rates["high"])):  # fmt: skip
        np.testing.assert_allclose([row["low"], row["high"]], [value, value], atol=1e-12)
        np.testing.assert_allclose([row["low_limit"], row["high_limit"]], [low, high], atol=1e-9)


def test_a_hidden_cause_that_attains_the_bound():
    """Whether a pair is shown hangs on the outcome itself, by odds at the model's edge: the bound is the truth."""
    lam, n, rng = 2.0, 200_000, np.random.default_rng(3)
    topic = rng.integers(0, 2, n)
    mu = np.array([0.3, 0.45])[topic]  # of x over y
    y = rng.random(n) < mu
    nominal = np.array([0.3, 0.5])[topic]
    # share of wins among the shown, m, such that the others' is the largest that Lambda allows: min(lam m, ...)
    m = np.array([scipy.optimize.brentq(
        lambda m, p=p, u=u: p * m + (1 - p) * min(lam * m, 1 - (1 - m) / lam) - u, 0.0, 1.0)
        for p, u in ((0.3, 0.3), (0.5, 0.45))])[topic]  # fmt: skip
    shown = rng.random(n) < np.where(y, nominal * m / mu, nominal * (1 - m) / (1 - mu))
    other = rng.random(n) < 0.5
    frame = pl.DataFrame({
        "a": np.where(shown, "x", np.where(other, "x", "y")), "b": np.where(shown, "y", "z"),
        "y": np.where(shown, y, rng.random(n) < 0.5) * 1.0, "topic": np.array(["code", "prose"])[topic],
    })  # fmt: skip
    fit = sy.DoublyRobust(propensity=BY_TOPIC, outcome=CellMeans(), folds=1).fit(scanned(frame, context="topic"))
    model = Marginal.of(fit.problem, fit.residuals, lam)
    assert float(model._win(np.ones((3, 3)))[0, 1]) == pytest.approx(y.mean(), abs=0.006)
    assert y.mean() - fit.win_probability("x", "y") > 0.08


def test_the_bounds_hold_whichever_model_is_right():
    """A wrong outcome model only widens them; a wrong propensity leaves them where they are."""
    frame = discrete(5, 20_000)
    right = saturated(frame)
    log = scanned(frame.with_columns(score=pl.lit(0.0)), context="topic")
    flat = sy.DoublyRobust(outcome=dict.fromkeys(["m0", "m1", "m2"], "score"), propensity=BY_TOPIC).fit(log)
    logged = scanned(frame.with_columns(p=1 / 3.0), context="topic", propensity="p")
    with pytest.warns(UserWarning, match="1 / propensity"):
        wrong = sy.DoublyRobust(outcome=CellMeans(), propensity=sy.PairPropensity(method="logged")).fit(logged)
    ends = [sy.sensitivity(fit, "m0", over="m1", lambdas=[1.5]).bounds for fit in (right, flat, wrong)]
    names = ("low", "high")
    known, wide, same = (np.array([frame[name].to_numpy()[1:] for name in names]) for frame in ends)
    assert (wide[0] < known[0] + 0.005).all()
    assert (wide[1] > known[1] - 0.005).all()
    np.testing.assert_allclose(same, known, atol=0.02)


def test_the_lambda_that_turns_the_order_around():
    fit = sy.DoublyRobust(propensity=BY_TOPIC).fit(scanned(small(1, 3000)))
    found, back = sy.sensitivity(fit, "m2", over="m4"), sy.sensitivity(fit, "m4", over="m2")
    assert found.flip == pytest.approx(back.flip, rel=1e-5)
    assert 1.0 <= found.flip_limit < found.flip
    nearer = "low" if found.contrast.estimate > 0 else "high"
    at = sy.sensitivity(fit, "m2", over="m4", lambdas=[found.flip, found.flip_limit]).bounds.rows(named=True)
    assert at[1][nearer] == pytest.approx(0.0, abs=1e-4)
    if found.flip_limit > 1.0:
        assert at[0][f"{nearer}_limit"] == pytest.approx(0.0, abs=1e-4)
    for name in ("low", "low_limit"):
        rows = found.bounds.filter(pl.col("quantity").str.starts_with("score"))
        assert (rows[name].diff().drop_nulls() < 0).all()


def test_scores_are_near_the_farthest_vertex_of_small_logs():
    """Of 5 arms and large Lambda a farther vertex may exist: by less than the bound's own standard error here."""
    short = []
    for seed in range(5):
        fit = sy.DoublyRobust().fit(scanned(small(seed, 250)))
        for lam in (1.3, 3.0):
            model = Marginal.of(fit.problem, fit.residuals, lam)
            theta = vertices(fit, model)
            reached = theta[:, 0] - theta[:, 3]
            end = model.contrast(np.array([1.0, 0, 0, -1.0, 0]), np.ones(5, bool), True)
            assert end.value <= max(reached) + 1e-9
            short.append((max(reached) - end.value) / model.errors([end], [])[0])
    assert max(short) < 0.5
    assert np.mean(short) < 0.05


def test_e_values_of_the_paper():
    assert e_value(3.9) == pytest.approx(7.26, abs=0.005)  # VanderWeele and Ding (2017), table 2
    assert e_value(1 / 3.9) == pytest.approx(e_value(3.9))
    fit = sy.DoublyRobust(propensity=BY_TOPIC).fit(scanned(small(1, 3000)))
    rates = dict(fit.win_rates().select("arm", "win_rate").iter_rows())
    found = sy.sensitivity(fit, "m1", over="m4")
    ratio = max(rates["m1"], rates["m4"]) / min(rates["m1"], rates["m4"])
    assert found.e_value == pytest.approx(ratio + sqrt(ratio * (ratio - 1)))
    assert 1.0 <= found.e_value_limit < found.e_value


def test_the_strength_of_a_context_is_that_of_a_fit_without_it():
    frame = small(1, 900)
    log = scanned(frame)
    found = sy.sensitivity(sy.DoublyRobust().fit(log), "m0", over="m1").contexts
    whole = sy.PairPropensity().fit(log).probability(log).to_numpy()
    for name, other in (("x", "topic"), ("topic", "x")):
        less = sy.PairPropensity(context=other).fit(log).probability(log).to_numpy()
        move = np.abs(np.log(whole / (1 - whole)) - np.log(less / (1 - less)))
        want = float(np.exp(np.sort(move)[int(np.ceil(0.95 * len(move))) - 1]))
        assert found.filter(pl.col("context") == name)["strength"].item() == pytest.approx(want, rel=1e-5)


def test_contexts_that_cannot_be_left_out_have_a_reason():
    log = scanned(small(1, 600))
    spec = sy.PairPropensity(classifier=LogisticRegression(), context="topic")
    found = sy.sensitivity(sy.DoublyRobust(propensity=spec).fit(log), "m0", over="m1", lambdas=())
    by_shares = sy.sensitivity(sy.DoublyRobust(propensity=BY_TOPIC).fit(log), "m0", over="m1", lambdas=())
    assert found.contexts["strength"].item() == pytest.approx(by_shares.contexts["strength"].item(), rel=0.05)
    assert len(found.bounds) == 0
    flat = sy.DoublyRobust(propensity=sy.PairPropensity(method="frequency")).fit(log)
    assert "no contexts that could be left out" in str(sy.sensitivity(flat, "m0", over="m1", lambdas=()))
    two = small(2, 500, 2)
    fit = sy.DoublyRobust(propensity=BY_TOPIC).fit(scanned(two))
    assert "always shown" in str(sy.sensitivity(fit, "m0", over="m1", lambdas=()))


def test_gamma_solves_the_sign_test():
    found = sign_test(100, 60, 45, 0.95)
    assert found.p_value(found.gamma) == pytest.approx(0.025, rel=1e-9)
    assert found.p_value(1.0) == pytest.approx(scipy.stats.binomtest(45, 60, alternative="greater").pvalue)
    assert found.p_value(found.gamma * 1.01) > 0.025 > found.p_value(found.gamma * 0.99)
    assert sign_test(100, 60, 31, 0.95).gamma is None
    assert sign_test(9, 4, 0, 0.95).gamma is None
    with pytest.raises(ValueError, match="at least 1"):
        found.p_value(0.5)


def test_matched_pairs_have_the_same_opponent_and_context():
    frame = discrete(6, 3000, 4)
    fit = sy.DoublyRobust(propensity=BY_TOPIC).fit(scanned(frame, context="topic"))
    found = sy.sensitivity(fit, "m0", over="m1").matched
    rows = frame.select("a", "b", "topic")
    cells: dict[Any, list[int]] = {}
    for a, b, topic in rows.iter_rows():
        for arm, other in ((a, b), (b, a)):
            if arm in ("m0", "m1") and other not in ("m0", "m1"):
                cells.setdefault((other, topic), [0, 0])[arm == "m1"] += 1
    assert found.pairs == sum(min(pair) for pair in cells.values())
    assert 0 < found.ahead <= found.differ <= found.pairs
    tallied = frame.group_by("a", "b", "y", "topic").len("n")
    again = sy.DoublyRobust(propensity=BY_TOPIC).fit(scanned(tallied, context="topic", count="n"))
    assert sy.sensitivity(again, "m0", over="m1").matched.pairs == found.pairs


def test_unlabelled_rows_and_dropped_arms_are_no_hindrance():
    frame = small(4, 900, answered=0.7)
    fit = sy.DoublyRobust(labelled=sy.LabelPropensity()).fit(scanned(frame))
    row = sy.sensitivity(fit, "m0", over="m4", lambdas=[1.0, 1.5]).bounds.rows(named=True)
    assert row[0]["low"] == pytest.approx(fit.contrast("m0", "m4").estimate, abs=1e-12)
    assert row[1]["low"] < row[0]["low"] < row[1]["high"]


def test_what_it_cannot_answer():
    log = scanned(small(1, 600))
    fit = sy.DoublyRobust().fit(log)
    with pytest.raises(NotIdentifiedError, match="same arm"):
        sy.sensitivity(fit, "m0", over="m0")
    with pytest.raises(NotIdentifiedError, match="is not in the log"):
        sy.sensitivity(fit, "m0", over="nobody")
    for lambdas in ([0.5], 1.5, [np.inf]):
        with pytest.raises(ValueError, match="at least 1"):
            sy.sensitivity(fit, "m0", over="m1", lambdas=lambdas)
    with pytest.raises(TypeError, match="DoublyRobust"):
        sy.sensitivity(fit.naive, "m0", over="m1")
    judged = sy.DoublyRobust(labelled=sy.LabelPropensity(), judge="judge").fit(scanned(small(4, 900, answered=0.7)))
    with pytest.raises(NotIdentifiedError, match="judge"):
        sy.sensitivity(judged, "m0", over="m1")


@pytest.mark.slow
def test_standard_errors_of_bounds_are_those_of_simulation():
    lows, ses = [], []
    for seed in range(200):
        frame = discrete(100 + seed, 2500)
        fit = sy.DoublyRobust(propensity=BY_TOPIC).fit(scanned(frame, context="topic"))
        model = Marginal.of(fit.problem, fit.residuals, 1.5)
        c = np.array([1.0, 0.0, -1.0])
        end = model.contrast(c, np.ones(3, bool), False)
        lows.append(end.value)
        ses.append(model.errors([end], [])[0])
    assert np.mean(ses) == pytest.approx(np.std(lows, ddof=1), rel=0.12)
