"""Softmax draws: twin, brute force over all pairs, derivatives at ten scales, one arm that takes all, wrong input."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from steelyard._native import softmax as native

from tests.native import frozen
from tests.reference import softmax as twin

SCALES = np.geomspace(1e-4, 100.0, 10)


def drawn(seed, n, k, draws, weighted=True):
    rng = np.random.default_rng(seed)
    a = rng.integers(0, k, n, np.int32)
    b = ((a + rng.integers(1, max(k, 2), n)) % k).astype(np.int32) if draws == 2 else None
    return frozen(a, b, rng.uniform(0.5, 2.0, n) if weighted else None)


def design(seed, n, k, d, scale=1.0):
    """Columns in a larger table, as the rows of one fold are, coefficients, and a direction."""
    rng = np.random.default_rng(seed + 1)
    (columns,) = frozen(rng.normal(size=(d, n + 7)))
    return (columns[:, 3 : n + 3], *frozen(scale * rng.normal(size=(k, d)), rng.normal(size=(k, d))))


def by_logits(module, drawn, logits):
    k, n = logits.shape
    gradient, roots = np.zeros((k, n)), np.zeros((2 if drawn[1] is None else 4, k, n))
    module.softmax(*drawn, logits, gradient, roots)
    return gradient, roots


def by_design(module, drawn, columns, gamma, direction):
    value, gradient, product = np.zeros(columns.shape[1]), np.ones(gamma.shape), np.ones(gamma.shape)
    work = np.full(module.work_size(*gamma.shape), np.nan)
    total = module.softmax_sums(*drawn, columns, gamma, work, value, gradient)
    module.softmax_product(*drawn, columns, gamma, direction, work, product)
    return total, value, gradient, product


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(0, 600), k=st.integers(2, 7), draws=st.sampled_from([1, 2]), weighted=st.booleans(),
    seed=st.integers(0, 10**6),
)  # fmt: skip
def test_of_logits_equals_twin(n, k, draws, weighted, seed):
    columns, rng = drawn(seed, n, k, draws, weighted), np.random.default_rng(seed)
    (logits,), u = frozen(2.0 * rng.normal(size=(k, n))), rng.normal(size=(k, n))
    (gradient, roots), (slope, t) = by_logits(native, columns, logits), by_logits(twin, columns, logits)
    np.testing.assert_allclose(gradient, slope, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(roots[0], t[0], rtol=1e-10, atol=1e-12)
    bent = roots[0] * u - (roots[1:] * (roots[1:] * u).sum(axis=1)[:, None]).sum(axis=0)
    a, b, weight = columns
    for i in range(min(n, 20)):
        curve = twin.row(logits[:, i], a[i], None if b is None else b[i])[2]
        np.testing.assert_allclose(bent[:, i], (1.0 if weight is None else weight[i]) * curve @ u[:, i], rtol=1e-9,
                                   atol=1e-11)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(0, 200), k=st.integers(2, 11), d=st.integers(1, 9), draws=st.sampled_from([1, 2]),
    weighted=st.booleans(), seed=st.integers(0, 10**6),
)  # fmt: skip
@example(n=64, k=8, d=4, draws=2, weighted=True, seed=0)  # whole groups of rows, classes and columns
@example(n=65, k=9, d=5, draws=2, weighted=True, seed=0)  # and one more of each
def test_of_a_design_equals_twin(n, k, d, draws, weighted, seed):
    columns, table = drawn(seed, n, k, draws, weighted), design(seed, n, k, d)
    for got, want in zip(by_design(native, columns, *table), by_design(twin, columns, *table), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("k", range(2, 7))
def test_probabilities_of_all_pairs_sum_to_one_and_equal_enumeration(k):
    logits = np.random.default_rng(k).normal(size=(k, 1)) * 2
    q = np.exp(logits[:, 0])
    q /= q.sum()
    total, work = 0.0, np.empty(native.work_size(k, 1))
    for a, b in combinations(range(k), 2):
        pair = np.array([[a], [b]], np.int32)
        value = native.softmax_sums(pair[0], pair[1], None, np.ones((1, 1)), logits, work, None, None)
        brute = q[a] * q[b] / (1 - q[a]) + q[b] * q[a] / (1 - q[b])
        assert np.exp(value) == pytest.approx(brute, rel=1e-12)
        total += np.exp(value)
    assert total == pytest.approx(1.0, abs=1e-14)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("draws", [1, 2])
def test_derivatives_at_ten_scales(draws, scale):
    columns, (x, gamma, direction) = drawn(3, 300, 5, draws), design(3, 300, 5, 4, scale)
    step = 1e-5 * direction
    _, value, gradient, product = by_design(native, columns, x, gamma, step)
    up, down = (by_design(native, columns, x, gamma + s * step, step) for s in (1.0, -1.0))
    atol = 1e-14 * np.abs(value).sum()
    assert (up[0] - down[0]) / 2 == pytest.approx(((gradient - 1.0) * step).sum(), rel=1e-6, abs=atol)
    np.testing.assert_allclose((down[2] - up[2]) / 2, product - 1.0, rtol=1e-4, atol=1e-11)


def test_one_arm_that_takes_all():
    logits = np.zeros((4, 3))
    logits[0], logits[1] = 60.0, [1.0, 700.0, -700.0]
    pairs = (np.array([0, 1, 1], np.int32), np.array([1, 2, 0], np.int32), None)
    gradient, _ = by_logits(native, pairs, logits)
    _, value, sums, product = by_design(native, pairs, np.eye(3), logits, np.ones((4, 3)))
    for told in (value, gradient, sums, product):
        assert np.isfinite(told).all()
    np.testing.assert_allclose(gradient.sum(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(sums, 1.0 + gradient, rtol=1e-14)
    np.testing.assert_allclose(product, 1.0, atol=1e-14)  # one number more for every arm changes nothing
    assert value[0] == pytest.approx(1.0 - np.log(np.e + 2.0), rel=1e-13)  # 0 first, then 1 of the three others


@pytest.mark.parametrize("gap", [600.0, 700.0])
def test_heavy_rows_of_one_arm_that_takes_all(gap):
    logits, direction = np.array([[gap], [0.0], [0.0]]), np.array([[0.0], [20.0], [-20.0]])
    pair = (np.array([0], np.int32), np.array([1], np.int32), np.array([1e20]))
    _, value, sums, product = by_design(native, pair, np.ones((1, 1)), logits, direction)
    np.testing.assert_allclose(value, -np.log(2.0), rtol=1e-11)
    np.testing.assert_allclose(sums.ravel(), [1.0, 0.5e20, -0.5e20], rtol=1e-11)
    if gap <= 600.0:
        np.testing.assert_allclose(product.ravel(), [1.0, 1e21, -1e21], rtol=1e-11)


def test_what_is_no_number_stays_none():
    logits = np.array([[0.0], [1.0], [np.nan]])
    for pair in ((np.array([0], np.int32), None, None), (np.array([0], np.int32), np.array([1], np.int32), None)):
        _, value, _, _ = by_design(native, pair, np.ones((1, 1)), logits, np.ones((3, 1)))
        assert np.isnan(value).all()


def test_wrong_input():
    (a, b, weight), (x, gamma, direction) = drawn(5, 40, 4, 2), design(5, 40, 4, 3)
    work, k, n = np.empty(native.work_size(4, 3)), 4, 40
    rows = [{"a": a[:5]}, {"b": a}, {"a": a + np.int32(9)}, {"weight": np.ones(3)}]
    given_logits = {"a": a, "b": b, "weight": weight, "logits": gamma @ x, "gradient": np.zeros((k, n)), "roots": None}
    for wrong in (*rows, {"gradient": np.zeros((k, 3))}, {"roots": np.zeros((2, k, n))}):
        with pytest.raises(ValueError, match="must"):
            native.softmax(**{**given_logits, **wrong})
    given_design = {"a": a, "b": b, "weight": weight, "columns": x, "gamma": gamma, "work": work}
    sums = {**given_design, "value": np.zeros(n), "gradient": np.zeros((k, 3))}
    rows += [
        {"columns": x[:0], "gamma": gamma[:, :0]},
        {"columns": x[:2]},
        {"columns": np.ones((n, 3)).T},
        {"work": work[1:]},
    ]
    for wrong in (*rows, {"value": np.zeros(3)}, {"gradient": np.zeros((k, n))}):
        with pytest.raises(ValueError, match="must"):
            native.softmax_sums(**{**sums, **wrong})
    product = {**given_design, "direction": direction, "product": np.zeros((k, 3))}
    for wrong in (*rows, {"direction": direction[:2]}, {"product": np.zeros((k, n))}):
        with pytest.raises(ValueError, match="must"):
            native.softmax_product(**{**product, **wrong})
