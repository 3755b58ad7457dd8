"""What weights do to rows: twin, limits, wrong input."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from steelyard._native import weight_sums as native

from tests.native import frozen
from tests.reference import weight_sums as twin

BINS = 12


def rows(seed, n, members, labels, limit, plain):
    """Weights, some of them 0, log-propensities between the edges of bins, what the log has of its own, labels."""
    rng = np.random.default_rng(seed)
    raw = np.where(rng.random(n) < 0.2, 0.0, rng.lognormal(size=n))
    logp = -np.log(2.0) * (rng.integers(0, 2 * BINS, n) + 0.5) / 4.0
    beside = (None, None) if plain else frozen(rng.uniform(0.5, 2.0, n), rng.integers(1, 4, n) * 1.0)
    return (*frozen(raw, logp), *beside, limit, *frozen(rng.integers(0, labels, (members, n), np.int32)))


def sums(module, given, labels):
    weight, totals = np.full(len(given[0]), np.nan), np.zeros(module.TOTALS)
    by_label, histogram = np.ones((labels, 2)), np.ones((labels, BINS))
    module.weight_sums(*given, weight, totals, by_label, 4.0, histogram)
    return weight, totals, by_label, histogram


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(0, 600), members=st.integers(1, 2), labels=st.integers(1, 6), seed=st.integers(0, 10**6),
    limit=st.sampled_from([0.5, np.inf]), plain=st.booleans(),
)  # fmt: skip
@example(n=257, members=2, labels=3, seed=0, limit=1.0, plain=False)  # one row more than a chunk
def test_equals_twin(n, members, labels, seed, limit, plain):
    given = rows(seed, n, members, labels, limit, plain)
    for got, want in zip(sums(native, given, labels), sums(twin, given, labels), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


@given(n=st.integers(0, 600), seed=st.integers(0, 10**6), counted=st.booleans())
def test_counts_by_logarithm_equal_twin(n, seed, counted):
    rng = np.random.default_rng(seed)
    values = np.where(rng.random(n) < 0.2, 0.0, 2.0 ** ((rng.integers(-20, 60, n) + 0.5) / 4.0))
    values[:3] = [0.0, 1e-320, 1e299][: min(n, 3)]
    (count,) = frozen(rng.integers(1, 9, n) * 1.0) if counted else (None,)
    got, want = np.ones((2, 40))
    native.log_counts(values, count, 4.0, -2.0, got)
    twin.log_counts(values, count, 4.0, -2.0, want)
    np.testing.assert_array_equal(got, want)
    with pytest.raises(ValueError, match="have bins"):
        native.log_counts(values, count, 4.0, -2.0, got[:0])
    with pytest.raises(ValueError, match="one entry a value"):
        native.log_counts(values, np.ones(n + 1), 4.0, -2.0, got)
    with pytest.raises(ValueError, match="finite"):
        native.log_counts(np.array([1.0, np.nan]), None, 4.0, -2.0, got)


def test_wrong_input():
    raw, logp, sampling, count, limit, codes = rows(0, 10, 2, 3, 1.0, False)
    out = np.zeros(10), np.zeros(native.TOTALS), np.zeros((3, 2)), 4.0, np.zeros((3, BINS))
    short = raw[:9]
    for wrong, words in (
        ((raw, short, sampling, count, limit, codes, *out), "one entry a row"),
        ((raw, logp, sampling, count, limit, codes, short.copy(), *out[1:]), "one entry a row"),
        ((raw, logp, sampling, count, limit, codes[:, :9].copy(), *out), "one entry a row"),
        ((raw, logp, short, count, limit, codes, *out), "sampling and count"),
        ((raw, logp, sampling, short, limit, codes, *out), "sampling and count"),
        ((raw, logp, sampling, count, limit, codes, out[0], np.zeros(6), *out[2:]), "TOTALS"),
        ((raw, logp, sampling, count, limit, codes, *out[:2], np.zeros((3, 3)), *out[3:]), "2 a label"),
        ((raw, logp, sampling, count, limit, codes, *out[:4], np.zeros((2, BINS))), "a row a label"),
        ((raw, logp, sampling, count, limit, codes, *out[:4], np.zeros((3, 0))), "have bins"),
        ((raw, logp, sampling, count, limit, codes + 1, *out), "below the number of labels"),
        ((raw, logp, sampling, count, limit, codes - 1, *out), "below the number of labels"),
        ((raw * np.nan, logp, sampling, count, limit, codes, *out), "numbers"),
    ):
        with pytest.raises(ValueError, match=words):
            native.weight_sums(*wrong)
    assert not out[1].any()
