"""Files that are cut short, flipped, change under a scan, or cannot be written: an error in words, and nothing lost."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
import steelyard as sy
from hypothesis import given
from hypothesis import strategies as st

from tests.abuse.contract import fuzzed, kept

ROLES = {"a": "l", "b": "r", "outcome": "w"}
WRITERS = {
    ".csv": pl.DataFrame.write_csv,
    ".ndjson": pl.DataFrame.write_ndjson,
    ".parquet": pl.DataFrame.write_parquet,
    ".arrow": pl.DataFrame.write_ipc,
}


def frame(n=300):
    rng = np.random.default_rng(1)
    a = rng.integers(0, 3, n)
    return pl.DataFrame({"l": a, "r": (a + 1) % 3, "w": rng.integers(0, 2, n), "note": ['a, "b"\n'] * n}).with_columns(
        pl.col("l", "r").cast(pl.String)
    )


def used(path):
    """The whole way from a file to tables."""
    log = sy.scan(path, **ROLES, on_bad="drop")
    fit = sy.BradleyTerry().fit(log)
    return [fit.table(), fit.predict(log).collect()]


@pytest.fixture(scope="module", params=WRITERS)
def written(request, tmp_path_factory):
    """The path of a log, and its bytes."""
    path = tmp_path_factory.mktemp("log") / f"log{request.param}"
    WRITERS[request.param](frame(), path)
    assert kept(lambda: used(path))
    return path, path.read_bytes()


@fuzzed(max_examples=120)
@given(chance=st.randoms(use_true_random=False))
def test_cut_and_flipped_files(written, chance):
    path, data = written[0], bytearray(written[1])
    if chance.random() < 0.4:
        del data[chance.randrange(len(data)) :]
    for _ in range(chance.choice([0, 1, 3, 30])):
        if data:
            data[chance.randrange(len(data))] = chance.randrange(256)
    path.write_bytes(data)
    kept(lambda: used(path))


@pytest.mark.parametrize(
    "text",
    ["", "l,r,w", "l,r,w\n", "l,r,w\nx,y", "\ufeffl,r,w\r\nx,y,1\r\ny,x,0\r\n", "l,r,w\nx,y,1,2,3\ny,x,0\n",
     'l,r,w\n"x,y,1\n', "l,r,w\n\x00,\x00,1\n\n\n", "l,l,w\nx,y,1\n"],
)  # fmt: skip
def test_odd_texts(tmp_path, text):
    path = tmp_path / "log.csv"
    path.write_text(text, encoding="utf-8", newline="")
    kept(lambda: used(path))


def test_a_file_that_changes_or_goes_under_a_scan(tmp_path):
    path = tmp_path / "log.parquet"
    frame().write_parquet(path)
    log = sy.scan(path, **ROLES)
    assert log.count() == 300
    frame(30).rename({"w": "other"}).write_parquet(path)
    assert kept(lambda: sy.BradleyTerry().fit(log).table()) is None
    frame(30).write_parquet(path)
    assert kept(lambda: sy.BradleyTerry().fit(sy.scan(path, **ROLES)).table()) is not None
    path.unlink()
    assert kept(lambda: sy.BradleyTerry().fit(log).table()) is None


@pytest.mark.skipif(os.name != "posix", reason="sizes of files are limited by POSIX")
def test_a_full_disk_leaves_nothing(tmp_path):
    frame(50_000).write_parquet(tmp_path / "log.parquet")
    command = [sys.executable, "-c", "from steelyard.cli import main; main()"]
    sy.BradleyTerry().fit(sy.scan(tmp_path / "log.parquet", **ROLES)).save(tmp_path / "model.sy")
    (tmp_path / "out").mkdir()
    arguments = ["--a", "l", "--b", "r", "--outcome", "w"]

    def limited():  # files end at 20 kB, as on a disk that is full
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    for job in (
        ["predict", "model.sy", "log.parquet", *arguments, "--out", "out/scored.parquet"],
        ["rank", "log.parquet", *arguments, "--out", "out/board.parquet", "--report", "out/board.html"],
    ):
        done = subprocess.run([*command, *job], cwd=tmp_path, capture_output=True, text=True, preexec_fn=limited)
        assert done.returncode == 1, done.stderr
        assert "Traceback" not in done.stderr
        assert "steelyard: " in done.stderr
        assert not list((tmp_path / "out").iterdir())


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_a_folder_that_may_only_be_read(tmp_path):
    fit, nobody = sy.BradleyTerry().fit(sy.scan(frame(), **ROLES)), 65534
    tmp_path.chmod(0o555)
    me = os.geteuid()
    try:
        if me == 0:  # the superuser may write anywhere
            os.seteuid(nobody)
        with pytest.raises(PermissionError, match="folder that can be written to"):
            fit.save(tmp_path / "board.sy")
    finally:
        os.seteuid(me)
        tmp_path.chmod(0o755)
    assert not list(tmp_path.iterdir())
