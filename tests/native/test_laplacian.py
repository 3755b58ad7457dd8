"""Laplacian products."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from steelyard._native import laplacian as native

from tests.native import frozen
from tests.reference import laplacian as twin


@settings(max_examples=60, deadline=None)
@given(m=st.integers(0, 60), k=st.integers(2, 30), r=st.integers(0, 9), seed=st.integers(0, 2**32 - 1))
def test_equals_twin(m, k, r, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, k, (2, m), np.int32)  # some edges twice, some from an arm to itself, in any order
    weight, x = frozen(rng.exponential(size=m), rng.normal(size=(k, r)))
    got, want = np.full((k, r), np.nan), np.full((k, r), np.nan)
    native.laplacian_product(*frozen(a, b), weight, 0.3, x, got)
    twin.laplacian_product(a, b, weight, 0.3, x, want)
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


def test_constants_are_in_the_kernel_and_columns_do_not_mix():
    graph = frozen(np.array([0, 0, 1], np.int32), np.array([1, 2, 2], np.int32), [1.0, 2.0, 4.0])
    x, out, one = np.array([[1.0, 1.0], [1.0, 0.0], [1.0, 0.0]]), np.empty((3, 2)), np.empty((3, 1))
    native.laplacian_product(*graph, 0.0, x, out)
    np.testing.assert_array_equal(out, [[0.0, 3.0], [0.0, -1.0], [0.0, -2.0]])
    native.laplacian_product(*graph, 0.0, np.ascontiguousarray(x[:, 1:]), one)
    np.testing.assert_array_equal(one, out[:, 1:])


def test_wrong_lengths():
    a, b, weight, x = np.zeros(2, np.int32), np.ones(2, np.int32), np.ones(2), np.ones((3, 2))
    for arguments in [
        (a[:1], b, weight, 0.0, x, x),
        (a, b[:1], weight, 0.0, x, x),
        (a, b, weight[:1], 0.0, x, x),
        (a, b, weight, 0.0, x[:2], x),
        (a, b, weight, 0.0, x, np.ones((3, 1))),
    ]:
        with pytest.raises(ValueError, match="must have"):
            native.laplacian_product(*arguments)
