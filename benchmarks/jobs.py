"""The jobs of the side by side: data, contenders, and how far each answer is from the right one."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import steelyard as sy
from steelyard._native.all_pairs import ROWS, all_pairs
from steelyard.causal.outcomes import sigmoid

from benchmarks import peers


@dataclass(frozen=True)
class Contender:
    """name; run: the job from its data, given once; far: how far its answer is from the right one, in words."""

    name: str
    run: Callable[[], Any]
    far: Callable[[Any], str] | None = None
    floor: bool = False


@dataclass(frozen=True)
class Job:
    """title; contenders: made from the scale of the run, ours first; says: what is compared, in words."""

    title: str
    contenders: Callable[[float], list[Contender]]
    says: str
    rounds: int = 3


# --- data ----------------------------------------------------------------------------------------
@cache
def battles(n: int, k: int, ties: float = 0.15) -> tuple[Any, Any, Any]:
    """a, b, y of n comparisons of k arms."""
    rng = np.random.default_rng(0)
    theta = rng.normal(size=k)
    a = rng.integers(0, k, n, dtype=np.int32)
    b = ((a + rng.integers(1, k, n)) % k).astype(np.int32)
    y = (rng.random(n) < sigmoid(theta[a] - theta[b])) * 1.0
    y[rng.random(n) < ties] = 0.5
    return a, b, y


@cache
def battle_file(n: int, k: int) -> Path:
    """The same as strings, in Parquet, in the folder of the run; names in the order of the codes."""
    path = Path(os.environ["STEELYARD_BENCH"]) / f"battles-{n}-{k}.parquet"
    if path.exists():
        return path
    a, b, y = battles(n, k)
    names = pl.Series([f"model-{i:04d}/of-organisation-{i % 37:02d}" for i in range(k)])
    labels = pl.Series(["model_b", "tie", "model_a"])
    frame = pl.DataFrame(
        {"model_a": names.gather(a), "model_b": names.gather(b), "winner": labels.gather((2 * y).astype(np.int32))}
    )
    frame.write_parquet(path)
    return path


@cache
def rows(n: int, d: int) -> tuple[Any, Any]:
    """Feature differences (n, d) and answers."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(n, d))
    return x, (rng.random(n) < sigmoid(x @ rng.normal(size=d) / np.sqrt(d))) * 1.0


