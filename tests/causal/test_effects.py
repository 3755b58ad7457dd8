"""Component effects against statsmodels, differences of means, closed forms and averages over flipped features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import statsmodels.api as sm
import steelyard as sy
from steelyard.errors import LogError

DATA = Path(__file__).parents[1] / "data"
RATES = {f"rate {i}": (f"left_taxrate{i}", f"right_taxrate{i}") for i in range(1, 7)}


def taxes(**more: Any) -> sy.PreferenceLog:
    frame = pl.read_parquet(DATA / "conjoint_taxes.parquet")
    return sy.scan(frame, a=pl.lit("left"), b=pl.lit("right"), outcome="left_chosen", **more)


def profiles() -> pl.DataFrame:
    """Both plans of every comparison one below the other, as conjoint packages read them."""
    frame = pl.read_parquet(DATA / "conjoint_taxes.parquet").with_row_index("task")
    parts = [
        frame.select("task", "respondent", (y if side == "left" else 1 - y).alias("y"),
                     *(pl.col(f"{side}_taxrate{i}").cast(pl.String).alias(f"rate {i}") for i in range(1, 7)))
        for side, y in (("left", pl.col("left_chosen").cast(pl.Float64)),
                        ("right", pl.col("left_chosen").cast(pl.Float64)))
    ]  # fmt: skip
    return pl.concat(parts)


def dummies(frame: pl.DataFrame, names: list[str]) -> tuple[list[tuple[str, str]], Any]:
    keys = [(name, value) for name in names for value in sorted(frame[name].unique())[1:]]
    columns = np.column_stack([(frame[name] == value).to_numpy() for name, value in keys]).astype(float)
    return keys, sm.add_constant(columns)


@pytest.mark.parametrize("cluster", [(), "respondent"])
def test_a_conjoint_equals_regression_on_profiles(cluster):
    found = sy.effects(taxes(cluster=cluster), attributes=RATES).filter(pl.col("reason").is_null())
    frame = profiles()
    keys, x = dummies(frame, list(RATES))
    groups = frame["respondent" if cluster else "task"].to_numpy()
    want = sm.OLS(frame["y"].to_numpy(), x).fit(
        cov_type="cluster", cov_kwds={"groups": groups, "use_correction": False}
    )
    g = len(np.unique(groups))
    assert found.select("attribute", "level").rows() == keys
    np.testing.assert_allclose(found["effect"], want.params[1:], atol=1e-8)
    factor = np.sqrt(g / (g - 1)) if cluster else 1.0
    np.testing.assert_allclose(found["se"], want.bse[1:] * factor, rtol=1e-8)


def test_each_attribute_by_itself_is_a_difference_of_means():
    log = taxes(cluster="respondent")
    alone, joint = (sy.effects(log, attributes=RATES, together=together) for together in (False, True))
    frame = profiles()
    for name in RATES:
        means = dict(frame.group_by(name).agg(pl.col("y").mean()).iter_rows())
        first = min(means)
        for row in alone.filter(pl.col("attribute") == name).iter_rows(named=True):
            assert row["effect"] == pytest.approx(means[row["level"]] - means[first], abs=1e-8)
            assert row["mean"] == pytest.approx(means[row["level"]], abs=1e-12)
            assert row["responses"] == frame.filter(pl.col(name) == row["level"]).height
    told = pl.col("reason").is_null()
    gap = (alone.filter(told)["effect"] - joint.filter(told)["effect"]).to_numpy()
    assert (np.abs(gap) < 2 * alone.filter(told)["se"].to_numpy()).all()  # the plans were drawn at random


def test_counts_weights_and_baselines():
    frame = pl.read_parquet(DATA / "conjoint_taxes.parquet")
    roles: Any = {"a": pl.lit("left"), "b": pl.lit("right"), "outcome": "left_chosen"}
    names = [column for pair in list(RATES.values())[:2] for column in pair]
    tallied = frame.group_by("left_chosen", *names).len("n")
    few = dict(list(RATES.items())[:2])
    plain, counted, weighed = (
        sy.effects(sy.scan(source, **roles, **more), attributes=few)
        for source, more in ((frame, {}), (tallied, {"count": "n"}), (frame.with_columns(w=3.0), {"weight": "w"}))
    )
    for other in (counted, weighed):
        for name in ("effect", "se", "mean", "responses"):
            np.testing.assert_allclose(*(f[name].to_numpy().astype(float) for f in (plain, other)), rtol=1e-9)
    back = sy.effects(taxes(), attributes=few, baselines={"rate 1": "<10k: 25%"})
    row = back.filter(pl.col("level") == "<10k: 0%").row(0, named=True)
    there = plain.filter(pl.col("level") == "<10k: 25%").row(0, named=True)
    assert (row["effect"], row["se"]) == pytest.approx((-there["effect"], there["se"]))
    assert back["reason"][0] == "baseline"
    assert back["level"][0] == "<10k: 25%"


def test_what_others_tell_is_null():
    found = sy.effects(taxes(), attributes={"first": RATES["rate 1"], "copy": ("left", "right")})
    copies = found.filter((pl.col("attribute") == "copy") & (pl.col("reason") != "baseline"))
    assert len(copies) == 3
    assert copies["effect"].is_null().all()
    assert copies["reason"].str.contains("other levels and attributes").all()


def test_levels_without_answers_and_levels_that_are_numbers():
    rng = np.random.default_rng(0)
    x = rng.choice([2, 10, 100], (600, 2))
    y = (rng.random(600) < 0.5 + 0.1 * (x[:, 0] == 10) - 0.1 * (x[:, 1] == 10)) * 1.0
    frame = pl.DataFrame({"l": x[:, 0], "r": x[:, 1], "y": y, "w": 1.0})
    roles = {"a": pl.lit("left"), "b": pl.lit("right"), "outcome": "y", "weight": "w"}
    plain = sy.effects(sy.scan(frame, **roles), attributes={"x": ("l", "r")})
    assert plain["level"].to_list() == ["2", "10", "100"]
    more = pl.DataFrame({"l": [1, 500], "r": [2, 2], "y": [None, 1.0], "w": [1.0, 0.0]}, schema=frame.schema)
    found = sy.effects(sy.scan(pl.concat([frame, more]), **roles), attributes={"x": ("l", "r")})
    assert found["level"].to_list() == ["2", "1", "10", "100", "500"]
    empty = found.filter(pl.col("level").is_in(["1", "500"]))
    assert empty["effect"].is_null().all()
    assert empty["reason"].str.contains("no answered").all()
    same = found.filter(~pl.col("level").is_in(["1", "500"]))
    np.testing.assert_allclose(same["effect"], plain["effect"], atol=1e-12)
    with pytest.raises(LogError, match="answered rows"):
        sy.effects(sy.scan(pl.concat([frame, more]), **roles), attributes={"x": ("l", "r")}, baselines={"x": "1"})
    half = sy.scan(frame.with_columns(y=pl.lit(0.5)), **roles)
    flat = sy.effects(half, attributes={"x": ("l", "r")}).filter(pl.col("reason") != "baseline")
    assert flat["se"].is_null().all()
    assert flat["reason"].str.contains("no spread").all()


def rewarded(seed: int = 0, n: int = 4000) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 2, (n, 4)).astype(float)
    code = rng.random(n)
    eta = (x[:, 0] - x[:, 1]) * (0.8 - 1.2 * code) + 0.4 * (x[:, 2] - x[:, 3])
    y = (rng.random(n) < 1 / (1 + np.exp(-eta))) * 1.0
    columns = dict(zip(["warm_a", "warm_b", "long_a", "long_b"], x.T, strict=True))
    return pl.DataFrame(
        {**columns, "code": code, "y": y, "who": rng.integers(0, 2, n), "rater": rng.integers(0, 200, n)}
    )


FEATURES = (["warm_a", "long_a"], ["warm_b", "long_b"])


def test_without_interactions_it_is_the_link_of_the_coefficient():
    log = sy.scan(rewarded(), outcome="y", features=FEATURES, cluster="rater")
    for link in ("logistic", "probit"):
        fit = sy.RewardModel(link=link).fit(log)
        known = fit.coefficients()
        beta, se = known["estimate"].to_numpy(), known["se"].to_numpy()
        found = sy.effects(fit)
        p = fit._outcomes(beta)[0]
        np.testing.assert_allclose(found["effect"], p, rtol=1e-12)
        h = 1e-6
        slope = (fit._outcomes(beta + h)[0] - fit._outcomes(beta - h)[0]) / (2 * h)
        np.testing.assert_allclose(found["se"], slope * se, rtol=1e-6)
    assert found["p_value"].to_numpy().max() < 0.2


def test_with_interactions_it_is_averaged_over_the_contexts():
    frame = rewarded()
    log = sy.scan(frame, outcome="y", features=FEATURES, context="code")
    fit = sy.RewardModel(interactions=[("warm_a", "code")]).fit(log)
    found = sy.effects(fit, log)
    flipped = [frame.with_columns(warm_a=pl.lit(1.0), warm_b=pl.lit(0.0), long_a=pl.lit(0.0), long_b=pl.lit(0.0))]
    p = fit.predict(sy.scan(flipped[0], outcome="y", features=FEATURES, context="code")).collect()["p_a"]
    assert found["effect"][0] == pytest.approx(p.mean(), rel=1e-9)
    moved = []
    for j in range(3):
        moved.append([])
        for h in (1e-5, -1e-5):
            beta = fit.coefficient.copy()
            beta[j] += h
            eta = beta[0] + beta[2] * frame["code"].to_numpy()
            moved[j].append((1 / (1 + np.exp(-eta))).mean())
    slope = np.array([(up - down) / 2e-5 for up, down in moved])
    assert found["se"][0] == pytest.approx(np.sqrt(slope @ fit.covariance @ slope), rel=1e-6)
    assert found["effect"][1] == pytest.approx(1 / (1 + np.exp(-fit.coefficient[1])))
    with pytest.raises(ValueError, match="needs a log"):
        sy.effects(fit)
    coarse = frame.with_columns(code=pl.col("code").round(1))
    tallied = coarse.group_by("code", "warm_a", "warm_b", "long_a", "long_b", "y").len("n")
    logs = [sy.scan(each, outcome="y", features=FEATURES, context="code", **more)
            for each, more in ((coarse, {}), (tallied, {"count": "n"}))]  # fmt: skip
    np.testing.assert_allclose(*(sy.effects(fit, each)["effect"] for each in logs), rtol=1e-12)
    gaps = sy.scan(frame.with_columns(code=None).cast({"code": pl.Float64}), outcome="y", features=FEATURES,
                   context="code", on_bad="drop")  # fmt: skip
    with pytest.raises(LogError, match="null or infinite context"):
        sy.effects(fit, gaps)


def test_groups_have_effects_of_their_own():
    log = sy.scan(rewarded(), outcome="y", features=FEATURES, group="who")
    fit = sy.RewardModel(heads="per-group").fit(log)
    known = dict(fit.coefficients().select("term", "estimate").iter_rows())
    found = dict(sy.effects(fit).select("term", "effect").iter_rows())
    assert found == pytest.approx({term: 1 / (1 + np.exp(-beta)) for term, beta in known.items()})
    pooled = sy.effects(sy.RewardModel(heads="per-group", ridge=5.0).fit(log))
    assert pooled["term"].to_list() == list(found)


def test_bad_input():
    log = taxes()
    for wrong, words in (
        ({"attributes": {"x": ("respondent", "respondent")}}, "2000 levels"),
        ({"attributes": {"x": (pl.lit("a"), pl.lit("a"))}}, "1 levels"),
        ({"attributes": RATES, "baselines": {"rate 9": "x"}}, "no attributes"),
        ({"attributes": RATES, "baselines": {"rate 1": "x"}}, "does not occur"),
        ({"attributes": {"x": ("nowhere", "left")}}, "nowhere"),
        ({"attributes": {"x": "left"}}, "pair of columns"),
        ({"attributes": {"x": (pl.concat_list("left"), pl.concat_list("right"))}}, "List"),
    ):
        with pytest.raises(LogError, match=words):
            sy.effects(log, **wrong)
    frame = pl.DataFrame({"l": ["u", None, "v"], "r": ["v", "u", "u"], "y": [1, 0, 1]})
    gaps = sy.scan(frame, a=pl.lit("left"), b=pl.lit("right"), outcome="y")
    with pytest.raises(LogError, match=r"1 row: null.*'x=u of a'.*first rows \[1\]"):
        sy.effects(gaps, attributes={"x": ("l", "r")})
    for call in (lambda: sy.effects(log), lambda: sy.effects(log, log, attributes=RATES)):
        with pytest.raises(ValueError, match="log"):
            call()
    tied = rewarded().with_columns(y=pl.Series(np.tile([0.0, 0.5, 1.0, 1.0], 1000)))
    fit = sy.RewardModel(ties="davidson").fit(sy.scan(tied, outcome="y", features=FEATURES))
    with pytest.raises(ValueError, match="ties"):
        sy.effects(fit)
    with pytest.raises(TypeError, match="RewardModel or a log"):
        sy.effects(frame, attributes=RATES)


@pytest.mark.slow
def test_intervals_of_a_simulated_conjoint_cover():
    """Utility with an interaction: the effect is an average over opponents and other attributes; raters repeat."""
    grid = np.stack(np.meshgrid(*[[0, 1]] * 4), axis=-1).reshape(-1, 4)

    def utility(x: Any) -> Any:
        return 0.7 * x[:, 0] - 0.4 * x[:, 1] + 0.9 * x[:, 0] * x[:, 1]

    p = 1 / (1 + np.exp(utility(grid[:, 2:]) - utility(grid[:, :2])))
    truth = p[grid[:, 0] == 1].mean() - p[grid[:, 0] == 0].mean()
    hit, width, estimates = 0, [], []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        rater, x = np.repeat(np.arange(100), 6), rng.integers(0, 2, (600, 4))
        taste = rng.normal(size=100)[rater] * 1.5
        eta = utility(x[:, :2]) - utility(x[:, 2:]) + taste * (x[:, 0] - x[:, 2])
        frame = pl.DataFrame({"u": x[:, 0], "v": x[:, 2], "s": x[:, 1], "t": x[:, 3], "rater": rater,
                              "y": (rng.random(600) < 1 / (1 + np.exp(-eta))) * 1})  # fmt: skip
        log = sy.scan(frame, a=pl.lit("l"), b=pl.lit("r"), outcome="y", cluster="rater")
        row = sy.effects(log, attributes={"u": ("u", "v"), "s": ("s", "t")}).row(1, named=True)
        estimates.append(row["effect"])
        width.append(row["se"])
    centre = np.mean(estimates)  # raters' tastes flatten the curve: their average effect is what is covered
    hit = np.mean(np.abs(np.array(estimates) - centre) < 1.96 * np.array(width))
    assert 0.93 <= hit <= 0.97
    assert np.mean(width) == pytest.approx(np.std(estimates, ddof=1), rel=0.1)
    assert abs(centre - truth) < 0.06
