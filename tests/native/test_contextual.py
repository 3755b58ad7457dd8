"""The kernel of arm scores linear in context: its twin, derivatives at ten scales, runs of a pair, wrong input."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from steelyard._native import contextual as native

from tests.native import frozen
from tests.reference import contextual as twin

SCALES = np.geomspace(1e-4, 100.0, 10)


def block(seed, n, k, q, d, weighted=True, by_pair=False):
    """k, a, b, context, columns, y, weight, count."""
    rng = np.random.default_rng(seed)
    a = rng.integers(0, max(k, 1), n, np.int32)
    b = ((a + rng.integers(1, max(k, 2), n)) % max(k, 1)).astype(np.int32)
    if by_pair:
        order = np.lexsort((np.maximum(a, b), np.minimum(a, b)))
        a, b = a[order], b[order]
    y = rng.choice([0.0, 0.5, 1.0, 0.3], n)
    weight, count = (rng.uniform(0.5, 2.0, n), rng.integers(1, 5, n).astype(float)) if weighted else (None, None)
    return [k, *frozen(a, b, rng.normal(size=(q if k else 0, n)), rng.normal(size=(d, n)), y, weight, count)]


def evaluate(module, rows, parameter, hessian=True):
    (vectors, p), wide = parameter.shape, len(rows[3]) + len(rows[4])
    value, score, matrix = np.zeros(vectors), np.zeros((vectors, p)), np.zeros((p, p))
    work = np.full(native.work_size(wide, vectors), np.nan)
    module.contextual(*rows, parameter, work, value, score, matrix if hessian else None)
    return value, score, matrix


@settings(max_examples=100, deadline=None)
@given(
    n=st.integers(0, 400), k=st.sampled_from([0, 2, 3, 6]), q=st.integers(1, 6), d=st.integers(0, 5),
    vectors=st.integers(1, 6), weighted=st.booleans(), by_pair=st.booleans(), seed=st.integers(0, 10**6),
)  # fmt: skip
def test_equals_twin(n, k, q, d, vectors, weighted, by_pair, seed):
    rows = block(seed, n, k, q, d if k else 1 + d, weighted, by_pair)
    p = k * len(rows[3]) + len(rows[4])
    parameter = np.random.default_rng(seed + 1).normal(size=(vectors, p))
    for x, y in zip(evaluate(native, rows, parameter), evaluate(twin, rows, parameter), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-11, atol=1e-10)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("k", [0, 3])
def test_derivatives_at_ten_scales(k, scale):
    rows = block(5, 300, k, 3, 2, weighted=bool(k))
    p = 3 * k + 2
    parameter = scale * np.random.default_rng(1).uniform(-0.5, 0.5, (1, p))
    _, score, matrix = evaluate(native, rows, parameter)
    matrix, rng = matrix + np.triu(matrix, 1).T, np.random.default_rng(2)
    for _ in range(3):
        step = rng.normal(size=p) * 1e-5
        up, down = (evaluate(native, rows, parameter + s * step) for s in (1.0, -1.0))
        size = np.abs(score[0]) @ np.abs(step) + abs(up[0][0]) * 1e-12 + 1e-12
        assert abs((up[0][0] - down[0][0]) / 2 - score[0] @ step) < 1e-6 * size + 1e-13 * abs(up[0][0])
        np.testing.assert_allclose((down[1][0] - up[1][0]) / 2, matrix @ step, rtol=1e-5,
                                   atol=1e-6 * np.abs(matrix @ step).max() + 1e-12 * np.abs(up[1]).max())  # fmt: skip


@pytest.mark.parametrize("weighted", [False, True])
def test_steep_margins_stay_finite(weighted):
    """Where the answer is sure the value is the margin, and where it is wrong too; no overflow, no lost logarithm."""
    rows = [0, *frozen(np.zeros(4, np.int32), np.zeros(4, np.int32), np.empty((0, 4)), np.array([[1.0, -1, 1, -1]]),
                       np.array([1.0, 1, 0, 0]), np.ones(4) if weighted else None, None)]  # fmt: skip
    for steep in (30.0, 800.0, 1e6):
        value, score, matrix = evaluate(native, rows, np.array([[steep]]))
        assert value[0] == pytest.approx(-2.0 * steep, abs=1e-12)
        assert score[0, 0] == pytest.approx(-2.0, abs=1e-12)
        assert 0.0 <= matrix[0, 0] < 1e-12


def test_several_at_once_are_those_one_by_one_and_need_no_hessian():
    rows = block(6, 1000, 4, 3, 1, by_pair=True)
    parameter = np.random.default_rng(3).normal(size=(5, 13))
    value, score, _ = evaluate(native, rows, parameter, hessian=False)
    for v in range(5):
        alone = evaluate(native, rows, parameter[v : v + 1], hessian=False)
        assert value[v] == alone[0][0]
        np.testing.assert_allclose(score[v], alone[1][0], rtol=1e-13, atol=1e-12)


def test_some_rows_of_wider_arrays():
    rows = block(7, 300, 3, 4, 2, weighted=False)
    some = [rows[0], *(None if x is None else x[..., 50:210] for x in rows[1:])]
    copied = [rows[0], *frozen(*some[1:])]
    parameter = np.random.default_rng(3).normal(size=(2, 14))
    for x, y in zip(evaluate(native, some, parameter), evaluate(native, copied, parameter), strict=True):
        assert (x == y).all()


def test_wrong_shapes_and_codes():
    rows = block(7, 20, 3, 2, 1)
    names = ("k", "a", "b", "context", "columns", "y", "weight", "count")
    call = {**dict(zip(names, rows, strict=True)), "parameter": np.zeros((2, 7)), "value": np.zeros(2),
            "work": np.empty(native.work_size(3, 2)), "score": np.zeros((2, 7)),
            "hessian": np.zeros((7, 7))}  # fmt: skip
    native.contextual(**call)
    for wrong in ({"a": call["a"][:5]}, {"a": call["b"]}, {"a": call["a"] + np.int32(3)}, {"k": 0}, {"k": 4},
                  {"context": np.zeros((2, 19))}, {"context": np.zeros((20, 2)).T}, {"columns": np.zeros((2, 20))},
                  {"weight": np.ones(3)}, {"count": np.ones(3)}, {"parameter": np.zeros((2, 6))},
                  {"parameter": np.zeros((0, 7))}, {"work": np.empty(10)}, {"value": np.zeros(1)},
                  {"score": np.zeros((1, 7))}, {"hessian": np.zeros((6, 7))}):  # fmt: skip
        with pytest.raises(ValueError, match="must"):
            native.contextual(**{**call, **wrong})


@pytest.mark.parametrize("weighted", [False, True])
def test_small_losses_are_as_exact_as_large_ones(weighted):
    """What solvers compare of nearly separated rows: 1 + e^-40 is 1, and its logarithm is not 0."""
    n = 100
    rows = [0, *frozen(np.zeros(n, np.int32), np.zeros(n, np.int32), np.empty((0, n)), np.ones((1, n)), np.ones(n),
                       np.ones(n) if weighted else None, None)]  # fmt: skip
    for margin in (0.5, 20.0, 40.0, 60.0):
        value = evaluate(native, rows, np.array([[margin]]))[0][0]
        assert value == pytest.approx(-n * np.log1p(np.exp(-margin)), rel=1e-12, abs=0.0)
