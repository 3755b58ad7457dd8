"""Second moments by cell: twin, wrong input."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from steelyard._native import cell_moments as native

from tests.native import frozen
from tests.reference import cell_moments as twin


def rows(seed, n, d, cells):
    """Cells of rows, columns and weights."""
    rng = np.random.default_rng(seed)
    cell = rng.integers(0, cells, n).astype(np.int32)
    return frozen(cell, rng.normal(1.0, 1.0, (d, n)), rng.uniform(0.1, 2.0, n))


def room(d, cells):
    """Sums that hold something already, and what is worked on."""
    second = np.zeros((cells, d, native.wide(d)))
    second[:, :, :d] = 1.0
    return second, np.empty(native.work_size(d))


@settings(max_examples=60, deadline=None)
@given(n=st.integers(0, 200), d=st.integers(1, 19), cells=st.integers(1, 5), seed=st.integers(0, 10**6))
@example(n=64, d=8, cells=1, seed=0)  # whole tiles and lanes
@example(n=65, d=9, cells=1, seed=0)  # and one row and column more
def test_equals_twin(n, d, cells, seed):
    found = []
    for module in (native, twin):
        second, work = room(d, cells)
        module.cell_moments(*rows(seed, n, d, cells), second, work)
        found.append(np.triu(second[:, :, :d]))
    np.testing.assert_allclose(*found, rtol=1e-12, atol=1e-12)


def test_wrong_input():
    (cell, columns, weight), (second, work) = rows(0, 10, 3, 2), room(3, 2)
    for arguments, words in (
        ((cell[:9], columns, weight, second, work), "one entry a row"),
        ((cell, columns, weight[:9], second, work), "one entry a row"),
        ((cell, columns, weight, second[:, :2], work), "cells x d x wide"),
        ((cell, columns, weight, np.zeros((2, 3, 3)), work), "cells x d x wide"),
        ((cell, columns, weight, second, work[:-1]), "work_size"),
        ((cell + 1, columns, weight, second, work), "below the number of cells"),
        ((cell - 1, columns, weight, second, work), "below the number of cells"),
    ):
        with pytest.raises(ValueError, match=words):
            native.cell_moments(*(np.ascontiguousarray(values) for values in arguments))
