"""Policy values against brute force, the truth in simulation, and bad input."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
import steelyard as sy
from steelyard.causal.prepared import prepared

from tests.causal.simulate import World
from tests.causal.test_doubly_robust import BY_TOPIC, K, columns, scanned, small
from tests.reference.doubly_robust import contextual, sigmoid


def brute(mu: Any, pi: Any, rho: Any, a: Any, b: Any, y: Any, p: Any, t: Any) -> tuple[float, Any]:
    """Value and influence (n,), every pair of every row. mu (n, K, K); pi, rho (n, K)."""
    n, k = pi.shape
    model = np.zeros(n)
    for i in range(k):
        for j in range(k):
            model += pi[:, i] * rho[:, j] * (0.5 if i == j else mu[:, i, j])
    at = np.arange(n)
    win, lose = pi[at, a] * rho[at, b], pi[at, b] * rho[at, a]
    e, w = (win - lose) / p * (y - mu[at, a, b]), (win + lose) / p
    s = 1 - (pi * rho).sum(axis=1)
    total, size = t.sum(), (t * w).sum()
    r, mean, share = (t * e).sum() / size, (t * model).sum() / total, (t * s).sum() / total
    psi = t * (model - mean + r * (s - share)) / total + share * t * (e - r * w) / size
    return mean + share * r, psi


@pytest.mark.parametrize("dependent", [False, True])
@pytest.mark.parametrize("cluster", [False, True])
def test_equals_brute_force(dependent, cluster):
    frame = small(21, 400)
    c = columns(frame)
    theta, _ = contextual(c["a"], c["b"], c["y"], c["w"], c["x"], K, 1.0)
    score = c["x"] @ theta.T
    rng = np.random.default_rng(0)
    chance = rng.dirichlet(np.ones(K), 400)
    given = frame.with_columns(**{f"s{j}": score[:, j] for j in range(K)}, **{f"p{j}": chance[:, j] for j in range(K)})
    pair = np.minimum(c["a"], c["b"]) * K + np.maximum(c["a"], c["b"])
    p = np.array([c["w"][(pair == pair[i]) & (c["topic"] == c["topic"][i])].sum()
                  / c["w"][c["topic"] == c["topic"][i]].sum() for i in range(400)])  # fmt: skip
    policy = {f"m{j}": f"p{j}" for j in range(K)} if dependent else {"m3": 0.25, "m1": 0.75}
    pi = chance if dependent else np.tile([0.0, 0.75, 0.0, 0.25, 0.0], (400, 1))
    rho = np.tile([0.0, 0.0, 0.0, 1.0, 0.0], (400, 1))
    fit = sy.PolicyValue(policy, "m3", outcome={f"m{j}": f"s{j}" for j in range(K)}, propensity=BY_TOPIC, folds=1).fit(
        scanned(given, weight="w", cluster="rater" if cluster else []))  # fmt: skip
    mu = sigmoid(score[:, :, None] - score[:, None])
    value, psi = brute(mu, pi, rho, c["a"], c["b"], c["y"], p, c["w"])
    assert fit.value == pytest.approx(value, abs=1e-12)
    if cluster:
        psi = frame.select("rater", psi=psi).group_by("rater").agg(pl.col("psi").sum())["psi"].to_numpy()
        psi = psi * np.sqrt(len(psi) / (len(psi) - 1))
    assert fit.se == pytest.approx(np.sqrt(psi @ psi), rel=1e-9)
    assert fit.table()["value"][0] == fit.value
    assert fit.table()["se"].null_count() == 2


def test_a_policy_of_one_arm_against_another_is_their_pair():
    log = World().log(3, 4000)
    pair = sy.PolicyValue("1", "4").fit(log)
    few = pl.DataFrame({"a": ["1"], "b": ["4"], "weight": [1.0]})
    dr = sy.DoublyRobust(pairs=few, unsupported=1.0).fit(log)
    assert pair.value == pytest.approx(dr.win_probability("1", "4"), abs=1e-12)
    assert pair.se == pytest.approx(dr.win_rates().filter(arm="1")["se"][0], rel=1e-9)
    assert sy.PolicyValue("1", "1").fit  # built; a fit of equal policies asks for no comparison at all
    with pytest.raises(sy.NotIdentifiedError, match="one and the same arm in every row"):
        sy.PolicyValue("1", "1").fit(log)
    uniform = sy.PolicyValue("1", "uniform").fit(log)
    rate = sy.DoublyRobust().fit(log).win_rates().filter(arm="1")["win_rate"][0]
    assert uniform.value == pytest.approx((5 * rate + 0.5) / 6, abs=0.005)  # itself in one of six; other weights


@pytest.mark.slow
def test_unbiased_with_intervals_that_hold():
    world, policy = World(), {"0": 0.2, "2": 0.5, "5": 0.3}
    scores = world._latent(np.random.default_rng(5), 400_000)[1]
    pi = np.array([0.2, 0.0, 0.5, 0.0, 0.0, 0.3])
    mu = np.array(
        [[sigmoid(scores[:, i] - scores[:, j]).mean() if i != j else 0.5 for j in range(6)] for i in range(6)]
    )
    truth = pi @ mu.mean(axis=1)
    fits = [sy.PolicyValue(policy, "uniform").fit(world.log(seed, 3000)) for seed in range(150)]
    value, se = np.array([[fit.value, fit.se] for fit in fits]).T
    assert abs(value.mean() - truth) < 3 * value.std() / np.sqrt(len(fits))
    assert 0.9 <= (np.abs(value - truth) < 1.96 * se).mean() <= 0.99
    assert se.mean() / value.std() == pytest.approx(1.0, abs=0.15)


def responses(seed: int, n: int, candidates: int = 8) -> tuple[pl.DataFrame, float]:
    """Two responses of a few known ones, drawn from a reference; a wrong reward model; the policy's true value."""
    rng = np.random.default_rng(seed)
    quality = rng.normal(size=candidates)
    reference, policy = np.full(candidates, 1 / candidates), np.exp(0.8 * quality)
    policy = policy / policy.sum()
    a, b = rng.integers(0, candidates, n), rng.integers(0, candidates, n)
    y = (rng.random(n) < sigmoid(quality[a] - quality[b])) * 1.0
    guess = 0.5 * quality + rng.normal(size=candidates) * 0.3
    frame = pl.DataFrame({
        "a": [f"r{i}" for i in a], "b": [f"r{i}" for i in b], "y": y,
        "lp_a": np.log(policy[a]), "lp_b": np.log(policy[b]),
        "lr_a": np.log(reference[a]), "lr_b": np.log(reference[b]), "s_a": guess[a], "s_b": guess[b],
        "scores": [guess.tolist()] * n, "logps": [np.log(policy).tolist()] * n,
    })  # fmt: skip
    return frame, float(policy @ sigmoid(quality[:, None] - quality) @ reference)


