"""Folders of many files: keys in their names, files that do not go together, those of other programs, and going on."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import steelyard as sy

ROLES = {"a": "l", "b": "r", "outcome": "y"}


def frame(names, n=600):
    """Comparisons of arms with scores in the order of their names, two of which never meet where there are four."""
    rng = np.random.default_rng(3)
    a = rng.integers(0, len(names), n)
    b = (a + rng.integers(1, len(names), n)) % len(names)
    y = rng.random(n) < 1 / (1 + np.exp(0.5 * (b - a)))
    found = pl.DataFrame(
        {"l": np.array(names)[a], "r": np.array(names)[b], "y": y * 1.0, "rater": rng.integers(0, 9, n)}
    )
    apart = (pl.col("l").is_in(names[:2]) & pl.col("r").is_in(names[:2])) if len(names) > 3 else pl.lit(value=False)
    return found.filter(~apart)


def scores(log):
    return sy.BradleyTerry().fit(log).table()


@pytest.mark.parametrize("names", [["4.1", "4.10", "4.2", "5.0"], ["01", "1", "10", "x"], ["01", "02", "10"]])
@pytest.mark.parametrize("keys", [["l", "r"], ["l"]])
def test_keys_that_are_labels_are_as_they_are_written(tmp_path, names, keys):
    log = frame(names)
    log.write_parquet(pl.PartitionBy(tmp_path / "log", key=keys, include_key=False))
    got, want = scores(sy.scan(tmp_path / "log", **ROLES)), scores(sy.scan(log, **ROLES))
    assert got["arm"].to_list() == want["arm"].to_list()
    np.testing.assert_allclose(got["score"], want["score"], atol=1e-8)


def test_keys_beside_numbers_in_the_files_are_numbers(tmp_path):
    log = frame(["0", "1", "2"]).with_columns(r=pl.col("r").cast(pl.Int64))
    log.write_parquet(pl.PartitionBy(tmp_path / "log", key=["l"], include_key=False))
    (tmp_path / "log" / "l=1").rename(tmp_path / "log" / "l=01")  # one arm with the number 1 of the files
    assert sy.scan(tmp_path / "log", **ROLES, cluster="l").schema()["l"] == pl.Int64
    assert scores(sy.scan(tmp_path / "log", **ROLES)).equals(
        scores(sy.scan(log.with_columns(l=pl.col("l").cast(int)), **ROLES))
    )


@pytest.mark.parametrize("kind", [pl.Date, pl.Boolean])
def test_keys_beside_dates_and_truths_are_such(tmp_path, kind):
    log = frame(["0", "1"]).with_columns(pl.col("l", "r").cast(pl.Int32).cast(kind))
    log.write_parquet(pl.PartitionBy(tmp_path / "log", key=["l"], include_key=False))
    assert scores(sy.scan(tmp_path / "log", **ROLES))["arm"].to_list() == scores(sy.scan(log, **ROLES))["arm"].to_list()


def test_clusters_in_names_of_folders(tmp_path):
    log = frame(["a", "b", "c"]).with_columns(
        rater=pl.col("rater").replace_strict({1: "01"}, default=pl.col("rater").cast(str))
    )
    log = log.with_columns(rater=pl.col("rater").replace("2", "1"))
    log.write_parquet(pl.PartitionBy(tmp_path / "log", key=["rater"], include_key=False))
    got, want = (scores(sy.scan(source, **ROLES, cluster="rater")) for source in (tmp_path / "log", log))
    np.testing.assert_allclose(got["se"], want["se"], rtol=1e-8)


@pytest.mark.parametrize("names", [["4.1", "4.10", "5.0", "x"], ["01", "1", "10", "x"], ["01", "02", "10", "x"]])
def test_a_shard_knows_the_types_of_all(tmp_path, names):
    log = frame(names)
    log.write_parquet(pl.PartitionBy(tmp_path / "log", key=["l"], include_key=False))
    whole = sy.scan(tmp_path / "log", **ROLES)
    fit = sy.BradleyTerry().fit(whole)
    assert fit.sink(whole, tmp_path / "out") == 0
    parts = [pl.read_parquet(path, hive_partitioning=False) for path in sorted((tmp_path / "out").rglob("*.parquet"))]
    assert pl.concat(parts).equals(fit.predict(whole).collect())


def test_what_writers_keep_for_themselves_is_not_read(tmp_path):
    log = frame(["a", "b"])
    for part in (
        "part-0.parquet",
        "_temporary/0/part-1.parquet",
        "_metadata.parquet",
        ".hidden.parquet",
        "_SUCCESS.parquet",
    ):
        (tmp_path / part).parent.mkdir(parents=True, exist_ok=True)
        log.write_parquet(tmp_path / part)
    assert sy.scan(tmp_path, **ROLES).count() == log.height
    assert sy.scan(tmp_path / "_temporary", **ROLES).count() == log.height  # where it is asked for
    (tmp_path / "own").mkdir()
    log.write_parquet(tmp_path / "own" / "_part.parquet")
    with pytest.raises(sy.LogError, match="does not begin with _ or a dot"):
        sy.scan(tmp_path / "own", **ROLES)
    (tmp_path / "_delta_log").mkdir()
    for named in (tmp_path, tmp_path.parent, f"{tmp_path}/*.parquet"):
        with pytest.raises(sy.LogError, match=r"is a Delta table.*scan_delta"):
            sy.scan(named, **ROLES)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (pl.col("y").cast(pl.Int64), "y is Int64, not Float64"),
        (pl.lit(1).alias("more"), r"the columns \['more'\] are in one of the two alone"),
    ],
)
def test_files_that_do_not_go_together_are_named(tmp_path, change, told):
    frame(["a", "b"]).write_parquet(tmp_path / "1.parquet")
    frame(["a", "b"]).with_columns(change).write_parquet(tmp_path / "2.parquet")
    with pytest.raises(sy.LogError, match=rf"2\.parquet is not as .*1\.parquet: {told}.*diagonal_relaxed") as refused:
        sy.BradleyTerry().fit(sy.scan(tmp_path, **ROLES))
    assert "cast_options" not in str(refused.value)


def test_a_compressed_file_that_is_cut_is_named(tmp_path):
    frame(["a", "b"]).write_csv(tmp_path / "log.csv.gz", compression="gzip")
    whole = (tmp_path / "log.csv.gz").read_bytes()
    (tmp_path / "log.csv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(sy.LogError, match=r"could not read .*log\.csv\.gz"):
        sy.BradleyTerry().fit(sy.scan(tmp_path / "log.csv.gz", **ROLES))


def test_going_on_scores_again_what_is_not_as_it_was(tmp_path):
    log, out = frame(["a", "b", "c"]), tmp_path / "out"
    for day in range(3):
        log.slice(100 * day, 100).write_parquet(tmp_path / f"{day}.parquet")
    fit = sy.BradleyTerry().fit(sy.scan(tmp_path, **ROLES))

    def files():
        return {path.name: path.stat().st_mtime_ns for path in sorted(out.glob("*"))}

    def run(scorer=fit, **roles):
        return scorer.sink(
            sy.scan([tmp_path / f"{day}.parquet" for day in range(3)], **ROLES | roles), out, resume=True
        )

    assert run() == 0
    first = files()
    assert run() == 0
    assert files() == first
    log.slice(0, 10).write_parquet(tmp_path / "0.parquet")
    (out / "1.parquet").write_bytes(b"PAR1")
    assert run() == 0
    assert [files()[name] == node for name, node in first.items()] == [False, False, True]
    assert [pl.read_parquet(path).height for path in sorted(out.glob("*"))] == [10, 100, 100]
    second = files()
    shrunk = sy.BradleyTerry(ridge=50.0).fit(sy.scan(log, **ROLES))
    run(shrunk)
    assert not set(files().values()) & set(second.values())
    third = files()
    run(shrunk, a="r", b="l")
    assert not set(files().values()) & set(third.values())


def test_rows_without_a_margin_are_counted_where_files_were_left_out_too(tmp_path):
    frame(["a", "b", "c"]).write_parquet(tmp_path / "1.parquet")
    frame(["a", "b"]).write_parquet(tmp_path / "2.parquet")
    fit = sy.BradleyTerry().fit(sy.scan(tmp_path / "2.parquet", **ROLES))
    log = sy.scan(tmp_path, **ROLES)
    first = fit.sink(log, tmp_path / "out")
    assert 0 < first == fit.sink(sy.scan([*log.files], **ROLES), tmp_path / "out", resume=True)


def test_an_expression_that_fails_is_not_the_files_fault(tmp_path):
    frame(["1", "x"]).write_parquet(pl.PartitionBy(tmp_path / "log", key=["l"], include_key=False))
    with pytest.raises(sy.LogError, match="could not read") as refused:
        sy.BradleyTerry().fit(sy.scan(tmp_path / "log", **ROLES | {"outcome": pl.col("r").cast(pl.Float64)}))
    assert "is not as" not in str(refused.value)


ONCE = """
import sys, polars as pl, steelyard as sy
upper = {"a": pl.col("l").str.to_uppercase(), "b": pl.col("r").str.to_uppercase()}
log = sy.scan(sys.argv[1] + "/*.parquet", **upper, outcome="y", covariates={"rater": pl.col("rater") - 4})
sy.load(sys.argv[2]).sink(log, sys.argv[3], resume=True)
"""


def test_another_process_goes_on_where_roles_are_expressions(tmp_path):
    (tmp_path / "log").mkdir()
    frame(["A", "B", "C"]).write_parquet(tmp_path / "log" / "1.parquet")
    sy.BradleyTerry().fit(sy.scan(tmp_path / "log", **ROLES)).save(tmp_path / "fit.sy")
    made = []
    for _ in range(2):
        told = [sys.executable, "-c", ONCE, str(tmp_path / "log"), str(tmp_path / "fit.sy"), str(tmp_path / "out")]
        subprocess.run(told, check=True)
        made.append((tmp_path / "out" / "1.parquet").stat().st_mtime_ns)
    assert made[0] == made[1]


def test_other_roles_covariates_and_settings_are_scored_again(tmp_path):
    log = frame(["a", "b", "c"])
    log = log.with_columns(x=pl.Series(np.random.default_rng(0).normal(size=log.height)))
    log.write_parquet(tmp_path / "1.parquet")
    out, met = tmp_path / "out", []

    def run(fit, **roles):
        fit.sink(sy.scan([tmp_path / "1.parquet"], **ROLES | roles), out, resume=True)
        met.append((out / "1.parquet").stat().st_mtime_ns)

    first = {"covariates": {"z": pl.col("x") * 1.0}}
    fit = sy.BradleyTerry().fit(sy.scan(log, **ROLES, **first))
    same = replace(fit, spec=replace(fit.spec, ties="drop"))
    run(fit, **first)
    run(fit, **first)
    run(fit, covariates={"z": pl.col("x") * 2.0})
    run(same, covariates={"z": pl.col("x") * 2.0})
    run(same, covariates={"z": pl.col("x") * 2.0}, outcomes={0: 1, 1: 0})
    assert met[0] == met[1]
    assert len(set(met)) == 4
