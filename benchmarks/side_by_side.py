"""Side by side with everyone: every job, every peer's fastest path, in one run.

`make bench` writes benchmarks/RESULTS.md and its figures. Wall times of a job are taken in rounds, each contender once
a round, so that a busy machine is busy for all, and none before the threads of the last one rest; a process of its own
per contender tells peak memory. Accuracy is against an exact optimum or an estimate by hand, never against ourselves.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import steelyard as sy

from benchmarks import causal_jobs, jobs, peers
from benchmarks.contend import Contender, Job, battle_file, battles, exact_scores, rows, treated
from benchmarks.jobs import sandwich_by_hand, styled_file

HERE = Path(__file__).parent
JOBS = [*jobs.JOBS, *causal_jobs.JOBS]
MISSING = (ImportError, PackageNotFoundError)
REST = 0.3  # seconds before each run: the threads of some BLAS go on waiting for work, on the next contender's cores
PEERS = ("evalica", "choix", "arena-rank", "arenakit", "scikit-learn", "statsmodels", "glum", "doubleml", "econml")


@dataclass
class Timed:
    name: str
    seconds: list[float] = field(default_factory=list)
    memory: float | None = None
    far: str = ""
    floor: bool = False

    @property
    def best(self) -> float:
        return min(self.seconds)


# --- the run -------------------------------------------------------------------------------------
def timed(job: Job, scale: float) -> list[Timed]:
    """Best of some rounds, after one that is not counted; peers that are missing are left out."""
    there: list[tuple[Contender, Timed]] = []
    for contender in job.contenders(scale):
        found = Timed(contender.name, floor=contender.floor)
        try:
            answer = contender.run()
        except MISSING:
            continue
        found.far = contender.far(answer) if contender.far else ""
        there.append((contender, found))
    for _ in range(job.rounds):
        for contender, found in there:
            time.sleep(REST)
            start = time.perf_counter()
            contender.run()
            found.seconds.append(time.perf_counter() - start)
    return [found for _, found in there]


def _alone(place: int, name: str, scale: float, sent: Any) -> None:
    """In a process of its own: the most memory that a contender takes beyond the data, in MiB."""
    warnings.simplefilter("ignore")
    small, contender = (
        next(c for c in JOBS[place].contenders(size) if c.name == name) for size in (min(0.02, scale), scale)
    )
    with suppress(Exception):  # imports and compilers come before the count
        small.run()
    before = _resident()
    reset = Path("/proc/self/clear_refs")
    if reset.exists():
        reset.write_text("5")  # the high-water mark starts anew
    contender.run()
    sent.send((_peak() - before) / 2**20)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _peak() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def memory(place: int, name: str, scale: float) -> float | None:
    if not Path("/proc/self/status").exists():
        return None
    receive, send = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=_alone, args=(place, name, scale, send))
    process.start()
    send.close()
    try:
        told = receive.recv()
    except EOFError:
        told = None
    process.join()
    return told


def curves(scale: float) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Seconds over rows (300 arms) and over arms (a million rows), of those that rank from integer codes."""
    ways: dict[str, Callable[[Any, Any, Any, int], Any]] = {
        "steelyard, with intervals": lambda a, b, y, k: (
            sy.BradleyTerry().fit(sy.scan({"a": a, "b": b, "y": y}, a="a", b="b", outcome="y")).table()
        ),
        "evalica": peers.evalica_codes,
        "choix": peers.choix_dense,
        "scikit-learn": peers.sklearn_cells,
    }
    over: dict[str, dict[str, list[tuple[float, float]]]] = {"rows": {}, "arms": {}}
    for what, points in (
        ("rows", [(int(m * scale), 300) for m in (30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000)]),
        ("arms", [(int(1_000_000 * scale), k) for k in (10, 30, 100, 300, 1000, 2000)]),
    ):
        for n, k in points:
            for name, way in ways.items():
                a, b, y = battles(n, k)
                try:
                    spent = min(_once(way, a, b, y, k) for _ in range(2))
                except Exception:  # not installed, or it gives up where an arm has won or lost everything
                    continue
                over[what].setdefault(name, []).append((n if what == "rows" else k, spent))
            battles.cache_clear()
    return over


