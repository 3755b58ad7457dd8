"""Sequential Elo ratings."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from steelyard._native import elo as native

from tests.native import frozen
from tests.reference import elo as twin


@settings(max_examples=50, deadline=None)
@given(
    n=st.integers(0, 200),
    k=st.integers(2, 9),
    seed=st.integers(0, 2**32 - 1),
    weighted=st.booleans(),
    ordered=st.booleans(),
    step=st.floats(0.0, 64.0),  # a step longer than the scale would amplify rounding
    scale=st.floats(100.0, 1e3),
)
def test_equals_twin(n, k, seed, weighted, ordered, step, scale):
    rng = np.random.default_rng(seed)
    a = rng.integers(0, k, n, np.int32)
    b = ((a + rng.integers(1, k, n)) % k).astype(np.int32)
    columns = frozen(
        a, b, rng.choice([0.0, 0.5, 1.0, 0.3], n), rng.exponential(size=n) if weighted else None,
        rng.permutation(n) if ordered else None,
    )  # fmt: skip
    got = rng.normal(1000.0, 100.0, k)
    want = got.copy()
    native.elo(*columns, step, scale, got)
    twin.elo(*columns, step, scale, want)
    np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-9)


def test_one_step_by_hand():
    rating = np.array([1200.0, 1000.0])
    native.elo(*frozen(np.int32([0]), np.int32([1]), [0.0], None, None), 32.0, 400 / np.log(10), rating)
    expected = 1 / (1 + 10 ** (-200 / 400))
    np.testing.assert_allclose(rating, [1200 - 32 * expected, 1000 + 32 * expected], rtol=1e-15)


def test_wrong_lengths():
    a, y, order, rating = np.zeros(3, np.int32), np.zeros(3), np.zeros(3, np.int64), np.zeros(1)
    for b, y_, weight, order_ in [
        (a[:2], y, y, order), (a, y[:2], y, order), (a, y, y[:2], order), (a, y, y, order[:2]),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match="must have one"):
            native.elo(a, b, y_, weight, order_, 1.0, 1.0, rating)