LOGGED = sy.Responses(("lp_a", "lp_b"), ("lr_a", "lr_b"), ("s_a", "s_b"), ("scores", "logps"))


def test_logged_responses_equal_the_formula_and_find_the_value():
    frame, truth = responses(1, 5000)
    fit = sy.PolicyValue(LOGGED).fit(sy.scan(frame, a="a", b="b", outcome="y"))
    s, chance = np.array(frame["scores"][0]), np.exp(np.array(frame["logps"][0]))
    w_a, w_b = (np.exp((frame[f"lp_{x}"] - frame[f"lr_{x}"]).to_numpy()) for x in "ab")
    model = 0.5 * sum(chance @ sigmoid(s[:, None] - frame[f"s_{x}"].to_numpy()) for x in "ab")
    residual = frame["y"].to_numpy() - sigmoid((frame["s_a"] - frame["s_b"]).to_numpy())
    size = 0.5 * (w_a + w_b).sum()
    r = (0.5 * (w_a - w_b) * residual).sum() / size
    psi = (model - model.mean()) / 5000 + (0.5 * (w_a - w_b) * residual - r * 0.5 * (w_a + w_b)) / size
    assert fit.value == pytest.approx(model.mean() + r, abs=1e-12)
    assert fit.se == pytest.approx(np.sqrt(psi @ psi), rel=1e-10)
    assert abs(fit.value - truth) < 3 * fit.se
    assert abs(fit.model - truth) > 3 * fit.se  # the reward model is wrong
    cut = sy.PolicyValue(LOGGED, clip=1.0).fit(sy.scan(frame, a="a", b="b", outcome="y"))
    assert cut.clipped == int(((w_a > 1) | (w_b > 1)).sum())


