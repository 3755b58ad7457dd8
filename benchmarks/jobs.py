"""Jobs of the side by side: leaderboards, rewards, scoring."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import steelyard as sy
from scipy.special import expit

from benchmarks import peers
from benchmarks.contend import (
    Contender,
    Job,
    apart,
    battle_file,
    battles,
    exact_logit,
    exact_scores,
    rows,
    slope_of_scores,
)  # fmt: skip
from benchmarks.coverage_worlds import own


# --- jobs ----------------------------------------------------------------------------------------
def in_order(table: pl.DataFrame) -> Any:
    return table.sort("arm")["score"].to_numpy()


def leaderboard(scale: float) -> list[Contender]:
    n, k = int(1_000_000 * scale), 300
    path, right = battle_file(n, k), apart(lambda: exact_scores(n, k), slope_of_scores(n, k))
    return [
        Contender("steelyard", lambda: in_order(sy.BradleyTerry().fit(sy.scan(path, "arena")).table()), right),
        Contender("evalica (no intervals)", lambda: peers.evalica_file(path), right),
        Contender("floor: polars reads the columns", lambda: peers.polars_reads(path), floor=True),
    ]


def integers(n: int, k: int) -> Any:
    a, b, y = battles(n, k)
    return sy.scan({"a": a, "b": b, "y": y}, a="a", b="b", outcome="y")


def by_code(table: pl.DataFrame, column: str = "score") -> Any:
    return table.with_columns(pl.col("arm").cast(pl.Int64)).sort("arm")[column].to_numpy()


def scores(scale: float) -> list[Contender]:
    n, k = int(1_000_000 * scale), 300
    a, b, y = battles(n, k)
    right = apart(lambda: exact_scores(n, k), slope_of_scores(n, k))
    return [
        Contender("steelyard", lambda: by_code(sy.BradleyTerry().fit(integers(n, k)).table()), right),
        Contender("evalica (no intervals)", lambda: peers.evalica_codes(a, b, y, k), right),
        Contender("choix, counts by hand (no intervals)", lambda: peers.choix_dense(a, b, y, k), right),
        Contender("arenakit, counts by hand (no intervals)", lambda: peers.arenakit_codes(a, b, y, k), right),
        Contender("scikit-learn, counts by hand (no intervals)", lambda: peers.sklearn_cells(a, b, y, k), right),
        Contender("floor: NumPy counts the pairs", lambda: peers.cells(a, b, y, k), floor=True),
    ]


@cache
def sandwich_by_hand(n: int, k: int) -> Any:
    """(k,) standard errors A^+ (sum s s') A^+ of scores with mean 0, from counts."""
    a, b, y = battles(n, k)
    theta = exact_scores(n, k)
    p = expit(theta[a] - theta[b])
    laplacians = []
    for weight in (p * (1.0 - p), (y - p) ** 2):
        pair = np.bincount(a.astype(np.int64) * k + b, weight, k * k).reshape(k, k)
        pair = pair + pair.T
        laplacians.append(np.diag(pair.sum(1)) - pair)
    bread = np.linalg.pinv(laplacians[0], hermitian=True)
    return np.sqrt(np.diag(bread @ laplacians[1] @ bread))


def with_errors(n: int, k: int) -> Callable[[Any], str]:
    """How far scores are from the maximum, and errors from the sandwich, in the median."""

    def far(found: Any) -> str:
        score, se = found
        wide = float(np.median(se / sandwich_by_hand(n, k)) - 1.0)
        return f"{np.abs(score - exact_scores(n, k)).max():.0e} off, se {100 * wide:+.1f} % of the sandwich"

    return far


def intervals(scale: float) -> list[Contender]:
    n, k = int(1_000_000 * scale), 300
    a, b, y = battles(n, k)

    def sandwich() -> Any:
        table = sy.BradleyTerry().fit(integers(n, k)).table()
        return by_code(table), by_code(table, "se")

    return [
        Contender("steelyard, and rank sets", sandwich, with_errors(n, k)),
        Contender("arena-rank", lambda: peers.arena_rank_codes(a, b, y, k, intervals=True), with_errors(n, k)),
    ]


def bootstraps(scale: float) -> list[Contender]:
    n, k = int(1_000_000 * scale), 300
    a, b, y = battles(n, k)

    def refits() -> Any:
        table = sy.BradleyTerry().fit(integers(n, k)).bootstrap(100, seed=1).table()
        return by_code(table), by_code(table, "se")

    return [
        Contender("steelyard, exact refits", refits, with_errors(n, k)),
        Contender("evalica, weights by hand", lambda: peers.evalica_bootstrap(a, b, y, k, 100), with_errors(n, k)),
    ]


def ratings(scale: float) -> list[Contender]:
    n, k = int(1_000_000 * scale), 300
    a, b, y = battles(n, k)
    right = apart(lambda: peers.evalica_elo(a, b, y, k).to_numpy())
    return [
        Contender("steelyard", lambda: by_code(sy.rank(integers(n, k), "elo", step=4.0)), right),
        Contender("evalica", lambda: peers.evalica_elo(a, b, y, k), right),
    ]


def style(scale: float) -> list[Contender]:
    n, k, d = int(1_000_000 * scale), 100, 8
    a, b, y = battles(n, k, 0.0)
    z = np.asfortranarray(np.random.default_rng(3).normal(size=(n, d)))  # as both of us read it
    y = (np.random.default_rng(4).random(n) < expit(0.4 * (a - b) / k + z @ np.linspace(-0.3, 0.3, d))) * 1.0

    @cache
    def exact() -> Any:
        return exact_logit(np.hstack([peers.styled(a, b, k).toarray(), z]), y)[k - 1 :]

    names = [f"z{j}" for j in range(d)]
    columns = {"a": a, "b": b, "y": y, **dict(zip(names, z.T, strict=True))}

    def ours() -> Any:
        log = sy.scan(columns, a="a", b="b", outcome="y", covariates={name: name for name in names})
        return sy.BradleyTerry().fit(log).coefficients()["estimate"].to_numpy()

    right = apart(exact)
    return [
        Contender("steelyard, with robust errors", ours, right),
        Contender("glum, with robust errors", lambda: peers.glum_style(a, b, z, y, k, robust=True), right),
        Contender("glum (no errors)", lambda: peers.glum_style(a, b, z, y, k), right),
        Contender("scikit-learn (no errors)", lambda: peers.sklearn_style(a, b, z, y, k), right),
        Contender("arena-rank (no errors)", lambda: peers.arena_rank_style(a, b, z, y, k), right),
    ]


def _rewards(n: int, d: int, dtype: Any, names: list[str]) -> list[Contender]:
    x, y = rows(n, d)
    x = x.astype(dtype)
    doubles = cache(lambda: x.astype(np.float64))

    def slope(beta: Any) -> Any:
        return doubles().T @ (y - expit(doubles() @ beta)) / n

    right = apart(cache(lambda: exact_logit(doubles(), y)), slope)
    frame = pl.DataFrame({"y": y, "f": pl.Series(x), "g": pl.Series(np.zeros_like(x))})

    def ours() -> Any:
        return sy.RewardModel().fit(sy.scan(frame, outcome="y", features=("f", "g")))

    fortran = np.asfortranarray(x)
    known: dict[str, Callable[[], Any]] = {
        "steelyard (no errors)": lambda: ours().coefficient,
        "steelyard, with robust errors": lambda: ours().coefficients()["estimate"].to_numpy(),
        "scikit-learn newton-cholesky (no errors)": lambda: peers.sklearn_reward(x, y, "newton-cholesky"),
        "scikit-learn lbfgs (no errors)": lambda: peers.sklearn_reward(x, y, "lbfgs"),
        "scikit-learn lbfgs, made doubles (no errors)": lambda: peers.sklearn_reward(x.astype(np.float64), y, "lbfgs"),
        "glum (no errors)": lambda: peers.glum_reward(fortran, y),
        "statsmodels, model-based errors": lambda: peers.statsmodels_reward(x, y),
    }
    return [Contender(name, known[name], right) for name in names]


def narrow(scale: float) -> list[Contender]:
    names = ["steelyard, with robust errors", "scikit-learn newton-cholesky (no errors)",
             "scikit-learn lbfgs (no errors)", "glum (no errors)", "statsmodels, model-based errors"]  # fmt: skip
    return _rewards(int(1_000_000 * scale), 20, np.float64, names)


def wide(scale: float) -> list[Contender]:
    names = ["steelyard (no errors)", "steelyard, with robust errors", "scikit-learn newton-cholesky (no errors)",
             "scikit-learn lbfgs (no errors)", "scikit-learn lbfgs, made doubles (no errors)"]  # fmt: skip
    return _rewards(int(200_000 * scale), 384, np.float32, names)


@cache
def styled_file(n: int, k: int, d: int) -> Path:
    """Votes with d covariates that count, in Parquet, in the folder of the run."""
    path = Path(os.environ["STEELYARD_BENCH"]) / f"styled-{n}.parquet"
    if not path.exists():
        a, b, _ = battles(n, k, 0.0)
        z = np.random.default_rng(3).normal(size=(n, d))
        y = (np.random.default_rng(4).random(n) < expit(0.4 * (a - b) / k + z @ np.linspace(-0.3, 0.3, d))) * 1.0
        pl.DataFrame({"a": a, "b": b, "y": y, **{f"z{j}": z[:, j] for j in range(d)}}).write_parquet(path)
    return path


def out_of_core(scale: float) -> list[Contender]:
    n, k, d = int(3_000_000 * scale), 100, 8
    path, names = styled_file(n, k, d), [f"z{j}" for j in range(d)]

    def ours() -> Any:
        log = sy.scan(path, a="a", b="b", outcome="y", covariates={name: name for name in names})
        return sy.BradleyTerry().fit(log).coefficients()["estimate"].to_numpy()

    def peer() -> Any:
        frame = pl.read_parquet(path)
        a, b, y = (frame[name].to_numpy() for name in "aby")
        return peers.glum_style(a, b, frame.select(names).to_numpy(), y, k)

    return [
        Contender("steelyard, with robust errors", ours, apart(cache(peer))),
        Contender("glum (no errors)", peer),
        Contender("floor: polars reads the columns", lambda: pl.read_parquet(path), floor=True),
    ]


def own_likelihood(scale: float) -> list[Contender]:
    n, d = int(300_000 * scale), 8
    x, y = rows(n, d)
    frame = pl.DataFrame({"y": y, **{f"{side}{j}": x[:, j] * half for side, half in (("f", 0.5), ("g", -0.5))
                                     for j in range(d)}})  # fmt: skip
    log = sy.scan(frame, outcome="y", features=tuple([f"{side}{j}" for j in range(d)] for side in "fg"))
    right = apart(cache(lambda: exact_logit(x, y)), lambda beta: x.T @ (y - expit(x @ beta)) / n)

    def fitted(link: Any) -> Callable[[], Any]:
        return lambda: sy.RewardModel(link=link).fit(log).coefficients()["estimate"].to_numpy()

    return [
        Contender("steelyard, likelihood in Python", fitted(own()), right),
        Contender("steelyard, the same built in", fitted("logistic"), right),
        Contender("SciPy BFGS and NumPy, by hand (no errors)", lambda: peers.scipy_own(x, y), right),
    ]


def scoring(scale: float) -> list[Contender]:
    n, k = int(1_000_000 * scale), 300
    path = battle_file(n, k)
    out = path.parent / "out.parquet"
    model = path.with_suffix(".sy")
    if not model.exists():
        sy.BradleyTerry().fit(sy.scan(path, "arena")).save(model)
    floats = sy.load(model).predict(sy.scan(path, "arena")).collect()
    return [
        Contender("steelyard", lambda: sy.load(model).sink(sy.scan(path, "arena"), out)),
        Contender("floor: polars reads, and writes the same floats", lambda: peers.polars_writes(path, floats, out),
                  floor=True),
    ]  # fmt: skip


JOBS = [
    Job("A leaderboard from a Parquet file of strings", leaderboard,
        "1 million rows, 300 arms: scores; ours with standard errors and rank sets."),
    Job("Scores from integer codes", scores, "The same rows as arrays in memory."),
    Job("Scores with sandwich errors", intervals, "The same; errors beside a sandwich by hand."),
    Job("100 bootstrap refits", bootstraps, "The same; errors beside a sandwich by hand, from 100 draws."),
    Job("Elo in the order of the rows", ratings, "The same, step 4."),
    Job("Style control", style, "1 million votes, 100 arms, 8 covariates; errors of coefficients."),
    Job("Style control from a file", out_of_core, "3 million votes in Parquet, 100 arms, 8 covariates."),
    Job("A reward on 20 features", narrow, "1 million comparisons."),
    Job("A reward on 384 features", wide, "200,000 comparisons, features in single precision."),
    Job("A likelihood of one's own", own_likelihood, "300,000 comparisons, 8 features; after numba has compiled it."),
    Job("Scoring a file", scoring, "1 million rows in, five columns of floats out."),
]  # fmt: skip
