"""The command line: what it prints and writes, and how it refuses."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import steelyard as sy
from steelyard.cli import WRITERS, app
from typer.testing import CliRunner

from tests.assignment.test_propensity import simulated
from tests.inference.test_untold import lone

run = CliRunner()
COLUMNS = ["--a", "left", "--b", "right", "--outcome", "winner"]


@pytest.fixture
def log(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frame = pl.DataFrame({"left": list("xyzxzy"), "right": list("yzxzyx"), "winner": ["left"] * 4 + ["tie", "right"]})
    frame.write_csv("log.csv")
    return "log.csv"


def test_demo_writes_a_self_contained_report(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run.invoke(app, ["demo"])
    assert result.exit_code == 0, result.output
    assert "GPT 4" in result.output
    page = (tmp_path / "report.html").read_text()
    for part in ("Leaderboard", "Forest plot", "Who was compared", "What was left out", "<svg"):
        assert part in page
    assert "http" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    ).replace("https://matplotlib.org", "")


def test_no_output_takes_the_place_of_a_file_that_is_read(log):
    assert run.invoke(app, ["rank", log, *COLUMNS, "--save", "board.sy"]).exit_code == 0
    pl.DataFrame({"topic": ["a", "b"]}).write_parquet("people.parquet")
    kept = {name: Path(name).read_bytes() for name in ("board.sy", "people.parquet")}
    weighed = ["--context", "topic", "--out", "people.parquet", "--target"]
    for job in (["predict", "board.sy", log, *COLUMNS, "--out", "board.sy"],
                ["weigh", log, *COLUMNS, *weighed, "people.parquet"], ["weigh", log, *COLUMNS, *weighed, "*.parquet"],
                ["debias", log, *COLUMNS, *weighed, "people.parquet"]):  # fmt: skip
        result = run.invoke(app, job)
        assert result.exit_code == 2
        assert "is read beside the log: choose another name" in result.output
    assert all(Path(name).read_bytes() == content for name, content in kept.items())


@pytest.mark.skipif(sys.platform == "win32", reason="signals and closed streams of POSIX")
def test_streams_may_be_closed_and_who_is_ended_leaves_nothing(log, tmp_path):
    for closed in (">&-", "2>&-"):
        main = f"exec {sys.executable} -c 'from steelyard.cli import main; main()'"
        words = f"{main} rank {log} {' '.join(COLUMNS)} --out board.csv {closed}"
        assert subprocess.run(["/bin/sh", "-c", words], capture_output=True, check=False).returncode == 0
        Path("board.csv").unlink()
    code = """
import ctypes, os, signal, sys
from pathlib import Path
from steelyard import cli
from steelyard.result import replacing

def app():
    with replacing(Path("board.csv")) as path:
        path.write_text("half")
        os.kill(os.getpid(), int(sys.argv[1]))
        ctypes.CDLL(None).sleep(60)  # as polars does, which no handler of Python's interrupts

