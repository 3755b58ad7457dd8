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


def evaluate(module, model, k, columns, parameter, meat=False, hessian=True):
    a, b, z, offset, y, weight, count = columns
    p = len(parameter)
    by_eta, score, matrix = np.zeros((4, len(y))), np.zeros(p), np.zeros((p, p))
    value = module.row_likelihood(MODELS[model], 0, k, a, b, z, offset, y, weight, count, meat, parameter, by_eta,
                                  score, matrix if hessian else None)  # fmt: skip
    return value, score, matrix, by_eta


def size(k, d, model):
    return k + d + (model in ("davidson", "rao-kupper"))


@settings(max_examples=80, deadline=None)
@given(
    model=st.sampled_from(list(MODELS)), n=st.integers(0, 600), k=st.sampled_from([0, 2, 5]),
    d=st.integers(0, 4), meat=st.booleans(), weighted=st.booleans(), seed=st.integers(0, 10**6),
)  # fmt: skip
def test_equals_twin(model, n, k, d, meat, weighted, seed):
    columns = block(seed, n, k, d, model, weighted)
    parameter = np.random.default_rng(seed + 1).uniform(0.1, 1.0, size(k, d, model))
    got = evaluate(native, model, k, columns, parameter, meat)
    want = evaluate(twin, model, k, columns, parameter, meat)
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
    _, score, matrix, _ = evaluate(native, model, k, columns, parameter)
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
    once = evaluate(native, "davidson", 4, [*columns[:6], count.astype(float)], parameter, meat=True)
    spread = [part if part is None else np.ascontiguousarray(np.repeat(part, count, axis=-1)) for part in columns]
    often = evaluate(native, "davidson", 4, spread, parameter, meat=True)
    for x, y in zip(once[:3], often[:3], strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-12, atol=1e-12)


def test_one_block_or_many_and_no_hessian():
    columns = block(6, 1000, 3, 2, "bradley-terry")
    parameter = np.linspace(-0.5, 0.5, 5)
    whole = evaluate(native, "bradley-terry", 3, columns, parameter)
    parts = [[None if x is None else np.ascontiguousarray(x[..., cut]) for x in columns]
             for cut in (slice(0, 333), slice(333, 1000))]  # fmt: skip
    sums = [sum(x) for x in zip(*(evaluate(native, "bradley-terry", 3, part, parameter)[:3] for part in parts),
                                strict=True)]  # fmt: skip
    for x, y in zip(whole[:3], sums, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-12)
    alone = evaluate(native, "bradley-terry", 3, columns, parameter, hessian=False)
    assert alone[0] == whole[0]
    assert (alone[1] == whole[1]).all()
    assert not alone[2].any()


@pytest.mark.parametrize("k", [0, 3])
def test_columns_that_lie_apart_are_read_less_their_origin(k):
    d, n = 6, 700
    a, b, z, offset, y, weight, count = block(8, n, k, d, "davidson")
    origin, parameter = np.random.default_rng(3).normal(1e3, 1.0, d), np.linspace(0.1, 0.5, size(k, d, "davidson"))
    moved = z + origin[:, None]
    less = moved - origin[:, None]  # what subtraction leaves
    asked = []
    for columns, about in ((less, None), ([column.copy() for column in moved], origin)):
        by_eta, score, matrix = np.zeros((4, n)), np.zeros(len(parameter)), np.zeros((len(parameter),) * 2)
        value = native.row_likelihood(MODELS["davidson"], 0, k, a, b, columns, offset, y, weight, count, False,
                                      parameter, by_eta, score, matrix, about)  # fmt: skip
        asked.append((value, by_eta, score, matrix))
    for x, want in zip(*asked, strict=True):
        np.testing.assert_array_equal(x, want)
    by_eta, score, matrix = np.zeros((4, n)), np.zeros(len(parameter)), np.zeros((len(parameter),) * 2)
    value = twin.row_likelihood(MODELS["davidson"], 0, k, a, b, moved, offset, y, weight, count, False, parameter,
                                by_eta, score, matrix, origin)  # fmt: skip
    for x, want in zip(asked[0], (value, by_eta, score, matrix), strict=True):
        np.testing.assert_allclose(x, want, rtol=1e-9, atol=1e-9)
    with pytest.raises(ValueError, match="origin must"):
        native.row_likelihood(1, 0, k, a, b, z, offset, y, weight, count, False, parameter, by_eta, score, matrix,
                              origin[1:])  # fmt: skip


def test_wrong_shapes_and_codes():
    a, b, z, _, y, *_ = block(7, 20, 3, 2, "bradley-terry", weighted=False)
    score, matrix = np.zeros(5), np.zeros((5, 5))

    def call(a=a, z=z, parameter=score, matrix=matrix, weight=None, by_eta=None):
        native.row_likelihood(0, 0, 3, a, b, z, None, y, weight, None, False, parameter, by_eta, score, matrix)

    call()
    for wrong in ({"a": a[:5]}, {"a": a + np.int32(3)}, {"z": np.zeros((2, 19))}, {"parameter": np.zeros(4)},
                  {"matrix": np.zeros((4, 5))}, {"weight": np.ones(3)}, {"by_eta": np.zeros((2, 20))}):  # fmt: skip
        with pytest.raises(ValueError, match="must"):
            call(**wrong)