def robust_curves(scale: float) -> dict[str, list[tuple[float, float]]]:
    """Seconds of doubly robust scores over rows (20 arms) and over arms (100,000 rows), of 5 contexts in 5 folds."""
    over: dict[str, list[tuple[float, float]]] = {"rows": [], "arms": []}
    for what, points in (
        ("rows", [(int(m * scale), 20) for m in (30_000, 100_000, 300_000, 1_000_000)]),
        ("arms", [(int(100_000 * scale), k) for k in (5, 10, 20, 50, 100, 200)]),
    ):
        for n, k in points:
            *_, log = causal_jobs.two_shown(n, k, 5)
            try:
                spent = min(_once(sy.DoublyRobust().fit, log) for _ in range(2))
            except sy.SteelyardError:  # too few rows an arm, of a run at a small scale
                continue
            over[what].append((n if what == "rows" else k, spent))
    return over


def _once(way: Callable[..., Any], *data: Any) -> float:
    start = time.perf_counter()
    way(*data)
    return time.perf_counter() - start


def floors() -> str:
    """Memory bandwidth and division throughput of the machine in this run, one core."""
    left, right, out = (np.random.default_rng(i).random(20_000_000) + 0.5 for i in range(3))
    copied = min(_once(np.copyto, out, left) for _ in range(3))
    small = (left[:4096], right[:4096], out[:4096])
    divided = min(_once(lambda: [np.divide(*small[:2], out=small[2]) for _ in range(1000)]) for _ in range(3))
    return (
        f"One core copies {2 * left.nbytes / copied / 1e9:.1f} GB a second (read and written) and divides "
        f"{4096 * 1000 / divided / 1e9:.2f} billion doubles a second in NumPy; the run had {os.cpu_count()} cores."
    )


# --- the page ------------------------------------------------------------------------------------
HEAD = """# Side by side

Made by `make bench` (benchmarks/side_by_side.py) in one run{note}. Each peer takes its fastest documented path, at the
settings that reach the exact optimum where its defaults stop short (benchmarks/peers.py has the calls). Times are the
best of {rounds} rounds, every contender once a round; the ratio is the contender's time over ours: above 1 we are
faster, below 1 it is. "No intervals" and "no errors" mean that the peer's time buys scores alone. Memory is the most
that a process of its own took beyond imports and data. "Off" is the largest distance of any number from the exact
optimum, by a plain Newton iteration to the last digits; "gradient" the largest entry of the score of the likelihood
there, over the rows. Whether the intervals hold is told in COVERAGE.md.

Not here, having no peer and no short way by hand: group rewards, drop audit, rank sets, the card. The suites that
`pytest benchmarks` runs time some of them.

{floors}

Versions: {versions}.
"""


def ratio_of(found: Timed, ours: Timed) -> str:
    return "1" if found is ours else f"{found.best / ours.best:.2g}"


def section(job: Job, found: list[Timed]) -> str:
    ours = found[0]
    lines = [
        f"## {job.title}",
        "",
        job.says,
        "",
        "| | seconds | ratio | memory, MiB | accuracy |",
        "|---|---|---|---|---|",
    ]
    for one in found:
        room = "" if one.memory is None else f"{max(one.memory, 0.0):.0f}"
        lines.append(f"| {one.name} | {one.best:.3f} | {ratio_of(one, ours)} | {room} | {one.far} |")
    faster = [
        one for one in found[1:] if one.best < ours.best and not one.floor and not one.name.startswith("steelyard")
    ]
    if faster:
        told = ", ".join(f"{one.name} takes {one.best / ours.best:.0%} of our time" for one in faster)
        lines += ["", f"**Here we lose**: {told}."]
    return "\n".join(lines)


