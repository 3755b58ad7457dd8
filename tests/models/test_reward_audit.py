"""Audits of rewards: which rows, left out, turn the order of two terms around."""

import numpy as np
import polars as pl
import pytest
import steelyard as sy
from steelyard.errors import NotIdentifiedError
from steelyard.models import design, row_problem

from tests.models.test_reward import scanned, simulated


@pytest.mark.parametrize("spec", [{}, {"ties": "drop"}, {"heads": "per-group", "ridge": 2.0}])
@pytest.mark.parametrize("widest", [32, 0])
def test_audit_names_rows_without_which_the_order_of_two_terms_turns(monkeypatch, spec, widest):
    for room in (design, row_problem):
        monkeypatch.setattr(room, "NARROW", widest)
    frame = simulated(4, n=300, ties=0.2).with_columns(y=pl.when(pl.int_range(300) == 7).then(None).otherwise("y"))
    log, model = scanned(frame, group="who"), sy.RewardModel(**spec)
    fit = model.fit(log)
    x, over = ("x_a [u]", "z_a [u]") if "heads" in spec else ("x_a", "z_a")
    found = fit.audit(x, over)
    assert found.before == pytest.approx(fit.contrast(x, over).estimate)
    assert found.rows == found.cells["rows"].sum() > 3
    assert found.share == found.rows / fit.n
    told = frame.with_row_index("row").join(found.cells.cast({"row": pl.UInt32}), on="row")
    assert told["outcome"].to_list() == [{1.0: "a", 0.5: "tie", 0.0: "b"}[y] for y in told["y"]]
    left = frame[np.setdiff1d(np.arange(300), found.cells["row"])]
    again = model.fit(scanned(left, group="who")).contrast(x, over)
    assert again.estimate == pytest.approx(found.after, abs=1e-8)
    assert again.estimate < 1e-8
    one_more = frame[np.setdiff1d(np.arange(300), found.cells["row"][1:])]
    assert model.fit(scanned(one_more, group="who")).contrast(x, over).estimate > 0.0


def test_what_an_audit_of_rewards_needs(tmp_path):
    frame = simulated(5).with_columns(flat_a=pl.lit(0.0), flat_b=pl.lit(0.0), w=pl.lit(2.0))
    fit = sy.RewardModel().fit(scanned(frame, (["x_a", "flat_a"], ["x_b", "flat_b"])))
    with pytest.raises(NotIdentifiedError, match="flat_a is 0 in every row"):
        fit.audit("x_a", "flat_a")
    with pytest.raises(NotIdentifiedError, match="no term"):
        fit.audit("x_a", "nothing")
    with pytest.raises(ValueError, match="fit the logs together"):
        fit.update(scanned(frame))
    fit.save(tmp_path / "reward.sy")
    with pytest.raises(ValueError, match="fit the log again"):
        sy.load(tmp_path / "reward.sy").audit("x_a", "flat_a")
    for other in (scanned(frame, weight="w"), scanned(frame.with_columns(y=pl.lit(0.3) + 0.4 * pl.col("y")))):
        with pytest.raises(ValueError, match="unweighted rows with hard labels"):
            sy.RewardModel().fit(other).audit("x_a", "y_a")
