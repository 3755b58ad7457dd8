"""The outcome model's own error where the propensity is known to be wrong: derivatives, rows, and when it is asked."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import steelyard as sy
from steelyard.causal import stacked
from steelyard.causal.outcomes import ContextualOutcome
from steelyard.causal.pairwise import Pairwise, centre_of


def scheduled(seed=0, n=900, k=5):
    """Half of all comparisons are of one pair: no softmax of two draws does that."""
    rng = np.random.default_rng(seed)
    a, b = np.triu_indices(k, 1)
    pair = np.where(rng.random(n) < 0.5, 0, rng.integers(0, len(a), n))
    x, flip = rng.normal(size=n), rng.random(n) < 0.5
    left, right = np.where(flip, b[pair], a[pair]), np.where(flip, a[pair], b[pair])
    y = rng.random(n) < 1 / (1 + np.exp(0.4 * (left - right) * (1 + 0.5 * x)))
    return pl.DataFrame({"a": left, "b": right, "y": y * 1.0, "x": x, "w": rng.uniform(0.5, 2.0, n)})


def fitted(frame, **more):
    log = sy.scan(frame, a="a", b="b", outcome="y", context="x", weight="w")
    with pytest.warns(UserWarning, match="does not describe which pairs"):
        return sy.DoublyRobust(folds=3, **more).fit(log)


def sums_at(problem: Pairwise, held):
    """(K,) the sums over opponents at other coefficients."""
    other = replace(problem, stack=None, outcome=ContextualOutcome(problem.outcome.fit._replace(held=held)))
    found = other.residuals()
    return found.total * centre_of(
        other.omega, other.moments(found).means / found.total + found.correction(other.omega)
    )


@pytest.mark.parametrize("pairs", ["uniform", "log"])
def test_derivatives_are_those_of_differences(monkeypatch, pairs):
    fit = fitted(scheduled(), pairs=pairs)
    problem = fit.problem
    monkeypatch.setattr(stacked, "dense_solver", lambda hessian: lambda v: v)
    told = stacked.outcome_error(problem, problem.residuals(), 1.0).reshape(5, 5, 2)
    assert np.abs(told).max() > 5.0
    for arm in range(5):
        for column in range(2):
            step = np.zeros_like(problem.outcome.fit.held)
            step[:, arm, column] = 1e-5
            up, down = (sums_at(problem, problem.outcome.fit.held + sign * step) for sign in (1, -1))
            np.testing.assert_allclose((up - down) / 2e-5, told[:, arm, column], atol=1e-4)


def test_a_row_adds_what_its_answer_says_of_the_coefficients():
    fit = fitted(scheduled())
    problem, found = fit.problem, fit.residuals
    plain = replace(problem, stack=None)
    (block,) = problem.blocks.each(lambda block: block)
    gap = problem.entries(block, found)[:, :5] - plain.entries(block, found)[:, :5]
    theta = np.array([problem.outcome.fit.held[f] for f in block.fold])
    x, w = np.asarray(block.design).T, np.asarray(block.weight)
    row = np.arange(block.n)
    margin = ((theta[row, block.a] - theta[row, block.b]) * x).sum(axis=1)
    score = np.zeros((block.n, 5, 2))
    residual = (w * (block.y - 1 / (1 + np.exp(-margin))))[:, None] * x
    score[row, block.a] += residual
    score[row, block.b] -= residual
    np.testing.assert_allclose(gap, score.reshape(block.n, 10) @ problem.stack.T, atol=1e-10)


def test_it_is_asked_where_the_softmax_is_known_to_be_wrong_and_nowhere_else():
    frame = scheduled()
    assert fitted(frame).problem.stack is not None
    log = sy.scan(frame, a="a", b="b", outcome="y", context="x", weight="w")
    by_pair = sy.PairPropensity(method="pairs")
    assert sy.DoublyRobust(folds=3, propensity=by_pair).fit(log).problem.stack is None
    even = frame.with_columns(b=(pl.col("a") + 1 + pl.int_range(pl.len()) % 4) % 5)
    assert sy.DoublyRobust(folds=3).fit(sy.scan(even, a="a", b="b", outcome="y", context="x")).problem.stack is None


def test_some_of_the_rows_tell_the_slopes_of_all_pairs(monkeypatch):
    problem = fitted(scheduled(n=6000)).problem
    own, every = stacked._slopes(problem, 1)
    monkeypatch.setattr(stacked, "_CELLS", 700)  # a few rows at a time
    same, some = stacked._slopes(problem, 7)
    np.testing.assert_allclose(own, same, rtol=1e-12)
    np.testing.assert_allclose(some[..., 0], every[..., 0], rtol=0.05)
