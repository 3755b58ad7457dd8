"""All pairs of arms: twin, far scores, rows cut anywhere, wrong input."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from steelyard._native import all_pairs as native

from tests.native import frozen
from tests.reference import all_pairs as twin


def inputs(seed, n, k, scale=1.0):
    rng = np.random.default_rng(seed)
    omega = np.triu(rng.uniform(0.0, 2.0, (k, k)) * (rng.random((k, k)) < 0.8), 1)
    return frozen(scale * rng.normal(size=(k, n)), omega + omega.T, rng.uniform(0.5, 2.0, n))


def summed(module, score, omega, weight):
    k, n = score.shape
    sums, means = np.full((k, n), np.nan), np.zeros((k, k))
    module.all_pairs(score, omega, weight, np.empty((2 * k + 1, native.ROWS)), sums, means)
    return sums, means


@settings(max_examples=80, deadline=None)
@given(n=st.integers(0, 300), k=st.integers(0, 9), scale=st.sampled_from([0.1, 1.0, 30.0]), seed=st.integers(0, 10**6))
def test_equals_twin(n, k, scale, seed):
    columns = inputs(seed, n, k, scale)
    for got, want in zip(summed(native, *columns), summed(twin, *columns), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-13)


def test_shares_of_a_pair_add_to_its_weight():
    score, omega, weight = inputs(1, 130, 6)
    sums, means = summed(native, score, omega, weight)
    np.testing.assert_allclose(sums.sum(axis=0), np.triu(omega).sum(), rtol=1e-13)
    assert (np.tril(means) == 0.0).all()
    assert (means[omega == 0.0] == 0.0).all()


def test_the_same_rows_in_two_calls():
    score, omega, weight = inputs(2, 192, 5)
    whole, at = summed(native, score, omega, weight), 64
    parts = [summed(native, np.ascontiguousarray(score[:, cut]), omega, np.ascontiguousarray(weight[cut]))
             for cut in (slice(0, at), slice(at, None))]  # fmt: skip
    assert (np.hstack([sums for sums, _ in parts]) == whole[0]).all()
    np.testing.assert_allclose(parts[0][1] + parts[1][1], whole[1], rtol=1e-13)


def test_scores_that_are_far_apart():
    score = np.array([[0.0, 400.0, -5000.0], [0.0, 0.0, 5000.0], [-1e-12, -400.0, 5000.0]])
    sums, _ = summed(native, score, 1.0 - np.eye(3), np.ones(3))
    np.testing.assert_allclose(sums, [[1.0, 2.0, 0.0], [1.0, 1.0, 1.5], [1.0, 0.0, 1.5]], atol=1e-11)


@settings(max_examples=60, deadline=None)
@given(n=st.integers(0, 200), k=st.integers(1, 7), cut=st.booleans(), seed=st.integers(0, 10**6))
def test_policy_terms_equal_twin(n, k, cut, seed):
    """Chances from columns, fixed, or of no arm; some negative; of all rows, or of some that stand in the middle."""
    rng = np.random.default_rng(seed)
    some = slice(3, 3 + n) if cut else slice(None)
    score, columns = rng.normal(size=(k, n + 5 * cut)), rng.dirichlet(np.ones(2 * k), n + 5 * cut).T.copy()
    columns[rng.random(columns.shape) < 0.05 * rng.random()] *= -1.0
    policy_at, reference_at = (np.where(rng.random(k) < 0.5, rng.integers(0, 2 * k, k), -1) for _ in range(2))
    policy, reference = (np.where(rng.random(k) < 0.5, rng.random(k), 0.0) for _ in range(2))
    supported, shown = (rng.random((k, k)) < 0.5).astype(np.uint8), rng.integers(0, k, (2, n)).astype(np.int32)
    supported |= supported.T
    told = []
    for module in (native, twin):
        terms = np.full((7, n), np.nan)
        call = frozen(score, columns, policy_at, policy, reference_at, reference, supported, *shown)
        module.policy_terms(call[0][:, some], call[1][:, some], *call[2:], np.empty((3 * k + 1, native.ROWS)), terms)
        told.append(terms)
    np.testing.assert_allclose(*told, rtol=1e-12, atol=1e-14)


@settings(max_examples=60, deadline=None)
@given(n=st.integers(0, 200), k=st.integers(1, 7), lam=st.sampled_from([1.0, 1.3, 20.0]), seed=st.integers(0, 10**6))
def test_ends_of_pairs_equal_twin(n, k, lam, seed):
    score, omega, weight = inputs(seed, n, k)
    along = np.triu(np.random.default_rng(seed).normal(size=(k, k)), 1)
    found = []
    for module in (native, twin):
        ends, value, work = np.zeros((2, k, k)), np.full(n, np.nan), np.empty((k + 1, native.ROWS))
        module.pair_ends(score, omega, weight, lam, work, ends)
        module.pair_along(score, *frozen(along), lam, work, value)
        found.append((ends, value))
    for got, want in zip(*found, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-13)


def test_wrong_input():
    score, omega, weight = inputs(3, 20, 4)
    call = {"score": score, "omega": omega, "weight": weight, "work": np.empty((9, native.ROWS)),
            "sums": np.empty((4, 20)), "means": np.zeros((4, 4))}  # fmt: skip
    for wrong in ({"omega": omega[:3]}, {"weight": weight[:5]}, {"work": np.empty((4, native.ROWS))},
                  {"sums": np.empty((4, 3))}, {"means": np.zeros((2, 2))}):  # fmt: skip
        with pytest.raises(ValueError, match="must"):
            native.all_pairs(**{**call, **{name: np.ascontiguousarray(value) for name, value in wrong.items()}})
    at, shares, arm = np.arange(4), np.ones(4), np.zeros(20, np.int32)
    call = {"score": score, "columns": np.ones((4, 20)), "policy_at": at, "policy": shares, "reference_at": at,
            "reference": shares, "supported": np.ones((4, 4), np.uint8), "a": arm, "b": arm,
            "work": np.empty((13, native.ROWS)), "terms": np.empty((7, 20))}  # fmt: skip
    native.policy_terms(**call)
    for wrong in ({"policy": shares[:3]}, {"reference": shares[:2]}, {"policy_at": at[:2]}, {"reference_at": at + 1},
                  {"columns": np.ones((4, 19))}, {"columns": np.ones((20, 4)).T},
                  {"supported": np.ones((3, 4), np.uint8)},
                  {"a": arm[:3]}, {"b": arm + 4}, {"a": arm - 1}, {"work": np.empty((9, native.ROWS))},
                  {"score": np.asfortranarray(score)}, {"terms": np.empty((6, 20))}):  # fmt: skip
        with pytest.raises(ValueError, match="must"):
            native.policy_terms(**{**call, **wrong})
    call = {"score": score, "wanted": omega, "weight": weight, "lambda_": 1.5, "work": np.empty((5, native.ROWS)),
            "ends": np.zeros((2, 4, 4))}  # fmt: skip
    for wrong in ({"wanted": omega[:3]}, {"weight": weight[:5]}, {"lambda_": 0.9}, {"lambda_": np.nan},
                  {"work": np.empty((3, native.ROWS))}, {"ends": np.zeros((2, 4, 3))}):  # fmt: skip
        with pytest.raises(ValueError, match="must"):
            native.pair_ends(**{**call, **wrong})
    call = {"score": score, "along": omega, "lambda_": 1.5, "work": np.empty((5, native.ROWS)), "value": np.empty(20)}
    for wrong in ({"along": omega[:2]}, {"lambda_": 0.9}, {"work": np.empty((3, native.ROWS))}, {"value": np.empty(2)}):
        with pytest.raises(ValueError, match="must"):
            native.pair_along(**{**call, **wrong})
