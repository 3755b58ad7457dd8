"""What a job of the side by side is, the data that jobs share, and how far an answer is from the right one."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy.special import expit

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
    y = (rng.random(n) < expit(theta[a] - theta[b])) * 1.0
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
    return x, (rng.random(n) < expit(x @ rng.normal(size=d) / np.sqrt(d))) * 1.0


@cache
def treated(n: int, d: int, k: int) -> tuple[Any, Any, Any]:
    """Contexts (n, d), which of k arms met the reference, and whether it won."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(n, d))
    logits = x @ rng.normal(size=(d, k)) * 0.1
    arm = np.argmax(logits + rng.gumbel(size=logits.shape), axis=1)
    slope = rng.normal(size=(k, d)) * 0.1
    return x, arm, (rng.random(n) < expit(np.linspace(-0.3, 0.3, k)[arm] + (x * slope[arm]).sum(1))) * 1.0


@cache
def exact_scores(n: int, k: int) -> Any:
    """(k,) the maximum, by a plain Newton iteration on the counts to the last digits."""
    wins = peers.cells(*battles(n, k), k)
    games, theta = wins + wins.T, np.zeros(k)
    for _ in range(60):
        p = expit(theta[:, None] - theta[None, :])
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
        p = expit(x @ beta)
        step = np.linalg.solve((x * (p * (1.0 - p))[:, None]).T @ x, x.T @ (y - p))
        beta += step
        if np.abs(step).max() < 1e-13:
            break
    return beta


def slope_of_scores(n: int, k: int) -> Callable[[Any], Any]:
    """The score of the likelihood of battles over n, at given scores (k,)."""
    wins = peers.cells(*battles(n, k), k)

    def slope(theta: Any) -> Any:
        return (wins - (wins + wins.T) * expit(theta[:, None] - theta[None, :])).sum(1) / n

    return slope


def apart(right: Any, slope: Any = None) -> Callable[[Any], str]:
    """How far numbers are from the right ones, at most; and the largest entry of the score there, over the rows."""

    def told(found: Any) -> str:
        found = np.asarray(found, float)
        words = f"{np.abs(found - right()).max():.0e} off"
        return words if slope is None else f"{words}, gradient {np.abs(slope(found)).max():.0e} of n"

    return told


def beside(right: Any) -> Callable[[Any], str]:
    """An estimate and its error, less the ones by hand, in standard errors; other folds make some difference."""

    def told(found: Any) -> str:
        (value, se), (want, error) = found, right()
        return f"{abs(value - want) / error:.2f} se apart, se {100 * (se / error - 1):+.1f} %"

    return told
