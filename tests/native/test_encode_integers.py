"""Small integers to codes."""

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st
from steelyard._native import encode_integers as native
from steelyard.dictionary import Dictionary

from tests.native import frozen
from tests.reference import encode_integers as twin

numbers = st.integers(-3, 12) | st.sampled_from([2**31, -(2**31), 2**63 - 1, -(2**63)])


@settings(max_examples=100, deadline=None)
@given(
    values=st.lists(numbers, max_size=20), table=st.lists(st.integers(-3, 9), max_size=10), kind=st.sampled_from("iq")
)
def test_equals_twin(values, table, kind):
    values = [value for value in values if -(2**31) <= value < 2**31 or kind == "q"]
    values, table = frozen(np.array(values, kind), np.array(table, np.int32))
    got, want = np.full(len(values), -9, np.int32), np.full(len(values), -9, np.int32)
    assert native.encode_integers(values, table, got) == twin.encode_integers(values, table, want)
    np.testing.assert_array_equal(got, want)
    assert native.UNSEEN == twin.UNSEEN


@settings(max_examples=60, deadline=None)
@given(
    chunks=st.lists(st.lists(st.integers(-5, 300) | st.sampled_from([2**40, None]), max_size=30), max_size=4),
    dtype=st.sampled_from([pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt64, pl.Int8]),
)
def test_a_dictionary_gives_one_code_to_each_integer(chunks, dtype):
    dictionary, code = Dictionary(), {}
    for chunk in chunks:
        column = pl.Series(chunk, dtype=pl.Int64).cast(dtype, strict=False)
        for value, found in zip(column.to_list(), dictionary.encode(column), strict=True):
            assert found == (-1 if value is None else code.setdefault(value, found))
    assert sorted(code.values()) == list(range(len(code)))
    assert [dictionary.labels()[i] for i in code.values()] == [str(value) for value in code]


def test_unknown_integers_of_a_closed_dictionary():
    dictionary = Dictionary(["7", "3"])
    assert dictionary.encode(pl.Series([3, 7, 9, 9, 3])).tolist() == [1, 0, -2, -2, 1]
    assert dictionary.encode(pl.Series([9, 3])).tolist() == [-2, 1]
