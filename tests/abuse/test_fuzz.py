"""Malformed frames for every public entry: none crashes, hangs or tells a NaN without a reason.

With the files of test_files.py and test_results.py 2,805 cases.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import steelyard as sy
from hypothesis import given
from hypothesis import strategies as st

from tests.abuse.contract import ODD, fuzzed, kept, logs

CHOICES = st.integers(0, 2**20)


def scanned(case: tuple[pl.DataFrame, dict[str, Any]]) -> sy.PreferenceLog:
    frame, roles = case
    return sy.scan(frame, **roles)


def of(choice: int, *options: Any) -> Any:
    return options[choice % len(options)]


@fuzzed(max_examples=175)
@given(logs(), CHOICES)
def test_logs(case, choice):
    log = scanned(case)
    kept(lambda: str(log.check()) and log.check().frame())
    kept(log.pairs)
    kept(lambda: sy.rank(log, of(choice, "win-rate", "elo", "eigenvector", "pagerank", "newman")))
    kept(lambda: sy.latent_overlap(log).frame())
    kept(lambda: log.quarantined().height)


@fuzzed(max_examples=350)
@given(logs(), CHOICES)
def test_scores(case, choice):
    log = scanned(case)
    more = of(choice // 64, {}, {"position": True}, {"covariates": ()}, {"covariates": (), "position": True})
    ties, ridge = of(choice, "half", "drop", "davidson", "rao-kupper"), of(choice // 4, 0.0, 0.0, 1.0, 1e9)
    link = of(choice // 16, "logistic", "probit") if ties in ("half", "drop") else "logistic"
    covariance = of(choice // 32, None, "sandwich", "model")

    def fitted() -> Any:
        fit = sy.BradleyTerry(ties=ties, ridge=ridge, link=link, covariance=covariance, **more).fit(log)
        x, y = fit.arms[0], fit.arms[-1]
        tables = [fit.table(simultaneous=bool(choice & 1)), fit.coefficients(), fit.contrast(x, y), fit.win_matrix()]
        return [*tables, fit.predict(log).collect(), fit.win_probability(x, y), fit]

    told = kept(fitted)
    if told:
        fit = told[-1]
        kept(lambda: fit.bootstrap(20, seed=choice, method="multiplier").table())
        kept(lambda: fit.bootstrap(20, seed=choice).table())
        kept(lambda: fit.audit(fit.arms[0], over=fit.arms[-1]).before)
        kept(lambda: sy.plan(fit, 1 + choice).table)
        kept(lambda: str(sy.card(fit)))
        if hasattr(fit, "update"):
            kept(lambda: fit.update(log).table())


@fuzzed(max_examples=175)
@given(logs(), CHOICES)
def test_rewards(case, choice):
    log = scanned(case)
    heads = of(choice, "shared", "per-group")
    spec = {"ties": of(choice // 2, "half", "davidson"), "ridge": of(choice // 4, 0.0, 1.0)}

    def fitted() -> Any:
        fit = sy.RewardModel(heads=heads, **spec).fit(log)
        return [fit.coefficients(), fit.predict(log).collect(), fit]

    told = kept(fitted)
    if told:
        kept(lambda: sy.plan(told[-1], 10).table)
    kept(lambda: sy.effects(log, attributes={"t": ("x", "f1"), "u": ("kind", "kind")}))


@fuzzed(max_examples=150)
@given(logs(), CHOICES)
def test_assignment(case, choice):
    log = scanned(case)
    method = of(choice // 8, "softmax", "pairs", "frequency", "logged")
    spec = of(choice, sy.PairPropensity(method=method), sy.PairPropensity(method="frequency", strata=("kind",)),
              sy.GroupPropensity(), sy.LabelPropensity())  # fmt: skip
    kind, loose = of(choice // 64, "hajek", "stabilized", "overlap", "balance"), {"floor": 0.0, "unsupported": 1.0}

    def weighed() -> Any:
        propensity = spec.fit(log)
        weights = propensity.weights(log, kind=kind, clip=of(choice // 4, None, 3.0), **loose)
        return [weights.overlap().frame(), weights.frame(log), weights.effective_share, weights, propensity]

    told = kept(weighed)
    if told:
        kept(lambda: told[-2].balance())
        kept(lambda: str(told[-1].dependence()))
        kept(lambda: told[-1].probability(log))
        kept(lambda: sy.BradleyTerry(weights=told[-2]).fit(log).table())


@fuzzed(max_examples=175)
@given(logs(least=4), CHOICES)
def test_causal(case, choice):
    log = scanned(case)
    loose = {"floor": 0.0, "unsupported": 1.0, "folds": of(choice, 1, 2, 5), "seed": choice}
    method = of(choice // 4, "softmax", "pairs")
    shown = sy.PairPropensity(method=method)

    def robust() -> Any:
        fit = sy.DoublyRobust(propensity=shown, **loose).fit(log)
        x, y = fit.arms[0], fit.arms[-1]
        return [fit.table(), fit.win_rates(), fit.win_matrix(), fit.contrast(x, y), fit]

    def valued() -> Any:
        policy = of(choice, "uniform", {"x": 1.0}, {"x": 0.5, "y": 0.5}, "y")
        fit = sy.PolicyValue(policy=policy, propensity=shown, **loose).fit(log)
        return [fit.table(), fit.value]

    def grouped() -> Any:
        fit = sy.GroupRewards(**loose).fit(log)
        return [fit.coefficients(), fit.rewards(), fit.test_equal()]

    told = kept(robust)
    if told:
        fit = told[-1]
        kept(fit.compare)
        kept(lambda: str(sy.card(fit)))
        kept(lambda: sy.sensitivity(fit, fit.arms[0], over=fit.arms[-1]).bounds)
        kept(lambda: sy.plan(fit, 50).table)
    kept(valued)
    kept(grouped)


@fuzzed(max_examples=100)
@given(logs(), CHOICES)
def test_lazy_frames(case, choice):
    frame, roles = case
    fit = sy.BradleyTerry().fit(sy.scan({"a": ["x", "y"] * 4, "b": ["y", "x"] * 4, "o": [1, 0, 0, 1, 1, 1, 0, 1]},
                                        a="a", b="b", outcome="o"))  # fmt: skip
    lazy = frame.lazy().filter(pl.lit(choice & 1 == 0) | (pl.col("x") != 1.0))
    kept(lambda: lazy.sy.pairs(**roles).collect())
    kept(lambda: lazy.sy.predict(fit, **roles).select("margin", "p_a", "p_tie", "p_b", "log_likelihood").collect())


ROWS, ANY = st.integers(0, 12), st.sampled_from([*ODD, 0.2, 0.5, 0.9])


@st.composite
def arrays(draw: Any, width: int) -> Any:
    """(n, width) numbers, every third time all tame."""
    shape, tame = (draw(ROWS) * 3, width), not draw(st.integers(0, 2))
    rng = np.random.default_rng(draw(CHOICES))
    out = rng.normal(size=shape)
    if not tame and out.size:
        out.flat[rng.integers(0, out.size, 3)] = draw(ANY)
    return out


@fuzzed(max_examples=150)
@given(arrays(2), arrays(2), arrays(2), ANY, CHOICES)
def test_simulations_and_objectives(a, b, rewards, rho, choice):
    size = choice % 200
    kept(lambda: sy.simulate.effective_share(rho))
    kept(lambda: sy.simulate.factors_accuracy(rho, trained=of(choice, None, 0.5, rho), disagree=bool(choice & 2)))
    for made in (sy.simulate.factors, sy.simulate.confounded):
        kept(lambda made=made: made(size, rho, seed=choice).log().check().frame())
    kind, wrong = np.arange(len(a)) % 2, of(choice, 0, 0, 2, -1)
    spec = of(choice, sy.objectives.Base(), sy.objectives.Multihead(), sy.objectives.Multihead(rank=1),
              sy.objectives.Adversarial(lam=0.5))  # fmt: skip

    def fitted() -> Any:
        data = sy.simulate.compared(a, b, kind + wrong, rewards, rewards[::-1], rho, seed=choice)
        told = [float(x) for x in spec.fit(*data.parts).rewards(data.a, data.objective)]
        return [*told, data.ceiling]

    kept(fitted)
    kept(lambda: spec.fit(a, b, kind, rewards[:, 0]).accuracy(sy.simulate.factors(20, 0.5)).get("all"))
