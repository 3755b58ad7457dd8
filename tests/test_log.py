"""Sources, formats and bad input: every door opens, and every bad row is named."""

import gzip
import json
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
import steelyard as sy
from polars.testing import assert_frame_equal
from steelyard import pairs

FRAME = pl.DataFrame(
    {
        "left": ["x", "y", "z", "x", "z", "y"],
        "right": ["y", "z", "x", "z", "y", "x"],
        "winner": ["left", "left", "tie", "right", "left", "left"],
    }
)
ROLES = {"a": "left", "b": "right", "outcome": "winner"}


def scores(source, **options):
    return sy.BradleyTerry().fit(sy.scan(source, **{**ROLES, **options})).score


@pytest.mark.parametrize("kind", ["parquet", "csv", "ndjson", "arrow", "glob", "folder", "hive", "list"])
def test_files(tmp_path, kind):
    path = tmp_path / f"log.{kind if kind in ('parquet', 'csv', 'ndjson', 'arrow') else 'parquet'}"
    {"csv": FRAME.write_csv, "ndjson": FRAME.write_ndjson, "arrow": FRAME.write_ipc}.get(kind, FRAME.write_parquet)(
        path
    )
    source = path
    if kind in ("glob", "folder", "list"):
        path.unlink()
        parts = [tmp_path / f"{i}.parquet" for i in range(2)]
        for part, rows in zip(parts, (FRAME[:3], FRAME[3:]), strict=True):
            rows.write_parquet(part)
        source = {"glob": str(tmp_path / "*.parquet"), "folder": tmp_path, "list": parts}[kind]
    if kind == "hive":
        path.unlink()
        for judge, rows in (("one", FRAME[:3]), ("two", FRAME[3:])):
            (tmp_path / f"judge={judge}").mkdir()
            rows.write_parquet(tmp_path / f"judge={judge}" / "0.parquet")
        source = tmp_path
        assert sy.scan(source, **ROLES, cluster="judge").schema()["judge"] == pl.String
    assert np.array_equal(scores(source), scores(FRAME))


def test_frames_of_other_libraries_and_types_of_columns():
    expected = scores(FRAME)
    for source in (FRAME.lazy(), FRAME.to_pandas(), FRAME.to_arrow(), FRAME.to_dict(as_series=False)):
        assert np.array_equal(scores(source), expected)
    for kind in (pl.Categorical, pl.Enum(["x", "y", "z"])):
        assert np.array_equal(scores(FRAME.with_columns(pl.col("left", "right").cast(kind))), expected)
    code = {"x": 7, "y": 30, "z": 200}
    for kind in (pl.UInt8, pl.Int64):
        numbered = FRAME.with_columns(pl.col("left", "right").replace_strict(code, return_dtype=kind))
        assert np.array_equal(scores(numbered), expected)
    shouted = scores(FRAME, a=pl.col("left").str.to_uppercase(), b=pl.col("right").str.to_uppercase())
    assert np.array_equal(shouted, expected)


