"""Latent overlap: correlations, inflation and the share of informative pairs against closed forms."""

import numpy as np
import polars as pl
import pytest
import steelyard as sy


def scanned(delta):
    rng = np.random.default_rng(1)
    flip = np.where(rng.random(len(delta)) < 0.5, 1.0, -1.0)[:, None]  # who comes first is no matter
    sides = {f"{j}a": column for j, column in enumerate((delta * flip).T)}
    zeros = {f"{j}b": np.zeros(len(delta)) for j in range(delta.shape[1])}
    frame = pl.DataFrame({**sides, **zeros, "y": np.arange(len(delta)) % 2})
    names = [[f"{j}{side}" for j in range(delta.shape[1])] for side in "ab"]
    return sy.scan(frame, outcome="y", features=tuple(names))


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.6, 0.9])
def test_informative_pairs_of_correlated_normals(rho):
    delta = np.random.default_rng(0).multivariate_normal([0, 0], [[1, rho], [rho, 1]], 40_000)
    found = sy.latent_overlap(scanned(delta)).frame()
    assert found["correlation"][0] == pytest.approx(rho, abs=0.02)
    assert found["informative"][0] == pytest.approx(0.5 - np.arcsin(rho) / np.pi, abs=0.01)
    assert found["informative"][0] == pytest.approx((np.sign(delta[:, 0]) != np.sign(delta[:, 1])).mean(), abs=0.02)
    assert found["inflation"][0] == pytest.approx(1 / (1 - rho**2), rel=0.05)


def test_inflation_is_that_of_a_regression_on_the_others():
    rng = np.random.default_rng(2)
    delta = rng.normal(size=(500, 4)) @ rng.normal(size=(4, 4))
    found = sy.latent_overlap(scanned(delta))
    for j in range(4):
        others = np.delete(delta, j, axis=1)
        left = delta[:, j] - others @ np.linalg.lstsq(others, delta[:, j], rcond=None)[0]
        assert found.inflation[j] == pytest.approx((delta[:, j] @ delta[:, j]) / (left @ left), rel=1e-8)


def test_features_told_by_others_are_warned_of_and_flat_ones_refused():
    delta = np.random.default_rng(3).normal(size=(200, 3))
    with pytest.warns(UserWarning, match="2 of 3 features"):
        found = sy.latent_overlap(scanned(np.column_stack([delta[:, 0], 2 * delta[:, 0], delta[:, 1]])))
    assert np.isinf(found.inflation[:2]).all()
    assert found.inflation[2] == pytest.approx(1.0, abs=0.1)
    with pytest.raises(sy.LogError, match="same on both sides"):
        sy.latent_overlap(scanned(np.column_stack([delta[:, 0], np.zeros(200)])))
    with pytest.raises(sy.LogError, match="one feature"):
        sy.latent_overlap(scanned(delta[:, :1]))
