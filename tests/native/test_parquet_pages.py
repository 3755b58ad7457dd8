"""Pages of Parquet: headers, words and numbers of words, of sound bytes and of any others."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from steelyard._native import parquet_pages as native

from tests.reference import parquet_pages as twin

PLAIN = settings(max_examples=300, deadline=None)


def varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out) + bytes([value])


def zigzag(value):
    return varint((value << 1 ^ value >> 63) & (1 << 64) - 1)


@st.composite
def structures(draw, depth=0):
    """A struct of Thrift's compact protocol."""
    out, number = b"", 0
    for _ in range(draw(st.integers(0, 5))):
        step = draw(st.integers(1, 20))
        kind = draw(st.sampled_from([1, 2, 3, 4, 5, 5, 5, 6, 7, 8, 12, 12] if depth < 4 else [1, 5, 8]))
        number += step
        out += bytes([step << 4 | kind]) if step < 16 else bytes([kind]) + zigzag(number)
        out += {
            1: lambda: b"", 2: lambda: b"",
            3: lambda: draw(st.binary(min_size=1, max_size=1)), 7: lambda: draw(st.binary(min_size=8, max_size=8)),
            8: lambda: (lambda text: varint(len(text)) + text)(draw(st.binary(max_size=20))),
            12: lambda: draw(structures(depth + 1)),
        }.get(kind, lambda: zigzag(draw(st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 300))))()  # fmt: skip
    return out + b"\0"


def same_header(data, at=0, rows=1, most=1, nullable=True):
    """Where the body of the first page begins; 0 where it has no header."""
    got, want = (np.zeros((most, which.PAGE_PLACES), np.int64) for which in (native, twin))
    count = native.page_headers(data, nullable, at, rows, got)
    assert count == twin.page_headers(data, nullable, at, rows, want)
    np.testing.assert_array_equal(got[:count], want[:count])
    return int(got[0, native.PAGE_FIELDS]) if count else 0


@PLAIN
@given(data=structures(), after=st.binary(max_size=5))
def test_a_header_equals_its_twin_and_ends_where_it_ends(data, after):
    assert same_header(data + after) == len(data)
    for cut in range(len(data)):
        assert same_header(data[:cut]) == 0


@PLAIN
@given(data=st.binary(max_size=60) | structures(), at=st.integers(0, 59), byte=st.integers(0, 255))
def test_bytes_that_are_no_header(data, at, byte):
    changed = bytearray(data)
    if at < len(changed):
        changed[at] = byte
    same_header(bytes(changed))


@PLAIN
@given(
    pages=st.lists(st.tuples(structures(), st.binary(max_size=9)), max_size=4), at=st.integers(0, 9),
    rows=st.integers(-1, 400), most=st.integers(1, 4), nullable=st.booleans(),
)  # fmt: skip
def test_page_after_page(pages, at, rows, most, nullable):
    data = b"".join(head + body for head, body in pages)
    same_header(data, at, rows, most, nullable)


@PLAIN
@given(
    kind=st.sampled_from([0, 1, 2, 3]), numbers=st.lists(st.integers(-1, 9), min_size=9, max_size=9),
    large=st.sampled_from([None, 1, 2, 4]), nullable=st.booleans(),
)  # fmt: skip
def test_which_pages_are_read(kind, numbers, large, nullable):
    """A header with all the fields of its kind."""
    if large:
        numbers[large] = (1 << 30) + 1
    names = {0: (5, [1, 2, 3]), 1: (6, [1]), 2: (7, [1, 2]), 3: (8, [1, 4, 5, 6])}[kind]
    head = b"\x15" + zigzag(kind) + b"\x15" + zigzag(numbers[1]) + b"\x15" + zigzag(numbers[2])
    head += bytes([(names[0] - 3) << 4 | 12])
    for before, field, value in zip([0, *names[1]], names[1], numbers[4:], strict=False):
        head += bytes([(field - before) << 4 | 5]) + zigzag(value)
    same_header(head + b"\0\0" + b"x" * 9, nullable=nullable)


def test_bodies_are_passed_over_and_rows_counted():
    def page(kind, stored, values):  # fields 1 to 3, and 5 or 7 with how many values
        place = {0: 2, 2: 4}[kind]
        head = b"\x15" + zigzag(kind) + b"\x15" + zigzag(9) + b"\x15" + zigzag(stored)
        return head + bytes([place << 4 | 12]) + b"\x15" + zigzag(values) + b"\0\0" + b"x" * stored

    data = page(2, 5, 7) + page(0, 8, 30) + page(0, 3, 20) + page(0, 3, 20)
    table = np.zeros((9, native.PAGE_PLACES), np.int64)
    assert native.page_headers(data, True, 0, 50, table) == 3
    assert table[:3, 3].tolist() == [7, 30, 20]
    assert [data[begin:end] for begin, end in table[:3, native.PAGE_FIELDS :][:, :2]] == [b"x" * 5, b"x" * 8, b"x" * 3]
    assert native.page_headers(data[:-2], True, 0, 70, table) == 4
    assert table[3, native.PAGE_FIELDS + 1] == len(data[:-2]) + 1  # it would end beyond
    same_header(data, 0, 60, 9)


def test_structs_within_structs_without_end():
    assert same_header(b"\x1c" * 100_000) == 0


