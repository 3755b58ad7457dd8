"""Arrow string views to codes."""

from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from steelyard._native import encode_views as native

from tests.native import frozen
from tests.reference import encode_views as twin

SHARED = "a prefix of more than twelve bytes, "
texts = st.none() | st.sampled_from(["", "a", "b", "é" * 6, "x" * 12, "x" * 13]) | st.text(max_size=20)
columns = st.lists(texts | st.text(max_size=3).map(SHARED.__add__), max_size=40)


class Store:
    """The caller's arrays: room for capacity labels of arena_capacity bytes."""

    def __init__(self, capacity=64, arena_capacity=1 << 14):
        self.slots = np.full(2 * capacity, -1, np.int32)
        self.hashes = np.zeros(capacity, np.uint64)
        self.offsets = np.zeros(capacity + 1, np.int64)
        self.arena = np.zeros(arena_capacity, np.uint8)
        self.count = np.zeros(1, np.int64)
        self.cache = np.ones(native.CACHE_WORDS, np.uint64)

    def encode(self, start, strings, learn, codes):
        return native.encode_views(**self.arguments(start, strings, learn, codes))

    def arguments(self, start, strings, learn, codes):
        array = strings.to_arrow(compat_level=pl.CompatLevel.newest())
        validity, views, *buffers = array.buffers()
        rows = np.zeros((0, 2), np.uint64)
        if len(array):
            rows = np.frombuffer(views, np.uint64).reshape(-1, 2)[array.offset : array.offset + len(array)]
        (rows,) = frozen(rows)
        return {
            "start": start,
            "views": rows,
            "valid": None if validity is None else np.frombuffer(validity, np.uint8),
            "valid_offset": array.offset,
            "buffers": [np.frombuffer(buffer, np.uint8) for buffer in buffers],
            "learn": learn,
            **vars(self),
            "codes": codes,
        }

    def labels(self):
        ends, text = self.offsets[: self.count[0] + 1].tolist(), self.arena.tobytes()
        return [text[i:j].decode() for i, j in pairwise(ends)]


@settings(max_examples=100, deadline=None)
@given(chunks=st.lists(columns, min_size=1, max_size=3), cut=st.integers(0, 5), learn_last=st.booleans())
def test_equals_twin(chunks, cut, learn_last):
    store, labels = Store(), []
    for number, chunk in enumerate(chunks):
        learn = learn_last or number < len(chunks) - 1
        series = pl.Series(chunk, dtype=pl.String)[cut:]  # a slice has an offset into views and validity
        got, want = np.full(len(series), -9, np.int32), np.full(len(series), -9, np.int32)
        done = store.encode(0, series, learn, got)
        assert twin.encode_views(0, series.to_list(), learn, 64, 1 << 14, labels, want) == done
        np.testing.assert_array_equal(got, want)
        assert store.labels() == labels


@settings(max_examples=60, deadline=None)
@given(strings=columns, capacity=st.sampled_from([1, 2, 4, 16]), arena=st.integers(0, 200), start=st.integers(0, 3))
def test_stops_where_there_is_no_room(strings, capacity, arena, start):
    start = min(start, len(strings))
    store, labels = Store(capacity, arena), []
    got, want = np.full(len(strings), -9, np.int32), np.full(len(strings), -9, np.int32)
    done = store.encode(start, pl.Series(strings, dtype=pl.String), True, got)
    assert twin.encode_views(start, strings, True, capacity, arena, labels, want) == done
    np.testing.assert_array_equal(got, want)
    assert store.labels() == labels


