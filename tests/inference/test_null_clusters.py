"""Rows without a cluster are bad rows: refused by number, or left out, the same in every fit that reads clusters."""

import numpy as np
import polars as pl
import pytest
import steelyard as sy

ROLES: dict = {"a": "a", "b": "b", "outcome": "y", "cluster": ["rater", "prompt"], "context": "topic"}
FITS = {
    "pairs": sy.BradleyTerry(),
    "rows": sy.BradleyTerry(covariates=["z"]),
    "rewards": sy.RewardModel(),
    "doubly robust": sy.DoublyRobust(folds=1),
}


def votes(n=1200):
    rng = np.random.default_rng(5)
    a = rng.integers(0, 4, n)
    b = (a + rng.integers(1, 4, n)) % 4
    rater, prompt = rng.integers(0, 40, n).astype(str), rng.integers(0, 60, n)
    frame = pl.DataFrame({"a": a, "b": b, "y": rng.integers(0, 2, n), "rater": rater, "prompt": prompt,
                          "topic": rng.choice(["x", "y"], n), "z": rng.normal(size=n), "f": rng.normal(size=n),
                          "g": rng.normal(size=n)})  # fmt: skip
    row = pl.int_range(pl.len())
    return frame.with_columns(
        rater=pl.when(row.is_in([7, 30, 31])).then(None).otherwise("rater"),
        prompt=pl.when(row.is_in([31, 900])).then(None).otherwise("prompt"),
    )


def scanned(frame, **roles):
    return sy.scan(frame, **ROLES | {"covariates": {"z": "z"}, "features": (["f"], ["g"])} | roles)


@pytest.mark.parametrize("name", FITS)
def test_fits_refuse_them_by_number_or_leave_them_out(name):
    frame, spec = votes(), FITS[name]
    with pytest.raises(sy.LogError, match=r"4 rows: null cluster \(column rater, prompt; first rows \[7, 30, 31"):
        spec.fit(scanned(frame))
    left, whole = spec.fit(scanned(frame, on_bad="drop")), spec.fit(scanned(frame.drop_nulls()))
    if name == "rewards":
        assert left.coefficients().equals(whole.coefficients())
    else:
        assert left.table().equals(whole.table())
    assert left.dropped["null cluster"] == 4
    assert left.n == 1196


def test_errors_by_row_read_no_clusters():
    assert sy.BradleyTerry(covariance="sandwich").fit(scanned(votes())).n == 1200


def test_check_and_quarantine_tell_of_them():
    log = scanned(votes(), on_bad="quarantine")
    assert log.check().bad == {"null cluster": (4, [7, 30, 31, 900])}
    assert log.check().usable == 1196
    assert log.quarantined()["row"].to_list() == [7, 30, 31, 900]
    with pytest.raises(sy.LogError, match="column 'who' \\(role cluster\\)"):
        scanned(votes(), cluster="who").check()


def test_weights_are_of_the_same_rows():
    log = scanned(votes(), on_bad="drop")
    weights = sy.PairPropensity().fit(log).weights(log)
    for covariance in ("cluster", "sandwich"):
        fit = sy.BradleyTerry(weights=weights, covariance=covariance).fit(log)
        assert fit.table()["se"].null_count() == 0
        assert fit.n == 1196


def test_propensities_refuse_them_or_leave_them_out():
    with pytest.raises(sy.LogError, match="4 rows: null cluster"):
        sy.PairPropensity().fit(scanned(votes()))
    with pytest.raises(sy.LogError, match="3 rows: null cluster"):
        sy.PairPropensity().fit(scanned(votes(), cluster="rater"))
    assert sy.PairPropensity().fit(scanned(votes(), cluster="rater", on_bad="drop")).n == 1197
