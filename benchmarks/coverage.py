"""Do the intervals hold? Those of every table and contrast, on three kinds of log, nominal against actual.

`make coverage-study` writes benchmarks/COVERAGE.md; `python -m benchmarks.coverage 50` is a quick look.
"""

from __future__ import annotations

import os
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.coverage_worlds import KINDS, WORLDS


def repeat(seed: int) -> list[tuple[str, str, float, float]]:
    """Kind, interval, nominal level and share of intervals that held, of one log of every world and kind."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return [
            (kind, name, level, float(np.mean(held)))
            for kind in KINDS
            for place, world in enumerate(WORLDS)
            for name, level, held in world(np.random.default_rng([seed, place, KINDS.index(kind)]), kind)
            if held is not None
        ]


def study(repeats: int, seed: int = 0) -> pl.DataFrame:
    """kind interval nominal actual error repeats; error: Monte Carlo standard error of actual."""
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        rows = [row for part in pool.map(repeat, range(seed, seed + repeats)) for row in part]
    frame = pl.DataFrame(rows, schema=["kind", "interval", "nominal", "held"], orient="row")
    return frame.group_by("kind", "interval", "nominal", maintain_order=True).agg(
        actual=pl.col("held").mean(), error=pl.col("held").std() / pl.len().sqrt(), repeats=pl.len()
    )


def page(found: pl.DataFrame) -> str:
    """The table as Markdown: a row an interval, a column a kind of log."""
    cells = {(row["interval"], row["kind"]): row for row in found.iter_rows(named=True)}
    lines = [f"| interval | nominal | {' | '.join(KINDS)} |", "|---|---|" + "---|" * len(KINDS)]
    for name, nominal in found.select("interval", "nominal").unique(maintain_order=True).iter_rows():
        told = []
        for kind in KINDS:
            row = cells.get((name, kind))
            told.append("–" if row is None else f"{100 * row['actual']:.1f} ± {100 * row['error']:.1f}")
        lines.append(f"| `{name}` | {100 * nominal:g} | {' | '.join(told)} |")
    return "\n".join(lines)


TEXT = """# Do the intervals hold?

Share of intervals that hold the truth, in per cent, with its Monte Carlo error (one standard error, over {repeats}
simulated logs of each kind). Made by `make coverage-study` (benchmarks/coverage_worlds.py has the worlds).

* **balanced**: every pair as often, on every topic; groups meet every prompt alike.
* **adaptive**: as in live arenas, close pairs are shown more, by the answers so far. Here one score an arm is true;
  where it is not, what a plain fit estimates hangs on the answers themselves, and there is no truth to hold it against.
* **confounded**: which pair is shown hangs on the topic, which also moves who wins (for ties and style it moves
  nothing: their model has no topic); which group answers hangs on the prompt; with covariates, good arms write
  longer; features of a reward are correlated.

Intervals of the plain fit are of the scores *of the log*, and are held against those. The rows "asked for every topic
alike" and "clusters ignored" ask them for what they do not promise: they show what that costs. A dash: no exact truth,
or a model that is not true there. "All at once": the nominal level is of all of them together; rank sets may hold more
often, being made of a band over every pair of arms.

{table}
"""


def main(repeats: int) -> None:
    found = study(repeats)
    path = Path(__file__).parent / "COVERAGE.md"
    path.write_text(TEXT.format(repeats=repeats, table=page(found)), encoding="utf-8")
    print(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 250)