def test_bad_input_is_named():
    frame = small(22, 200)
    log = scanned(frame)
    for match, error, policy in (
        ("of the log's arms", sy.LogError, {"who": 1.0}), ("add to 1, not 0.9", sy.LogError, {"m0": 0.9}),
        ("of the log's arms", sy.LogError, "who"),
    ):  # fmt: skip
        with pytest.raises(error, match=match):
            sy.PolicyValue(policy, propensity=BY_TOPIC, folds=1).fit(log)
    with pytest.raises(sy.LogError, match=r"do not add to 1 \(first rows \[0, 1"):
        sy.PolicyValue({"m0": "w", "m1": "w"}, propensity=BY_TOPIC, folds=1).fit(log)
    with pytest.raises(ValueError, match="must be an arm"):
        sy.PolicyValue(3)
    with pytest.raises(ValueError, match="clip="):
        sy.PolicyValue("m0", clip=2.0)
    ragged = responses(1, 10)[0].with_row_index("i").with_columns(
        scores=pl.when(pl.col("i") > 3).then(pl.col("scores").list.head(2)).otherwise("scores"))  # fmt: skip
    with pytest.raises(sy.LogError, match="lists of lengths"):
        sy.PolicyValue(LOGGED).fit(sy.scan(ragged, a="a", b="b", outcome="y"))


def test_a_saved_value_comes_back_and_tells_what_no_answer_supports(tmp_path):
    frame = small(21, 400).filter(~(pl.col("a").is_in(["m0", "m3"]) & pl.col("b").is_in(["m0", "m3"])))
    fit = sy.PolicyValue("uniform", "m3", propensity=BY_TOPIC, unsupported=0.3).fit(scanned(frame))
    assert fit.unsupported == pytest.approx(0.25)  # of four arms that differ from m3 one never met it
    assert "25.0 % of what they compare rests on the outcome model alone" in str(sy.card(fit))
    ties = sy.PolicyValue("uniform", "m3", propensity=BY_TOPIC, unsupported=0.3).fit(scanned(frame.with_columns(y=0.5)))
    assert ties.weights == pytest.approx(0.5)  # pairs that are never answered are not lost
    by_chance = sy.PolicyValue("uniform", "m3").fit(scanned(frame))  # a softmax gave the two a chance to meet
    assert by_chance.unsupported == 0.0
    assert "; 0.0 % of what they compare rests on the outcome model alone" in str(sy.card(by_chance))
    fit.save(tmp_path / "value.sy")
    back = sy.load(tmp_path / "value.sy")
    assert back.table().equals(fit.table())
    assert (back.estimand, back.n, back.effective_share) == (fit.estimand, fit.n, fit.effective_share)
    assert str(sy.card(back)) == str(sy.card(fit))


