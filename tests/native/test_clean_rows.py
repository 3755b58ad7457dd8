"""Verdicts on rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from steelyard._native import clean_rows as native

from tests.native import frozen
from tests.reference import clean_rows as twin

ODD = [np.nan, np.inf, -np.inf, -1.0, -0.0, 0.0, 0.5, 1.0, 1.5, 2.0, 2.0**53, 2.0**53 + 2.0, 5e-324, 1.7e308]


def judged(module, *columns):
    n = len(columns[0])
    y, status = np.zeros(n), np.zeros(n, np.uint8)
    bad = module.clean_rows(*columns, y, status)
    return bad, y, status


def assert_equal_to_twin(*columns):
    columns = frozen(*columns)
    for got, want in zip(judged(native, *columns), judged(twin, *columns), strict=True):
        np.testing.assert_array_equal(got, want)


@settings(max_examples=100, deadline=None)
@given(data=st.data(), n=st.integers(0, 30), odd=st.booleans(), by_label=st.booleans())
def test_equals_twin(data, n, odd, by_label):
    def column(values, dtype):
        return np.array(data.draw(st.lists(st.sampled_from(values), min_size=n, max_size=n)), dtype)

    arms = [-2, -1, 0, 1, 2, 3] if odd else [0, 1, 2, 3]
    numbers = ODD if odd else [0.0, 0.25, 0.5, 1.0]
    label = value = outcome = None
    if by_label:
        label, value = column([-2, -1, 0, 1, 2, 3, 7] if odd else [0, 1, 2], np.int32), np.array([1.0, 0.5, 0, np.nan])
    else:
        outcome = column(numbers, np.float64)
    weight = column(numbers, np.float64) if data.draw(st.booleans()) else None
    count = column(numbers, np.float64) if data.draw(st.booleans()) else None
    assert_equal_to_twin(column(arms, np.int32), column(arms, np.int32), label, value, outcome, weight, count)


@pytest.mark.parametrize("place", [0, 500, 999])
def test_one_odd_row_among_many_is_found(place):
    a, b, y = np.zeros(1000, np.int32), np.ones(1000, np.int32), np.ones(1000)
    y[place] = np.nan
    assert_equal_to_twin(a, b, None, None, y, None, None)
    y[place], b[place] = 1.0, 0
    assert_equal_to_twin(a, b, None, None, y, None, None)
    bad, _, status = judged(native, a, b, None, None, y, None, None)
    assert bad == 1
    assert twin.STATUS[status[place]] == "equal arms"


def test_wrong_lengths():
    codes, y, status = np.zeros(3, np.int32), np.zeros(3), np.zeros(3, np.uint8)
    short = np.zeros(2)
    for columns in [
        (codes[:2], None, None, y, None, None, y, status),
        (codes, None, None, short, None, None, y, status),
        (codes, None, None, y, short, None, y, status),
        (codes, None, None, y, None, short, y, status),
        (codes, None, None, y, None, None, short, status),
        (codes, None, None, y, None, None, y, status[:2]),
        (codes, codes[:2], y, None, None, None, y, status),
        (codes, None, None, None, None, None, y, status),
        (codes, codes, y, y, None, None, y, status),
        (codes, codes, None, None, None, None, y, status),
    ]:
        with pytest.raises(ValueError, match=r"must have one|give either"):
            native.clean_rows(codes, *columns)
