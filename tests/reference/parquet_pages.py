"""Twin of bindings/parquet_pages.pyx, byte by byte; its state counts the numbers that were taken."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

PAGE_FIELDS, PAGE_PLACES, RUN_FIELDS, RUN_LEFT, RUN_PACKED = 9, 12, 5, 1, 3
_FIELDS = {
    (0, 1): 0, (0, 2): 1, (0, 3): 2, (5, 1): 3, (5, 2): 4, (5, 3): 5, (7, 1): 3, (7, 2): 4,
    (8, 1): 3, (8, 4): 4, (8, 5): 6, (8, 6): 7, (8, 7): 8,
}  # fmt: skip


class _Bad(Exception):
    pass


class _Reader:
    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data, self.at = bytes(data), at

    def take(self, count: int) -> bytes:
        if count > len(self.data) - self.at:
            raise _Bad
        self.at += count
        return self.data[self.at - count : self.at]

    def varint(self) -> int:
        value = 0
        for shift in range(0, 64, 7):
            byte = self.take(1)[0]
            value |= (byte & 127) << shift & (1 << 64) - 1
            if byte < 128:
                return value
        raise _Bad

    def zigzag(self) -> int:
        value = self.varint()
        return value >> 1 ^ -(value & 1)


def page_headers(data: Any, nullable: bool, at: int, rows: int, table: NDArray[np.int64]) -> int:
    """How many pages have a header. table (most, 12): fields; where its body begins and would end; if it is read."""
    for i, page in enumerate(table):
        length = _header(data[at:], page[:PAGE_FIELDS]) if rows > 0 else 0
        if not length:
            return i
        kind, _, stored, values = page[:4].tolist()
        end = min(at + length + max(stored, 0), len(data) + 1)
        page[PAGE_FIELDS:] = at + length, end, _is_sound(nullable, *page[:8].tolist())
        at = end
        rows -= max(values, 0) * (kind != 2)
    return len(table)


def _is_sound(nullable: bool, kind: int, size: int, stored: int, values: int, encoding: int, level_encoding: int,
              levels: int, repeats: int) -> bool:  # fmt: skip
    if not all(0 <= each <= 1 << 30 for each in (size, stored, values)):
        return False
    sound = {
        2: encoding in (0, 2),
        0: encoding in (8, 2) and (level_encoding == 3 or not nullable),
        3: encoding in (8, 2) and 0 <= levels <= min(size, stored) and repeats == 0,
    }
    return sound.get(kind, False)


def _header(data: Any, fields: NDArray[np.int64]) -> int:
    """Length of the header; 0 where there is none. fields (9,), -1 where nothing is said."""
    fields[:] = -1
    reader = _Reader(data)
    try:
        _structure(reader, 0, 0, fields)
    except _Bad:
        return 0
    return reader.at


def _structure(reader: _Reader, within: int, depth: int, fields: NDArray[np.int64]) -> None:
    if depth > 8:
        raise _Bad
    number = 0
    while head := reader.take(1)[0]:
        number = number + (head >> 4) if head >> 4 else reader.zigzag()
        value, kind = 0, head & 15
        if kind in (1, 2):
            value = int(kind == 1)
        elif kind == 3:
            value = reader.take(1)[0]
        elif kind in (4, 5, 6):
            value = reader.zigzag()
        elif kind == 7:
            reader.take(8)
        elif kind == 8:
            reader.take(reader.varint())
        elif kind == 12:
            _structure(reader, -1 if depth else number, depth + 1, fields)
        else:
            raise _Bad
        if (within, number) in _FIELDS:
            fields[_FIELDS[within, number]] = value


def page_words(data: Any, views: NDArray[np.uint64]) -> int:
    """How many words there are; views (n, 2) of them, as Arrow has it."""
    reader = _Reader(data)
    for i, view in enumerate(views):
        try:
            word = reader.take(int.from_bytes(reader.take(4), "little"))
        except _Bad:
            return i
        told = len(word).to_bytes(4, "little")
        if len(word) <= 12:
            told += word.ljust(12, b"\0")
        else:
            told += word[:4] + bytes(4) + (reader.at - len(word)).to_bytes(4, "little")
        view[:] = np.frombuffer(told, np.uint64)
    return len(views)


def page_numbers(data: Any, width: int, state: NDArray[np.int64], n: int, numbers: NDArray[np.int32] | None) -> int:
    """How many numbers there are, n at most, after those that were taken before."""
    done = 0
    for start, count, value in _runs(bytes(data), width, int(state[0]) + n):
        for i in range(max(start, int(state[0])), min(start + count, int(state[0]) + n)):
            if numbers is not None:
                numbers[done] = value(i - start)
            done += 1
    state[0] += done
    return done


def _runs(data: bytes, width: int, enough: int) -> Iterator[tuple[int, int, Any]]:
    """First number, length, and value by place of each run."""
    reader, start = _Reader(data), 0
    while start < enough and reader.at < len(data):
        try:
            head = reader.varint()
            if head & 1:
                many = min(head >> 1, (2**31 - 1) // 8)
                packed = reader.take(min(many * width, len(data) - reader.at))
                bits = int.from_bytes(packed, "little")
                count = min(8 * many, 8 * len(packed) // width if width else 2**31 - 1)
                value = lambda i, bits=bits: bits >> i * width & (1 << width) - 1  # noqa: E731
            else:
                same = int.from_bytes(reader.take((width + 7) // 8), "little")
                count, value = min(head >> 1, 2**31 - 1), lambda _, same=same: same
                if same >= 2**31:
                    return
        except _Bad:
            return
        yield start, count, value
        start += count


def page_codes(stretches: Any, codes: NDArray[np.int32]) -> int:
    """How many stretches (bytes, width, before, count, known) are done; their codes one after the other."""
    start = 0
    for i, (data, width, before, count, known) in enumerate(stretches):
        state, numbers = np.zeros(RUN_FIELDS, np.int64), np.zeros(before + count, np.int32)
        if page_numbers(data, width, state, before + count, numbers) < before + count:
            return i
        words = numbers[before:]
        if count and (not len(known) or words.max() >= len(known) or (known[words] == -3).any()):
            return i
        codes[start : start + count] = known[words] if count else []
        start += count
    return len(stretches)
