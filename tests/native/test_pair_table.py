"""Rows to tables of pairs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from steelyard._native import pair_table as native

from tests.native import frozen
from tests.reference import pair_table as twin

LAST = 2**31 - 2  # the largest arm code
seeds = st.integers(0, 2**32 - 1)


def pairs(rng, n, arms):
    """Codes of n rows, a and b apart."""
    a = rng.integers(0, len(arms), n)
    b = (a + rng.integers(1, len(arms), n)) % len(arms)
    return np.array(arms, np.int32)[a], np.array(arms, np.int32)[b]


def numbered(module, a, b, first, capacity, start=0):
    """What pair_cells leaves behind, without its hash table."""
    slots, keys = np.full(2 * capacity, -1, np.int32), np.zeros(capacity, np.int64)
    count, cell = np.zeros(1, np.int64), np.full(len(a), -9, np.int32)
    done = module.pair_cells(start, a, b, first, slots, keys, count, cell)
    return done, keys, count, cell


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(0, 100),
    arms=st.lists(st.integers(0, 5) | st.integers(LAST - 5, LAST), min_size=2, max_size=8, unique=True),
    capacity=st.sampled_from([1, 4, 64, 128]),
    start=st.integers(0, 5),
    placed=st.booleans(),
    seed=seeds,
)
def test_pair_cells_equal_twin(n, arms, capacity, start, placed, seed):
    rng = np.random.default_rng(seed)
    columns = frozen(*pairs(rng, n, arms), rng.integers(0, 2, n).astype(np.uint8) if placed else None)
    got = numbered(native, *columns, capacity, min(start, n))
    for mine, twins in zip(got, numbered(twin, *columns, capacity, min(start, n)), strict=True):
        np.testing.assert_array_equal(mine, twins)


def test_the_largest_arm_codes_survive_the_sparse_route():
    a, b = np.array([LAST, LAST - 1, LAST, 0, LAST], np.int32), np.array([LAST - 1, LAST, LAST - 1, LAST, 0], np.int32)
    first = np.array([1, 1, 0, 0, 1], np.uint8)
    y, ones = np.array([1.0, 0.5, 0.0, 0.25, 1.0]), np.ones(5)
    a, b, first, y, ones = frozen(a, b, first, y, ones)
    done, keys, count, cell = numbered(native, a, b, first, 8)
    assert done == count[0] == 5
    assert (keys[:5] >> 31 & LAST + 1).tolist() == a.tolist()
    assert (keys[:5] & LAST + 1).tolist() == b.tolist()
    assert (keys[:5] >> 62).tolist() == first.tolist()
    sums, squares, rows = np.zeros((5, 3)), np.zeros((5, 3)), np.zeros(5)
    assert native.pair_table(cell, y, ones, ones, sums, squares, rows) == 1
    assert rows.tolist() == [1.0] * 5
    assert sums.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.25, 0, 0.75], [1, 0, 0]]


@settings(max_examples=40, deadline=None)
@given(keys=st.lists(st.integers(0, 2**63 - 1), max_size=16, unique=True))
def test_pair_slots_equal_twin_and_are_found_again(keys):
    (array,) = frozen(np.array(keys, np.int64))
    got, want = np.full(32, -1, np.int32), np.full(32, -1, np.int32)
    native.pair_slots(len(keys), array, got)
    twin.pair_slots(len(keys), array, want)
    np.testing.assert_array_equal(got, want)


def test_cells_keep_their_numbers_while_the_table_grows():
    rng = np.random.default_rng(3)
    a, b = pairs(rng, 3000, range(40))
    want = numbered(native, a, b, None, 2048)
    capacity, done = 4, 0
    keys, count, cell = np.zeros(capacity, np.int64), np.zeros(1, np.int64), np.zeros(3000, np.int32)
    while done < 3000:
        keys = np.concatenate([keys, np.zeros(len(keys), np.int64)])
        slots = np.full(2 * len(keys), -1, np.int32)
        native.pair_slots(int(count[0]), keys, slots)
        done = native.pair_cells(done, a, b, None, slots, keys, count, cell)
    np.testing.assert_array_equal(cell, want[3])
    np.testing.assert_array_equal(keys[: count[0]], want[1][: want[2][0]])


@settings(max_examples=80, deadline=None)
@given(n=st.integers(0, 900), k=st.integers(2, 6), by_label=st.booleans(), spoiled=st.integers(0, 9), seed=seeds)
def test_counts_and_keys_of_plain_rows_equal_twins(n, k, by_label, spoiled, seed):
    rng = np.random.default_rng(seed)
    a, b = pairs(rng, n, range(k))
    label = place = y = None
    if by_label:
        label, place = rng.integers(0, 4, n, np.int32), np.array([0, 2, 1, 0], np.uint8)
    else:
        y = rng.choice([0.0, 0.5, 1.0], n)
    if n:
        at = rng.integers(n)
        if spoiled == 0:
            a[at] = rng.choice([-1, -2, k, LAST])
        elif spoiled == 1:
            b[at] = rng.choice([-1, -2, k, LAST])
        elif spoiled == 2:
            b[at] = a[at]
        elif spoiled == 3 and label is not None:
            label[at] = rng.choice([-1, -2, 4, LAST])
        elif spoiled == 3:
            y[at] = rng.choice([np.nan, 0.25, -0.5, 1.5, np.inf])
        elif spoiled == 4 and place is not None:
            place[2] = 3
    columns = frozen(a, b, label, place, y)
    got, want = ([np.full((k, k, 3), 200, np.uint8), np.ones((k, k, 3), np.uint32)] for _ in range(2))
    assert native.pair_count(*columns, *got) == twin.pair_count(*columns, *want)
    np.testing.assert_array_equal(got, want)
    if max(a.max(initial=0), b.max(initial=0)) == LAST:  # more than a key holds
        return
    keys, expected = np.zeros((2, n), np.int64)
    done = native.plain_keys(*columns, keys)
    assert done == twin.plain_keys(*columns, expected)
    np.testing.assert_array_equal(keys[:done], expected[:done])


@settings(max_examples=80, deadline=None)
@given(n=st.integers(0, 60), arms=st.integers(2, 9), far=st.booleans(), counted=st.booleans(), seed=seeds)
def test_sorted_cells_equal_twin(n, arms, far, counted, seed):
    rng = np.random.default_rng(seed)
    a, b = pairs(rng, n, range(arms))
    low, high = np.minimum(a, b).astype(np.int64), np.maximum(a, b).astype(np.int64)
    high += far * ((1 << 30) - 1 - arms)  # the largest code that a key holds
    keys = np.sort(low << 33 | high << 3 | (a > b).astype(np.int64) << 2 | rng.integers(0, 3, n))
    columns = frozen(keys, rng.integers(1, 2**40, n) if counted else None)
    got, want = ([np.full(n, -1, np.int32), np.full(n, -1, np.int32), np.full((n, 3), -1.0)] for _ in range(2))
    m = native.sorted_cells(*columns, *got)
    assert m == twin.sorted_cells(*columns, *want)
    for mine, twins in zip(got, want, strict=True):
        np.testing.assert_array_equal(mine[:m], twins[:m])


@settings(max_examples=80, deadline=None)
@given(k=st.integers(0, 9), share=st.floats(0.0, 1.0), seed=seeds)
def test_square_cells_equal_twin(k, share, seed):
    rng = np.random.default_rng(seed)
    count = rng.integers(0, 2**40, (k, k, 3)) * (rng.random((k, k, 3)) < share) * (1.0 - np.eye(k)[:, :, None])
    names = np.sort(rng.permutation(2 * k)[:k]).astype(np.int32)
    columns = frozen(count, rng.permutation(k).astype(np.int32), names)
    room = max(k * (k - 1), 0)
    got, want = ([np.full(room, -1, np.int32), np.full(room, -1, np.int32), np.full((room, 3), -1.0)] for _ in range(2))
    m = native.square_cells(*columns, *got)
    assert m == twin.square_cells(*columns, *want)
    for mine, twins in zip(got, want, strict=True):
        np.testing.assert_array_equal(mine[:m], twins[:m])


@settings(max_examples=80, deadline=None)
@given(n=st.integers(0, 60), arms=st.integers(2, 9), width=st.integers(1, 4), seed=seeds)
def test_folded_cells_equal_twin(n, arms, width, seed):
    rng = np.random.default_rng(seed)
    a, b = pairs(rng, n, range(arms))
    order = np.lexsort((np.maximum(a, b), np.minimum(a, b)))  # cells of one pair side by side
    columns = frozen(a[order], b[order], rng.normal(size=(n, width)))
    got, want = ([np.full(n, -1, np.int32), np.full(n, -1, np.int32), np.full((n, width), -1.0)] for _ in range(2))
    m = native.folded_cells(*columns, *got)
    assert m == twin.folded_cells(*columns, *want)
    for mine, twins in zip(got, want, strict=True):
        np.testing.assert_array_equal(mine[:m], twins[:m])


@settings(max_examples=80, deadline=None)
@given(
    n=st.integers(0, 200),
    k=st.integers(2, 6),
    weighted=st.booleans(),
    counted=st.booleans(),
    soft=st.booleans(),
    seed=seeds,
)
def test_pair_table_equals_twin(n, k, weighted, counted, soft, seed):
    rng = np.random.default_rng(seed)
    cell = numbered(twin, *pairs(rng, n, range(k)), None, 128)[3]
    y = rng.choice([0.0, 0.5, 1.0], n) if not soft else rng.random(n).round(rng.integers(0, 3))
    weight = rng.exponential(size=n) if weighted else None
    count = rng.integers(1, 9, n).astype(np.float64) if counted else None
    columns = frozen(cell, y, weight, count)
    got = [np.ones((128, 3)), np.ones((128, 3)), np.ones(128)]
    want = [array.copy() for array in got]
    assert native.pair_table(*columns, *got) == twin.pair_table(*columns, *want)
    for mine, twins in zip(got, want, strict=True):
        np.testing.assert_allclose(mine, twins, rtol=1e-12, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(y=st.lists(st.floats(0, 1), min_size=1, max_size=20), p=st.floats(0, 1), seed=seeds)
def test_soft_labels_keep_what_estimators_read(y, p, seed):
    """Sums of c w y, c w (1 - y) with ties split, and of c w^2 (y - p)^2 for any p, come out exactly."""
    rng, n = np.random.default_rng(seed), len(y)
    y, w, c = np.array(y), rng.exponential(size=n), rng.integers(1, 5, n).astype(float)
    sums, squares, rows, codes = np.zeros((1, 3)), np.zeros((1, 3)), np.zeros(1), np.zeros(n, np.int32)
    native.pair_table(codes, y, w, c, sums, squares, rows)
    ((win, tie, loss),) = sums
    np.testing.assert_allclose(win + tie / 2, (c * w * y).sum(), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(loss + tie / 2, (c * w * (1 - y)).sum(), rtol=1e-12, atol=1e-12)
    direct = (c * w**2 * (y - p) ** 2).sum()
    scale = (c * w**2).sum()
    np.testing.assert_allclose(squares[0] @ (np.array([1, 0.5, 0]) - p) ** 2, direct, atol=1e-13 * scale)
    assert rows[0] == c.sum()


def test_wrong_lengths():
    a, first, y, slots = np.zeros(3, np.int32), np.zeros(3, np.uint8), np.zeros(3), np.full(8, -1, np.int32)
    keys, one, table = np.zeros(4, np.int64), np.zeros(1, np.int64), np.zeros((2, 2, 3), np.uint8)
    more = table.astype(np.uint32)
    sums, rows = np.zeros((4, 3)), np.zeros(4)
    for function, arguments in [
        (native.pair_cells, (0, a, a[:2], first, slots, keys, one, a)),
        (native.pair_cells, (0, a, a, first[:2], slots, keys, one, a)),
        (native.pair_cells, (0, a, a, first, slots, keys, one, a[:2])),
        (native.pair_cells, (4, a, a, first, slots, keys, one, a)),
        (native.pair_cells, (-1, a, a, first, slots, keys, one, a)),
        (native.pair_cells, (0, a, a, first, slots[:4], keys, one, a)),
        (native.pair_cells, (0, a, a, first, np.full(9, -1, np.int32), keys, one, a)),
        (native.pair_cells, (0, a, a, first, slots, keys, np.zeros(2, np.int64), a)),
        (native.pair_slots, (5, keys, np.full(16, -1, np.int32))),
        (native.pair_slots, (4, keys, slots[:4])),
        (native.pair_slots, (1, keys, slots[:3])),
        (native.plain_keys, (a, a[:2], None, None, y, np.zeros(3, np.int64))),
        (native.plain_keys, (a, a, None, None, y, np.zeros(2, np.int64))),
        (native.plain_keys, (a, a, None, None, y[:2], np.zeros(3, np.int64))),
        (native.plain_keys, (a, a, a[:2], first, None, np.zeros(3, np.int64))),
        (native.plain_keys, (a, a, a, None, None, np.zeros(3, np.int64))),
        (native.plain_keys, (a, a, a, first, y, np.zeros(3, np.int64))),
        (native.pair_count, (a, a[:2], None, None, y, table, more)),
        (native.pair_count, (a, a, None, None, y[:2], table, more)),
        (native.pair_count, (a, a, a[:2], first, None, table, more)),
        (native.pair_count, (a, a, None, None, None, table, more)),
        (native.pair_count, (a, a, a, None, None, table, more)),
        (native.pair_count, (a, a, a, first, y, table, more)),
        (native.pair_count, (a, a, None, None, y, np.zeros((2, 2, 2), np.uint8), more)),
        (native.pair_count, (a, a, None, None, y, table, more[:1])),
        (native.pair_count, (a, a, None, None, y, np.zeros((2, 3, 3), np.uint8), more)),
        (native.square_cells, (np.zeros((2, 2, 3)), np.arange(2, dtype=np.int32), a[:2], a[:2], a[:2], sums)),
        (native.square_cells, (np.zeros((2, 2, 3)), np.arange(1, 3, dtype=np.int32), a[:2], a[:2], a[:2], sums[:2])),
        (native.square_cells, (np.zeros((2, 3, 3)), np.arange(2, dtype=np.int32), a[:2], a[:2], a[:2], sums[:2])),
        (native.square_cells, (np.zeros((2, 2, 3)), np.arange(2, dtype=np.int32), a[:1], a[:2], a[:2], sums[:2])),
        (native.sorted_cells, (keys, None, a, a, sums)),
        (native.sorted_cells, (keys, one, np.zeros(4, np.int32), np.zeros(4, np.int32), sums)),
        (native.sorted_cells, (keys, None, np.zeros(4, np.int32), np.zeros(4, np.int32), sums[:3])),
        (native.folded_cells, (a, a[:2], sums[:3], a, a, sums[:3])),
        (native.folded_cells, (a, a, sums, a, a, sums)),
        (native.folded_cells, (a, a, sums[:3], a, a[:2], sums[:3])),
        (native.folded_cells, (a, a, sums[:3], a, a, np.zeros((3, 2)))),
        (native.pair_table, (a[:2], y, None, None, sums, sums, rows)),
        (native.pair_table, (a, y[:2], None, None, sums, sums, rows)),
        (native.pair_table, (a, y, y[:2], None, sums, sums, rows)),
        (native.pair_table, (a, y, None, y[:2], sums, sums, rows)),
        (native.pair_table, (a, y, None, None, sums, sums[:3], rows)),
        (native.pair_table, (a, y, None, None, sums, sums, rows[:3])),
        (native.pair_table, (a, y, None, None, np.zeros((4, 2)), sums, rows)),
    ]:
        with pytest.raises(ValueError, match=r"must|give either|one entry"):
            function(*arguments)
