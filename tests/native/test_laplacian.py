"""Laplacian products."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from steelyard._native import laplacian as native

from tests.native import frozen
from tests.reference import laplacian as twin


@settings(max_examples=60, deadline=None)
@given(m=st.integers(0, 60), k=st.integers(2, 30), seed=st.integers(0, 2**32 - 1))
def test_edges_equal_twin(m, k, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, k, (2, m), np.int32)  # some edges twice, some from an arm to itself, in any order
    weight, x = frozen(rng.exponential(size=m), rng.normal(size=k))
    got, want = np.full(k, np.nan), np.full(k, np.nan)
    native.laplacian_edges(*frozen(a, b), weight, 0.3, x, got)
    twin.laplacian_edges(a, b, weight, 0.3, x, want)
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(k=st.integers(0, 30), r=st.integers(0, 9), density=st.floats(0, 1), seed=st.integers(0, 2**32 - 1))
def test_rows_equal_twin(k, r, density, seed):
    rng = np.random.default_rng(seed)
    links = np.triu(rng.random((k, k)) < density, 1)
    links = links | links.T
    start = np.concatenate([[0], links.sum(axis=1).cumsum()]).astype(np.int64)
    neighbour = np.nonzero(links)[1].astype(np.int32)
    graph = frozen(start, neighbour, rng.exponential(size=len(neighbour)), rng.normal(size=k), rng.normal(size=(k, r)))
    got, want = np.full((k, r), np.nan), np.full((k, r), np.nan)
    native.laplacian_rows(*graph, got)
    twin.laplacian_rows(*graph, want)
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


def test_constants_are_in_the_kernel_of_rows_and_columns_do_not_mix():
    start, neighbour = np.array([0, 2, 4, 6]), np.array([1, 2, 0, 2, 0, 1], np.int32)
    graph = frozen(start, neighbour, [1.0, 2.0, 1.0, 4.0, 2.0, 4.0], [3.0, 5.0, 6.0])
    x, out, one = np.array([[1.0, 1.0], [1.0, 0.0], [1.0, 0.0]]), np.empty((3, 2)), np.empty((3, 1))
    native.laplacian_rows(*graph, x, out)
    np.testing.assert_array_equal(out, [[0.0, 3.0], [0.0, -1.0], [0.0, -2.0]])
    native.laplacian_rows(*graph, np.ascontiguousarray(x[:, 1:]), one)
    np.testing.assert_array_equal(one, out[:, 1:])


def test_wrong_lengths():
    start, neighbour, edge, diagonal, x = (
        np.zeros(4, np.int64),
        np.zeros(2, np.int32),
        np.ones(2),
        np.ones(3),
        np.ones((3, 2)),
    )
    for arguments in [
        (start[:3], neighbour, edge, diagonal, x, x),
        (start, neighbour[:1], edge, diagonal, x, x),
        (start, neighbour, edge, diagonal, x[:2], x),
        (start, neighbour, edge, diagonal, x, x[:2]),
        (start, neighbour, edge, diagonal, x, np.ones((3, 1))),
    ]:
        with pytest.raises(ValueError, match="must have"):
            native.laplacian_rows(*arguments)
    a, x = np.zeros(2, np.int32), np.ones(3)
    for arguments in [
        (a[:1], a, x[:2], 0.0, x, x),
        (a, a[:1], x[:2], 0.0, x, x),
        (a, a, x, 0.0, x, x),
        (a, a, x[:2], 0.0, x, x[:2]),
    ]:
        with pytest.raises(ValueError, match="must have"):
            native.laplacian_edges(*arguments)
