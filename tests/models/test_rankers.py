"""Simple rankers against evalica, and in closed form."""

import evalica
import numpy as np
import pytest
import steelyard as sy


def log_of(a, b, y):
    return sy.scan({"a": a, "b": b, "y": y}, a="a", b="b", outcome="y")


def rows(seed, ties=True, n=500, k=6):
    rng = np.random.default_rng(seed)
    a = rng.integers(0, k, n)
    b = (a + rng.integers(1, k, n)) % k
    y = rng.choice([0.0, 0.5, 1.0] if ties else [0.0, 1.0], n)
    names = np.array(list("uvwxyz"))
    winners = [{1.0: evalica.Winner.X, 0.0: evalica.Winner.Y, 0.5: evalica.Winner.Draw}[v] for v in y]
    return names[a], names[b], y, winners


def scores(log, method, **options):
    return sy.rank(log, method, **options).sort("arm")["score"].to_numpy()


@pytest.mark.parametrize("seed", range(3))
def test_agree_with_evalica(seed):
    a, b, y, winners = rows(seed)
    log = log_of(a, b, y)
    exact = {"tolerance": 1e-13, "limit": 100_000}

    def peer(function, **options):
        return function(list(a), list(b), winners, **options).scores.sort_index().to_numpy()

    assert np.allclose(scores(log, "elo"), peer(evalica.elo), atol=1e-8)
    assert np.allclose(scores(log, "pagerank"), peer(evalica.pagerank, **exact), atol=1e-8)


def test_eigenvector_is_numpys():
    a, b, y, _ = rows(4)
    pairs = sy.pairs.pair_table(log_of(a, b, y))
    values, vectors = np.linalg.eig(sy.models.rankers.win_matrix(pairs))
    leading = vectors[:, values.real.argmax()].real
    assert np.allclose(scores(log_of(a, b, y), "eigenvector"), leading / leading.sum(), atol=1e-10)


def test_newman_is_bradley_terry_by_another_road():
    a, b, y, _ = rows(7)
    log = log_of(a, b, y)
    assert np.allclose(scores(log, "newman"), sy.BradleyTerry().fit(log).score, atol=1e-9)


def test_two_arms_and_permuted_elo():
    log = log_of(["x", "x", "y"], ["y", "y", "x"], [1.0, 1.0, 0.5])
    assert scores(log, "win-rate").tolist() == pytest.approx([2.5 / 3, 0.5 / 3])
    once, mean = scores(log, "elo"), scores(log, "elo", permutations=50, seed=1)
    assert once.sum() == pytest.approx(2000)
    assert mean.sum() == pytest.approx(2000)
    assert np.array_equal(mean, scores(log, "elo", permutations=50, seed=1))


def test_refusals():
    log = log_of(["x", "x"], ["y", "y"], [1.0, 1.0])
    with pytest.raises(ValueError, match="pagerank"):
        sy.rank(log, "best")
    for method in ("newman", "eigenvector"):
        with pytest.raises(sy.NotIdentifiedError, match="won and lost"):
            sy.rank(log, method)
    counted = sy.scan(
        {"a": ["x", "y"], "b": ["y", "x"], "y": [1.0, 1.0], "n": [5, 3]}, a="a", b="b", outcome="y", count="n"
    )
    with pytest.raises(sy.LogError, match="2 outcomes stand for 8"):
        sy.rank(counted, "elo")
