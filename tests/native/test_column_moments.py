"""Sums of columns about an origin: twin, wrong input."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from steelyard._native import column_moments as native

from tests.native import frozen
from tests.reference import column_moments as twin


def rows(seed, n, d):
    """Columns, their origins, and what stands beside."""
    rng = np.random.default_rng(seed)
    known = (rng.random(n) < 0.8) * 1.0
    return frozen(rng.normal(3.0, 1.0, (d, n)), rng.normal(2.5, 1.0, d), rng.uniform(0.1, 2.0, n), known, rng.random(n))


@settings(max_examples=60, deadline=None)
@given(n=st.integers(0, 200), d=st.integers(0, 5), seed=st.integers(0, 10**6))
@example(n=8, d=2, seed=0)  # whole lanes
@example(n=9, d=2, seed=0)  # and one row more
def test_equals_twin(n, d, seed):
    got, want = np.ones((2, d, 5))
    for module, sums in ((native, got), (twin, want)):
        module.column_moments(*rows(seed, n, d), sums)
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


def test_wrong_input():
    columns, origin, *beside = rows(0, 10, 3)
    sums = np.zeros((3, 5))
    for j in range(3):
        short = [values[:9] if i == j else values for i, values in enumerate(beside)]
        with pytest.raises(ValueError, match="one entry a row"):
            native.column_moments(columns, origin, *short, sums)
    for wrong in ((origin[1:], sums), (origin, sums[1:]), (origin, np.zeros((3, 4)))):
        with pytest.raises(ValueError, match="a column"):
            native.column_moments(columns, wrong[0], *beside, wrong[1])
    assert not sums.any()