def drawn(results: list[tuple[Job, list[Timed]]], place: Path) -> None:
    """ratios.png: every contender's time over ours."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    rows = [(job.title, one.name, one.best / found[0].best, one.floor or one.name.startswith("steelyard"))
            for job, found in results for one in found[1:]]  # fmt: skip
    figure, axis = plt.subplots(figsize=(9, 0.28 * len(rows) + 1.2))
    names = [f"{title}: {name}" for title, name, _, _ in rows]
    colours = ["#999999" if floor else "#2a6f97" if ratio >= 1 else "#b24a3a" for _, _, ratio, floor in rows]
    axis.barh(np.arange(len(rows)), [np.log10(ratio) for _, _, ratio, _ in rows], color=colours)
    axis.set_yticks(np.arange(len(rows)), names, fontsize=7)
    axis.margins(y=0.01)
    axis.invert_yaxis()
    ticks = [-2, -1, 0, 1, 2]
    axis.set_xticks(ticks, ["1/100", "1/10", "1", "10", "100"])
    axis.axvline(0.0, color="black", lw=0.8)
    axis.set_xlabel(
        "time over ours (right of 1: we are faster; red: we lose; grey: a floor, or ours in another way)", fontsize=8
    )
    figure.tight_layout()
    figure.savefig(place / "ratios.png", dpi=130)
    plt.close("all")


def scaling_drawn(over: dict[str, Any], robust: dict[str, Any], place: Path) -> None:
    """scaling.png: seconds over rows and arms, of :func:`curves`, and below of :func:`robust_curves`."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (axes, below) = plt.subplots(2, 2, figsize=(9, 6.8), sharey="row")
    marks = dict(zip(over["rows"], "osD^v", strict=False))
    for axis, (what, points), power in zip(below, robust.items(), (1, 2), strict=True):
        at, spent = np.array(points).reshape(-1, 2).T
        axis.loglog(at, spent, marker="o", ms=4, label="steelyard, with intervals")
        if len(at):
            steps = "rows" if power == 1 else "the square of the arms"
            axis.loglog(at, spent[-1] * (at / at[-1]) ** power, "--", color="#999999", label=f"in step with {steps}")
        axis.set_xlabel({"rows": "rows (20 arms, 5 contexts)", "arms": "arms (100,000 rows, 5 contexts)"}[what])
        axis.legend(frameon=False, fontsize=8)
    below[0].set_ylabel("seconds, doubly robust in 5 folds")
    for axis, (what, lines) in zip(axes, over.items(), strict=True):
        for name, points in lines.items():
            axis.loglog(*zip(*points, strict=True), marker=marks.get(name, "x"), ms=4, label=name)
        axis.set_xlabel({"rows": "rows (300 arms)", "arms": "arms (1 million rows)"}[what])
    axes[0].set_ylabel("seconds, integer codes to scores")
    axes[0].legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(place / "scaling.png", dpi=130)
    plt.close("all")


def versions() -> str:
    told = [f"steelyard {sy.__version__}", f"polars {pl.__version__}", f"NumPy {np.__version__}"]
    for name in PEERS:
        try:
            told.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            told.append(f"{name} not installed")
    return ", ".join(told)


def run(scale: float, place: Path, chosen: list[Job] = JOBS, alone: bool = True) -> None:
    """Times every job, and writes RESULTS.md, the figures and all times (results.json) into a folder."""
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["STEELYARD_BENCH"] = folder  # files of logs, for processes of their own too
        _run(scale, place, chosen, alone)


def _run(scale: float, place: Path, chosen: list[Job], alone: bool) -> None:
    results = []
    for job in chosen:
        found = timed(job, scale)
        for one in found:
            one.memory = memory(JOBS.index(job), one.name, scale) if alone else None
        results.append((job, found))
        print(section(job, found), "\n", flush=True)
        for data in (battles, battle_file, styled_file, rows, treated, exact_scores, sandwich_by_hand):
            data.cache_clear()
    over, robust = curves(scale), robust_curves(scale)
    drawn(results, place)
    scaling_drawn(over, robust, place)
    note = "" if scale == 1.0 else f", at {scale:g} times the sizes that the sections name"
    head = HEAD.format(note=note, rounds=JOBS[0].rounds, floors=floors(), versions=versions())
    figures = (
        "![every contender's time over ours](ratios.png)\n\n## Scaling\n\n![seconds over rows and arms](scaling.png)"
    )
    body = "\n\n".join(section(job, found) for job, found in results)
    (place / "RESULTS.md").write_text(f"{head}\n{figures}\n\n{body}\n", encoding="utf-8")
    told = {job.title: {one.name: one.seconds for one in found} for job, found in results}
    (place / "results.json").write_text(
        json.dumps({"jobs": told, "scaling": over, "doubly robust": robust}, indent=1), encoding="utf-8"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of rows")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the page and the figures")
    asked = parser.parse_args()
    run(asked.scale, asked.out)