def test_duckdb_relation(tmp_path):
    # In a process of its own: DuckDB prints about its own objects when the interpreter ends.
    FRAME.write_parquet(tmp_path / "log.parquet")
    code = (
        "import duckdb, steelyard as sy; relation = duckdb.sql(\"select * from 'log.parquet'\"); "
        f"print(sy.BradleyTerry().fit(sy.scan(relation, **{ROLES!r})).score.tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == scores(FRAME).tolist()


def test_nothing_is_read_before_a_pass():
    reads = []

    def note(batch):
        reads.append(batch.height)
        return batch

    log = sy.scan(FRAME.lazy().map_batches(note, schema=FRAME.schema), **ROLES)
    assert reads == []
    assert log.arms() == ["x", "y", "z"]
    assert reads


def test_arena_spellings_and_pairs_format_are_one():
    winners = ["model_a", "model_b", "tie", "tie (bothbad)", "model_a"]
    rows = pl.DataFrame({"model_a": ["x"] * 5, "model_b": ["y"] * 5, "winner": winners})
    counts = pl.DataFrame(
        {"model_a": ["x"], "model_b": ["y"], "n_a_wins": [2], "n_b_wins": [1], "n_tie": [1], "n_tie_bothbad": [1]}
    )
    arena, pairs = sy.scan(rows, format="arena"), sy.scan(counts, format="pairs")
    one, two = sy.BradleyTerry().fit(arena), sy.BradleyTerry().fit(pairs)
    assert np.array_equal(one.score, two.score)
    assert np.allclose(one.covariance, two.covariance, rtol=1e-12)
    assert one.n == two.n == 5


def test_chosen_rejected():
    log = sy.scan({"chosen": ["x", "y", "x"], "rejected": ["y", "x", "y"]}, format="chosen_rejected")
    assert sy.BradleyTerry().fit(log).win_probability("x", "y") == pytest.approx(2 / 3)


BAD = pl.DataFrame(
    {
        "a": ["x", "y", None, "x", "x", "y", "x", "y"],
        "b": ["y", "x", "y", "x", "y", "x", "y", "x"],
        "o": ["a", "a", "a", "a", "hmm", None, "b", "tie"],
        "w": [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, -1.0, 1.0],
    }
)


def test_bad_rows_are_named_counted_dropped_and_handed_back():
    log = sy.scan(BAD, a="a", b="b", outcome="o", weight="w")
    with pytest.raises(sy.LogError) as caught:
        sy.BradleyTerry().fit(log)
    message = str(caught.value)
    for part in ("null arm", "[2]", "compared with itself", "[3]", "hmm", "[4]", "negative", "[6]", "quarantine"):
        assert part in message
    kept = sy.scan(BAD, a="a", b="b", outcome="o", weight="w", on_bad="quarantine")
    fit = sy.BradleyTerry().fit(kept)
    assert fit.n == 3
    assert fit.dropped["null arm"] == 1
    assert fit.dropped["not labelled"] == 1
    assert kept.quarantined()["row"].to_list() == [2, 3, 4, 6]
    check = kept.check()
    assert (check.rows, check.usable, check.arms, check.nulls) == (8, 3, 2, 1)
    assert check.bad["null arm"] == (1, [2])


def test_rows_that_lack_a_covariate_a_context_or_a_group_are_told_and_handed_back():
    frame = FRAME.with_columns(
        x=pl.Series([0.1, None, 0.3, 0.4, 0.5, 0.6]), topic=pl.Series(["t", "u", None, "t", "u", "t"]),
        who=pl.Series([1, 2, 3, None, 5, 6]), n=pl.Series([1.0, 1.0, 1.0, 1.0, float("inf"), 1.0]),
        winner=pl.Series(["left", "left", "tie", "right", "left", "huh"]), row=1, reason=2,
    )  # fmt: skip
    log = sy.scan(frame, **ROLES, covariates={"x": "x"}, context=["topic", "n"], group="who", on_bad="quarantine")
    bad = log.quarantined()
    told = dict(bad.select("bad row", "bad reason").iter_rows())
    assert told == {1: "null or infinite covariate 'x'", 2: "null context 'topic'", 3: "null group",
                    4: "null or infinite context 'n'", 5: "unknown outcome"}  # fmt: skip
    assert bad["row"].to_list() == [1] * 5
    assert log.check().bad == {why: (1, [row]) for row, why in told.items()}
    all_bad = sy.scan(
        frame.with_columns(left=pl.when(pl.col("x").is_not_null()).then("left")), **ROLES, covariates={"x": "x"}
    )
    assert list(all_bad.check().bad) == ["null arm", "unknown outcome"]


EIGHT = {
    "empty": ([], [], [], "it is empty"),
    "only wins": (["x", "x"], ["y", "y"], ["a", "a"], "won and lost"),
    "self-comparison": (["x", "y"], ["x", "x"], ["a", "b"], "compared with itself"),
    "unknown label": (["x", "y"], ["y", "x"], ["a", "maybe"], "maybe"),
    "null label": (["x", "y"], ["y", "x"], [None, None], "not labelled"),
}


@pytest.mark.parametrize("name", EIGHT)
def test_malformed_logs_are_refused_in_words(name):
    a, b, o, words = EIGHT[name]
    frame = pl.DataFrame({"a": a, "b": b, "o": o}, schema=dict.fromkeys("abo", pl.String))
    with pytest.raises(sy.SteelyardError, match=words):
        sy.BradleyTerry().fit(sy.scan(frame, a="a", b="b", outcome="o"))


def test_unequal_lengths_only_ties_and_two_islands():
    with pytest.raises(sy.LogError, match="different lengths"):
        sy.scan({"a": ["x"], "b": ["y", "z"], "o": [1.0]}, a="a", b="b", outcome="o")
    ties = sy.BradleyTerry().fit(sy.scan({"a": ["x"], "b": ["y"], "o": [0.5]}, a="a", b="b", outcome="o")).table()
    assert ties["score"].to_list() == [0.0, 0.0]
    assert ties["se"].null_count() == 2
    assert "no spread" in ties["reason"][0]
    islands = {"a": ["x", "y", "u", "v", "x"], "b": ["y", "x", "v", "u", "y"], "o": [1.0, 1.0, 1.0, 1.0, 0.5]}
    fit = sy.BradleyTerry().fit(sy.scan(islands, a="a", b="b", outcome="o"))
    assert len(sy.scan(islands, a="a", b="b", outcome="o").check().components) == 2
    assert fit.table()["score"].null_count() == 2
    assert fit.contrast("x", "u").estimate is None


@pytest.mark.parametrize(
    ("frame", "roles", "words"),
    [
        (FRAME, {**ROLES, "a": "lefty"}, "Did you mean 'left'"),
        (FRAME.with_columns(w=pl.lit("much")), {**ROLES, "weight": "w"}, "numbers belong"),
        (FRAME.with_columns(w=pl.lit(float("nan"))), {**ROLES, "weight": "w"}, "infinite weight"),
        (FRAME.with_columns(y=pl.lit(1.5)), {**ROLES, "outcome": "y"}, "must lie in"),
        (FRAME.with_columns(right=pl.col("left")), ROLES, "compared with itself"),
    ],
)
def test_wrong_columns(frame, roles, words):
    with pytest.raises(sy.LogError, match=words):
        sy.BradleyTerry().fit(sy.scan(frame, **roles))


def test_broken_files(tmp_path):
    FRAME.write_parquet(tmp_path / "log.parquet")
    whole = (tmp_path / "log.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "broken.csv").write_text('left,right,winner\nx,y,left\nx,y,left,extra,"unclosed\n')
    for name in ("cut.parquet", "broken.csv", "absent.parquet", "log.xlsx"):
        with pytest.raises(sy.LogError, match=name):
            sy.BradleyTerry().fit(sy.scan(tmp_path / name, **ROLES))


def test_of_several_files_the_broken_one_is_named(tmp_path):
    FRAME.write_parquet(tmp_path / "1.parquet")
    whole = (tmp_path / "1.parquet").read_bytes()
    (tmp_path / "2.parquet").write_bytes(whole[: len(whole) // 2])
    log = sy.scan(tmp_path / "*.parquet", **ROLES)
    for read in (log.count, log.check, log.arms, lambda: sy.BradleyTerry().fit(log)):
        with pytest.raises(sy.LogError, match=r"could not read .*2\.parquet"):
            read()


def test_what_is_read_of_a_folder_is_what_its_shards_are(tmp_path):
    """Hidden and empty files are neither; all endings of a kind are; a name with brackets is a name."""
    for name in ("1.parquet", "2[a].pq", ".hidden.parquet", "deep/3*.parquet"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        FRAME.write_parquet(tmp_path / name)
    (tmp_path / "0.csv").touch()
    (tmp_path / "deep" / "4.parquet").touch()
    log = sy.scan(tmp_path, **ROLES)
    assert [name for name, _ in log.shards()] == ["1.parquet", "2[a].pq", "deep/3*.parquet"]
    assert log.count() == sum(shard.count() for _, shard in log.shards()) == 3 * len(FRAME)
    sy.BradleyTerry().fit(log).sink(log, tmp_path / "out")
    assert len(list((tmp_path / "out").rglob("*.parquet"))) == 3
    assert sy.scan(tmp_path / "2[a].pq", **ROLES).count() == sy.scan(tmp_path / "2*", **ROLES).count() == len(FRAME)
    FRAME.write_csv(tmp_path / "5.csv")
    with pytest.raises(sy.LogError, match=r"several kinds, \.csv, \.parquet"):
        sy.scan([tmp_path / "1.parquet", tmp_path / "5.csv"], **ROLES)
    with pytest.raises(sy.LogError, match="a log is a file, which may be read more than once"):
        sy.scan("-", **ROLES)
    with pytest.raises(sy.LogError, match="no such file, or only empty ones"):
        sy.scan(tmp_path / "deep" / "4*", **ROLES)
    (tmp_path / "absent").mkdir()
    with pytest.raises(sy.LogError, match="no Parquet, CSV"):
        sy.scan(tmp_path / "absent", **ROLES)


def test_a_failed_write_leaves_nothing(tmp_path):
    fit = sy.BradleyTerry().fit(sy.scan(FRAME, **ROLES))
    for name, error in (("out.csv", ValueError), ("folder", sy.LogError)):
        with pytest.raises(error, match=r"ending in \.parquet"):
            fit.sink(sy.scan(FRAME, **ROLES), tmp_path / name)
    broken = sy.scan(FRAME, **{**ROLES, "a": pl.col("left").cast(pl.Int64).cast(pl.String)})
    for _ in range(30):
        with pytest.raises(sy.SteelyardError, match="was not written"):
            fit.sink(broken, tmp_path / "out.parquet")
    with pytest.raises(sy.LogError):
        fit.sink(sy.scan(FRAME, **{**ROLES, "a": "nobody"}), tmp_path / "out.parquet")
    with pytest.raises(FileNotFoundError):
        fit.save(tmp_path / "no" / "folder" / "x.sy")
    assert list(tmp_path.iterdir()) == []


def test_counts_survive_the_limit_of_their_width():
    n = 300_000  # three blocks
    frame = {"left": ["x", "y"] * (n // 2), "right": ["y", "x"] * (n // 2), "winner": ["left", "left"] * (n // 2)}
    assert pairs.pair_table(sy.scan(frame, **ROLES)).sums.tolist() == [[n / 2, 0, 0], [n / 2, 0, 0]]


def test_blas_gets_its_threads_back():
    from steelyard.solve import one_blas_thread
    from threadpoolctl import threadpool_info

    def threads():
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    with one_blas_thread():
        pass  # both BLAS libraries are loaded from here on
    before = threads()
    with one_blas_thread(), one_blas_thread():
        assert set(threads()) == {1}
    assert threads() == before


def test_arms_as_numbers_beside_arms_as_text():
    frame = pl.DataFrame({"a": [1, 2, 10, 1], "b": ["2", "x", "1", "10"], "y": [1, 0, 1, 1]})
    assert sy.scan(frame, a="a", b="b", outcome="y").arms() == ["1", "10", "2", "x"]
    assert sy.scan(frame.filter(pl.col("b") != "x"), a="a", b="b", outcome="y").arms() == ["1", "2", "10"]


def test_pairs_and_predictions_inside_a_lazy_query():
    frame = pl.DataFrame(
        {"l": list("xyxyzz"), "r": list("yxyzyx"), "w": ["left", "right", "tie", "left", "left", "right"]}
    )
    roles = {"a": "l", "b": "r", "outcome": "w"}
    fit = sy.BradleyTerry(ridge=1.0).fit(sy.scan(frame, **roles))
    query = frame.lazy().with_columns(pl.col("l").alias("again")).sy.predict(fit, **roles).filter(pl.col("p_a") > 0.5)
    want = frame.with_columns(fit.predict(sy.scan(frame, **roles)).collect()).filter(pl.col("p_a") > 0.5)
    for engine in ("in-memory", "streaming"):
        assert query.collect(engine=engine).drop("again").equals(want)
    pairs = frame.lazy().sy.pairs(**roles).sort("a", "b").collect()
    assert pairs.equals(sy.scan(frame, **roles).pairs().sort("a", "b"))
    assert pairs.rows()[0] == ("x", "y", True, 1.0, 1.0, 0.0, 2)


def test_outcomes_that_are_given_are_of_numbers_too():
    turned = FRAME.with_columns(pl.col("winner").replace_strict({"left": 0, "right": 1, "tie": 2}))
    for column in (turned, turned.with_columns(pl.col("winner").cast(pl.Float32))):
        assert np.array_equal(scores(column, outcomes={0: 1, 1: 0, 2: 0.5}), scores(FRAME))
    signs = FRAME.with_columns(pl.col("winner").replace_strict({"left": 1.0, "right": -1.0, "tie": None}))
    assert sy.scan(signs, **ROLES, outcomes={"1": 1, "-1": 0}).check().nulls == 1
    with pytest.raises(sy.LogError, match=r"1 row: unknown outcome .*numbers that outcomes= does not name"):
        sy.BradleyTerry().fit(sy.scan(turned, **ROLES, outcomes={0: 1, 1: 0}))
    tenths = FRAME.with_columns(
        pl.col("winner").replace_strict({"left": 0.1, "right": 0.9, "tie": 0.2}).cast(pl.Float32)
    )
    assert np.array_equal(scores(tenths, outcomes={0.1: 1, 0.9: 0, 0.2: 0.5}), scores(FRAME))
    for wrong in ({"left": "win"}, ["left"]):
        with pytest.raises(TypeError, match="outcomes takes"):
            sy.scan(FRAME, **ROLES, outcomes=wrong)


def test_one_arm_does_not_get_two_names():
    frame = FRAME.with_columns(pl.col("left", "right").replace_strict({"x": 1, "y": 2, "z": 3}))
    assert scores(frame.with_columns(right=pl.col("right").cast(pl.String))).size == 3
    assert len(sy.scan(frame.with_columns(pl.col("left") * 1.5), **{**ROLES, "b": pl.lit("it")}).arms()) == 4
    for left, right in ((pl.Int64, pl.Float64), (pl.Decimal(10, 1), pl.Decimal(10, 2)), (pl.Float64, pl.String)):
        mixed = frame.with_columns(pl.col("left").cast(left), pl.col("right").cast(right))
        with pytest.raises(sy.LogError, match="one arm would have two names"):
            sy.BradleyTerry().fit(sy.scan(mixed, **ROLES))


def test_names_in_text_stay_as_they_are_written(tmp_path):
    named = FRAME.with_columns(pl.col("left", "right").replace_strict({"x": "4.1", "y": "4.10", "z": "04"}))
    named.write_csv(tmp_path / "log.csv")
    with gzip.open(tmp_path / "packed.csv.gz", "wb") as file:
        file.write((tmp_path / "log.csv").read_bytes())
    for path in (tmp_path / "log.csv", tmp_path / "packed.csv.gz"):
        log = sy.scan(path, **ROLES)
        assert log.arms() == ["04", "4.1", "4.10"]
        assert log.shards()[0][1].arms() == ["04", "4.1", "4.10"]


def test_whatever_goes_wrong_below_is_told_as_an_error_of_the_log():
    log = sy.scan(FRAME, **ROLES)
    with pytest.raises(sy.LogError, match="could not read the frame: it fell over"), log.reading():
        raise pl.exceptions.PanicException("it fell over")
    duckdb = pytest.importorskip("duckdb")
    connection = duckdb.connect()
    relation = connection.sql("SELECT 'x' AS left, 'y' AS right, 'left' AS winner")
    connection.close()
    with pytest.raises(sy.LogError, match="cannot be made a frame"):
        sy.scan(relation, **ROLES)


def test_outcomes_that_are_one_number_have_one_value():
    with pytest.raises(ValueError, match="gives '1' two values"):
        sy.scan(FRAME, **ROLES, outcomes={"1": 1.0, 1: 0.0})
    frame = FRAME.with_columns(winner=pl.lit(2**53))
    log = sy.scan(frame, **ROLES, outcomes={2**53 + 1: 1.0, 2**53: 0.0})
    with pytest.raises(sy.LogError, match=r"gives two values to 9.0072e\+15, one of them as"):
        log.pairs()


def test_codes_in_text_keep_their_zeros(tmp_path):
    """Arms, clusters and groups alike; not where a column is read as a number too."""
    coded = FRAME.with_columns(pl.col("left", "right").replace_strict({"x": "01", "y": "1", "z": "2"}), rater=pl.Series(
        ["7", "07"] * (FRAME.height // 2) + ["7"] * (FRAME.height % 2)), t=pl.lit("4.10"))  # fmt: skip
    coded.write_csv(tmp_path / "log.csv")
    roles = {**ROLES, "cluster": ["rater", pl.col("t")], "group": "rater"}
    text, frame = sy.scan(tmp_path / "log.csv", **roles), sy.scan(coded, **roles)
    assert text.arms() == frame.arms() == ["01", "1", "2"]
    assert text.schema()["rater"] == text.schema()["t"] == pl.String
    assert sy.scan(tmp_path / "log.csv", **ROLES, cluster="rater", context="rater").schema()["rater"] == pl.Int64
    one_way = sy.scan(tmp_path / "log.csv", **{**ROLES, "a": pl.col("left") + 1})
    assert one_way.schema()["right"] == pl.Int64


def test_whole_numbers_in_text_stay_numbers(tmp_path):
    FRAME.with_columns(pl.col("left", "right").replace_strict({"x": 1, "y": 2, "z": 10})).write_csv(
        tmp_path / "log.csv"
    )
    won = (pl.col("winner") == "left") & (pl.col("left") > 0)
    assert sy.scan(tmp_path / "log.csv", a="left", b="right", outcome=won).arms() == ["1", "2", "10"]


def test_files_are_read_once_and_all_of_them_or_not_at_all(tmp_path):
    (tmp_path / "loop").mkdir()
    FRAME.write_parquet(tmp_path / "loop" / "1.parquet")
    (tmp_path / "loop" / "self").symlink_to(tmp_path / "loop")
    (tmp_path / "latest.parquet").symlink_to(tmp_path / "loop" / "1.parquet")
    assert sy.scan(tmp_path, **ROLES).count() == len(FRAME)
    FRAME.write_csv(tmp_path / "2.csv")
    with pytest.raises(sy.LogError, match=r"several kinds, \.csv, \.parquet"):
        sy.scan(tmp_path, **ROLES)
    with pytest.raises(sy.LogError, match="the path of the log is empty"):
        sy.scan("", **ROLES)
    FRAME.write_ndjson(tmp_path / "1.ndjson")
    FRAME.with_columns(note=pl.lit("x")).write_ndjson(tmp_path / "1.ndjson")
    late = pl.concat([FRAME.drop("winner")] * 50 + [FRAME], how="diagonal")
    (tmp_path / "2.ndjson").write_text(
        "".join(json.dumps({k: v for k, v in row.items() if v}) + "\n" for row in late.iter_rows(named=True))
    )
    assert sy.scan(tmp_path / "*.ndjson", **ROLES).check().usable == 2 * len(FRAME)
    (tmp_path / "2.ndjson").write_text('{"left": "x", "right"')
    with pytest.raises(sy.LogError, match="could not read"):
        sy.BradleyTerry().fit(sy.scan(tmp_path / "*.ndjson", **ROLES))
    FRAME.rename({"winner": "result"}).write_ndjson(tmp_path / "2.ndjson")
    with pytest.raises(sy.LogError, match=r"2\.ndjson lacks the columns \['winner'\], which .*1\.ndjson has"):
        sy.scan(tmp_path / "*.ndjson", **ROLES)


def test_a_query_of_several_files_is_not_written_over(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for i in range(5):
        FRAME.write_parquet(f"{i}.parquet")
    (tmp_path / "link.parquet").symlink_to(tmp_path / "0.parquet")
    fit = sy.BradleyTerry().fit(sy.scan(FRAME, **ROLES))
    for query, out in ((pl.scan_parquet("[0-9].parquet"), "3.parquet"), (pl.scan_parquet("./4.parquet"), "4.parquet"),
                       (pl.scan_parquet("1.parquet"), tmp_path / "1.parquet"),
                       (pl.scan_parquet([f"{i}.parquet" for i in range(5)]), "4.parquet"),
                       (pl.scan_parquet("link.parquet"), "0.parquet")):  # fmt: skip
        with pytest.raises(ValueError, match="is a file of the log itself"):
            fit.sink(sy.scan(query, **ROLES), out)
    fit.sink(sy.scan(pl.scan_parquet("1.parquet"), **ROLES), "new.parquet")
    (tmp_path / "scored.2026").mkdir()
    fit.sink(sy.scan("[0-9].parquet", **ROLES), "scored.2026")
    assert len(list((tmp_path / "scored.2026").iterdir())) == 5


def test_a_query_of_a_file_is_not_written_over(tmp_path):
    path = tmp_path / "log.parquet"
    FRAME.write_parquet(path)
    log = sy.scan(pl.scan_parquet(path).filter(pl.col("winner") != "huh"), **ROLES)
    fit = sy.BradleyTerry().fit(log)
    with pytest.raises(ValueError, match="is a file of the log itself"):
        fit.sink(log, path)
    fit.sink(log, tmp_path / "out.parquet")
    fit.sink(log, tmp_path / "out.parquet")
    assert pl.read_parquet(path).equals(FRAME)


def test_roles_that_make_other_rows_hand_no_wrong_ones_back():
    kept = {role: pl.col(column).filter(pl.col("winner") != "tie") for role, column in ROLES.items()}
    with pytest.raises(sy.LogError, match="make 5 rows of 6"):
        sy.scan(FRAME, **kept, on_bad="quarantine").quarantined()


def test_expressions_in_a_query_look_around_in_the_whole_frame(tmp_path):
    """And not in the batch that they are read with."""
    rng, n = np.random.default_rng(0), 300_000
    frame = pl.DataFrame({"left": rng.choice(["x", "y"], n), "right": ["z"] * n,
                          "winner": rng.choice(["left", "right"], n), "x": np.arange(n) / n})  # fmt: skip
    frame.write_parquet(tmp_path / "log.parquet")
    roles = {**ROLES, "covariates": {"x": pl.col("x") - pl.col("x").mean()}, "weight": pl.lit(2.0)}
    fit = sy.BradleyTerry().fit(sy.scan(frame, **roles))
    query = pl.scan_parquet(tmp_path / "log.parquet").sy.predict(fit, **roles)
    margin = query.collect(engine="streaming")["margin"]
    assert query.collect_schema().names() == [*frame.columns, "margin", "p_a", "p_tie", "p_b", "log_likelihood"]
    np.testing.assert_allclose(margin, fit.predict(sy.scan(frame, **roles)).collect()["margin"], atol=1e-12)


def test_an_update_takes_no_log_that_asks_for_more():
    fit = sy.BradleyTerry().fit(sy.scan(FRAME, **ROLES))
    with pytest.raises(ValueError, match="fit the logs together"):
        fit.update(sy.scan(FRAME.with_columns(who=1), **ROLES, cluster="who"))
    with pytest.raises(ValueError, match="does not adjust"):
        fit.update(sy.scan(FRAME.with_columns(x=1.0), **ROLES, covariates={"x": "x"}))


def test_what_polars_finds_wrong_with_a_frame_is_told_as_of_any_source():
    frame = pl.DataFrame({"l": ["x", "y", "x"], "r": ["y", "x", "y"], "y": [1.0, 0.0, 1.0]})
    for source in (frame, frame.lazy()):
        with pytest.raises(sy.LogError, match="could not read the"):
            sy.scan(source, a="l", b="r", outcome="y", weight=pl.lit(pl.Series([1.0, 2.0]))).pairs()


def test_columns_of_a_frame_beside_computed_ones():
    """Read as they stand, computed by row, by all rows, or one value for all: what the lazy frame says."""
    rng = np.random.default_rng(0)
    n = 5000
    whole = pl.DataFrame({"a": rng.integers(0, 4, n), "b": rng.integers(4, 8, n), "y": rng.integers(0, 2, n) * 1.0,
                          "x": rng.normal(size=n)})  # fmt: skip
    pieces = pl.concat([whole[i : i + 37] for i in range(0, n, 37)], rechunk=False)
    for roles in (
        {"a": "b", "b": pl.col("a"), "covariates": {"z": pl.col("x") - pl.col("x").mean()}},
        {"a": pl.col("a") + 0, "b": pl.col("b") * 1, "covariates": {"z": pl.col("x").rank()}, "position": "y"},
        {"a": "a", "b": "b", "weight": pl.col("x").max(), "covariates": {"z": "x"}},
    ):
        fits = [
            sy.BradleyTerry(ridge=1.0).fit(sy.scan(source, outcome="y", **roles))
            for source in (whole, pieces, whole.lazy())
        ]
        for fit in fits:
            assert_frame_equal(fit.coefficients(), fits[0].coefficients(), rel_tol=1e-10)  # means of pieces are polars'
            assert_frame_equal(fit.table(), fits[0].table(), rel_tol=1e-10)
