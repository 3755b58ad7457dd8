"""Rows of many features times a vector, and a vector times them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from steelyard._native import wide_rows as native

from tests.native import frozen
from tests.reference import wide_rows as twin

seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=60, deadline=None)
@given(n=st.integers(0, 40), d=st.integers(0, 70), kind=st.sampled_from("fd"), seed=seeds)
def test_products_equal_their_twins(n, d, kind, seed):
    rng = np.random.default_rng(seed)
    x, v, w = frozen(rng.normal(size=(n, d)).astype(kind), rng.normal(size=d), rng.normal(size=n))
    for name, along, start in (("rows_times", v, np.full(n, 9.0)), ("times_rows", w, rng.normal(size=d))):
        got, want = start.copy(), start.copy()
        getattr(native, name)(x, along, got)
        getattr(twin, name)(x, along, want)
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", "fd")
def test_a_row_has_the_same_bits_whatever_stands_beside_it(kind):
    rng = np.random.default_rng(3)
    x, v, w = rng.normal(size=(23, 51)).astype(kind), rng.normal(size=51), rng.normal(size=23)
    whole, parts, score, summed = np.empty(23), np.empty(23), np.zeros(51), np.zeros(51)
    native.rows_times(x, v, whole)
    native.times_rows(x, w, score)
    for cut in (slice(0, 1), slice(1, 7), slice(7, 23)):
        native.rows_times(x[cut], v, parts[cut])
        native.times_rows(x[cut], w[cut], summed)
    assert whole.tobytes() == parts.tobytes()
    assert score.tobytes() == summed.tobytes()


def test_wrong_lengths():
    x, three, two = np.zeros((3, 2)), np.zeros(3), np.zeros(2)
    for function, arguments in [
        (native.rows_times, (x, three, three)),
        (native.rows_times, (x, two, two)),
        (native.times_rows, (x, two, two)),
        (native.times_rows, (x, three, three)),
    ]:
        with pytest.raises(ValueError, match="must have one entry"):
            function(*arguments)