@PLAIN
@given(words=st.lists(st.binary(max_size=30), max_size=8), cut=st.integers(0, 12), extra=st.integers(0, 2))
def test_words(words, cut, extra):
    data = b"".join(len(word).to_bytes(4, "little") + word for word in words)
    data = data[: len(data) - cut] if cut else data
    got, want = np.zeros((len(words) + extra, 2), np.uint64), np.zeros((len(words) + extra, 2), np.uint64)
    count = native.page_words(data, got)
    assert count == twin.page_words(data, want)
    assert count == len(words) or cut
    np.testing.assert_array_equal(got[:count], want[:count])


def test_a_word_longer_than_its_page():
    views = np.zeros((1, 2), np.uint64)
    for length in (b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x05\0\0\0"):
        assert native.page_words(length + b"four", views) == 0


@st.composite
def runs(draw, width):
    out = b""
    for _ in range(draw(st.integers(1, 4))):
        many = draw(st.integers(1, 40))
        if draw(st.booleans()):
            packed = draw(st.integers(0, (1 << 8 * many * width) - 1))
            out += varint(many << 1 | 1) + packed.to_bytes(many * width, "little")
        else:
            out += varint(many << 1) + draw(st.integers(0, (1 << width) - 1)).to_bytes((width + 7) // 8, "little")
    return out


@PLAIN
@given(data=st.data(), width=st.integers(0, 31))
def test_numbers_equal_their_twin_in_any_steps(data, width):
    stored = data.draw(runs(width) | st.binary(max_size=40))
    cut = data.draw(st.integers(0, 3))
    stored = stored[: len(stored) - cut] if cut else stored
    state, other = np.zeros(native.RUN_FIELDS, np.int64), np.zeros(twin.RUN_FIELDS, np.int64)
    for n, over in data.draw(st.lists(st.tuples(st.integers(0, 200), st.booleans()), max_size=6)):
        got, want = np.full(n, -7, np.int32), np.full(n, -7, np.int32)
        count = native.page_numbers(stored, width, state, n, None if over else got)
        assert count == twin.page_numbers(stored, width, other, n, None if over else want)
        np.testing.assert_array_equal(got, want)
        if count < n:
            return


def test_long_packed_runs_of_every_width():
    rng = np.random.default_rng(0)
    for width in range(1, 32):
        numbers = rng.integers(0, 1 << width, 1000)
        bits = (numbers[:, None] >> np.arange(width) & 1).astype(np.uint8)
        data = varint(125 << 1 | 1) + np.packbits(bits.ravel(), bitorder="little").tobytes()
        got, state = np.empty(1000, np.int32), np.zeros(native.RUN_FIELDS, np.int64)
        assert native.page_numbers(data, width, state, 333, got[:333]) == 333
        assert native.page_numbers(data, width, state, 667, got[333:]) == 667
        np.testing.assert_array_equal(got, numbers)
        assert native.page_numbers(data, width, state, 1, got[:1]) == 0


def test_arguments_that_do_not_fit():
    state = np.zeros(native.RUN_FIELDS, np.int64)
    with pytest.raises(ValueError, match="width"):
        native.page_numbers(b"abc", 32, state, 0, None)
    with pytest.raises(ValueError, match="length n"):
        native.page_numbers(b"abc", 1, state, 2, np.zeros(1, np.int32))
    with pytest.raises(ValueError, match="PAGE_PLACES"):
        native.page_headers(b"abc", True, 0, 1, np.zeros((1, 2), np.int64))
    with pytest.raises(ValueError, match="no less than 0"):
        native.page_headers(b"abc", True, -1, 1, np.zeros((1, native.PAGE_PLACES), np.int64))
    with pytest.raises(ValueError, match="n x 2"):
        native.page_words(b"abc", np.zeros((1, 3), np.uint64))
    assert native.page_headers(b"", True, 0, 1, np.zeros((1, native.PAGE_PLACES), np.int64)) == 0
    assert native.page_numbers(b"", 1, state, 3, None) == 0


@PLAIN
@given(
    stretches=st.lists(st.tuples(st.binary(max_size=30), st.integers(0, 9), st.integers(0, 20), st.integers(0, 30),
                                 st.integers(0, 40)), max_size=5),
    seed=st.integers(0, 9),
)  # fmt: skip
def test_codes_of_stretches(stretches, seed):
    rng = np.random.default_rng(seed)
    known = [np.where(rng.random(size) < 0.02, -3, rng.integers(-2, 99, size)).astype("i4") for *_, size in stretches]
    asked = [(*each[:4], codes) for each, codes in zip(stretches, known, strict=True)]
    got, want = (np.full(sum(each[3] for each in asked), -9, np.int32) for _ in range(2))
    done = native.page_codes(asked, got)
    assert done == twin.page_codes(asked, want)
    rows = sum(each[3] for each in asked[:done])
    np.testing.assert_array_equal(got[:rows], want[:rows])


def test_stretches_that_do_not_fit():
    known = np.zeros(3, np.int32)
    for wrong in ((b"ab", 32, 0, 1, known), (b"ab", 1, -1, 1, known), (b"ab", 1, 0, -1, known)):
        with pytest.raises(ValueError, match=r"width must lie in 0\.\.31"):
            native.page_codes([wrong], np.zeros(9, np.int32))
    with pytest.raises(ValueError, match="room for all rows"):
        native.page_codes([(b"ab", 1, 0, 5, known)], np.zeros(4, np.int32))
    assert native.page_codes([], np.zeros(0, np.int32)) == 0
