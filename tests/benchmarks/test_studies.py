"""The studies run, trimmed: intervals hold about as often as they say, and the page of the side by side is written."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
import steelyard as sy

from benchmarks import causal_jobs, confounding, coverage, coverage_worlds, jobs, side_by_side

ASKED_TOO_MUCH = ("every topic alike", "clusters ignored")


@pytest.mark.slow
def test_intervals_hold_about_as_often_as_they_say():
    found = coverage.study(10, seed=10_000)
    assert set(found["kind"]) == set(coverage.KINDS)
    assert found["interval"].n_unique() > 25
    fair = found.filter(~pl.any_horizontal(pl.col("interval").str.contains(words) for words in ASKED_TOO_MUCH))
    error = np.sqrt(
        fair["nominal"] * (1 - fair["nominal"]) / fair["repeats"]
    )  # of one interval a log; more hold steadier
    assert (fair["actual"] > fair["nominal"] - 4.5 * error).all(), fair.sort("actual").head(5)
    assert fair["actual"].mean() == pytest.approx(0.95, abs=0.02)
    wrong = found.filter(pl.col("interval").str.contains("every topic alike"), kind="confounded")["actual"].item()
    assert wrong < 0.6


def test_a_page_of_coverage():
    row = {"kind": "balanced", "interval": "x", "nominal": 0.95, "actual": 0.949, "error": 0.004, "repeats": 9}
    assert "| `x` | 95 | 94.9 ± 0.4 | – | – |" in coverage.page(pl.DataFrame([row]))


def test_the_truths_are_those_of_a_large_log():
    a, b, _, y = coverage_worlds.drawn(np.random.default_rng(0), "confounded", 400_000, _vote(np.random.default_rng(1)))
    fit = sy.BradleyTerry().fit(coverage_worlds.scanned(a, b, y * 1.0))
    logged, even, rates = coverage_worlds.truths("confounded", coverage_worlds.wins(1.0))
    np.testing.assert_allclose(fit.score, logged, atol=5 * fit.table()["se"].max())
    assert np.abs(logged - even).max() > 0.05
    assert rates.mean() == pytest.approx(0.5)


@pytest.mark.slow
def test_the_figure_of_confounding(tmp_path, monkeypatch):
    monkeypatch.setattr(confounding, "DIAL", (0.0, 1.0))
    found = pl.DataFrame([row for seed in range(5) for row in confounding.repeat(seed)], orient="row",
                         schema=["dial", "method", "errors", "held"])  # fmt: skip
    told = confounding.summary(found)
    bias = {(row["dial"], row["method"]): row["bias"] for row in told.iter_rows(named=True)}
    assert bias[0.0, "plain"] < 0.1
    assert min(bias[1.0, "plain"], bias[1.0, "weighted by shares of pairs"]) > 0.2
    assert max(bias[1.0, "weighted by a softmax"], bias[1.0, "doubly robust"]) < 0.1
    confounding.figure(told, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def _vote(rng):
    chance = np.stack([coverage_worlds.wins(1.0)[topic] for topic in (-1.0, 1.0)])
    return lambda a, b, topic, rows: rng.random(len(a)) < chance[(topic > 0).astype(int), a, b]


@pytest.mark.peers
def test_side_by_side_writes_a_page_and_figures(tmp_path, monkeypatch):
    monkeypatch.setattr(side_by_side, "curves", lambda scale: {"rows": {"us": [(1, 1.0)]}, "arms": {"us": [(1, 1.0)]}})
    monkeypatch.setattr(side_by_side, "robust_curves", lambda scale: {"rows": [(1, 1.0), (2, 2.0)], "arms": []})
    some = [job for job in side_by_side.JOBS if job.contenders in (jobs.scores, causal_jobs.two_arms)]
    side_by_side.run(0.02, tmp_path, some, alone=False)
    page = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    assert "## Scores from integer codes" in page
    assert page.count("| steelyard | ") == 2
    times = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["jobs"]
    lost = [name for name, spent in times["Scores from integer codes"].items() if "floor" not in name
            and min(spent) < min(times["Scores from integer codes"]["steelyard"])]  # fmt: skip
    own = page.split("## Scores from integer codes")[1].split("\n## ")[0]
    assert ("Here we lose" in own) == bool(lost)
    assert float(own.split("| steelyard |")[1].split("|")[3].split()[0]) < 1e-9  # off the exact optimum
    for name in ("ratios.png", "scaling.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
