"""Weights of rows that stand for several, or have values that are new."""

import numpy as np
import polars as pl
import pytest
import steelyard as sy

from tests.assignment.test_propensity import scanned, simulated


@pytest.mark.parametrize("options", [{"clip": 0.9}, {"clip": 1.5}, {"trim": 0.4}, {}])
def test_rows_that_count_as_several_are_so_many_rows(options):
    """Quantiles, and what is clipped or trimmed, are of comparisons."""
    rng = np.random.default_rng(0)
    times = rng.integers(1, 6, 900)
    frame = simulated().head(900).with_columns(times=pl.Series(times))
    single = frame[np.repeat(np.arange(900), times)]
    found = []
    for log in (scanned(frame, count="times"), scanned(single)):
        weights = sy.PairPropensity(ridge=0.0).fit(log).weights(log, floor=0.0, **options)
        found.append((weights, sy.BradleyTerry(weights=weights.as_known()).fit(log)))
    (counted, fit), (alone, plain) = found
    np.testing.assert_allclose(fit.score, plain.score, atol=1e-7)
    one, other = counted.overlap(), alone.overlap()
    assert (one.rows, one.clipped, one.trimmed) == (other.rows, other.clipped, other.trimmed)
    assert one.limit == pytest.approx(other.limit)
    assert one.quantiles == pytest.approx(other.quantiles)
    assert one.histogram.equals(other.histogram)


def test_a_clip_at_a_quantile_knows_what_rows_weigh():
    rng = np.random.default_rng(0)
    times = rng.integers(1, 6, 900)
    frame = simulated().head(900).with_columns(times=pl.Series(times))
    found = []
    for log in (scanned(frame, weight="times"), scanned(frame[np.repeat(np.arange(900), times)])):
        weights = sy.PairPropensity(ridge=0.0).fit(log).weights(log, floor=0.0, clip=0.9)
        found.append((weights.overlap(), sy.BradleyTerry(weights=weights.as_known()).fit(log).score))
    (weighed, scores), (alone, plain) = found
    assert weighed.limit == pytest.approx(alone.limit)
    assert weighed.quantiles == pytest.approx(alone.quantiles)
    np.testing.assert_allclose(scores, plain, atol=1e-7)


def test_values_of_text_that_are_new_count_as_the_others_on_average():
    frame = simulated()
    fit = sy.PairPropensity(unseen="other").fit(scanned(frame.filter(pl.col("level") != "s")))
    found = fit.weights(scanned(frame))
    assert found.frame()["weight"].null_count() == 0
    assert found.overlap().rows == len(frame)
