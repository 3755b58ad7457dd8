"""Squares of sparse rows: twin, SciPy, wrong input."""

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from steelyard._native import row_squares as native

from tests.native import frozen
from tests.reference import row_squares as twin


def rows(seed, n, k, density=0.3):
    matrix = scipy.sparse.random_array((n, k), density=density, rng=np.random.default_rng(seed), format="csr")
    return matrix, frozen(matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32), matrix.data.copy())


@settings(max_examples=60, deadline=None)
@given(n=st.integers(0, 50), k=st.integers(1, 9), seed=st.integers(0, 10**6))
def test_equals_twin_and_scipy(n, k, seed):
    matrix, parts = rows(seed, n, k)
    got, want = np.ones((2, k, k))
    native.row_squares(*parts, got)
    twin.row_squares(*parts, want)
    np.testing.assert_allclose(got, want, rtol=1e-12)
    upper = got - 1.0
    whole = upper + upper.T - np.diag(np.diag(upper))
    np.testing.assert_allclose(whole, (matrix.T @ matrix).toarray(), rtol=1e-12, atol=1e-12)


def test_wrong_input():
    _, (start, place, value) = rows(0, 6, 4, density=0.5)
    sums = np.zeros((4, 4))
    for wrong in (
        (start[:-1], place, value, sums),
        (start[::-1].copy(), place, value, sums),
        (start, place + np.int32(4), value, sums),
        (start, place - np.int32(4), value, sums),
        (start, place, value[1:], sums),
        (start, place, value, np.zeros((4, 3))),
        (start[:0], place, value, sums),
    ):
        with pytest.raises(ValueError, match="start must rise"):
            native.row_squares(*wrong)
    assert not sums.any()
