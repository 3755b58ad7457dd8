"""Rows of a frame in memory, read where they lie in it: the bits of a copy; what is odd, or changes there, is told."""

import numpy as np
import polars as pl
import pytest
import steelyard as sy
from steelyard import blocks, spill
from steelyard.models import design, row_problem

from tests.models import test_reward as rewards
from tests.models import test_row_fit as scores


@pytest.mark.parametrize("dtype", [pl.Float64, pl.Float32])
@pytest.mark.parametrize("long", [1 << 30, 1 << 10])
@pytest.mark.parametrize("spec", [{}, {"ties": "davidson", "position": True}, {"ties": "drop"}, {"heads": "per-group"}])
def test_features_of_a_frame_are_read_where_they_lie(monkeypatch, dtype, long, spec):
    """Lists or arrays, in one piece or two, with null ones among them: the bits of copies of them."""
    monkeypatch.setattr("steelyard.blocks.BLOCK_ROWS", 512)
    monkeypatch.setattr(row_problem, "_LONG", long)
    lying: list[bool] = []
    made = design.Design.block
    monkeypatch.setattr(design.Design, "block", lambda *a: lying.append(bool(a[1].sides)) or made(*a))
    frame = rewards.lists(rewards.simulated(42, n=5000, ties=0.2 * ("ties" in spec)), dtype)
    null = frame.with_columns(emb_a=pl.when(pl.int_range(pl.len()) == 700).then(None).otherwise("emb_a"))
    listed = frame.with_columns(pl.col(f"emb_{side}").arr.to_list() for side in "ab")
    for source, pieces in (
        (frame, 10), (listed, 10), (pl.concat([frame[:700], frame[700:]], rechunk=False), 9), (null, 9),
    ):  # fmt: skip
        fits = []
        for some in (source, source.lazy()):
            log = rewards.scanned(some, ("emb_a", "emb_b"), group="who", on_bad="drop")
            lying.clear()
            fits.append(sy.RewardModel(ridge=1.0, **spec).fit(log))
            assert sum(lying) == (pieces if some is source else 0)
        assert (fits[0].coefficient == fits[1].coefficient).all()
        assert (fits[0].covariance == fits[1].covariance).all()
        assert fits[0].dropped == fits[1].dropped


@pytest.mark.parametrize("odd", [np.nan, np.inf, 1e60])
def test_odd_features_of_a_frame_are_told_of(odd):
    values = np.random.default_rng(0).normal(size=(2, 3000, 3))
    values[0, 1234, 1] = odd
    log = sy.scan({"y": np.arange(3000) % 2 * 1.0, "p": values[0], "q": values[1]}, outcome="y", features=("p", "q"))
    assert log.held
    with pytest.raises(sy.LogError, match=r"1 row: .*feature 'p\[1\]'.*first rows \[1234\]"):
        sy.RewardModel().fit(log)


def test_rows_in_a_file_and_columns_left_out_change_no_bit(monkeypatch):
    """Features that lie in a frame: through a file, and beside one that another tells, as columns the kernel reads."""
    frame = rewards.lists(rewards.simulated(45, n=5000)).with_columns(
        pl.concat_arr(f"emb_{side}", f"emb_{side}").reshape((-1, 6)).alias(f"emb_{side}") for side in "ab"
    )
    wide: list[int] = []
    monkeypatch.setattr(row_problem.RowProblem, "_by_blas", lambda *a: wide.append(1))
    fits = [sy.RewardModel().fit(rewards.scanned(some, ("emb_a", "emb_b"))) for some in (frame, frame.lazy())]
    monkeypatch.setattr(spill, "MOST_IN_MEMORY", 1000)
    fits += [sy.RewardModel().fit(rewards.scanned(some, ("emb_a", "emb_b"))) for some in (frame, frame.lazy())]
    assert not wide
    for fit in fits:
        assert fit.coefficients()["reason"].str.contains("collinear").to_list()[3:] == [True] * 3
        assert (fit.coefficient == fits[0].coefficient).all()
        assert (fit.covariance == fits[0].covariance).all()


def test_errors_do_not_wait_where_features_may_change(monkeypatch):
    monkeypatch.setattr(row_problem, "_LONG", 1 << 10)
    rng = np.random.default_rng(46)
    a, b = rng.normal(size=(2, 20_000, 3))
    y = (rng.random(20_000) < 1 / (1 + np.exp((b - a) @ rewards.BETA))) * 1.0
    log = sy.scan({"y": y, "p": a, "q": b}, outcome="y", features=("p", "q"))
    model = sy.RewardModel(covariance="model")
    fits = [model.fit(log, start=start) for start in (None, model.fit(sy.scan({"y": y[:19_000], "p": a[:19_000],
            "q": b[:19_000]}, outcome="y", features=("p", "q"))))]  # fmt: skip
    want = fits[0].covariance.copy()
    a *= 3.0
    for fit in fits:
        np.testing.assert_allclose(fit.covariance, want, rtol=1e-6)


@pytest.mark.parametrize(
    "spec", [{}, {"position": True, "ties": "drop"}, {"ties": "davidson", "covariance": "cluster"}]
)
def test_columns_of_a_frame_are_read_where_they_lie(monkeypatch, spec):
    """With the bits of a copy; and copied where a piece ends, where one is null, where a type is another."""
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 256)
    frame = scores.simulated(14, n=2000).with_columns(
        noise=pl.col("noise").cast(pl.Float64), rater=pl.int_range(pl.len()) % 40
    )
    frame = frame.with_columns(first=pl.col("rater") % 2)
    roles = {"position": "first"} if "position" in spec else {}
    if "covariance" in spec:
        roles["cluster"] = "rater"
    null = frame.with_columns(length=pl.when(pl.int_range(pl.len()) == 300).then(None).otherwise("length"))
    for source, lying in (
        (frame, 8), (pl.concat([frame[:300], frame[300:]], rechunk=False), 7), (null, 7),
        (frame.with_columns(pl.col("noise").cast(pl.Float32)), 0),
    ):  # fmt: skip
        fits = [
            sy.BradleyTerry(**spec).fit(scores.scanned(some, ("length", "noise"), **roles, on_bad="drop"))
            for some in (source, source.lazy())
        ]
        found = [block.columns for block in fits[0].problem.blocks.parts]
        if "ties" not in spec or spec["ties"] != "drop":  # rows that are left out leave copies of the others
            assert sum(isinstance(columns, tuple) for columns in found) == lying
            own = source["length"].rechunk().to_numpy()
            assert source.n_chunks() > 1 or lying < 8 or np.shares_memory(found[0][0], own)
        assert not any(isinstance(block.columns, tuple) for block in fits[1].problem.blocks.parts)
        assert (fits[0].estimate.parameter == fits[1].estimate.parameter).all()
        assert (fits[0].covariance == fits[1].covariance).all()


def test_columns_that_change_where_they_lie_are_told_of(monkeypatch):
    frame = scores.simulated(15)
    z = frame["length"].to_numpy().copy()
    log = scores.scanned(frame.with_columns(length=pl.Series(z)))
    fits = [sy.BradleyTerry().fit(log)]
    monkeypatch.setattr("steelyard.models.cells.WIDEST_DENSE", 3)
    fits.append(sy.BradleyTerry().fit(log))
    fits[0].audit("0", over="1")
    told = fits[1].coefficients(), fits[1].contrast("0", "1")
    z *= -1.0
    with pytest.raises(sy.LogError, match="not what they were when they were fitted"):
        fits[0].audit("0", over="1")
    assert fits[1].coefficients().equals(told[0])  # the rows are its own
    assert fits[1].contrast("0", "1") == told[1]
