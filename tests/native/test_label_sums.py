"""Weighted sums by label: twin, views, wrong input."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from steelyard._native import label_sums as native

from tests.native import frozen
from tests.reference import label_sums as twin


def rows(seed, n, d, factors, members, labels):
    """Columns in a larger table, as a few rows of a block are; factors; labels."""
    rng = np.random.default_rng(seed)
    (columns,) = frozen(rng.normal(size=(d, n + 7)))
    codes = rng.integers(0, labels, (members, n), np.int32)
    return (columns[:, 3 : n + 3], *frozen(rng.normal(size=(factors, n)), codes))


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(0, 200), d=st.integers(0, 9), factors=st.integers(0, 3), members=st.integers(0, 2),
    labels=st.integers(1, 6), seed=st.integers(0, 10**6),
)  # fmt: skip
@example(n=64, d=8, factors=2, members=2, labels=3, seed=0)  # a whole tile
@example(n=65, d=5, factors=2, members=2, labels=3, seed=0)  # and one row more
@example(n=200, d=5, factors=2, members=2, labels=1, seed=0)  # of one label
def test_equals_twin(n, d, factors, members, labels, seed):
    got, want = np.ones((2, labels, factors, d))
    for module, sums in ((native, got), (twin, want)):
        module.label_sums(*rows(seed, n, d, factors, members, labels), np.full(module.work_size(d), np.nan), sums)
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


def test_wrong_input():
    columns, factor, codes = rows(0, 10, 3, 2, 2, 4)
    work, sums = np.zeros(native.work_size(3)), np.zeros((4, 2, 3))
    for wrong, words in (
        ((np.asfortranarray(columns), factor, codes, work, sums), "side by side"),
        ((columns, factor[:, :9].copy(), codes, work, sums), "one entry a row"),
        ((columns, factor, codes[:, :9].copy(), work, sums), "one entry a row"),
        ((columns, factor, codes, work, np.zeros((4, 1, 3))), "labels x factors"),
        ((columns, factor, codes, work[1:], sums), "work_size"),
        ((columns, factor, codes + 1, work, sums), "below the number of labels"),
        ((columns, factor, codes - 1, work, sums), "below the number of labels"),
    ):
        with pytest.raises(ValueError, match=words):
            native.label_sums(*wrong)
    assert not sums.any()