def test_what_is_given_and_logged_needs_no_folds():
    """Nothing is fitted, so that nothing is held out: an arm of one row is no matter, and folds change nothing."""
    frame = small(23, 300).with_columns(p=pl.lit(0.1), **{f"s{j}": pl.lit(0.1 * j) for j in range(K)})
    lone = pl.concat([frame.filter((pl.col("a") != "m4") & (pl.col("b") != "m4")),
                      frame.filter((pl.col("a") == "m4") | (pl.col("b") == "m4")).head(1)])  # fmt: skip
    log = scanned(lone, propensity="p")
    given = {"outcome": {f"m{j}": f"s{j}" for j in range(K)}, "propensity": sy.PairPropensity(method="logged")}
    with pytest.warns(UserWarning, match="1 / propensity"):
        one, five = (sy.PolicyValue("m0", "m1", folds=folds, **given).fit(log) for folds in (1, 5))
    assert (one.value, one.se) == (five.value, five.se)


def test_chances_in_single_precision_ask_for_no_more_than_is_supported():
    rng, frame = np.random.default_rng(2), small(25, 400)
    chance = rng.dirichlet(np.ones(K), 400).astype(np.float32)
    given = frame.with_columns(**{f"p{j}": chance[:, j] for j in range(K)})
    policy = {f"m{j}": f"p{j}" for j in range(K)}
    assert np.abs(chance.sum(axis=1, dtype=float) - 1.0).max() > 1e-9
    fit = sy.PolicyValue(policy, "m0", propensity=BY_TOPIC, folds=1, unsupported=0.0).fit(scanned(given))
    assert fit.unsupported < 1e-6


def by_columns(n: int, contexts: int = 0) -> tuple[pl.DataFrame, dict[str, Any], sy.PolicyValue]:
    """Rows of three arms, how to scan them, and a policy by columns against arm "0" with scores by columns."""
    rng = np.random.default_rng(12)
    a, b = rng.permuted(np.tile(np.arange(3), (n, 1)), axis=1)[:, :2].T
    score, chance, x = rng.normal(size=(n, 3)), rng.dirichlet(np.ones(3), n), rng.normal(size=(n, contexts))
    y = (rng.random(n) < sigmoid(score[np.arange(n), a] - score[np.arange(n), b])) * 1.0
    frame = pl.DataFrame({"a": a, "b": b, "y": y, "p": np.full(n, 1 / 3),
                          **{f"s{j}": score[:, j] for j in range(3)}, **{f"c{j}": chance[:, j] for j in range(3)},
                          **{f"x{j}": x[:, j] for j in range(contexts)}})  # fmt: skip
    roles = {"a": "a", "b": "b", "outcome": "y", "propensity": "p", "context": [f"x{j}" for j in range(contexts)]}
    spec = sy.PolicyValue({str(j): f"c{j}" for j in range(3)}, "0", outcome={str(j): f"s{j}" for j in range(3)},
                          propensity=sy.PairPropensity(method="logged"))  # fmt: skip
    return frame, roles, spec


@pytest.mark.parametrize(("contexts", "propensity", "outcome"),
                         [(0, "logged", "given"), (2, "softmax", "given"), (40, "logged", "contextual")])  # fmt: skip
@pytest.mark.parametrize("gap", [False, True])
def test_columns_read_beside_the_rows_say_what_columns_kept_with_them_do(contexts, propensity, outcome, gap):
    """A lazy frame may give other rows when it is read again: its columns are kept. Several blocks, some rows bad."""
    frame, roles, spec = by_columns(150_000 if contexts == 0 else 120_000 if contexts > 2 else 9_000, contexts)
    roles |= {"on_bad": "drop"}
    if gap:
        third = pl.int_range(pl.len()) % 3 == 0
        frame = frame.with_columns(
            y=pl.when(third).then(None).otherwise("y"), c1=pl.when(third).then(None).otherwise("c1")
        )
    spec = replace(spec, propensity=sy.PairPropensity(method=propensity), folds=3,
                   outcome=spec.outcome if outcome == "given" else "contextual")  # fmt: skip
    beside, kept = (spec.fit(sy.scan(source, **roles)) for source in (frame, frame.lazy()))
    assert beside.value == kept.value
    assert beside.se == kept.se
    assert beside.dropped == kept.dropped


