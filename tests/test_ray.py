"""Passes on Ray workers: the bits of a fit on threads, also when a worker is killed; errors in the same words."""

from __future__ import annotations

import math
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import ray
import steelyard as sy
import steelyard.ray
from steelyard.passes import progress

ROLES = {"a": "a", "b": "b", "outcome": "y"}
ONE = sy.RayExecutor(blocks=1)


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """Two workers on this machine."""
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error",
             object_store_memory=1 << 28)  # fmt: skip
    yield
    ray.shutdown()


def frame(n: int, k: int = 6) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    a = rng.integers(0, k, n)
    b = (a + rng.integers(1, k, n)) % k
    return pl.DataFrame(
        {"a": a, "b": b, "y": rng.choice(["left", "tie", "right"], n), "z": rng.normal(size=n),
         "w": rng.uniform(0.5, 1.5, n), "c": rng.integers(0, 900, n), "kind": rng.choice(["p", "q"], n),
         "group": rng.choice(["u", "v"], n)}
    ).with_columns(("model " + pl.col("a", "b").cast(pl.String)).name.keep())  # fmt: skip


def same(one: Any, other: Any) -> bool:
    """Whether two fits are equal to the last bit."""
    for name in ("table", "coefficients", "win_rates", "rewards"):
        if hasattr(one, name) and not getattr(one, name)().equals(getattr(other, name)()):
            return False
    psi = one.psi if hasattr(one, "psi") else None
    return psi is None or bool((psi.covariance == other.psi.covariance).all())


def own() -> sy.Likelihood:
    return sy.Likelihood(
        lambda eta, y: y * eta - math.log1p(math.exp(eta)),
        lambda eta, y: y - 1.0 / (1.0 + math.exp(-eta)),
        lambda eta, y: -1.0 / ((1.0 + math.exp(-eta)) * (1.0 + math.exp(eta))),
    )


@pytest.mark.slow
def test_the_bits_are_those_of_threads(tmp_path):
    rows = frame(300_000)  # three blocks
    rows.write_parquet(tmp_path / "log.parquet", row_group_size=70_000)
    covariates = {"z": "z"}
    for spec, roles in (
        ({}, {}),
        ({"ties": "davidson", "position": True}, {"cluster": ["c", "kind"]}),
        ({}, {"weight": "w", "on_bad": "drop"}),
        ({"ties": "rao-kupper"}, {"covariates": covariates, "cluster": "c", "weight": "w"}),
        ({"link": own()}, {"covariates": covariates}),
    ):
        log = sy.scan(tmp_path / "log.parquet", **ROLES, **roles)
        fit = sy.BradleyTerry(**spec)
        assert same(fit.fit(log), fit.fit(log, executor=ONE)), (spec, roles)
    log = sy.scan(tmp_path / "log.parquet", **ROLES, context=["kind", "z"])
    shown, there = (sy.PairPropensity().fit(log, executor=executor) for executor in (None, ONE))
    assert shown.coefficients().equals(there.coefficients())
    here = sy.BradleyTerry(weights=shown.weights(log)).fit(log)
    assert same(here, sy.BradleyTerry(weights=there.weights(log)).fit(log, executor=ONE))


@pytest.mark.slow
def test_doubly_robust_and_wide_fits_have_the_same_bits():
    rows = frame(140_000, 3)  # two blocks
    log = sy.scan(rows, **ROLES, context="kind")
    spec = sy.DoublyRobust(propensity=sy.PairPropensity(method="frequency", strata="kind"), folds=2)
    here, there = spec.fit(log), spec.fit(log, executor=ONE)
    assert same(here, there)
    assert here.influence().equals(there.influence())
    few = frame(6000, 3)
    rng = np.random.default_rng(1)
    wide = frame(100_000, 3).with_columns(
        **{side: pl.Series(rng.normal(size=(100_000, 40)).astype("f4")) for side in "eh"}
    )  # blocks of 65,536 rows
    wide_log = sy.scan(wide, outcome="y", features=("e", "h"), cluster="c")
    assert same(sy.RewardModel(ridge=1.0).fit(wide_log), sy.RewardModel(ridge=1.0).fit(wide_log, executor=ONE))
    groups = sy.scan(few, outcome="y", features=(["z"], ["w"]), group="group", context="kind")
    assert same(sy.GroupRewards(folds=2).fit(groups), sy.GroupRewards(folds=2).fit(groups, executor=ONE))


