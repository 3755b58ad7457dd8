"""Softmax draws: twin, brute force over all pairs, derivatives at ten scales, one arm that takes all, wrong input."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from steelyard._native import softmax as native

from tests.native import frozen
from tests.reference import softmax as twin

SCALES = np.geomspace(1e-4, 100.0, 10)


def drawn(seed, n, k, draws, scale=1.0, weighted=True):
    rng = np.random.default_rng(seed)
    a = rng.integers(0, k, n, np.int32)
    b = ((a + rng.integers(1, max(k, 2), n)) % k).astype(np.int32) if draws == 2 else None
    weight = rng.uniform(0.5, 2.0, n) if weighted else None
    return frozen(a, b, weight, scale * rng.normal(size=(k, n)))


def evaluate(module, a, b, weight, logits):
    k, n = logits.shape
    value, gradient, roots = np.zeros(n), np.zeros((k, n)), np.zeros((2 if b is None else 4, k, n))
    module.softmax(a, b, weight, logits, value, gradient, roots)
    return value, gradient, roots


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(0, 600), k=st.integers(2, 7), draws=st.sampled_from([1, 2]), weighted=st.booleans(),
    seed=st.integers(0, 10**6),
)  # fmt: skip
def test_equals_twin(n, k, draws, weighted, seed):
    columns = drawn(seed, n, k, draws, 2.0, weighted)
    got, want = evaluate(native, *columns), evaluate(twin, *columns)
    np.testing.assert_allclose(got[0], want[0], rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(got[1], want[1], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(got[2][0], want[2][0], rtol=1e-10, atol=1e-12)
    u = np.random.default_rng(seed).normal(size=(k, n))
    product, by_twin = u.copy(), u.copy()
    native.softmax_product(got[2], product)
    twin.softmax_product(got[2], by_twin)
    np.testing.assert_allclose(product, by_twin, rtol=1e-10, atol=1e-12)
    a, b, weight, logits = columns
    for i in range(min(n, 20)):
        curve = twin.row(logits[:, i], a[i], None if b is None else b[i])[2]
        w = 1.0 if weight is None else weight[i]
        np.testing.assert_allclose(product[:, i], w * curve @ u[:, i], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("k", range(2, 7))
def test_probabilities_of_all_pairs_sum_to_one_and_equal_enumeration(k):
    rng = np.random.default_rng(k)
    logits = rng.normal(size=(k, 1)) * 2
    q = np.exp(logits[:, 0])
    q /= q.sum()
    total = 0.0
    for a, b in combinations(range(k), 2):
        value, _, _ = evaluate(native, np.array([a], np.int32), np.array([b], np.int32), None, logits)
        brute = q[a] * q[b] / (1 - q[a]) + q[b] * q[a] / (1 - q[b])
        assert np.exp(value[0]) == pytest.approx(brute, rel=1e-12)
        total += np.exp(value[0])
    assert total == pytest.approx(1.0, abs=1e-14)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("draws", [1, 2])
def test_derivatives_at_ten_scales(draws, scale):
    a, b, weight, logits = drawn(3, 300, 5, draws, scale)
    _, gradient, roots = evaluate(native, a, b, weight, logits)
    step = np.random.default_rng(1).normal(size=logits.shape) * 1e-5
    up, down = (evaluate(native, a, b, weight, logits + s * step) for s in (1.0, -1.0))
    slope = weight * (up[0] - down[0]) / 2
    atol = 1e-9 * np.abs(step).max() + 1e-14 * np.abs(up[0]).max()
    np.testing.assert_allclose(slope, (gradient * step).sum(axis=0), rtol=1e-6, atol=atol)
    bend = step.copy()
    native.softmax_product(roots, bend)
    np.testing.assert_allclose((down[1] - up[1]) / 2, bend, rtol=1e-4, atol=1e-9 * np.abs(step).max())


def test_one_arm_that_takes_all():
    logits = np.zeros((4, 3))
    logits[0], logits[1] = 60.0, [1.0, 700.0, -700.0]
    a, b = np.array([0, 1, 1], np.int32), np.array([1, 2, 0], np.int32)
    value, gradient, _ = evaluate(native, a, b, None, logits)
    assert np.isfinite(value).all()
    assert np.isfinite(gradient).all()
    np.testing.assert_allclose(gradient.sum(axis=0), 0.0, atol=1e-12)
    assert value[0] == pytest.approx(1.0 - np.log(np.e + 2.0), rel=1e-13)  # 0 first, then 1 of the three others


def test_values_alone_and_wrong_input():
    a, b, weight, logits = drawn(5, 40, 4, 2)
    value, _, _ = evaluate(native, a, b, weight, logits)
    alone = np.zeros(40)
    native.softmax(a, b, None, logits, alone, None, None)
    assert (alone == value).all()
    k, n = logits.shape
    for wrong in ({"a": a[:5]}, {"b": a}, {"a": a + np.int32(9)}, {"weight": np.ones(3)}, {"value": np.zeros(3)},
                  {"gradient": np.zeros((k, 3))}, {"roots": np.zeros((2, k, n))}):  # fmt: skip
        call = {"a": a, "b": b, "weight": weight, "logits": logits, "value": alone, "gradient": np.zeros((k, n)),
                "roots": None}  # fmt: skip
        with pytest.raises(ValueError, match="must"):
            native.softmax(**{**call, **wrong})
    with pytest.raises(ValueError, match="must"):
        native.softmax_product(np.zeros((2, k, n)), np.zeros((k, 3)))