def test_bad_columns_beside_the_rows_are_named_or_leave_their_rows_out():
    frame, roles, spec = by_columns(600)
    bad = frame.with_columns(
        s1=pl.when(pl.int_range(600).is_in([5, 17])).then(None).otherwise("s1"),
        c2=pl.when(pl.int_range(600) == 40).then(float("inf")).otherwise("c2"),
    )
    with pytest.raises(sy.LogError, match=r"2 rows: .*'score of 1' \(first rows \[5, 17\]\); 1 row: .*'policy of 2'"):
        spec.fit(sy.scan(bad, **roles))
    left = spec.fit(sy.scan(bad, **roles, on_bad="drop"))
    alone = spec.fit(sy.scan(frame.filter(~pl.int_range(600).is_in([5, 17, 40])), **roles))
    assert left.value == pytest.approx(alone.value, abs=1e-14)
    assert left.se == pytest.approx(alone.se, rel=1e-12)


def test_a_log_that_has_other_rows_when_it_is_read_again_is_refused():
    frame, roles, spec = by_columns(600)
    log = sy.scan(frame, **roles)
    ready = prepared(spec, log, {"policy of 0": "c0"})
    assert ready.beside is not None
    for total in (599, 601):
        with pytest.raises(sy.LogError, match=f"changed while it was read: it had {total} rows, and then 600"):
            replace(ready.beside, total=total).each(lambda block: block, [].append)


def test_a_policy_by_columns_beside_an_outcome_by_a_column():
    """What a column says of the shown pair is carried to the others: here by scores that are the same in all rows."""
    frame, roles, spec = by_columns(4000)
    theta = np.array([0.0, 0.4, 1.0])
    said = sigmoid(theta[frame["a"].to_numpy()] - theta[frame["b"].to_numpy()])
    log = sy.scan(frame.with_columns(said=said, **{f"s{j}": pl.lit(theta[j]) for j in range(3)}), **roles)
    by_pair, by_arm = (replace(spec, outcome=outcome, ridge=1e-9).fit(log) for outcome in ("said", spec.outcome))
    assert by_pair.value == pytest.approx(by_arm.value, abs=1e-9)
    assert by_pair.se == pytest.approx(by_arm.se, rel=1e-6)


def test_uniform_is_over_arms_that_some_row_compares():
    frame, roles, _ = by_columns(900)
    ghost = frame.head(1).with_columns(a=pl.lit(9, pl.Int64), y=pl.lit(None, pl.Float64))
    roles |= {"context": "s0", "on_bad": "drop"}
    one, two = (sy.PolicyValue("0").fit(sy.scan(rows, **roles)) for rows in (frame, pl.concat([frame, ghost])))
    assert (one.value, one.se) == pytest.approx((two.value, two.se), rel=1e-9)


@pytest.mark.filterwarnings("ignore:cluster column")
def test_an_error_that_crossing_clusters_cancel_is_no_interval():
    """Every rater answers every prompt once: what two columns add can be less than what their crossing takes away."""
    rng, size = np.random.default_rng(91), 16
    rater, prompt = (v.ravel() for v in np.meshgrid(range(size), range(size)))
    n = len(rater)
    pair, y = rng.integers(0, 3, n), (rng.random(n) < 0.6) * 1.0
    frame = pl.DataFrame({"a": np.array(list("xxy"))[pair], "b": np.array(list("yzz"))[pair], "y": y,
                          "t": np.where(rng.random(n) < 0.5, "u", "v"), "rater": rater, "prompt": prompt})  # fmt: skip
    log = sy.scan(frame, a="a", b="b", outcome="y", context="t", cluster=["rater", "prompt"])
    fit = sy.PolicyValue("x", "y", folds=1).fit(log)
    assert fit.se is None
    estimator, value, *interval, reason = fit.table().row(0)
    assert (estimator, value, interval) == ("doubly robust", fit.value, [None] * 3)
    assert "no interval" in reason
