"""Propensities and weights beside peers, in one run: `pytest benchmarks/test_assignment.py --benchmark-only`."""

import numpy as np
import polars as pl
import pytest
import steelyard as sy
from sklearn.linear_model import LogisticRegression

N, D = 1_000_000, 20


def scanned(x, **columns):
    names = [f"x{j}" for j in range(x.shape[1])]
    frame = pl.DataFrame({"y": np.arange(len(x)) % 2, **columns, **dict(zip(names, x.T, strict=True))})
    roles = {"a": "a", "b": "b"} if "a" in columns else {"a": pl.lit("m"), "b": pl.lit("k")}
    return sy.scan(frame, outcome="y", context=names, group="group" if "group" in columns else None, **roles)


@pytest.fixture(scope="module", params=["well scaled", "badly scaled"])
def two_groups(request):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, D))
    if request.param == "badly scaled":  # correlated, from 1e-3 to 1e3
        x = (x @ (np.eye(D) + 0.9)) * np.geomspace(1e-3, 1e3, D)
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    group = (rng.random(N) < 1 / (1 + np.exp(-z @ rng.normal(size=D) / 4))).astype(int)
    return x, group


@pytest.mark.benchmark(group="binary logistic, 1 million x 20")
def test_steelyard_two_groups(benchmark, two_groups):
    log = scanned(two_groups[0], group=two_groups[1])
    benchmark.pedantic(lambda: sy.GroupPropensity().fit(log), rounds=3, warmup_rounds=1)


@pytest.mark.benchmark(group="binary logistic, 1 million x 20")
@pytest.mark.parametrize(
    ("two_groups", "solver"),  # lbfgs does not converge on badly scaled columns
    [("well scaled", "lbfgs"), ("well scaled", "newton-cholesky"), ("badly scaled", "newton-cholesky")],
    indirect=["two_groups"],
)
def test_scikit_learn_two_groups(benchmark, two_groups, solver):
    x, group = two_groups
    model = LogisticRegression(solver=solver, tol=1e-8, max_iter=1000)
    benchmark.pedantic(lambda: model.fit(x, group), rounds=2)


@pytest.fixture(scope="module")
def many_groups():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(N // 4, D))
    logits = x @ rng.normal(size=(D, 50)) / 5
    return x, np.argmax(logits + rng.gumbel(size=logits.shape), axis=1)


@pytest.mark.benchmark(group="multinomial, 50 groups, 250,000 x 20")
def test_steelyard_many_groups(benchmark, many_groups):
    log = scanned(many_groups[0], group=many_groups[1])
    benchmark.pedantic(lambda: sy.GroupPropensity().fit(log), rounds=2)


@pytest.mark.benchmark(group="multinomial, 50 groups, 250,000 x 20")
def test_scikit_learn_many_groups(benchmark, many_groups):
    model = LogisticRegression(solver="lbfgs", tol=1e-8, max_iter=1000)
    benchmark.pedantic(lambda: model.fit(*many_groups), rounds=1)


@pytest.mark.benchmark(group="weights and balance, 1 million x 20")
def test_steelyard_weights_and_balance(benchmark, two_groups):
    log = scanned(two_groups[0], group=two_groups[1])
    fit = sy.GroupPropensity().fit(log)
    benchmark.pedantic(lambda: fit.weights(log).balance(), rounds=3)
