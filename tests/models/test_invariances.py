"""Invariances of fits to pair tables: to names, order, swapped sides, repeated and merged rows."""

import numpy as np
import pytest
import steelyard as sy
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from steelyard import blocks, counters, graph, pairs

SPECS = [{}, {"ties": "davidson"}, {"ties": "rao-kupper"}, {"link": "probit"}]


def rows(seed, n=300, k=5):
    rng = np.random.default_rng(seed)
    a = rng.integers(0, k, n)
    b = (a + rng.integers(1, k, n)) % k
    return rng, a, b, rng.choice([0.0, 0.5, 1.0], n)


def fit(a, b, y, spec=None, **columns):
    log = sy.scan({"a": a, "b": b, "y": y, **columns}, a="a", b="b", outcome="y", **{name: name for name in columns})
    return sy.BradleyTerry(**(spec or {})).fit(log)


seeds = given(st.integers(0, 10_000), st.sampled_from(SPECS))
quick = settings(max_examples=12, deadline=None)


@quick
@seeds
def test_swapping_sides_and_outcomes_changes_nothing(seed, spec):
    rng, a, b, y = rows(seed)
    swap = rng.random(len(y)) < 0.5
    left, right = fit(a, b, y, spec), fit(np.where(swap, b, a), np.where(swap, a, b), np.where(swap, 1 - y, y), spec)
    assert np.allclose(left.score, right.score, atol=1e-9)
    assert np.allclose(left.covariance, right.covariance, atol=1e-9)


@quick
@seeds
def test_reversing_every_outcome_flips_every_sign(seed, spec):
    _, a, b, y = rows(seed)
    assert np.allclose(fit(a, b, y, spec).score, -fit(a, b, 1 - y, spec).score, atol=1e-9)


@quick
@seeds
def test_order_of_rows_and_names_of_arms_do_not_matter(seed, spec):
    rng, a, b, y = rows(seed)
    order, names = rng.permutation(len(y)), rng.permutation(5)
    plain, mixed = fit(a, b, y, spec), fit(names[a][order], names[b][order], y[order], spec)
    assert np.allclose(plain.score, mixed.score[names], atol=1e-9)


@quick
@seeds
def test_duplicating_rows_halves_variances(seed, spec):
    _, a, b, y = rows(seed)
    one, two = fit(a, b, y, spec), fit(*(np.tile(x, 2) for x in (a, b, y)), spec)
    assert np.allclose(one.score, two.score, atol=1e-9)
    assert np.allclose(one.covariance, 2 * two.covariance, atol=1e-9)


@quick
@seeds
def test_counts_and_integer_weights_repeat_rows_and_zero_means_absent(seed, spec):
    rng, a, b, y = rows(seed)
    times = rng.integers(0, 4, len(y))
    repeated = fit(*(np.repeat(x, times) for x in (a, b, y)), spec)
    counted, weighted = fit(a, b, y, spec, count=times), fit(a, b, y, spec, weight=times)
    assert np.allclose(repeated.score, counted.score, atol=1e-9)
    assert np.allclose(repeated.covariance, counted.covariance, atol=1e-9)
    assert np.allclose(repeated.score, weighted.score, atol=1e-9)


def test_threads_give_the_same_bits_and_block_sizes_rounding_only(monkeypatch):
    rng, a, b, y = rows(1, n=20_000)
    log = sy.scan({"a": a, "b": b, "y": y, "w": rng.random(len(y)), "g": rng.integers(0, 99, len(y))},
                  a="a", b="b", outcome="y", weight="w", cluster="g")  # fmt: skip
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 1 << 10)
    one, two = (sy.BradleyTerry().fit(log, threads=n) for n in (1, 2))
    assert one.score.tobytes() == two.score.tobytes()
    assert one.covariance.tobytes() == two.covariance.tobytes()
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 1 << 13)
    other = sy.BradleyTerry().fit(log)
    assert np.allclose(one.score, other.score, rtol=1e-11, atol=1e-12)
    assert np.allclose(one.covariance, other.covariance, rtol=1e-9)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("roles", [{}, {"position": "first"}, {"count": "c"}])
@pytest.mark.parametrize("waiting", [1 << 22, 100])
def test_dense_and_sparse_tables_are_one(seed, roles, waiting, monkeypatch):
    rng, a, b, y = rows(seed, n=5000, k=12)
    columns = {"a": a, "b": b, "y": y, "first": rng.random(5000) < 0.5, "c": rng.integers(1, 3, 5000)}
    log = sy.scan(columns, a="a", b="b", outcome="y", **roles)
    dense = pairs.pair_table(log)
    monkeypatch.setattr(pairs, "WIDEST_SQUARE", 0)
    monkeypatch.setattr(counters, "_MOST_WAITING", waiting)
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 1 << 8)
    sparse = pairs.pair_table(log)
    for name in ("a", "b", "first", "sums", "squares", "rows"):
        assert np.array_equal(getattr(dense, name), getattr(sparse, name)), name


@settings(max_examples=300, deadline=None)
@given(st.integers(2, 5), st.integers(1, 14), st.booleans(), st.booleans(), st.integers(0, 10**6))
def test_separation_equals_the_linear_program(k, m, position, tie_model, seed):
    rng = np.random.default_rng(seed)
    a = rng.integers(0, k, m)
    b = (a + rng.integers(1, k, m)) % k
    first = (rng.random(m) < 0.8) * float(position)
    sums = rng.integers(0, 2, (m, 3)) * (rng.random(3) < 0.7)
    assume(not graph.strong_components(k, a, b, sums).any())
    used = sums.any(axis=1)
    design = np.zeros((m, k + 1))
    design[np.arange(m), a], design[np.arange(m), b], design[:, k] = 1.0, -1.0, first
    flat = first[used].any() and np.linalg.matrix_rank(design[used]) < k
    want = flat or graph.separated_by_program(k, a, b, first, sums, tie_model)
    assert graph.separated(k, a, b, first * used, sums, tie_model) == want
