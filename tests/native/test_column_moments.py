"""Sums of a column about an origin, squares of differences: twins, wrong input."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from steelyard._native import column_moments as native

from tests.native import frozen
from tests.reference import column_moments as twin


def rows(seed, n):
    """A column, and its weights."""
    rng = np.random.default_rng(seed)
    return frozen(rng.normal(3.0, 1.0, n), rng.uniform(0.1, 2.0, n))


@settings(max_examples=60, deadline=None)
@given(n=st.integers(0, 200), origin=st.floats(-5.0, 5.0), seed=st.integers(0, 10**6))
@example(n=8, origin=2.5, seed=0)  # whole lanes
@example(n=9, origin=2.5, seed=0)  # and one row more
def test_equals_twin(n, origin, seed):
    column, weight = rows(seed, n)
    got, want = (module.column_moments(column, origin, weight) for module in (native, twin))
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-11)


def test_wrong_input():
    column, weight = rows(0, 10)
    with pytest.raises(ValueError, match="one entry a row"):
        native.column_moments(column, 0.0, weight[:9])
    for a, b in (((3, 2), (3, 1)), ((3, 2), (2, 2))):
        with pytest.raises(ValueError, match="both sides must"):
            native.sides_squares(np.zeros(a), np.zeros(b))


@settings(max_examples=40, deadline=None)
@given(n=st.integers(0, 60), d=st.integers(0, 20), dtype=st.sampled_from("fd"), seed=st.integers(0, 10**6))
def test_squares_of_sides_equal_twin(n, d, dtype, seed):
    a, b = frozen(*np.random.default_rng(seed).normal(size=(2, n, d)).astype(dtype))
    got, want = (module.sides_squares(a, b) for module in (native, twin))
    np.testing.assert_allclose(got, want, rtol=1e-12)
    columns = np.ascontiguousarray((a - b).T, np.float64)
    own = [native.column_moments(column, 0.0, np.ones(n))[1] for column in columns]
    np.testing.assert_array_equal(got, own)  # the same bits by rows and by columns
    np.testing.assert_array_equal(native.sides_squares(a - b), got)
    np.testing.assert_allclose(native.sides_squares(a), twin.sides_squares(a), rtol=1e-12)


def test_a_single_odd_entry_shows_in_the_squares():
    for odd in (np.nan, np.inf, 1e200):
        a, b = np.zeros((50, 3)), np.zeros((50, 3))
        a[17, 1] = odd
        squares = native.sides_squares(a, b)
        assert not squares[1] <= 1e100
        assert (squares[[0, 2]] == 0.0).all()