@cache
def treated(n: int, d: int, k: int) -> tuple[Any, Any, Any]:
    """Contexts (n, d), which of k arms met the reference, and whether it won."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(n, d))
    logits = x @ rng.normal(size=(d, k)) * 0.1
    arm = np.argmax(logits + rng.gumbel(size=logits.shape), axis=1)
    slope = rng.normal(size=(k, d)) * 0.1
    return x, arm, (rng.random(n) < sigmoid(np.linspace(-0.3, 0.3, k)[arm] + (x * slope[arm]).sum(1))) * 1.0


@cache
def exact_scores(n: int, k: int) -> Any:
    """(k,) the maximum, by a plain Newton iteration on the counts to the last digits."""
    wins = peers.cells(*battles(n, k), k)
    games, theta = wins + wins.T, np.zeros(k)
    for _ in range(60):
        p = sigmoid(theta[:, None] - theta[None, :])
        curve = games * p * (1.0 - p)
        step = np.linalg.solve(np.diag(curve.sum(1)) - curve + 1.0 / k, (wins - games * p).sum(1))
        theta += step
        if np.abs(step).max() < 1e-14:
            break
    return theta - theta.mean()


def exact_logit(x: Any, y: Any) -> Any:
    """(d,) the maximum of a logistic likelihood, by Newton."""
    beta = np.zeros(x.shape[1])
    for _ in range(60):
        p = sigmoid(x @ beta)
        step = np.linalg.solve((x * (p * (1.0 - p))[:, None]).T @ x, x.T @ (y - p))
        beta += step
        if np.abs(step).max() < 1e-13:
            break
    return beta


def apart(right: Any) -> Callable[[Any], str]:
    """How far numbers are from the right ones, at most."""
    return lambda found: f"{np.abs(np.asarray(found, float) - right()).max():.0e} off"


def beside(right: Any) -> Callable[[Any], str]:
    """An estimate and its error, less the ones by hand, in standard errors; other folds make some difference."""

    def told(found: Any) -> str:
        (value, se), (want, error) = found, right()
        return f"{abs(value - want) / error:.2f} se apart, se {100 * (se / error - 1):+.1f} %"

    return told


# --- jobs ----------------------------------------------------------------------------------------
def in_order(table: pl.DataFrame) -> Any:
    return table.sort("arm")["score"].to_numpy()


def leaderboard(scale: float) -> list[Contender]:
    n, k = int(1_000_000 * scale), 300
    path, right = battle_file(n, k), apart(lambda: exact_scores(n, k))
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
    right = apart(lambda: exact_scores(n, k))
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
    p = sigmoid(theta[a] - theta[b])
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
    n, k, d = int(300_000 * scale), 100, 8
    a, b, y = battles(n, k, 0.0)
    z = np.random.default_rng(3).normal(size=(n, d))
    y = (np.random.default_rng(4).random(n) < sigmoid(0.4 * (a - b) / k + z @ np.linspace(-0.3, 0.3, d))) * 1.0

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
        Contender("glum (no errors)", lambda: peers.glum_style(a, b, z, y, k), right),
        Contender("scikit-learn (no errors)", lambda: peers.sklearn_style(a, b, z, y, k), right),
        Contender("arena-rank (no errors)", lambda: peers.arena_rank_style(a, b, z, y, k), right),
    ]


def _rewards(n: int, d: int, others: list[str]) -> list[Contender]:
    x, y = rows(n, d)
    right = apart(cache(lambda: exact_logit(x, y)))
    zero = np.zeros((n, d))

    def ours() -> Any:
        frame = pl.DataFrame({"y": y, "f": pl.Series(x), "g": pl.Series(zero)})
        fit = sy.RewardModel().fit(sy.scan(frame, outcome="y", features=("f", "g")))
        return fit.coefficients()["estimate"].to_numpy()

    fortran = np.asfortranarray(x)
    known = {
        "scikit-learn newton-cholesky (no errors)": lambda: peers.sklearn_reward(x, y, "newton-cholesky"),
        "scikit-learn lbfgs (no errors)": lambda: peers.sklearn_reward(x, y, "lbfgs"),
        "glum (no errors)": lambda: peers.glum_reward(fortran, y),
        "statsmodels, model-based errors": lambda: peers.statsmodels_reward(x, y),
    }
    return [Contender("steelyard, with robust errors", ours, right), *(Contender(o, known[o], right) for o in others)]


def narrow(scale: float) -> list[Contender]:
    names = ["scikit-learn newton-cholesky (no errors)", "scikit-learn lbfgs (no errors)", "glum (no errors)",
             "statsmodels, model-based errors"]  # fmt: skip
    return _rewards(int(500_000 * scale), 20, names)


def wide(scale: float) -> list[Contender]:
    names = ["scikit-learn newton-cholesky (no errors)", "scikit-learn lbfgs (no errors)"]
    return _rewards(int(100_000 * scale), 384, names)


def scoring(scale: float) -> list[Contender]:
    n, k = int(1_000_000 * scale), 300
    path = battle_file(n, k)
    out = path.parent / "out.parquet"
    model = path.with_suffix(".sy")
    if not model.exists():
        sy.BradleyTerry().fit(sy.scan(path, "arena")).save(model)
    return [
        Contender("steelyard", lambda: sy.load(model).sink(sy.scan(path, "arena"), out)),
        Contender("floor: polars reads, and writes as many floats", lambda: peers.polars_writes(path, out), floor=True),
    ]


def shown(scale: float) -> list[Contender]:
    n, d, k = int(250_000 * scale), 20, 10
    x, arm, _ = treated(n, d, k)
    names = [f"x{j}" for j in range(d)]
    columns = {
        "c": arm.astype(str),
        "y": np.ones(n),
        "l": ["l"] * n,
        "r": ["r"] * n,
        **dict(zip(names, x.T, strict=True)),
    }
    log = sy.scan(pl.DataFrame(columns), a="l", b="r", outcome="y", context=names, group="c")

    def ours() -> Any:
        return sy.GroupPropensity(ridge=1.0).fit(log).probability(log).to_numpy()

    def far(found: Any) -> str:
        return f"mean log-probability {np.log(found).mean():.7f}"

    return [
        Contender("steelyard", ours, far),
        Contender("scikit-learn lbfgs", lambda: peers.sklearn_groups(x, arm), far),
    ]


def _robust(n: int, d: int, k: int) -> list[Contender]:
    x, arm, y = treated(n, d, k)
    names = [f"x{j}" for j in range(d)]
    labels = np.char.add("t", np.char.zfill(arm.astype(str), 2))
    columns = {"a": labels, "b": ["ref"] * n, "y": y, **dict(zip(names, x.T, strict=True))}
    log = sy.scan(pl.DataFrame(columns), a="a", b="b", outcome="y", context=names)
    pairs = pl.DataFrame({"a": ["ref"] * k, "b": sorted(set(labels.tolist())), "weight": [1.0] * k})
    spec = sy.DoublyRobust(propensity=sy.PairPropensity(method="pairs"), pairs=pairs, folds=5)

    def ours() -> Any:
        fit = spec.fit(log)
        along = np.zeros(k + 1)
        for arm, sign in ((f"t{k - 1:02d}", 1.0), ("t00", -1.0)):
            p = fit.win_probability(arm, "ref")
            slope = sign * p * (1.0 - p)  # of the win rate in the difference of scores
            along[fit.arms.index(arm)] += slope
            along[fit.arms.index("ref")] -= slope
        gap = fit.win_probability(f"t{k - 1:02d}", "ref") - fit.win_probability("t00", "ref")
        return gap, np.sqrt(along @ fit.covariance @ along)

    right = beside(cache(lambda: peers.sklearn_aipw(x, arm, y)))
    return [
        Contender("steelyard", ours, right),
        Contender("scikit-learn, by hand", lambda: peers.sklearn_aipw(x, arm, y), right),
        Contender("DoubleML", lambda: peers.doubleml_means(x, arm, y), right),
        Contender("EconML", lambda: peers.econml_means(x, arm, y), right),
    ]


def two_arms(scale: float) -> list[Contender]:
    return _robust(int(200_000 * scale), 20, 2)


def many_arms(scale: float) -> list[Contender]:
    return _robust(int(100_000 * scale), 10, 10)


def policies(scale: float) -> list[Contender]:
    n, k = int(200_000 * scale), 20
    rng = np.random.default_rng(7)
    score, chance = rng.normal(size=(n, k)), rng.random((n, k))
    chance /= chance.sum(axis=1, keepdims=True)
    a = rng.integers(0, k, n)
    b = (a + rng.integers(1, k, n)) % k
    at = np.arange(n)
    y = (rng.random(n) < sigmoid(score[at, a] - score[at, b])) * 1.0
    names = [f"arm{j:02d}" for j in range(k)]
    frame = pl.DataFrame({"a": np.array(names)[a], "b": np.array(names)[b], "y": y,
                          "logged": np.full(n, 2.0 / (k * (k - 1))),
                          **{f"score {name}": score[:, j] for j, name in enumerate(names)},
                          **{f"chance {name}": chance[:, j] for j, name in enumerate(names)}})  # fmt: skip
    log = sy.scan(frame, a="a", b="b", outcome="y", propensity="logged")
    columns = {name: f"chance {name}" for name in names}
    spec = sy.PolicyValue(policy=columns, outcome={name: f"score {name}" for name in names}, folds=1,
                          propensity=sy.PairPropensity(method="logged"))  # fmt: skip

    def by_hand() -> Any:
        win = chance[at, a] / k + 0.0
        lose = chance[at, b] / k
        gap = sigmoid(score[at, a] - score[at, b])
        model = sum((chance[:, [j]] * sigmoid(score[:, [j]] - score)).sum(1) / k for j in range(k))
        psi = model + (win - lose) * k * (k - 1) / 2.0 * (y - gap)
        return psi.mean(), psi.std() / np.sqrt(n)

    def ours() -> Any:
        fit = spec.fit(log)
        return fit.value, fit.se

    return [Contender("steelyard", ours, beside(cache(by_hand))), Contender("NumPy, by hand", by_hand)]


def pairs_of_arms(scale: float) -> list[Contender]:
    k, n = 100, max(ROWS, int(16_384 * scale) // ROWS * ROWS)
    score, omega = np.random.default_rng(0).normal(size=(k, n)), 1.0 - np.eye(k)
    sums, means, work, weight = np.empty((k, n)), np.zeros((k, k)), np.empty((2 * k, ROWS)), np.ones(n)
    left, right, out = np.random.default_rng(0).random(8192), np.full(8192, 1.5), np.empty(8192)

    def divisions() -> None:
        for _ in range(n * (k * (k - 1) // 2) // 8192):
            np.divide(left, right, out=out)

    return [
        Contender("steelyard", lambda: all_pairs(score, omega, weight, work, sums, means)),
        Contender("floor: as many divisions in NumPy", divisions, floor=True),
    ]


JOBS = [
    Job("A leaderboard from a Parquet file of strings", leaderboard,
        "1 million rows, 300 arms: scores; ours with standard errors and rank sets."),
    Job("Scores from integer codes", scores, "The same rows as arrays in memory."),
    Job("Scores with sandwich errors", intervals, "The same; errors beside a sandwich by hand."),
    Job("100 bootstrap refits", bootstraps, "The same; errors beside a sandwich by hand, from 100 draws."),
    Job("Elo in the order of the rows", ratings, "The same, step 4."),
    Job("Style control", style, "300,000 votes, 100 arms, 8 covariates; errors of coefficients."),
    Job("A reward on 20 features", narrow, "500,000 comparisons."),
    Job("A reward on 384 features", wide, "100,000 comparisons."),
    Job("Scoring a file", scoring, "1 million rows in, five columns of floats out."),
    Job("Who was shown what", shown, "250,000 rows, 20 contexts, 10 groups: fitted, and told of each row."),
    Job("Two treatments, doubly robust", two_arms, "200,000 rows, 20 contexts, 5 folds; beside the estimate by hand."),
    Job("Ten treatments, doubly robust", many_arms, "100,000 rows, 10 contexts, 5 folds; the last less the first."),
    Job("The value of a policy", policies, "200,000 rows, 20 arms, scores and chances of each arm in every row."),
    Job("Every pair of 100 arms", pairs_of_arms, "16,384 rows: the inner loop of a doubly robust fit, on one core."),
]  # fmt: skip
