"""Seconds a million rows, and memory, from 1 to 100 million rows; a figure.

`make long-logs` writes benchmarks/long_logs.png and prints the table behind it: leaderboards without covariates and
with eight of them, from Parquet files to intervals, each fit in a process of its own. The files take some 70 bytes a
row, the encoded rows 76 more while a fit with covariates runs: 15 GB for 100 million. MILLIONS=10 stops there.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import steelyard as sy
from scipy.special import expit

ARMS, COVARIATES = 100, 8
MILLIONS = (1, 3, 10, 30, 100)
SPECS = {"scores": 0, "scores and 8 covariates": COVARIATES}


def write(folder: Path, at: int, rows: int) -> None:
    """One file: integer arms, an outcome, covariates of which the first moves it by 0.3."""
    rng = np.random.default_rng(at)
    a = rng.integers(0, ARMS, rows, dtype=np.int32)
    b = ((a + rng.integers(1, ARMS, rows)) % ARMS).astype(np.int32)
    z = rng.normal(size=(COVARIATES, rows))
    y = (rng.random(rows) < expit(2.0 * (b - a) / ARMS + 0.3 * z[0])).astype(np.int8)
    frame = pl.DataFrame({"a": a, "b": b, "y": y, **{f"z{j}": column for j, column in enumerate(z)}})
    frame.write_parquet(folder / f"{at:03d}.parquet", row_group_size=1 << 18, compression="uncompressed")


def fitted(files: list[Path], covariates: int) -> tuple[float, float, float]:
    """Seconds of a fit and its table (loading not counted), megabytes held at most, effect of the first column."""
    sy.BradleyTerry().fit(sy.scan({"a": ["x", "y"], "b": ["y", "x"], "y": [1, 1]}, a="a", b="b", outcome="y")).table()
    names = {f"z{j}": f"z{j}" for j in range(covariates)}
    log = sy.scan(files, a="a", b="b", outcome="y", covariates=names)
    start = time.perf_counter()
    fit = sy.BradleyTerry().fit(log)
    fit.table()
    seconds, effects = time.perf_counter() - start, fit.coefficients()["estimate"]
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return seconds, held, effects[0] if len(effects) else float("nan")


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """function(*arguments) in a process of its own: what it holds is its own, and this process stays small."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def study(most: int) -> pl.DataFrame:
    """log millions seconds held effect, of every length up to `most` million rows."""
    told: list[tuple[Any, ...]] = []
    with tempfile.TemporaryDirectory() as folder:
        files, rows = list[Path](), 0
        for millions in [length for length in MILLIONS if length <= most]:
            while rows < millions:
                more = min(10, millions - rows)
                alone(write, Path(folder), len(files), more * 1_000_000)
                files, rows = [*files, Path(folder) / f"{len(files):03d}.parquet"], rows + more
            for name, covariates in SPECS.items():
                told.append((name, millions, *alone(fitted, files, covariates)))
                print(*told[-1], flush=True)
    return pl.DataFrame(told, schema=["log", "millions", "seconds", "held", "effect"], orient="row")


def draw(table: pl.DataFrame, path: Path) -> None:
    """Seconds a million rows, and memory, over millions of rows."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4))
    for name, mark, colour in zip(SPECS, "os", ("#2a6f97", "#b24a3a"), strict=True):
        of = table.filter(pl.col("log") == name).sort("millions")
        left.plot(of["millions"], of["seconds"] / of["millions"], marker=mark, ms=4, color=colour, label=name)
        right.plot(of["millions"], of["held"], marker=mark, ms=4, color=colour, label=name)
    for axis, what in ((left, "seconds a million rows"), (right, "MiB of memory held at most")):
        axis.set_xscale("log")
        axis.set_ylim(bottom=0)
        axis.set_xticks(table["millions"].unique().sort().to_list(), minor=False)
        axis.get_xaxis().set_major_formatter(mpl.ticker.ScalarFormatter())
        axis.get_xaxis().set_minor_formatter(mpl.ticker.NullFormatter())
        axis.set_xlabel("million rows, from Parquet")
        axis.set_ylabel(what)
    left.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)


if __name__ == "__main__":
    found = study(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
    with pl.Config(tbl_rows=100, float_precision=3):
        print(found)
    draw(found, Path(__file__).parent / "long_logs.png")
