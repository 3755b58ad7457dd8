"""Speed of fits on rows as ratios within one run: scores at equal covariates beside glum, rewards beside scikit-learn.

Run with `pytest benchmarks/test_rows.py`; STEELYARD_VOTES sets the size (1 million by default).
"""

import os

import glum
import numpy as np
import polars as pl
import pytest
import scipy.sparse
import steelyard as sy
import tabmat
from sklearn.linear_model import LogisticRegression

N, K, D = int(os.environ.get("STEELYARD_VOTES", 1_000_000)), 100, 8


def answers(rng, margin):
    return (rng.random(len(margin)) < 1 / (1 + np.exp(-margin))).astype(float)


@pytest.fixture(scope="module")
def votes():
    rng = np.random.default_rng(0)
    theta = rng.normal(0, 0.5, K)
    a = rng.integers(0, K, N, np.int32)
    b = ((a + rng.integers(1, K, N)) % K).astype(np.int32)
    z = rng.normal(size=(D, N))
    y = answers(rng, theta[a] - theta[b] + 0.1 * z.sum(axis=0))
    return pl.DataFrame({"a": a, "b": b, "y": y, **{f"z{j}": z[j] for j in range(D)}})


@pytest.mark.benchmark(group="1 million votes, 100 arms, 8 covariates, robust errors")
def test_steelyard_scores_at_equal_covariates(benchmark, votes):
    log = sy.scan(votes, a="a", b="b", outcome="y", covariates={f"z{j}": f"z{j}" for j in range(D)})
    benchmark.pedantic(lambda: sy.BradleyTerry().fit(log).coefficients(), rounds=5, warmup_rounds=1)


@pytest.mark.benchmark(group="1 million votes, 100 arms, 8 covariates, robust errors")
def test_glum_split_design(benchmark, votes):
    a, b, y = (votes[name].to_numpy() for name in ("a", "b", "y"))
    row = np.arange(N)
    values = np.concatenate([np.ones(N), -np.ones(N)])
    arms = scipy.sparse.csc_matrix((values, (np.tile(row, 2), np.concatenate([a, b]))), shape=(N, K))[:, 1:]
    dense = np.asfortranarray(votes.select(pl.selectors.starts_with("z")).to_numpy())
    design = tabmat.SplitMatrix([tabmat.SparseMatrix(arms), tabmat.DenseMatrix(dense)])

    def fit():
        model = glum.GeneralizedLinearRegressor(family="binomial", alpha=0, fit_intercept=False, gradient_tol=1e-8)
        model.fit(design, y)
        return model.std_errors(X=design, y=y, robust=True)

    benchmark.pedantic(fit, rounds=2)


@pytest.fixture(scope="module", params=[(N // 5, 384, np.float32), (N, 20, np.float64)], ids=["384 float32", "20"])
def features(request):
    n, m, dtype = request.param
    rng = np.random.default_rng(1)
    sides = [rng.normal(size=(n, m)).astype(dtype) for _ in "ab"]
    delta = sides[0] - sides[1]
    y = answers(rng, delta @ (rng.normal(size=m) / np.sqrt(m)))
    return pl.DataFrame({"y": y, "a": pl.Series(sides[0]), "b": pl.Series(sides[1])}), delta, y


@pytest.mark.benchmark(group="reward of features")
def test_steelyard_reward(benchmark, features):
    log = sy.scan(features[0], outcome="y", features=("a", "b"))
    benchmark.pedantic(lambda: sy.RewardModel(ridge=1.0, covariance="model").fit(log), rounds=2)


@pytest.mark.benchmark(group="reward of features")
@pytest.mark.parametrize("solver", ["lbfgs", "newton-cholesky"])
def test_scikit_learn_reward(benchmark, features, solver):
    _, delta, y = features
    model = LogisticRegression(fit_intercept=False, solver=solver, tol=1e-8, max_iter=1000)
    benchmark.pedantic(lambda: model.fit(delta, y), rounds=2)