def test_more_labels_than_the_cache_has_slots():
    strings = [f"{'a long label number' if i % 2 else 'n'} {i % 9000}" for i in range(30_000)]
    store = Store(1 << 14, 1 << 19)
    codes = np.empty(len(strings), np.int32)
    assert store.encode(0, pl.Series(strings), True, codes) == len(strings)
    np.testing.assert_array_equal(codes, np.arange(30_000) % 9000)
    assert store.labels() == strings[:9000]
    some = [None if i % 7 == 3 else f"stranger {i}" if i % 7 == 5 else text for i, text in enumerate(strings[5:])]
    want = [-1 if i % 7 == 3 else -2 if i % 7 == 5 else (i + 5) % 9000 for i in range(len(some))]
    found = np.empty(len(some) + 3, np.int32)
    column = pl.Series([None, "n 0", None, *some])  # its bits of what is null start within a byte
    assert store.encode(0, column, False, found) == len(column)
    np.testing.assert_array_equal(found[3:], want)
    assert store.encode(0, column[3:], False, found[3:]) == len(some)
    np.testing.assert_array_equal(found[3:], want)


def test_no_room_where_few_views_come_twice():
    strings = [f"a long label number {i}" for i in range(20_000)]
    store, codes = Store(1 << 14, 1 << 20), np.empty(20_000, np.int32)
    assert store.encode(0, pl.Series(strings), True, codes) == 1 << 14
    np.testing.assert_array_equal(codes[: 1 << 14], np.arange(1 << 14))


def test_growing_by_rehash_keeps_codes():
    strings = pl.Series([f"label {i}" for i in range(100)])
    small, codes = Store(32, 1 << 12), np.empty(100, np.int32)
    assert small.encode(0, strings, True, codes) == 32
    large = Store(128, 1 << 12)
    large.hashes[:32], large.offsets[:33], large.count[0] = small.hashes, small.offsets, 32
    large.arena[:] = small.arena
    native.rehash(32, large.hashes, large.slots)
    assert large.encode(32, strings, True, codes) == 100
    np.testing.assert_array_equal(codes, np.arange(100))
    assert large.labels() == strings.to_list()


@settings(max_examples=50, deadline=None)
@given(hashes=st.lists(st.integers(0, 7) | st.integers(0, 2**64 - 1), max_size=16))
def test_rehash_equals_twin(hashes):
    (hashes,) = frozen(np.array(hashes, np.uint64))
    got, want = np.full(32, -1, np.int32), np.full(32, -1, np.int32)
    native.rehash(len(hashes), hashes, got)
    twin.rehash(len(hashes), hashes, want)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    "wrong",
    [
        {"start": -1},
        {"start": 4},
        {"views": np.zeros((3, 3), np.uint64)},
        {"codes": np.zeros(2, np.int32)},
        {"slots": np.full(64, -1, np.int32)},
        {"slots": np.full(129, -1, np.int32)},
        {"offsets": np.zeros(64, np.int64)},
        {"count": np.zeros(2, np.int64)},
        {"cache": np.zeros(8, np.uint64)},
        {"valid": np.zeros(0, np.uint8)},
    ],
)
def test_wrong_lengths(wrong):
    right = Store().arguments(0, pl.Series(["a", "b", "c"]), True, np.zeros(3, np.int32))
    with pytest.raises(ValueError, match=r"must|shorter"):
        native.encode_views(**{**right, **wrong})


def test_rehash_wrong_lengths():
    for count, slots in [(3, 8), (2, 2), (2, 5)]:
        with pytest.raises(ValueError, match="power of two"):
            native.rehash(count, np.zeros(2, np.uint64), np.full(slots, -1, np.int32))


def test_many_views_that_come_once_and_then_few_that_come_often():
    """As of a CSV file, whose equal strings do not share their views, beside those of a dictionary."""
    rng = np.random.default_rng(5)
    once = [f"a label of more than twelve letters {i}" for i in rng.integers(0, 3000, 20_000)]
    often = rng.choice(["x" * 30, "y" * 30, "z"], 30_000).tolist()
    for strings in (once + often, often + once):
        store, codes = Store(1 << 13, 1 << 20), np.full(len(strings), -9, np.int32)
        assert store.encode(0, pl.Series(strings), True, codes) == len(strings)
        assert store.labels() == list(dict.fromkeys(strings))
        assert [store.labels()[code] for code in codes[::97]] == strings[::97]