@pytest.mark.slow
@pytest.mark.parametrize("spec", [sy.DoublyRobust(folds=2), sy.GroupRewards(folds=2)], ids=["arms", "groups"])
def test_what_is_sent_to_workers_does_not_grow_with_the_log(spec, monkeypatch):
    sizes: list[int] = []
    packed = steelyard.ray._packed

    def measured(what: Any, whole: bool = False) -> bytes:
        sent = packed(what, whole)
        sizes.append(0 if whole else len(sent))  # the log itself may be a frame in memory
        return sent

    monkeypatch.setattr(steelyard.ray, "_packed", measured)
    largest = []
    for n in (50_000, 150_000):
        log = sy.scan(frame(n, 3), **ROLES, features=(["z"], ["w"]), group="group", context="kind")
        spec.fit(log, executor=ONE)
        largest.append(max(sizes))
        sizes.clear()
    assert largest[1] - largest[0] < 50_000  # not a byte a row


@pytest.mark.slow
def test_a_killed_worker_changes_nothing(tmp_path):
    rows, driver = frame(270_000), os.getpid()
    rows.write_parquet(tmp_path / "log.parquet")
    mark = str(tmp_path / "killed")

    def deadly(weight: pl.Series) -> pl.Series:
        """Kills the first worker that reads it."""
        if os.getpid() != driver and not os.path.exists(mark):  # noqa: PTH110 (it runs where Path is not imported)
            with open(mark, "w"):  # noqa: PTH123
                os.kill(os.getpid(), signal.SIGKILL)
        return weight

    seen: list[int] = []
    token = progress.set(seen.append)
    try:
        weight = pl.col("w").map_batches(deadly, return_dtype=pl.Float64)
        log = sy.scan(tmp_path / "log.parquet", **ROLES, covariates={"z": "z"}, weight=weight)
        fit = sy.BradleyTerry().fit(log, executor=ONE)
    finally:
        progress.reset(token)
    assert Path(mark).exists()
    assert sum(seen) == 270_000
    want = sy.scan(tmp_path / "log.parquet", **ROLES, covariates={"z": "z"}, weight="w")
    assert same(sy.BradleyTerry().fit(want), fit)


def test_errors_have_the_words_of_a_fit_on_threads(tmp_path):
    rows = frame(300)
    bad = rows.with_columns(y=pl.when(pl.int_range(pl.len()) == 7).then(pl.lit("huh")).otherwise("y"))
    for wrong in (bad, rows.with_columns(z=pl.lit(None, pl.Float64)), rows.with_columns(a=pl.col("b")), rows.head(0)):
        log, told = sy.scan(wrong, **ROLES, covariates={"z": "z"}), []
        for executor in (None, ONE):
            with pytest.raises(sy.SteelyardError) as error:
                sy.BradleyTerry().fit(log, executor=executor)
            told.append((type(error.value), str(error.value)))
        assert told[0] == told[1]
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(sy.LogError):
        sy.BradleyTerry().fit(sy.scan(tmp_path / "broken.parquet", **ROLES), executor=ONE)
    with pytest.raises(ValueError, match="blocks must be"):
        sy.RayExecutor(blocks=0)
    log = sy.scan(rows, **ROLES)
    for wrong in ("ray", sy.RayExecutor, 2):
        with pytest.raises(TypeError, match=r"takes a RayExecutor\(\)"):
            sy.BradleyTerry().fit(log, executor=wrong)
    with pytest.raises(sy.LogError, match=r"is a query, .* in another order"):
        sy.BradleyTerry().fit(sy.scan(rows.lazy().unique("c"), **ROLES), executor=ONE)


@pytest.mark.parametrize("before", [0, 100, 270_000])
def test_a_log_that_changes_is_told(tmp_path, monkeypatch, before):
    frame(300).write_parquet(tmp_path / "log.parquet")
    monkeypatch.setattr(sy.ray, "count_rows", lambda log, encoder: before)
    for roles in ({}, {"covariates": {"z": "z"}}):
        with pytest.raises(sy.LogError, match="changed while it was read" if before else "empty"):
            sy.BradleyTerry().fit(sy.scan(tmp_path / "log.parquet", **ROLES, **roles), executor=ONE)
