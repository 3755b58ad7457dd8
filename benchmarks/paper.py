"""Both case studies of "Preference Learning for AI Alignment: a Causal Perspective", with rho as the dial.

    make paper        writes paper/case1.png, paper/case2.png and paper/accuracy.parquet

Every model at every rho over five seeds, on simulated comparisons and on embeddings of HH-RLHF (benchmarks/embed.py),
beside the values that the paper published. Features differ from the paper's, so shapes are compared, not levels.
docs/paper.md says what to see.
"""

from __future__ import annotations

import sys
import warnings
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from os import cpu_count
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import polars as pl
import scipy
import steelyard as sy
from steelyard import objectives, simulate

mpl.use("Agg")
import matplotlib.pyplot as plt

FEATURES = Path(__file__).parent / "data" / "hh_rlhf_features.parquet"
SEEDS, TRAIN, TEST = 5, 3000, 20_000
RHO1, RHO2 = (0.0, 0.3, 0.6, 0.9), (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
LINEAR = {"Base": objectives.Base(), "Multihead": objectives.Multihead(), "Adversarial": objectives.Adversarial()}
NETWORK = {name: type(model) for name, model in LINEAR.items()}
OURS = "GroupRewards"
PUBLISHED = {  # arXiv 2506.05967
    ("Base", "in"): {0.0: 69.3, 0.3: 68.3, 0.6: 67.8, 0.9: 67.6},
    ("Base", "out"): {0.0: 64.5, 0.3: 62.0, 0.6: 59.7, 0.9: 57.8},
    ("Base", "inconsistent"): dict(zip(RHO2, (60.0, 59.6, 58.4, 56.7, 55.9, 54.9), strict=True)),
    ("Multihead", "inconsistent"): dict(zip(RHO2, (62.9, 62.4, 60.6, 58.6, 56.3, 53.8), strict=True)),
    ("Adversarial", "inconsistent"): dict(zip(RHO2, (63.7, 63.0, 62.3, 61.3, 58.9, 53.5), strict=True)),
    ("Base", "consistent"): {0.5: 60.9, 1.0: 64.1},
    ("Multihead", "consistent"): {0.5: 66.0, 1.0: 67.9},
    ("Adversarial", "consistent"): {0.5: 66.3, 1.0: 68.4},
}


class Job(NamedTuple):
    """One model, trained once."""

    case: int
    world: str  # "simulated" or "hh_rlhf"
    model: str
    kind: str  # "linear", "network" or "doubly robust"
    rho: float
    seed: int


# --- data ----------------------------------------------------------------------------------------
@cache
def rewarded() -> tuple[Any, ...]:
    """Features, prompt types and rewards of the HH-RLHF pairs: (n, d) of both sides, (n,), (n, 2) of both sides.

    The rule: the reward of an objective is linear in the features, fitted to the human choices on its own prompt type,
    and scaled so that the likelier label has a chance of .78 on average. Both objectives then have a reward of every
    answer to every prompt.
    """
    frame = pl.read_parquet(FEATURES)
    sides = [np.array(frame[name].to_list(), np.float64) for name in ("chosen", "rejected")]
    kind, rewards = frame["prompt_type"].to_numpy().astype(np.int64), []
    for t in (0, 1):
        own = kind == t
        fit = objectives.Base().fit(sides[0][own], sides[1][own], np.zeros(own.sum()), np.ones(own.sum()))
        beta = fit.model.beta[0]
        gap = np.abs((sides[0] - sides[1]) @ beta)
        scale = scipy.optimize.brentq(lambda s, gap=gap: (1 / (1 + np.exp(-s * gap))).mean() - 0.78, 1e-3, 1e4)
        rewards.append([side @ beta * scale for side in sides])
    swap = np.random.default_rng(0).random(len(kind)) < 0.5
    a, b = (np.where(swap[:, None], *order) for order in (sides[::-1], sides))
    scores = [np.stack([r[side] for r in rewards], axis=1) for side in (0, 1)]
    ra, rb = (np.where(swap[:, None], *order) for order in (scores[::-1], scores))
    return a, b, kind, ra, rb


def data(job: Job) -> tuple[simulate.Simulated, dict[str, simulate.Simulated]]:
    """What a job is trained on, and the parts it is tested on."""
    if job.case == 1:
        parts = {"in": simulate.factors(TEST, job.rho, 10**6 + job.seed),
                 "out": simulate.factors(TEST, 0.0, 10**6 + job.seed, disagree=True)}  # fmt: skip
        return simulate.factors(TRAIN, job.rho, job.seed), parts
    if job.world == "simulated":
        train, test = simulate.confounded(TRAIN, job.rho, job.seed), simulate.confounded(TEST, 0.5, 10**6 + job.seed)
    else:
        order = np.random.default_rng(job.seed).permutation(len(rewarded()[0]))
        cut = len(order) * 3 // 4
        train, test = (simulate.compared(*(part[rows] for part in rewarded()), rho, job.seed)
                       for rows, rho in ((order[:cut], job.rho), (order[cut:], 0.5)))  # fmt: skip
    return train, {"consistent": test.where(test.consistent), "inconsistent": test.where(~test.consistent)}


# --- models --------------------------------------------------------------------------------------
def group_rewards(train: simulate.Simulated) -> Any:
    """Doubly robust rewards of each objective over everyone's prompts: (C, d)."""
    fit = sy.GroupRewards(folds=5, seed=0).fit(train.log())
    told = fit.coefficients()
    order = [str(c) for c in range(len(fit.groups))]
    return np.stack([told.filter(pl.col("group") == c)["estimate"].to_numpy() for c in order])


def run(job: Job) -> list[dict[str, Any]]:
    train, parts = data(job)
    reason, fit = None, None
    if job.model == OURS:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                beta = group_rewards(train)
            fit = objectives.ObjectiveFit(job.model, *beta.shape, objectives.Linear(beta))
        except sy.OverlapError as error:
            reason = str(error)
    else:
        model = LINEAR[job.model] if job.kind == "linear" else NETWORK[job.model](kind="network", seed=job.seed)
        fit = model.fit(*train.parts)
    return [{**job._asdict(), "part": name, "accuracy": None if fit is None else 100 * fit.accuracy(part)["all"],
             "ceiling": 100 * part.ceiling, "reason": reason} for name, part in parts.items()]  # fmt: skip


def start() -> None:
    import torch

    torch.set_num_threads(1)


def jobs(seeds: int, networks: bool) -> list[Job]:
    kinds = ["linear", "network"] if networks else ["linear"]
    one = [Job(1, "simulated", "Base", kind, rho, s) for kind in kinds for rho in RHO1 for s in range(seeds)]
    two = [Job(2, world, model, kind, rho, s) for world in ("simulated", "hh_rlhf") for rho in RHO2
           for kind in kinds for model in LINEAR for s in range(seeds)]  # fmt: skip
    ours = [Job(2, world, OURS, "doubly robust", rho, s) for world in ("simulated", "hh_rlhf") for rho in RHO2
            for s in range(seeds)]  # fmt: skip
    return [*one, *ours, *two]


def measured(seeds: int = SEEDS, networks: bool = True) -> pl.DataFrame:
    """A row a job and part: case world model kind rho seed part accuracy ceiling reason."""
    found, todo = [], jobs(seeds, networks)
    with ProcessPoolExecutor(cpu_count(), get_context("spawn"), start if networks else None) as pool:
        for i, rows in enumerate(pool.map(run, todo, chunksize=1)):
            found += rows
            print(f"\r{i + 1} of {len(todo)} models", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return pl.DataFrame(found, schema_overrides={"accuracy": pl.Float64, "reason": pl.String})


# --- figures -------------------------------------------------------------------------------------
COLOUR = {"Base": "#8c6d31", "Multihead": "#3b6fb6", "Adversarial": "#c0392b", OURS: "#111111"}
LINE = {"linear": "--", "network": "-", "doubly robust": "-"}
WORLD = {"simulated": "simulated", "hh_rlhf": "HH-RLHF embeddings", "paper": "as published (networks)"}


def summary(table: pl.DataFrame) -> pl.DataFrame:
    """case world model kind part rho mean half (of the 95 % interval of the mean over seeds) seeds."""
    keys = ["case", "world", "model", "kind", "part", "rho"]
    told = table.group_by(keys, maintain_order=True).agg(
        mean=pl.col("accuracy").mean(), sd=pl.col("accuracy").std(), seeds=pl.col("accuracy").count())  # fmt: skip
    reach = [scipy.stats.t.ppf(0.975, n - 1) / n**0.5 if n > 1 else None for n in told["seeds"]]
    return told.with_columns(half=pl.col("sd") * pl.Series(reach, dtype=pl.Float64)).drop("sd")


def drawn(axis: Any, told: pl.DataFrame, world: str, part: str) -> None:
    own = told.filter((pl.col("world") == world) & (pl.col("part") == part))
    for (model, kind), line in own.group_by("model", "kind", maintain_order=True):
        line = line.drop_nulls("mean")
        axis.errorbar(line["rho"], line["mean"], line["half"], color=COLOUR[model], linestyle=LINE[kind], capsize=2,
                      linewidth=1.6, marker="s" if model == OURS else "o", markersize=3.5,
                      label=f"{model} ({kind})")  # fmt: skip
    if world == "paper":
        for (model, where), values in PUBLISHED.items():
            if where == part:
                line = "-" if len(values) > 2 else " "  # of some only the ends were published
                axis.plot(
                    [*values], [*values.values()], color=COLOUR[model], linestyle=line, marker="o", markersize=3.5
                )
    axis.grid(alpha=0.25)


def figure(told: pl.DataFrame, case: int, path: Path) -> None:
    told = told.filter(pl.col("case") == case)
    worlds = [name for name in WORLD if name == "paper" or name in told["world"]]
    parts = ("in", "out") if case == 1 else ("inconsistent", "consistent")
    words = {"in": "in distribution", "out": "out of distribution"}
    fig, axes = plt.subplots(len(parts), len(worlds), figsize=(4.2 * len(worlds), 6.6), sharex=True, squeeze=False,
                             sharey="col" if case == 1 else False)  # fmt: skip
    for row, part in zip(axes, parts, strict=True):
        for axis, world in zip(row, worlds, strict=True):
            drawn(axis, told, world, part)
            axis.set_title(f"{WORLD[world]}: {words.get(part, part)}", fontsize=10)
    if case == 1:
        rho = np.linspace(0, 0.95, 39)
        for axis, (at, disagree) in zip(axes[:, 0], ((None, False), (0.0, True)), strict=True):
            line = [100 * simulate.factors_accuracy(r if at is None else at, r, disagree) for r in rho]
            axis.plot(rho, line, color="#999999", linewidth=1, label="best linear model, in closed form")
    for axis in axes[-1]:
        axis.set_xlabel("correlation of the factors" if case == 1 else "rho = P(prompt type = objective)")
    for row in axes:
        row[0].set_ylabel("accuracy, %")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    order = sorted(range(len(labels)), key=labels.__getitem__)  # a model's two kinds side by side
    lines, names = [handles[i] for i in order], [labels[i] for i in order]
    fig.legend(lines, names, loc="lower center", ncol=4, fontsize=8, frameon=False, handlelength=3.5)
    fig.tight_layout(rect=(0, 0.02 + 0.025 * -(-len(names) // 4), 1, 1))
    fig.savefig(path, dpi=150)
    plt.close(fig)


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "paper")
    folder.mkdir(parents=True, exist_ok=True)
    table = measured()
    table.write_parquet(folder / "accuracy.parquet")
    told = summary(table)
    for case in (1, 2):
        figure(told, case, folder / f"case{case}.png")
    with pl.Config(tbl_rows=-1, tbl_hide_dataframe_shape=True, float_precision=1):
        for case, world, part in ((1, "simulated", "in"), (1, "simulated", "out"), (2, "simulated", "inconsistent"),
                                  (2, "simulated", "consistent"), (2, "hh_rlhf", "inconsistent"),
                                  (2, "hh_rlhf", "consistent")):  # fmt: skip
            own = told.filter((pl.col("case") == case) & (pl.col("world") == world) & (pl.col("part") == part))
            print(f"case {case}, {world}, {part}")
            print(own.pivot("rho", index=["model", "kind"], values="mean"))
    print(f"written: {folder}/case1.png, {folder}/case2.png, {folder}/accuracy.parquet")


if __name__ == "__main__":
    main()
