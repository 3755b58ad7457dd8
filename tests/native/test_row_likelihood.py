"""The row kernel: its twin, the pair kernel, derivatives at ten scales, empty and wrong input."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from steelyard._native import row_likelihood as native
from steelyard._native.pair_likelihood import MODELS

from tests.native import frozen
from tests.reference import row_likelihood as twin

SCALES = np.geomspace(1e-4, 100.0, 10)


def block(seed, n, k, d, model, weighted=True):
    rng = np.random.default_rng(seed)
    a = rng.integers(0, max(k, 1), n, np.int32)
    b = ((a + rng.integers(1, max(k, 2), n)) % max(k, 1)).astype(np.int32)
    ties = model in ("davidson", "rao-kupper")
    y = rng.choice([0.0, 0.5, 1.0], n) if ties else rng.choice([0.0, 0.5, 1.0, 0.3], n)
    weight, count = (rng.uniform(0.5, 2.0, n), rng.integers(1, 5, n).astype(float)) if weighted else (None, None)
    columns = rng.normal(size=(d, n))
    offset = rng.normal(size=n) if weighted else None
    parts = (a, b, columns, offset, y, weight, count)
    return [part if part is None else frozen(part)[0] for part in parts]


def evaluate(module, model, k, columns, parameter, hessian=True, meat=True, **design):
    a, b, z, offset, y, weight, count = columns
    p = len(parameter)
    by_eta, score, bend, square = np.zeros((4, len(y))), np.zeros(p), np.zeros((p, p)), np.zeros((p, p))
    value = module.row_likelihood(MODELS[model], 0, k, a, b, z, offset, y, weight, count, parameter, by_eta, score,
                                  bend if hessian else None, square if meat else None, **design)  # fmt: skip
    return value, score, bend, square, by_eta


def size(k, d, model):
    return k + d + (model in ("davidson", "rao-kupper"))


@settings(max_examples=80, deadline=None)
@given(
    model=st.sampled_from(list(MODELS)), n=st.integers(0, 600), k=st.sampled_from([0, 2, 5]),
    d=st.integers(0, 11), weighted=st.booleans(), seed=st.integers(0, 10**6),
)  # fmt: skip
def test_equals_twin(model, n, k, d, weighted, seed):
    columns = block(seed, n, k, d, model, weighted)
    parameter = np.random.default_rng(seed + 1).uniform(0.1, 1.0, size(k, d, model))
    got = evaluate(native, model, k, columns, parameter)
    want = evaluate(twin, model, k, columns, parameter)
    for x, y in zip(got, want, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-11, atol=1e-10)


@settings(max_examples=40, deadline=None)
@given(
    model=st.sampled_from(list(MODELS)), n=st.integers(0, 600), k=st.sampled_from([0, 4]), d=st.integers(1, 17),
    dtype=st.sampled_from("fd"), seed=st.integers(0, 10**6),
)  # fmt: skip
def test_two_sides_are_read_as_their_difference(model, n, k, d, dtype, seed):
    """Features of a and b row by row, and their differences as columns: the same bits; and as the twin has them."""
    columns = block(seed, n, k, d, model)
    sides = tuple(frozen(*np.random.default_rng(seed + 2).normal(size=(2, n, d)).astype(dtype)))
    parameter = np.random.default_rng(seed + 1).uniform(0.1, 1.0, size(k, d, model))
    columns[2] = ()
    got = evaluate(native, model, k, columns, parameter, sides=sides)
    want = evaluate(twin, model, k, columns, parameter, sides=sides)
    columns[2] = np.ascontiguousarray((sides[0] - sides[1]).T, np.float64)
    for x, same, y in zip(got, evaluate(native, model, k, columns, parameter), want, strict=True):
        np.testing.assert_array_equal(x, same)
        np.testing.assert_allclose(x, y, rtol=1e-11, atol=1e-10)


@settings(max_examples=40, deadline=None)
@given(
    model=st.sampled_from(list(MODELS)), n=st.integers(0, 600), k=st.sampled_from([0, 4]), d=st.integers(1, 40),
    dtype=st.sampled_from("fd"), seed=st.integers(0, 10**6),
)  # fmt: skip
def test_features_are_read_row_by_row(model, n, k, d, dtype, seed):
    """Features that are no difference of sides: as the twin has them."""
    columns = block(seed, n, k, d, model)
    columns[2] = ()
    (features,) = frozen(np.random.default_rng(seed + 2).normal(size=(n, d)).astype(dtype))
    parameter = np.random.default_rng(seed + 1).uniform(0.1, 1.0, size(k, d, model)) / np.sqrt(d)
    asked = {"hessian": False, "meat": False, "sides": (features,)}
    got, want = (evaluate(module, model, k, columns, parameter, **asked) for module in (native, twin))
    for x, y in zip(got, want, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-11, atol=1e-10)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("model", list(MODELS))
def test_derivatives_at_ten_scales(model, scale):
    k, d = 3, 2
    columns = block(5, 300, k, d, model)
    p = size(k, d, model)
    parameter = scale * np.random.default_rng(1).uniform(-0.5, 0.5, p)
    if model in ("davidson", "rao-kupper"):
        parameter[-1] = 0.7
    _, score, matrix, *_ = evaluate(native, model, k, columns, parameter)
    matrix = matrix + np.triu(matrix, 1).T
    rng = np.random.default_rng(2)
    for _ in range(3):
        step = rng.normal(size=p) * 1e-5
        up, down = (evaluate(native, model, k, columns, parameter + s * step) for s in (1.0, -1.0))
        size_ = np.abs(score) @ np.abs(step) + abs(up[0]) * 1e-12 + 1e-12
        assert abs((up[0] - down[0]) / 2 - score @ step) < 1e-6 * size_ + 1e-13 * abs(up[0])
        np.testing.assert_allclose((down[1] - up[1]) / 2, matrix @ step, rtol=1e-5,
                                   atol=1e-6 * np.abs(matrix @ step).max() + 1e-12 * np.abs(up[1]).max())  # fmt: skip


def test_a_row_for_many_counts_as_many_rows():
    columns = block(3, 50, 4, 2, "davidson", weighted=False)
    count = np.random.default_rng(4).integers(1, 4, 50)
    parameter = np.full(7, 0.3)
    once = evaluate(native, "davidson", 4, [*columns[:6], count.astype(float)], parameter)
    spread = [part if part is None else np.ascontiguousarray(np.repeat(part, count, axis=-1)) for part in columns]
    often = evaluate(native, "davidson", 4, spread, parameter)
    for x, y in zip(once[:4], often[:4], strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-12, atol=1e-12)


def test_one_block_or_many_and_no_hessian():
    columns = block(6, 1000, 3, 2, "bradley-terry")
    parameter = np.linspace(-0.5, 0.5, 5)
    whole = evaluate(native, "bradley-terry", 3, columns, parameter)
    parts = [[None if x is None else np.ascontiguousarray(x[..., cut]) for x in columns]
             for cut in (slice(0, 333), slice(333, 1000))]  # fmt: skip
    sums = [sum(x) for x in zip(*(evaluate(native, "bradley-terry", 3, part, parameter)[:4] for part in parts),
                                strict=True)]  # fmt: skip
    for x, y in zip(whole[:4], sums, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-12)
    for asked in ((False, False), (False, True), (True, False)):  # each for itself: the same bits
        alone = evaluate(native, "bradley-terry", 3, columns, parameter, *asked)
        assert alone[0] == whole[0]
        assert (alone[1] == whole[1]).all()
        for wanted, x, y in zip(asked, alone[2:4], whole[2:4], strict=True):
            assert (x == (y if wanted else 0.0)).all()


@pytest.mark.parametrize("k", [0, 3])
def test_columns_that_lie_apart_are_read_less_their_origin(k):
    d, n = 6, 700
    a, b, z, offset, y, weight, count = block(8, n, k, d, "davidson")
    origin, parameter = np.random.default_rng(3).normal(1e3, 1.0, d), np.linspace(0.1, 0.5, size(k, d, "davidson"))
    moved = z + origin[:, None]
    less = moved - origin[:, None]  # what subtraction leaves
    rows = [a, b, less, offset, y, weight, count]
    want = evaluate(native, "davidson", k, rows, parameter)
    rows[2] = [column.copy() for column in moved]
    got = evaluate(native, "davidson", k, rows, parameter, origin=origin)
    for x, same in zip(got, want, strict=True):
        np.testing.assert_array_equal(x, same)
    rows[2] = moved
    for x, near in zip(got, evaluate(twin, "davidson", k, rows, parameter, origin=origin), strict=True):
        np.testing.assert_allclose(x, near, rtol=1e-9, atol=1e-9)
    with pytest.raises(ValueError, match="origin must"):
        evaluate(native, "davidson", k, rows, parameter, origin=origin[1:])


def test_wrong_shapes_and_codes():
    a, b, z, _, y, *_ = block(7, 20, 3, 2, "bradley-terry", weighted=False)
    score, matrix = np.zeros(5), np.zeros((5, 5))

    def call(a=a, z=z, parameter=score, matrix=matrix, weight=None, by_eta=None, meat=None, sides=None):
        native.row_likelihood(0, 0, 3, a, b, z, None, y, weight, None, parameter, by_eta, score, matrix, meat, None,
                              sides)  # fmt: skip

    call()
    for wrong in ({"a": a[:5]}, {"a": a + np.int32(3)}, {"z": np.zeros((2, 19))}, {"parameter": np.zeros(4)},
                  {"matrix": np.zeros((4, 5))}, {"meat": np.zeros((5, 4))},
                  {"sides": (np.zeros((20, 2)), np.zeros((20, 1)))}, {"sides": (np.zeros((19, 2)),) * 2},
                  {"sides": (np.zeros((20, 2)),)}, {"sides": (np.zeros((19, 2)),), "matrix": None},
                  {"weight": np.ones(3)}, {"by_eta": np.zeros((2, 20))}):  # fmt: skip
        with pytest.raises(ValueError, match="must"):
            call(**wrong)
