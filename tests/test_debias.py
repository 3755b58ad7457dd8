"""Debiasing from the command line, its report, the identification card, saved fits."""

from __future__ import annotations

import json

import polars as pl
import pytest
import steelyard as sy
from steelyard.cli import app
from typer.testing import CliRunner

from tests.assignment.simulate import confounded
from tests.causal.test_doubly_robust import BY_TOPIC, scanned, small
from tests.causal.test_group_rewards import objectives
from tests.causal.test_group_rewards import scanned as grouped

RUNNER = CliRunner()
ROLES = ["--a", "a", "--b", "b", "--outcome", "y", "--context", "x"]


@pytest.fixture
def log_file(tmp_path):
    path = tmp_path / "log.parquet"
    confounded(1, 3000).write_parquet(path)
    return path


def test_debias_writes_table_report_and_fit(log_file, tmp_path):
    out, report, saved = (tmp_path / name for name in ("board.csv", "page.html", "fit.sy"))
    outputs = ["--out", str(out), "--report", str(report), "--save", str(saved)]
    ran = RUNNER.invoke(app, ["debias", str(log_file), *ROLES, "--folds", "3", *outputs])
    assert ran.exit_code == 0, ran.output
    assert "Naive and doubly robust" in ran.output
    assert "unconfoundedness" in ran.output
    want = sy.DoublyRobust(folds=3).fit(sy.scan(log_file, a="a", b="b", outcome="y", context="x"))
    assert pl.read_csv(out)["score"].to_list() == pytest.approx(want.table()["score"].to_list())
    page = report.read_text()
    for words in ("Naive and debiased", "What moved, and why", "Identification card", "Overlap", "positivity"):
        assert words in page
    assert page.count("<svg") == 3
    loaded = sy.load(saved)
    assert loaded.table().equals(want.table())
    assert loaded.win_rates().equals(want.win_rates())
    assert loaded.win_matrix().equals(want.win_matrix())
    assert loaded.compare().equals(want.compare())
    assert loaded.estimand == want.estimand
    assert loaded.effective_share == want.effective_share
    for lost in (loaded.influence, loaded.moves, lambda: sy.card(loaded)):
        with pytest.raises(ValueError, match="lost"):
            lost()
    loaded.save(tmp_path / "again.sy")
    assert sy.load(tmp_path / "again.sy").table().equals(want.table())


def test_debias_refuses_and_writes_nothing(log_file, tmp_path):
    out = tmp_path / "board.csv"
    ran = RUNNER.invoke(app, ["debias", str(log_file), *ROLES, "--floor", "0.99", "--out", str(out)])
    assert (ran.exit_code, out.exists()) == (1, False)
    assert "too little overlap" in ran.output
    ran = RUNNER.invoke(app, ["debias", str(log_file), *ROLES[:-2], "--out", str(out)])
    assert (ran.exit_code, out.exists()) == (2, False)
    assert "--method softmax needs --context" in ran.output
    ran = RUNNER.invoke(app, ["debias", str(log_file), *ROLES, "--pairs", "some"])
    assert ran.exit_code == 2


def test_debias_with_a_judge(tmp_path):
    path = tmp_path / "log.parquet"
    small(5, 400, answered=0.5).write_parquet(path)
    by_topic = ["--method", "frequency", "--strata", "topic", "--context", "topic"]
    ran = RUNNER.invoke(
        app, ["debias", str(path), *ROLES, "--judge", "judge", *by_topic, "--unsupported", "1", "--folds", "3"]
    )
    assert ran.exit_code == 0, ran.output
    assert "missing at random" in ran.output


def test_cards_tell_every_assumption_of_the_paper():
    frame = small(3, 400)
    fits = [
        sy.DoublyRobust(propensity=BY_TOPIC, folds=1).fit(scanned(frame)),
        sy.PolicyValue("m0", propensity=BY_TOPIC, folds=1).fit(scanned(frame)),
        sy.BradleyTerry().fit(scanned(frame)),
        sy.GroupRewards().fit(grouped(objectives(1, 500, 0.7))),
    ]
    shown = sy.PairPropensity(context="x").fit(scanned(frame))
    fits.append(sy.BradleyTerry(weights=shown.weights(scanned(frame))).fit(scanned(frame)))
    for fit in fits:
        told = sy.card(fit)
        names = [each.name for each in told.assumptions]
        paper = ["consistency", "unconfoundedness", "positivity", "latent sufficiency", "latent positivity"]
        assert names[:5] == paper
        assert told.n == fit.n
        assert told.estimand in str(told)
        words = json.loads(json.dumps(told.dict()))["sensitivity"]
        assert words.startswith("not computed") == (fit is not fits[0])
    best, second = fits[0].table()["arm"].to_list()[:2]
    assert sy.card(fits[0]).sensitivity == str(sy.sensitivity(fits[0], best, second)).replace("\n  ", "; ")
    told = sy.card(fits[3])
    assert "variance inflation" in told.assumptions[4].evidence
    assert "log-likelihood of a coin" in told.assumptions[3].evidence
    with pytest.raises(TypeError, match="takes a fit"):
        sy.card(frame)


def test_moves_that_no_context_explains_are_not_explained():
    from steelyard.report.tables import moved_most

    fit = sy.DoublyRobust().fit(sy.scan(confounded(2, 3000), a="a", b="b", outcome="y", context="x"))
    told = moved_most(fit)
    explained = told.filter(pl.col("context") != "no single one")
    assert (explained["contribution"].sign() == explained["moved"].sign()).all()
    assert explained["slope"].is_finite().all()


def test_intervals_that_hold_at_once_are_those_of_all_outputs(log_file, tmp_path):
    out, report = tmp_path / "board.parquet", tmp_path / "page.html"
    ran = RUNNER.invoke(
        app, ["debias", str(log_file), *ROLES, "--simultaneous", "--out", str(out), "--report", str(report)]
    )
    assert ran.exit_code == 0, ran.output
    fit = sy.DoublyRobust().fit(sy.scan(log_file, a="a", b="b", outcome="y", context="x"))
    wide, narrow = (fit.compare(simultaneous=each) for each in (True, False))
    assert pl.read_parquet(out).equals(fit.table(simultaneous=True))
    ours = pl.read_parquet(out).join(wide, on="arm", suffix="_compared")
    assert ours["low"].to_list() == pytest.approx(ours["low_compared"].to_list(), abs=1e-3)  # all arms are in both
    assert ((wide["naive_high"] - wide["naive"]) > 1.05 * (narrow["naive_high"] - narrow["naive"])).all()
    low, high = (f"{wide[0, end]:.3f}" for end in ("low", "high"))
    page = report.read_text()
    assert "all of a side at once" in page
    assert f"{low} to {high}" in page
    assert low in ran.output


def test_reports_are_pages(log_file, tmp_path):
    for command, name in (("debias", "page.pdf"), ("rank", "page"), ("weigh", "page.csv")):
        options = ROLES if command != "rank" else ROLES[:-2]
        extra = ["--out", str(tmp_path / "w.parquet")] if command == "weigh" else []
        ran = RUNNER.invoke(app, [command, str(log_file), *options, "--report", str(tmp_path / name), *extra])
        assert ran.exit_code == 2
        assert "the ending must be .html" in ran.output.replace("\n", "")
    assert not list(tmp_path.glob("page*"))
