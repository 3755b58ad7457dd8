"""Random draws: exactness, dependence on (seed, replicate) alone, distribution."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from steelyard._native import draws as native

from tests.native import frozen
from tests.reference import draws as twin

words = st.integers(0, 2**64 - 1)


def multinomial(counts, seed, replicate, module=native):
    cumulative, m = np.cumsum(counts), len(counts)
    guide = np.searchsorted(cumulative, np.arange(m) * counts.sum() / max(m, 1), side="right")
    counts, cumulative, guide = frozen(counts, cumulative, np.minimum(guide, m - 1))
    drawn = np.full(len(counts), -1.0)
    module.multinomial(counts, cumulative, guide, seed, replicate, drawn)
    return drawn


@settings(max_examples=100, deadline=None)
@given(
    counts=st.lists(st.integers(0, 5) | st.integers(0, 1000) | st.integers(0, 2**40), max_size=30),
    seed=words,
    replicate=words,
)
def test_multinomial_is_whole_and_sums_to_n(counts, seed, replicate):
    counts = np.array(counts, np.float64)
    drawn = multinomial(counts, seed, replicate)
    assert drawn.sum() == counts.sum()
    assert (drawn >= 0).all()
    assert (drawn == np.floor(drawn)).all()
    assert (drawn[counts == 0] == 0).all()
    np.testing.assert_array_equal(multinomial(counts, seed, replicate), drawn)


def test_multinomial_depends_on_seed_and_replicate():
    counts = np.full(50, 20.0)
    draws = {multinomial(counts, seed, replicate).tobytes() for seed in range(20) for replicate in range(20)}
    assert len(draws) == 400


@pytest.mark.parametrize("counts", [[1, 2, 3, 4], [20, 0, 4, 40], [33, 1, 31, 0, 2], [3, 9, 90, 900, 9000, 0, 1e6]])
def test_multinomial_has_the_moments_and_margins_of_the_twin(counts):
    counts, replicates = np.array(counts, np.float64), 6000
    n, p = counts.sum(), counts / counts.sum()
    covariance = n * (np.diag(p) - np.outer(p, p))
    used = p > 0
    samples = {
        name: np.array([multinomial(counts, 11, r, module)[used] for r in range(replicates)])
        for name, module in {"native": native, "twin": twin}.items()
    }
    spread = np.sqrt(np.diag(covariance)[used])
    for drawn in samples.values():
        assert (np.abs(drawn.mean(axis=0) - counts[used]) < 4.5 * spread / np.sqrt(replicates)).all()
        products = (drawn - counts[used])[:, :, None] * (drawn - counts[used])[:, None, :]
        error = products.std(axis=0) / np.sqrt(replicates)
        assert (np.abs(products.mean(axis=0) - covariance[np.ix_(used, used)]) < 5.0 * error).all()
    for j in range(used.sum()):
        edges = np.unique(stats.binom.ppf(np.linspace(0, 1, 13)[1:-1], n, p[used][j]))
        expected = np.diff(np.concatenate([[0.0], stats.binom.cdf(edges, n, p[used][j]), [1.0]])) * replicates
        observed = np.bincount(np.searchsorted(edges, samples["native"][:, j]), minlength=len(edges) + 1)
        some = expected > 1e-9
        assert observed[~some].sum() == 0
        assert stats.chisquare(observed[some], expected[some]).pvalue > 1e-5


def test_multinomial_of_nothing():
    assert len(multinomial(np.empty(0), 1, 2)) == 0
    np.testing.assert_array_equal(multinomial(np.zeros(3), 1, 2), np.zeros(3))


@settings(max_examples=50, deadline=None)
@given(n=st.integers(0, 4), m=st.integers(0, 9), seed=words, first=st.integers(0, 2**64 - 5))
def test_normals_equal_twin(n, m, seed, first):
    got, want = np.zeros((n, m)), np.zeros((n, m))
    native.normals(seed, first, got)
    twin.normals(seed, first, want)
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


def test_normals_are_normal_and_cut_by_replicate():
    drawn = np.zeros((200, 501))
    native.normals(5, 7, drawn)
    again = np.zeros((100, 501))
    native.normals(5, 107, again)
    np.testing.assert_array_equal(again, drawn[100:])
    assert stats.kstest(drawn.ravel(), "norm").pvalue > 1e-4
    correlation = np.corrcoef(drawn[:, :20].T)[np.triu_indices(20, 1)]
    assert np.abs(correlation).max() < 5 / np.sqrt(200)
    assert abs(np.corrcoef(drawn[:-1].ravel(), drawn[1:].ravel())[0, 1]) < 5 / np.sqrt(drawn.size)


def test_wrong_lengths():
    long, short = np.ones(3), np.ones(2)
    guide = np.zeros(3, np.int64)
    for arrays in [(long, short, guide, long), (long, long, guide[:2], long), (long, long, guide, short)]:
        with pytest.raises(ValueError, match="one length"):
            native.multinomial(*arrays[:3], 0, 0, arrays[3])
    with pytest.raises(ValueError, match="guide must name cells"):
        native.multinomial(long, long, guide + 3, 0, 0, long)
    with pytest.raises(OverflowError):
        native.multinomial(long, long, guide, -1, 0, long)
