"""Intervals, bands and rank sets cover as often as they say; bootstrap and audit mean what they say."""

from itertools import combinations

import numpy as np
import polars as pl
import pytest
import steelyard as sy

K, N = 6, 900
THETA = np.array([0.8, 0.4, 0.1, -0.1, -0.4, -0.8])


def simulated(seed):
    rng = np.random.default_rng(seed)
    a = rng.integers(0, K, N)
    b = (a + rng.integers(1, K, N)) % K
    y = (rng.random(N) < 1 / (1 + np.exp(THETA[b] - THETA[a]))).astype(float)
    return sy.scan({"a": a, "b": b, "y": y}, a="a", b="b", outcome="y")


@pytest.mark.slow
def test_intervals_bands_and_rank_sets_cover():
    inside, band, ranks = [], [], []
    for seed in range(1000):
        fit = sy.BradleyTerry().fit(simulated(seed))
        table = fit.table().sort("arm")
        inside.append((table["low"].to_numpy() <= THETA) & (table["high"].to_numpy() >= THETA))
        wide = fit.table(simultaneous=True).sort("arm")
        band.append(bool(((wide["low"].to_numpy() <= THETA) & (wide["high"].to_numpy() >= THETA)).all()))
        true = np.arange(1, K + 1)
        ranks.append(bool(((table["rank_low"].to_numpy() <= true) & (table["rank_high"].to_numpy() >= true)).all()))
    assert 0.93 <= np.mean(inside) <= 0.97
    assert 0.93 <= np.mean(band) <= 0.97
    assert np.mean(ranks) >= 0.94  # conservative: a rank set may say less than its pairwise bands


@pytest.mark.slow
def test_clustered_intervals_cover_where_raters_repeat_themselves():
    inside, plain = [], []
    for seed in range(1000):
        rng = np.random.default_rng(seed)
        rater = np.repeat(np.arange(300), 3)  # who gives each answer three times
        a = rng.integers(0, K, 300)[rater]
        b = (a + rng.integers(1, K, 300)[rater]) % K
        y = (rng.random(300)[rater] < 1 / (1 + np.exp(THETA[b] - THETA[a]))).astype(float)
        log = sy.scan({"a": a, "b": b, "y": y, "rater": rater}, a="a", b="b", outcome="y", cluster="rater")
        for kind, found in (("cluster", inside), ("sandwich", plain))[: 2 if seed < 100 else 1]:
            table = sy.BradleyTerry(covariance=kind).fit(log).table().sort("arm")
            found.append((table["low"].to_numpy() <= THETA) & (table["high"].to_numpy() >= THETA))
    assert 0.93 <= np.mean(inside) <= 0.97
    assert np.mean(plain) < 0.80  # three rows that are one


def test_bootstraps_agree_with_the_sandwich():
    fit = sy.BradleyTerry().fit(simulated(3))
    se = fit.table().sort("arm")["se"].to_numpy()
    for method in ("multinomial", "multiplier"):
        drawn = fit.bootstrap(2000, seed=1, method=method)
        assert drawn.failed == 0
        assert np.allclose(drawn.table().sort("arm")["se"].to_numpy(), se, rtol=0.07)  # four Monte Carlo errors
        assert np.array_equal(drawn.draws[:10], fit.bootstrap(10, seed=1, method=method).draws)


@pytest.mark.parametrize(
    ("pairs", "needed"),
    [
        ([("x", "y", 145, 55)], 90),  # more than 64, the last power of two below half of the rows
        ([("x", "y", 60, 20), ("y", "z", 300, 300)], 40),  # at 64 no win of x is left
        ([("x", "y", 180, 20)], None),  # half of the rows are not enough
        ([("x", "y", 3, 1)], 2),
    ],
)
def test_audit_finds_numbers_between_powers_of_two(pairs, needed):
    rows = [(a, b, y) for a, b, won, lost in pairs for y, times in ((1.0, won), (0.0, lost)) for _ in range(times)]
    frame = pl.DataFrame(rows, schema=["a", "b", "y"], orient="row")
    fit = sy.BradleyTerry().fit(sy.scan(frame, a="a", b="b", outcome="y"))
    assert fit.audit("x", over="y").rows == needed
    assert fit.audit("y", over="x").rows == needed


def test_audit_refits_exactly_and_is_the_fewest():
    fit = sy.BradleyTerry().fit(simulated(5))
    audit = fit.audit("2", over="3")
    assert audit.rows is not None
    assert audit.rows == audit.cells["rows"].sum()
    assert audit.before * audit.after <= 0
    if audit.rows > 1:
        assert audit.share == audit.rows / N
    lost = fit.audit("0", over="5")
    assert lost.rows is None or lost.rows > audit.rows
    assert isinstance(audit.cells, pl.DataFrame)


@pytest.mark.parametrize("seed", range(4))
def test_audit_equals_a_search_of_all_subsets(seed):
    rng = np.random.default_rng(seed)
    n = 16
    a = rng.integers(0, 3, n)
    b = (a + rng.integers(1, 3, n)) % 3
    y = rng.choice([0.0, 1.0], n)

    def contrast(keep):
        try:
            log = sy.scan({"a": a[keep], "b": b[keep], "y": y[keep]}, a="a", b="b", outcome="y")
            return sy.BradleyTerry().fit(log).contrast("0", "1").estimate
        except sy.SteelyardError:
            return None

    whole = np.arange(n)
    before = contrast(whole)
    fit = sy.BradleyTerry().fit(sy.scan({"a": a, "b": b, "y": y}, a="a", b="b", outcome="y"))
    audit = fit.audit("0", over="1")
    assert before is not None
    for size in range(1, 4):
        for gone in combinations(range(n), size):
            after = contrast(np.delete(whole, gone))
            if after is not None and after * before <= 0:
                assert audit.rows == size
                return
    assert audit.rows is None or audit.rows > 3
