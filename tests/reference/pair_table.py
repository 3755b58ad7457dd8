"""Twins of bindings/pair_table.pyx."""

import itertools

import numpy as np
from numpy.typing import NDArray

from tests.reference.common import mix


def pair_cells(
    start: int,
    a: NDArray[np.int32],
    b: NDArray[np.int32],
    first: NDArray[np.uint8] | None,
    slots: NDArray[np.int32],
    keys: NDArray[np.int64],
    count: NDArray[np.int64],
    cell: NDArray[np.int32],
) -> int:
    """Number the cells (first, a, b) of rows start..n-1 in order of appearance; slots is left alone.

    A key is first 2^62 + a 2^31 + b. Returns n, or the row that found keys full.
    """
    for i in range(start, len(a)):
        key = ((1 if first is None else int(first[i])) << 62) + (int(a[i]) << 31) + int(b[i])
        known = np.flatnonzero(keys[: count[0]] == key)
        if len(known) == 0 and count[0] == len(keys):
            return i
        if len(known) == 0:
            keys[count[0]] = key
            count[0] += 1
        cell[i] = known[0] if len(known) else count[0] - 1
    return len(a)


def pair_slots(count: int, keys: NDArray[np.int64], slots: NDArray[np.int32]) -> None:
    """Put cells 0..count-1 into an empty (-1) open-addressing table by the mix of their keys."""
    for cell in range(count):
        slot = mix(int(keys[cell])) % len(slots)
        while slots[slot] >= 0:
            slot = (slot + 1) % len(slots)
        slots[slot] = cell


def _place(
    i: int, label: NDArray[np.int32] | None, label_place: NDArray[np.uint8] | None, y: NDArray[np.float64] | None
) -> int:
    """Where the outcome of a row stands: 0 win, 1 tie, 2 loss; 3 is nowhere."""
    if label is not None:
        assert label_place is not None
        return int(label_place[label[i]]) if 0 <= label[i] < len(label_place) else 3
    assert y is not None
    return {1.0: 0, 0.5: 1, 0.0: 2}.get(float(y[i]), 3)


def plain_keys(
    a: NDArray[np.int32],
    b: NDArray[np.int32],
    label: NDArray[np.int32] | None,
    label_place: NDArray[np.uint8] | None,
    y: NDArray[np.float64] | None,
    keys: NDArray[np.int64],
) -> int:
    """Plain rows as a 2^32 + b 2^2 + place; returns as :func:`pair_count` does, with nothing beyond of use."""
    for i in range(len(a)):
        place = _place(i, label, label_place, y)
        if a[i] < 0 or b[i] < 0 or a[i] == b[i] or place == 3:
            return i - i % 256
        keys[i] = (int(a[i]) << 32) + (int(b[i]) << 2) + place
    return len(a)


def pair_count(
    a: NDArray[np.int32],
    b: NDArray[np.int32],
    label: NDArray[np.int32] | None,
    label_place: NDArray[np.uint8] | None,
    y: NDArray[np.float64] | None,
    count: NDArray[np.uint8],
    carry: NDArray[np.uint32],
) -> int:
    """Count plain rows into count + 256 carry (k, k, 3: win, tie, loss).

    Returns n, or the last multiple of 256 before the first row that is not plain; nothing beyond is counted.
    """
    k, cells = len(count), []
    done = len(a)
    for i in range(len(a)):
        place = _place(i, label, label_place, y)
        if not (0 <= a[i] < k and 0 <= b[i] < k and a[i] != b[i] and place < 3):
            done = i - i % 256
            break
        cells.append((a[i], b[i], place))
    for cell in cells[:done]:
        total = int(count[cell]) + 256 * int(carry[cell]) + 1
        count[cell], carry[cell] = total % 256, total // 256
    return done


def square_cells(
    count: NDArray[np.float64],
    order: NDArray[np.int32],
    name: NDArray[np.int32],
    a: NDArray[np.int32],
    b: NDArray[np.int32],
    sums: NDArray[np.float64],
) -> int:
    """Counts (k, k, 3) of ordered pairs to the cells (a, b) that occur, both ways of a pair side by side; how many."""
    m, k = 0, len(order)
    for i, j in itertools.combinations(range(k), 2):
        for x, z in ((i, j), (j, i)):
            if count[order[x], order[z]].any():
                a[m], b[m], sums[m] = name[x], name[z], count[order[x], order[z]]
                m += 1
    return m


def sorted_cells(
    keys: NDArray[np.int64],
    count: NDArray[np.int64] | None,
    a: NDArray[np.int32],
    b: NDArray[np.int32],
    sums: NDArray[np.float64],
) -> int:
    """Sorted keys, low 2^33 + high 2^3 + flip 2^2 + place, to cells (a, b) with their rows by place; how many."""
    cells: dict[tuple[int, int], list[float]] = {}
    for i, key in enumerate(keys.tolist()):
        low, high, flip, place = key >> 33, key >> 3 & (1 << 30) - 1, key >> 2 & 1, key & 3
        cells.setdefault((high, low) if flip else (low, high), [0.0] * 3)[place] += 1 if count is None else count[i]
    for i, ((left, right), rows) in enumerate(cells.items()):
        a[i], b[i], sums[i] = left, right, rows
    return len(cells)


def folded_cells(
    a: NDArray[np.int32],
    b: NDArray[np.int32],
    values: NDArray[np.float64],
    low: NDArray[np.int32],
    high: NDArray[np.int32],
    folded: NDArray[np.float64],
) -> int:
    """One cell a pair, seen from the lower arm: the sums of values (n, width), turned where a is the higher."""
    pairs: dict[tuple[int, int], NDArray[np.float64]] = {}
    for left, right, own in zip(a.tolist(), b.tolist(), values, strict=True):
        pair = (min(left, right), max(left, right))
        pairs[pair] = pairs.get(pair, 0.0) + (own if left < right else own[::-1])
    for i, ((left, right), total) in enumerate(pairs.items()):
        low[i], high[i], folded[i] = left, right, total
    return len(pairs)


def pair_table(
    cell: NDArray[np.int32],
    y: NDArray[np.float64],
    weight: NDArray[np.float64] | None,
    count: NDArray[np.float64] | None,
    sums: NDArray[np.float64],
    squares: NDArray[np.float64],
    rows: NDArray[np.float64],
) -> int:
    """Add rows (n,) to sums, squares (cells, 3) and rows (cells,); returns how many rows have a soft label.

    A hard label adds c w (and c w^2) at its outcome. A soft one adds c w (y, 0, 1 - y), and c w^2 times the
    Lagrange basis at y of the quadratics through the outcomes 1, 1/2, 0.
    """
    c = np.ones(len(cell)) if count is None else count
    w = np.ones(len(cell)) if weight is None else weight
    hard = np.isin(y, (0.0, 0.5, 1.0))
    basis = np.column_stack([y * (2 * y - 1), 4 * y * (1 - y), (1 - y) * (1 - 2 * y)])
    linear = np.where(hard[:, None], basis, np.column_stack([y, 0 * y, 1 - y]))
    np.add.at(rows, cell, c)
    np.add.at(sums, cell, (c * w)[:, None] * linear)
    np.add.at(squares, cell, (c * w * w)[:, None] * basis)
    return int(np.count_nonzero(~hard))
