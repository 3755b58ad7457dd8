"""Rewards of sentence embeddings of hh_rlhf: as scikit-learn's on the same features, and better than chance."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import steelyard as sy
from sklearn.linear_model import LogisticRegression

FEATURES = Path(__file__).parents[2] / "benchmarks" / "data" / "hh_rlhf_features.parquet"
RIDGE = 10.0


@pytest.mark.parametrize("prompt_type", [0, 1])  # helpful, harmless: one reward for both would be torn between them
def test_held_out_accuracy_is_scikit_learns_and_beats_chance(prompt_type):
    frame = pl.read_parquet(FEATURES).filter(prompt_type=prompt_type)
    frame = frame.with_columns(pl.col("chosen", "rejected").cast(pl.Array(pl.Float32, 128)))
    halves = frame.gather_every(2), frame.gather_every(2, offset=1)
    known, new = (sy.scan(half, outcome=pl.lit(1.0), features=("chosen", "rejected")) for half in halves)
    fit = sy.RewardModel(ridge=RIDGE).fit(known)
    learned, tested = ((half["chosen"].to_numpy() - half["rejected"].to_numpy()).astype(float) for half in halves)
    both = np.concatenate([learned, -learned])  # each comparison from both sides: scikit-learn wants two classes
    peer = LogisticRegression(C=1 / (2 * RIDGE), fit_intercept=False, tol=1e-10, solver="newton-cholesky")
    peer.fit(both, np.repeat([1, 0], len(learned)))
    np.testing.assert_allclose(fit.coefficient, peer.coef_[0], atol=1e-6)
    right = (fit.predict(new).collect()["p_a"] > 0.5).to_numpy()
    assert (right == (tested @ peer.coef_[0] > 0)).all()
    assert right.mean() > 0.5 + 3 * 0.5 / np.sqrt(len(right))
