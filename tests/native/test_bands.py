"""Largest contrasts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from steelyard._native import bands as native

from tests.native import frozen
from tests.reference import bands as twin

seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=50, deadline=None)
@given(n=st.integers(0, 20), k=st.integers(0, 40), seed=seeds)
def test_largest_contrast_equals_twin(n, k, seed):
    rng = np.random.default_rng(seed)
    draws, precision = frozen(rng.normal(size=(n, k)), rng.exponential(size=(k, k)) * (rng.random((k, k)) < 0.7))
    got, want = np.full(n, -1.0), np.full(n, -1.0)
    native.largest_contrast(draws, precision, got)
    twin.largest_contrast(draws, precision, want)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("strange", [np.nan, np.inf])
def test_an_error_that_is_no_number_is_not_lost(strange):
    rng = np.random.default_rng(0)
    for n, k in ((1, 2), (4, 5), (7, 30)):
        for row, arm in ((0, 0), (n - 1, k - 1), (n // 2, k // 2)):
            draws, precision = rng.normal(size=(n, k)), rng.exponential(size=(k, k))
            draws[row, arm] = strange
            got, want = np.empty(n), np.empty(n)
            native.largest_contrast(draws, precision, got)
            twin.largest_contrast(draws, precision, want)
            np.testing.assert_array_equal(got, want)
            assert not np.isfinite(got[row])
            precision[k - 1, 0] = strange
            native.largest_contrast(draws, precision, got)
            assert not np.isfinite(got).any()


def test_wrong_lengths():
    for shapes in [((2, 3), (3, 2), 2), ((2, 3), (2, 3), 2), ((2, 3), (3, 3), 3)]:
        with pytest.raises(ValueError, match="precision must be k x k"):
            native.largest_contrast(*(np.zeros(shape) for shape in shapes))
