"""Rank sets where some arms always move together."""

import numpy as np
from steelyard.inference import rank_sets


def test_what_rounding_leaves_between_arms_that_move_together_widens_no_rank_set():
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(1000, 5))
    score, covariance = np.array([9.0, 9.0, 3.0, 0.0, -3.0]), np.eye(5)
    draws[:, 1] = draws[:, 0] + 1e-6 * rng.normal(size=1000)
    covariance[0, 1] = covariance[1, 0] = 1.0 - 2.0**-53
    low, high = rank_sets(score, covariance, draws, 0.95)
    assert low.tolist() == [1, 1, 3, 3, 4]
    assert high.tolist() == [2, 2, 4, 5, 5]


def test_variances_that_rounding_left_below_zero_are_none():
    with np.errstate(invalid="raise"):
        low, high = rank_sets(np.array([1.0, 0.0]), -1e-20 * np.eye(2), np.zeros((100, 2)), 0.95)
    assert (low.tolist(), high.tolist()) == ([1, 1], [2, 2])
