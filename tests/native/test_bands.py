"""Contrasts beyond a limit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from steelyard._native import bands as native

from tests.native import frozen
from tests.reference import bands as twin

seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=50, deadline=None)
@given(n=st.integers(0, 20), k=st.integers(0, 40), limit=st.floats(0.0, 4.0), seed=seeds)
def test_contrasts_beyond_equals_twin(n, k, limit, seed):
    rng = np.random.default_rng(seed)
    draws, precision = frozen(rng.normal(size=(n, k)), rng.exponential(size=(k, k)) * (rng.random((k, k)) < 0.7))
    got, want = np.full(n, -1), np.full(n, -1)
    native.contrasts_beyond(draws, precision, limit, got)
    twin.contrasts_beyond(draws, precision, limit, want)
    np.testing.assert_array_equal(got, want)


def test_wrong_lengths():
    for *shapes, n in [((2, 3), (3, 2), 2), ((2, 3), (2, 3), 2), ((2, 3), (3, 3), 3)]:
        with pytest.raises(ValueError, match="precision must be k x k"):
            native.contrasts_beyond(*(np.zeros(shape) for shape in shapes), 1.0, np.zeros(n, np.int64))