signal.signal(int(sys.argv[1]), signal.SIG_DFL)  # under nohup it is ignored, and so it is to stay
cli.app = app
cli.main()
"""
    for number in (signal.SIGTERM, signal.SIGHUP):
        ended = subprocess.run([sys.executable, "-c", code, str(number.value)], check=False, timeout=50)
        assert ended.returncode == 128 + number
        assert [path.name for path in tmp_path.iterdir()] == [log]


@pytest.mark.skipif(sys.platform == "win32", reason="pipes of POSIX")
def test_a_reader_that_is_gone_takes_no_output_along(log, tmp_path):
    main = f"{sys.executable} -c 'from steelyard.cli import main; main()'"
    read = f"{log} {' '.join(COLUMNS)} --out"
    jobs = f"{main} check {read} check.csv; {main} rank {read} board.csv --save board.sy --report board.html"
    subprocess.run(["/bin/sh", "-c", f"({jobs}) 2>told | true"], check=True)
    assert {path.name for path in tmp_path.iterdir()} == {
        log,
        "check.csv",
        "board.csv",
        "board.sy",
        "board.html",
        "told",
    }


def test_check_rank_and_predict(log):
    assert "usable comparisons" in run.invoke(app, ["check", log, *COLUMNS]).output
    options = ["--out", "board.parquet", "--save", "board.sy", "--report", "board.html", "--cluster", "left"]
    result = run.invoke(app, ["rank", log, *COLUMNS, *options])
    assert result.exit_code == 0, result.output
    roles = {"a": "left", "b": "right", "outcome": "winner"}
    fit = sy.BradleyTerry().fit(sy.scan("log.csv", **roles, cluster="left"))
    assert pl.read_parquet("board.parquet").equals(fit.table())
    assert run.invoke(app, ["predict", "board.sy", log, *COLUMNS, "--out", "scored.parquet"]).exit_code == 0
    assert pl.read_parquet("scored.parquet").equals(fit.predict(sy.scan("log.csv", **roles)).collect())
    for method in ("win-rate", "elo", "pagerank"):
        assert run.invoke(app, ["rank", log, *COLUMNS, "--method", method]).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["rank", "absent.csv", *COLUMNS], 1, "no such file"),
        (["rank", "log.csv", "--a", "lefty", *COLUMNS[2:]], 1, "Did you mean 'left'"),
        (["rank", "log.csv", *COLUMNS, "--out", "no/folder/x.csv"], 1, "no/folder"),
        (["rank", "log.csv", *COLUMNS, "--out", "x.xlsx"], 2, "ending"),
        (["rank", "log.csv", *COLUMNS, "--ties", "never"], 2, "ties must be"),
        (["rank", "log.csv", *COLUMNS, "--out", "x.txt", "--report", "r.html", "--save", "m.sy"], 2, "ending"),
        (["rank", "log.csv", *COLUMNS, "--out", "log.csv"], 2, "the log itself"),
        (["rank", "log.csv", *COLUMNS, "--method", "elo", "--report", "r.html"], 2, "--report"),
        (["rank"], 2, "LOG"),
        (["predict", "log.csv", "log.csv", *COLUMNS, "--out", "x.parquet"], 1, "not a result saved"),
    ],
)
def test_refusals(log, tmp_path, arguments, status, words):
    result = run.invoke(app, arguments)
    assert result.exit_code == status
    assert words in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]


def test_outcome_labels_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frame = pl.DataFrame({"left": list("xyzx"), "right": list("yzxy"), "winner": ["1st", "1st", "1st", "2nd"]})
    frame.write_csv("log.csv")
    labels = ["--outcomes", "1st=1", "--outcomes", "2nd=0"]
    assert run.invoke(app, ["rank", "log.csv", *COLUMNS, *labels]).exit_code == 0
    assert run.invoke(app, ["rank", "log.csv", *COLUMNS]).exit_code == 1
    result = run.invoke(app, ["rank", "log.csv", *COLUMNS, "--outcomes", "1st"])
    assert result.exit_code == 2
    assert "LABEL=VALUE" in result.output


def test_check_of_a_bad_log_tells_and_fails(log):
    pl.read_csv(log).with_columns(right=pl.col("left")).write_csv(log)
    result = run.invoke(app, ["check", log, *COLUMNS])
    assert result.exit_code == 1
    assert "an arm compared with itself" in result.output
    assert "--on-bad drop" in result.output


def test_the_report_speaks_of_the_scale_asked_for(log, tmp_path):
    arguments = ["rank", log, *COLUMNS, "--report", "r.html", "--scale", "elo", "--simultaneous"]
    assert run.invoke(app, arguments).exit_code == 0
    page = (tmp_path / "r.html").read_text()
    assert "elo scale" in page
    assert "all arms at once" in page


@pytest.mark.parametrize("place", ["open", "write"])
def test_a_folder_that_is_read_only_or_full_leaves_nothing(log, tmp_path, monkeypatch, place):
    def refuse(*_arguments, **_options):
        if place == "open":
            raise PermissionError(13, "Permission denied")
        raise OSError(28, "No space left on device")

    if place == "open":
        monkeypatch.setattr("tempfile.mkdtemp", refuse)
    else:
        monkeypatch.setitem(WRITERS, ".csv", refuse)
    result = run.invoke(app, ["rank", log, *COLUMNS, "--out", "board.csv"])
    assert result.exit_code == 1
    assert ("cannot write board.csv: Permission denied" if place == "open" else "No space left") in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]


def test_covariates_by_name_and_expression(tmp_path):
    log = str(Path(sy.__file__).parent / "data" / "llmfao.parquet")
    length = ["--covariate", "length=(left_len - right_len) / 1000"]
    model, report, scored = (str(tmp_path / name) for name in ("m.sy", "r.html", "s.parquet"))
    found = run.invoke(app, ["rank", log, *COLUMNS, *length, "--save", model, "--report", report])
    assert found.exit_code == 0, found.output
    assert "Coefficients" in found.output
    assert "<td>length</td>" in Path(report).read_text()
    assert run.invoke(app, ["predict", model, log, *COLUMNS, *length, "--out", scored]).exit_code == 0
    assert pl.read_parquet(scored)["margin"].null_count() == 0
    refused = run.invoke(app, ["predict", model, log, *COLUMNS, "--out", scored])
    assert refused.exit_code == 1
    assert "no covariate 'length'" in refused.output
    assert run.invoke(app, ["rank", log, *COLUMNS, "--covariate", "length=)"]).exit_code == 2


@pytest.fixture
def shown(tmp_path, monkeypatch):
    """The path of a log in which the pair shown and the group depend on the topic."""
    monkeypatch.chdir(tmp_path)
    frame = simulated(n=1500).rename({"a": "left", "b": "right", "y": "winner"})
    frame.write_parquet("shown.parquet")
    frame.head(300).write_parquet("target.parquet")
    return "shown.parquet"


def test_check_tells_of_contexts(shown):
    told = run.invoke(app, ["check", shown, *COLUMNS, "--context", "x0", "--context", "level", "--group", "group"])
    assert told.exit_code == 0, told.output
    assert "The pair shown and x0, level are dependent: it was not randomised" in told.output
    assert "The rater's group and x0, level are dependent" in told.output
    assert told.output.count("effective share") == 2
    frame = pl.read_parquet(shown).with_columns(x0=pl.col("level").replace_strict({"p": 0, "q": 1, "r": 2, "s": 2}))
    frame.with_columns(group=pl.col("x0").cast(pl.String)).write_parquet(shown)
    refused = run.invoke(app, ["check", shown, *COLUMNS, "--context", "level", "--group", "group"])
    assert refused.exit_code == 0
    assert "support is empty" in refused.output


def test_weigh_writes_what_the_api_gives(shown):
    contexts = ["--context", "x0", "--context", "level"]
    told = run.invoke(app, ["weigh", shown, *COLUMNS, *contexts, "--out", "w.parquet", "--report", "o.html",
                            "--clip", "5", "--cluster", "level"])  # fmt: skip
    assert told.exit_code == 0, told.output
    assert "every pair equally often, in every context alike" in told.output.replace("\n", " ")
    log = sy.scan(shown, a="left", b="right", outcome="winner", context=["x0", "level"])
    want = sy.PairPropensity().fit(log).weights(log, clip=5.0)
    assert pl.read_parquet("w.parquet").equals(want.frame())
    page = Path("o.html").read_text()
    for part in ("Balance of contexts", "Propensities", "no support", "<svg", "depend on context", "max-width: 60rem"):
        assert part in page
    for options in (["--of", "group", "--group", "group", "--kind", "balance"], ["--of", "label"],
                    ["--method", "frequency", "--strata", "level", "--target", "log"],
                    ["--target", "target.parquet", "--floor", "0.0001"]):  # fmt: skip
        done = run.invoke(app, ["weigh", shown, *COLUMNS, *contexts, *options, "--out", "w.parquet"])
        assert done.exit_code == 0, done.output
    for name, read in (("w.csv", pl.read_csv), ("w.json", pl.read_json)):
        done = run.invoke(app, ["weigh", shown, *COLUMNS, *contexts, "--clip", "5", "--out", name])
        assert done.exit_code == 0, done.output
        np.testing.assert_allclose(read(name)["weight"], want.frame()["weight"])


def test_columns_that_are_not_named_are_wrong_usage(shown):
    for command in (["rank", shown, "--a", "left", "--b", "right"], ["check", shown]):
        told = run.invoke(app, command)
        assert told.exit_code == 2, told.output
        assert "no column given for" in told.output


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (["--floor", "0.99"], 1, "too little overlap"),
        (["--out", "w.txt"], 2, "the ending must be one of .parquet, .csv, .json"),
        (["--of", "mood"], 2, "--of must be"),
        (["--kind", "best"], 2, "kind must be"),
        (["--context", "nope"], 1, "'nope' (role context) is not in the log"),
        (["--method", "logged"], 2, "--propensity and --method logged go together"),
        (["--propensity", "x0"], 2, "--propensity and --method logged go together"),
        (["--of", "group"], 2, "--of group needs --group"),
        (["--of", "label", "--method", "pairs"], 2, "go with --of pair"),
        (["--outcomes", "a=2", "--outcomes", "b=0"], 2, "the value of --outcomes 'a' must be"),
        (["--target", "away.parquet"], 1, "no such file"),
    ],
)
def test_weigh_refuses_and_leaves_nothing(shown, tmp_path, options, status, words):
    before = sorted(path.name for path in tmp_path.iterdir())
    told = run.invoke(app, ["weigh", shown, *COLUMNS, "--context", "x0", "--out", "w.parquet", *options])
    assert told.exit_code == status, told.output
    assert words in told.output
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_weigh_says_what_it_left_out_and_what_it_needs(shown):
    frame = pl.read_parquet(shown)
    frame.with_columns(x0=pl.when(pl.int_range(pl.len()) == 5).then(None).otherwise("x0")).write_parquet(shown)
    told = run.invoke(app, ["weigh", shown, *COLUMNS, "--context", "x0", "--out", "w.parquet", "--on-bad", "drop"])
    assert "left out: 1 row: null or infinite context 'x0'" in told.output
    told = run.invoke(app, ["weigh", shown, *COLUMNS, "--out", "w.parquet"])
    assert (told.exit_code, "--method softmax needs --context" in told.output) == (2, True)


def test_pairs_without_answers_are_scored(tmp_path):
    frame = pl.DataFrame({"left": list("xyzxzy"), "right": list("yzxzyx"), "winner": ["left"] * 4 + ["tie", "right"]})
    sy.BradleyTerry().fit(sy.scan(frame, a="left", b="right", outcome="winner")).save(tmp_path / "fit.sy")
    frame.drop("winner").write_parquet(tmp_path / "new.parquet")
    files = [str(tmp_path / name) for name in ("fit.sy", "new.parquet", "out.parquet")]
    told = run.invoke(app, ["predict", *files[:2], "--a", "left", "--b", "right", "--out", files[2]])
    assert told.exit_code == 0, told.output
    scored = pl.read_parquet(files[2])
    assert scored["margin"].null_count() == 0
    assert scored["log_likelihood"].null_count() == 6


def test_predict_a_folder_shard_by_shard_and_resume(tmp_path):
    frame = pl.DataFrame({"left": list("xyzxzy"), "right": list("yzxzyq"), "winner": ["left"] * 4 + ["tie", "right"]})
    for part in range(3):
        (tmp_path / "log" / f"day={part}").mkdir(parents=True)
        frame.write_parquet(tmp_path / "log" / f"day={part}" / "votes.parquet")
    log, out = str(tmp_path / "log"), tmp_path / "scored"
    fit = sy.BradleyTerry(ridge=1.0).fit(sy.scan(frame[:5], a="left", b="right", outcome="winner"))
    fit.save(tmp_path / "m.sy")
    done = run.invoke(app, ["predict", str(tmp_path / "m.sy"), log, *COLUMNS, "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "3 rows without a margin" in done.output
    files = sorted(out.rglob("*.parquet"))
    assert [str(file.relative_to(out)) for file in files] == [f"day={part}/votes.parquet" for part in range(3)]
    files[1].unlink()
    before = files[0].stat().st_mtime_ns
    again = run.invoke(app, ["predict", str(tmp_path / "m.sy"), log, *COLUMNS, "--out", str(out), "--resume"])
    assert again.exit_code == 0, again.output
    assert "3 rows without a margin" in again.output
    assert files[0].stat().st_mtime_ns == before
    assert pl.read_parquet(files[1], hive_partitioning=False).equals(pl.read_parquet(files[0], hive_partitioning=False))
    one = ["predict", str(tmp_path / "m.sy"), log, *COLUMNS, "--out", str(tmp_path / "s.parquet"), "--resume"]
    assert "resume goes with a folder" in run.invoke(app, one).output


def test_a_prediction_killed_half_way_leaves_no_file_under_its_name(tmp_path):
    frame = pl.DataFrame(
        {"left": ["x", "y"] * 3_000_000, "right": ["y", "x"] * 3_000_000, "winner": ["left"] * 6_000_000}
    )
    frame.write_parquet(tmp_path / "log.parquet")
    sy.BradleyTerry().fit(sy.scan(frame, a="left", b="right", outcome="winner")).save(tmp_path / "m.sy")
    arguments = ["predict", "m.sy", "log.parquet", *COLUMNS, "--out", "scored.parquet"]
    code = f"from steelyard.cli import app; app({arguments!r})"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path)
    while process.poll() is None and not list(tmp_path.glob(".scored*")):
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not (tmp_path / "scored.parquet").exists()


def test_predict_with_a_fit_that_scores_no_rows(shown, tmp_path):
    frame = pl.DataFrame({"y": [0.0, 1.0] * 100, "f": np.random.default_rng(0).normal(size=200), "z": 0.0,
                          "g": ["u", "v", "v", "u"] * 50, "t": ["p", "q"] * 100})  # fmt: skip
    groups = sy.GroupRewards(folds=2).fit(sy.scan(frame, outcome="y", features=(["f"], ["z"]), context="t", group="g"))
    groups.save("groups.sy")
    told = run.invoke(app, ["predict", "groups.sy", shown, *COLUMNS, "--out", "o.parquet"])
    assert told.exit_code == 1
    assert "holds a GroupRewardsFit, which scores no rows" in told.output.replace("\n", " ")
    assert not (tmp_path / "o.parquet").exists()


def test_debias_tells_of_arms_without_an_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frame = lone(200).source.collect()
    frame.write_parquet("one.parquet")
    told = run.invoke(app, ["debias", "one.parquet", "--a", "a", "--b", "b", "--outcome", "y", "--context", "t",
                            "--cluster", "rater", "--folds", "1", "--pairs", "log", "--report", "o.html"])  # fmt: skip
    assert told.exit_code == 0, told.output
    assert "D: all that tells of it is in one cluster" in told.output.replace("\n", " ")
    page = Path("o.html").read_text()
    assert "None" not in page
    assert "all that tells of it is in one cluster" in page


def test_some_rows_alone(tmp_path):
    rng = np.random.default_rng(3)
    frame = pl.DataFrame({"left": rng.choice(["01", "1"], 200), "judge": rng.choice(["crowd", "machine"], 200),
                          "winner": rng.choice(["left", "right"], 200)})  # fmt: skip
    frame = frame.with_columns(right=pl.when(pl.col("left") == "01").then(pl.lit("1")).otherwise(pl.lit("01")))
    frame.write_csv(tmp_path / "log.csv")
    asked = [str(tmp_path / "log.csv"), *COLUMNS, "--where", "judge = 'crowd'", "--out", str(tmp_path / "out.csv")]
    done = run.invoke(app, ["rank", *asked])
    assert done.exit_code == 0, done.output
    want = sy.BradleyTerry().fit(sy.scan(frame.filter(judge="crowd"), a="left", b="right", outcome="winner")).table()
    found = pl.read_csv(tmp_path / "out.csv", schema_overrides={"arm": pl.String})
    assert found["arm"].to_list() == want["arm"].to_list()
    np.testing.assert_allclose(found["score"], want["score"])
    assert run.invoke(app, ["check", *asked]).exit_code == 0
    none = run.invoke(app, ["rank", *asked[:-4], "--where", "judge = 'nobody'"])
    assert none.exit_code == 1
    assert "log.csv where judge = 'nobody' has no comparison to learn from" in none.output.replace("\n", " ")
    wrong = run.invoke(app, ["rank", *asked[:-4], "--where", "judge ="])
    assert wrong.exit_code == 2
    assert "--where takes SQL, as in" in wrong.output
