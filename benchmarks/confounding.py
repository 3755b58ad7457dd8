"""What it costs that the choice of the pair depends on the prompt, and what takes the cost away; a figure.

`make confounding` writes benchmarks/confounding.png: error and coverage of scores, plain, weighted by shares of pairs,
weighted by a softmax propensity and doubly robust, over how strongly the topic moves who is shown.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import steelyard as sy

from benchmarks.coverage_worlds import ARMS, SHOWN, drawn, scanned, truths, wins

DIAL = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the logit by which a topic moves who is shown, either way
ROWS = 3000
METHODS = {"plain": "#8c6d31", "weighted by shares of pairs": "#b24a3a", "weighted by a softmax": "#2a6f97",
           "doubly robust": "#111111"}  # fmt: skip


def repeat(seed: int) -> list[tuple[float, str, list[float], list[bool]]]:
    """Dial, method, errors (K,) of the scores and whether their intervals held, of one log a dial."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return [(dial, *told) for dial in DIAL for told in _fitted(seed, dial)]


def _fitted(seed: int, dial: float) -> Iterator[tuple[str, list[float], list[bool]]]:
    rng, win = np.random.default_rng([seed, DIAL.index(dial)]), wins(1.0)
    p = np.stack([win[-1.0], win[1.0]])
    a, b, topic, y = drawn(rng, "confounded", ROWS, lambda a, b, t, _: rng.random(len(a)) < p[(t > 0) * 1, a, b],
                           dial * np.sign(SHOWN))  # fmt: skip
    log = scanned(a, b, y * 1.0, topic=np.where(topic > 0, "code", "prose"))
    truth = truths("balanced", win)[1]  # of every pair on every topic alike
    shares, softmax = sy.PairPropensity(method="frequency"), sy.PairPropensity()
    fits: Any = (sy.BradleyTerry(), sy.BradleyTerry(weights=shares.fit(log).weights(log)),
                 sy.BradleyTerry(weights=softmax.fit(log).weights(log)), sy.DoublyRobust())  # fmt: skip
    for name, spec in zip(METHODS, fits, strict=True):
        table = spec.fit(log).table()
        row = [table["arm"].to_list().index(arm) for arm in ARMS]
        score, low, high = (table[column].to_numpy()[row] for column in ("score", "low", "high"))
        yield name, (score - truth).tolist(), ((low <= truth) & (truth <= high)).tolist()


def study(repeats: int) -> pl.DataFrame:
    """dial method errors held, of every log."""
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        rows = [row for part in pool.map(repeat, range(repeats)) for row in part]
    return pl.DataFrame(rows, schema=["dial", "method", "errors", "held"], orient="row")


def summary(found: pl.DataFrame) -> pl.DataFrame:
    """dial method bias (mean over arms of |mean error|) off (its Monte Carlo error) held (share) held_off."""
    told = []
    for (dial, name), own in found.group_by("dial", "method", maintain_order=True):
        errors, each = np.array(own["errors"].to_list()), np.array(own["held"].to_list()).mean(axis=1)
        off = errors.std(axis=0, ddof=1) / np.sqrt(len(own))
        told.append((dial, name, np.abs(errors.mean(axis=0)).mean(), np.sqrt((off**2).mean()), each.mean(),
                     each.std(ddof=1) / np.sqrt(len(own))))  # fmt: skip
    return pl.DataFrame(told, schema=["dial", "method", "bias", "off", "held", "held_off"], orient="row")


def figure(found: pl.DataFrame, path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    drawing, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6))
    for name, colour in METHODS.items():
        own = found.filter(method=name)
        style: Any = {"color": colour, "marker": "o", "ms": 4, "lw": 1.6, "capsize": 2}
        if name == "doubly robust":  # it runs along the softmax
            style |= {"ls": "--", "marker": "s"}
        left.errorbar(own["dial"], own["bias"], own["off"], label=name, **style)
        right.errorbar(own["dial"], 100 * own["held"], 100 * own["held_off"], **style)
    left.set_ylabel("bias of a score (mean over arms)")
    right.set_ylabel("95 % intervals that hold, %")
    right.axhspan(93, 97, color="#dddddd", lw=0)
    for axis in (left, right):
        axis.set_ylim(bottom=0)
        axis.set_xlabel("logit by which the topic moves who is shown")
    left.legend(frameon=False, fontsize=8)
    drawing.tight_layout()
    drawing.savefig(path, dpi=130)
    plt.close(drawing)


def main(repeats: int) -> None:
    found = summary(study(repeats))
    with pl.Config(tbl_rows=-1, tbl_hide_dataframe_shape=True, float_precision=3):
        print(found)
    figure(found, Path(__file__).parent / "confounding.png")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
