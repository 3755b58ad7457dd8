"""kill -9 at random points of rank, weigh, debias, predict: files under their final names are whole."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import steelyard as sy

KILLS = 26  # of each of the four commands
READY = "import sys, steelyard.cli as cli; print('ready', flush=True); sys.argv[0] = 'steelyard'; cli.main()"
COLUMNS = ["--a", "l", "--b", "r", "--outcome", "w"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a log, the same log in shards, and a model."""
    home = tmp_path_factory.mktemp("kills")
    rng = np.random.default_rng(0)
    n, k = 60_000, 6
    a = rng.integers(0, k, n)
    b = (a + rng.integers(1, k, n)) % k
    frame = pl.DataFrame({"l": a, "r": b, "w": rng.integers(0, 2, n) * 1.0, "kind": rng.integers(0, 3, n)})
    frame = frame.with_columns(pl.col("l", "r", "kind").cast(pl.String))
    frame.write_parquet(home / "log.parquet")
    (home / "shards").mkdir()
    for i in range(6):
        frame[i * 10_000 : (i + 1) * 10_000].write_parquet(home / f"shards/{i}.parquet")
    sy.BradleyTerry().fit(sy.scan(frame, a="l", b="r", outcome="w")).save(home / "model.sy")
    return home


def killed(arguments: list[str], seconds: float) -> tuple[bool, float]:
    """Runs the command line and kills it so long after its imports; whether it had ended, and how long it ran."""
    run = subprocess.Popen([sys.executable, "-c", READY, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert run.stdout is not None
    assert run.stdout.readline() == b"ready\n"
    start = time.monotonic()
    try:
        run.wait(seconds)
    except subprocess.TimeoutExpired:
        run.send_signal(signal.SIGKILL)
    run.communicate()
    return run.returncode == 0, time.monotonic() - start


def whole(path: Path) -> bool:
    """Whether a file has all of its parts."""
    if path.suffix == ".html":
        return path.read_text(encoding="utf-8").rstrip().endswith("</html>")
    if path.suffix == ".sy":
        return sy.load(path).table().height == 6
    return pl.read_parquet(path).height in (6, 10_000, 60_000)


def sweep(home: Path, command: list[str], outputs: list[str], folder: str) -> tuple[int, int]:
    """Kills at random moments; how many runs were killed, and how many ended."""
    moments = random.Random(folder)
    log = str(home / "log.parquet")
    ended, longest = killed([*command, log, *COLUMNS, *_named(home / folder, outputs)], 120.0)
    assert ended
    assert all(whole(path) for path in _seen(home / folder))

    def once(turn: int) -> bool:
        place = home / f"{folder}-{turn}"
        done, _ = killed([*command, log, *COLUMNS, *_named(place, outputs)], moments.uniform(0.0, 1.1 * longest))
        seen = _seen(place)
        assert all(whole(path) for path in seen)
        assert not done or len(seen) == len(outputs)
        return done

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        done = list(pool.map(once, range(KILLS)))
    return KILLS - sum(done), sum(done)


def _named(place: Path, outputs: list[str]) -> list[str]:
    place.mkdir()
    return [part for option in outputs for part in (option.split("=")[0], str(place / option.split("=")[1]))]


def _seen(place: Path) -> list[Path]:
    """The files under their final names: temporary ones begin with a dot."""
    return [path for path in place.iterdir() if not path.name.startswith(".")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "outputs"),
    [
        (["rank"], ["--out=board.parquet", "--report=board.html", "--save=board.sy"]),
        (["weigh", "--context", "kind"], ["--out=weighted.parquet"]),
        (["debias", "--context", "kind"], ["--out=board.parquet", "--save=board.sy"]),
    ],
    ids=["rank", "weigh", "debias"],
)
def test_no_file_is_ever_half_written(home, command, outputs):
    cut, _ended = sweep(home, command, outputs, command[0])
    assert cut >= KILLS // 3


@pytest.mark.slow
def test_a_prediction_resumes(home):
    moments, place = random.Random("predict"), home / "scored"
    command = ["predict", str(home / "model.sy"), str(home / "shards"), *COLUMNS, "--out", str(place), "--resume"]
    cut = 0
    for _ in range(KILLS):
        done, _ = killed(command, moments.uniform(0.0, 0.25))
        cut += not done
        assert all(whole(path) for path in _seen(place)) if place.exists() else True
        if done:
            for path in _seen(place)[::2]:
                path.unlink()
    assert cut >= KILLS // 3
    assert killed(command, 120.0)[0]
    assert sorted(path.name for path in _seen(place)) == [f"{i}.parquet" for i in range(6)]
    resumed = pl.concat([pl.read_parquet(place / f"{i}.parquet") for i in range(6)])
    log = sy.scan(home / "log.parquet", a="l", b="r", outcome="w")
    assert resumed.equals(sy.load(home / "model.sy").predict(log).collect())
