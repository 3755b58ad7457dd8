"""Speed of the leaderboard as ratios within one run: beside polars reading the same columns, pipelines by
hand, and peers.

Run with `pytest benchmarks/test_leaderboard.py`; STEELYARD_ROWS sets the size (10 million by default).
"""

import os

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
import scipy.sparse
import steelyard as sy
from sklearn.linear_model import LogisticRegression

from benchmarks import peers

N, K = int(os.environ.get("STEELYARD_ROWS", 10_000_000)), 300
COLUMNS = ["model_a", "model_b", "winner"]


@pytest.fixture(scope="module")
def codes():
    rng = np.random.default_rng(0)
    theta = rng.normal(size=K)
    a = rng.integers(0, K, N, dtype=np.int32)
    b = ((a + rng.integers(1, K, N)) % K).astype(np.int32)
    y = (rng.random(N) < 1 / (1 + np.exp(theta[b] - theta[a]))).astype(float)
    y[rng.random(N) < 0.15] = 0.5
    return a, b, y


@pytest.fixture(scope="module")
def path(codes, tmp_path_factory):
    a, b, y = codes
    names = pl.Series([f"organisation-{i % 37}/model-name-{i:03d}" for i in range(K)])
    labels = pl.Series(["model_b", "tie", "model_a"])
    columns = (names.gather(a), names.gather(b), labels.gather((2 * y).astype(np.int32)))
    file = tmp_path_factory.mktemp("log") / "battles.parquet"
    pl.DataFrame(dict(zip(COLUMNS, columns, strict=True))).write_parquet(file)
    return file


def numpy_by_hand(a, b, y):
    """bincount and a plain NumPy Newton, ties as halves, no intervals."""
    wins = np.bincount(a.astype(np.int64) * K + b, y, K * K).reshape(K, K)
    games = np.bincount(a.astype(np.int64) * K + b, minlength=K * K).reshape(K, K)
    wins, games = wins + (games - wins).T, games + games.T
    return newton_by_hand(wins, games, np.zeros(K), len(y))


def newton_by_hand(wins, games, theta, n):
    """Scores from (k, k) wins and games, to a gradient of 1e-10 n."""
    for _ in range(10):
        p = 1 / (1 + np.exp(theta[None, :] - theta[:, None]))
        score = (wins - games * p).sum(axis=1)
        if np.abs(score).max() / n <= 1e-10:
            break
        weight = games * p * (1 - p)
        theta = theta + np.linalg.solve(np.diag(weight.sum(axis=1)) - weight + 1 / len(theta), score)
    return theta


@pytest.mark.benchmark(group="strings in Parquet")
def test_polars_reads_the_columns(benchmark, path):
    benchmark(pl.read_parquet, path, columns=COLUMNS)


@pytest.mark.benchmark(group="strings in Parquet")
def test_steelyard_from_parquet_to_table(benchmark, path):
    benchmark(lambda: sy.BradleyTerry().fit(sy.scan(path, format="arena")).table())


@pytest.mark.benchmark(group="strings in Parquet")
def test_pyarrow_codes_and_numpy_by_hand(benchmark, path):
    def by_hand():
        table = pq.read_table(path, columns=COLUMNS, read_dictionary=COLUMNS).combine_chunks()
        columns = [table[name].chunk(0) for name in COLUMNS]
        names = pl.Series(columns[0].dictionary.to_pylist() + columns[1].dictionary.to_pylist())
        code = names.rank("dense").to_numpy().astype(np.int64) - 1
        left = code[: len(columns[0].dictionary)][columns[0].indices.to_numpy()]
        right = code[len(columns[0].dictionary) :][columns[1].indices.to_numpy()]
        value = np.array([{"model_a": 1.0, "model_b": 0.0}.get(x, 0.5) for x in columns[2].dictionary.to_pylist()])
        return numpy_by_hand(left, right, value[columns[2].indices.to_numpy()])

    benchmark.pedantic(by_hand, rounds=5)


@pytest.mark.benchmark(group="integer arrays")
def test_numpy_from_integers(benchmark, codes):
    benchmark(numpy_by_hand, *codes)


@pytest.mark.benchmark(group="integer arrays")
def test_steelyard_from_integers(benchmark, codes):
    frame = pl.DataFrame(dict(zip("aby", codes, strict=True)))
    benchmark(lambda: sy.BradleyTerry().fit(sy.scan(frame, a="a", b="b", outcome="y")))


@pytest.fixture(scope="module")
def votes():
    rng = np.random.default_rng(1)
    theta, n = rng.normal(0, 0.5, 100), 1_000_000
    a = rng.integers(0, 100, n)
    b = (a + rng.integers(1, 100, n)) % 100
    y = (rng.random(n) < 1 / (1 + np.exp(theta[b] - theta[a]))).astype(float)
    return (a, b, y), sy.BradleyTerry().fit(sy.scan({"a": a, "b": b, "y": y}, a="a", b="b", outcome="y"))


@pytest.mark.benchmark(group="100 bootstrap refits of 1 million votes")
def test_steelyard_bootstrap(benchmark, votes):
    benchmark(lambda: votes[1].bootstrap(100))


@pytest.mark.benchmark(group="100 bootstrap refits of 1 million votes")
def test_multinomial_loop_around_evalica(benchmark, votes):
    benchmark.pedantic(peers.evalica_bootstrap, (*votes[0], 100, 100), rounds=2)


@pytest.mark.benchmark(group="100 bootstrap refits of 1 million votes")
def test_multinomial_loop_in_numpy(benchmark, votes):
    fit = votes[1]
    cells, k = fit.cells, len(fit.arms)
    wins = np.zeros((k, k))
    wins[cells.a, cells.b], wins[cells.b, cells.a] = cells.sums[:, 0], cells.sums[:, 2]
    rng = np.random.default_rng(0)

    def loop():
        for _ in range(100):
            drawn = rng.multinomial(int(wins.sum()), wins.ravel() / wins.sum()).reshape(k, k).astype(float)
            newton_by_hand(drawn, drawn + drawn.T, fit.score.copy(), wins.sum())

    benchmark.pedantic(loop, rounds=2)


@pytest.fixture(scope="module")
def sparse():
    rng = np.random.default_rng(2)
    k, n = 100_000, 1_000_000
    theta = rng.normal(size=k)
    a = rng.integers(0, k, n)
    b = (a + rng.integers(1, k, n)) % k
    y = (rng.random(n) < 1 / (1 + np.exp(theta[b] - theta[a]))).astype(float)
    return k, a, b, y


@pytest.mark.benchmark(group="100,000 arms, 1 million comparisons, ridge 1")
def test_steelyard_many_arms(benchmark, sparse):
    _k, a, b, y = sparse
    log = sy.scan({"a": a, "b": b, "y": y}, a="a", b="b", outcome="y")
    benchmark.pedantic(lambda: sy.BradleyTerry(ridge=1.0).fit(log), rounds=3)


@pytest.mark.benchmark(group="100,000 arms, 1 million comparisons, ridge 1")
def test_scikit_learn_many_arms(benchmark, sparse):
    k, a, b, y = sparse
    row = np.arange(len(a))
    values = np.concatenate([np.ones(len(a)), -np.ones(len(a))])
    design = scipy.sparse.csr_array((values, (np.tile(row, 2), np.concatenate([a, b]))), shape=(len(a), k))
    # by default it ends where it starts: the tolerance is of the score over the rows, of which an arm has few
    model = LogisticRegression(C=1.0, fit_intercept=False, solver="newton-cg", tol=1e-10)
    benchmark.pedantic(lambda: model.fit(design, y), rounds=3)
