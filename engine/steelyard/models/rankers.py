"""The simple rankers people compare with: win rate, Elo, eigenvector, PageRank, Newman. No intervals.

All but Elo read the pair table alone, as wins[i, j] = how often i beat j, a tie half a win each way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from steelyard._native.elo import elo as elo_rows
from steelyard.blocks import Encoder
from steelyard.errors import ConvergenceError, LogError, NotIdentifiedError, whole, within
from steelyard.graph import strong_components
from steelyard.inference.bands import ranks
from steelyard.log import needs_log
from steelyard.models.row_blocks import weights
from steelyard.pairs import PairTable, pair_table
from steelyard.rows import read_rows

if TYPE_CHECKING:
    from steelyard.log import PreferenceLog

_ROUNDS = 100_000


def win_matrix(pairs: PairTable) -> Any:
    """(K, K) wins of the row arm over the column arm, a tie half a win each way."""
    wins = np.zeros((len(pairs.arms),) * 2)
    np.add.at(wins, (pairs.a, pairs.b), pairs.sums[:, 0] + pairs.sums[:, 1] / 2)
    np.add.at(wins, (pairs.b, pairs.a), pairs.sums[:, 2] + pairs.sums[:, 1] / 2)
    return wins


def _fixed_point(step: Callable[[Any], Any], start: Any, name: str) -> Any:
    """Repeats step until no entry moves by more than 1e-13 of the largest."""
    x = start
    for _ in range(_ROUNDS):
        new = step(x)
        if not np.isfinite(new).all():
            break
        if np.abs(new - x).max() <= 1e-13 * np.abs(new).max():
            return new
        x = new
    raise ConvergenceError(f"{name} did not settle: its scores grow without bound or oscillate on this log")


def _connected(pairs: PairTable, met: Any, method: str) -> None:
    if len(set(strong_components(len(pairs.arms), pairs.a, pairs.b, pairs.sums)[met].tolist())) > 1:
        raise NotIdentifiedError(
            f"{method} scores need every arm to have won and lost against the others, directly or through others; "
            "some have not. BradleyTerry() scores the largest group that has, and names the rest."
        )


def win_rate(wins: Any) -> Any:
    """Share of an arm's comparisons that it won; NaN for an arm whose comparisons all weigh 0."""
    with np.errstate(invalid="ignore"):
        return wins.sum(axis=1) / (wins.sum(axis=0) + wins.sum(axis=1))


def eigenvector(wins: Any) -> Any:
    """Leading eigenvector of the win matrix, summing to 1 (Bonacich 1972); shifted so that it cannot oscillate."""
    shift = wins.sum() / len(wins)
    return _fixed_point(
        lambda x: (y := wins @ x + shift * x) / y.sum(), np.full(len(wins), 1 / len(wins)), "eigenvector"
    )


def pagerank(wins: Any, damping: float = 0.85) -> Any:
    """Stationary share of a walk from losers to winners, restarted with 1 - damping (Brin and Page 1998)."""
    within("damping", damping, 0.0, 1.0)
    k, lost = len(wins), wins.sum(axis=0)
    walk = np.where(lost > 0, wins / np.where(lost > 0, lost, 1.0), 1.0 / k)
    return _fixed_point(lambda x: damping * (walk @ x) + (1 - damping) / k, np.full(k, 1 / k), "pagerank")


def newman(wins: Any) -> Any:
    """Bradley-Terry scores by the fast iteration of Newman (2023), log scale, mean 0.

    pi_i <- sum_j w_ij pi_j / (pi_i + pi_j) / sum_j w_ji / (pi_i + pi_j).
    """

    def step(pi: Any) -> Any:
        pair = pi[:, None] + pi[None, :]
        with np.errstate(divide="ignore", invalid="ignore"):
            new = (wins * pi[None, :] / pair).sum(axis=1) / (wins.T / pair).sum(axis=1)
            return new / np.exp(np.log(new).mean())

    return np.log(_fixed_point(step, np.ones(len(wins)), "newman"))


def elo(log: PreferenceLog, step: float = 4.0, permutations: int = 0, seed: int = 0) -> tuple[PairTable, Any]:
    """Elo ratings (1978), start 1000, 400 points for odds of ten; needs the rows, in memory.

    permutations: 0 for the order of the log; more for the mean over that many random orders.
    """
    within("step", step, 0.0)
    whole("permutations", permutations)
    whole("seed", seed)
    rows = read_rows(log, Encoder(dict(log.outcomes)))
    pairs, parts = rows.pairs, rows.blocks.each(lambda block: (block.a, block.b, block.y, weights(block)))
    a, b, y, weight = (np.concatenate(column) for column in zip(*parts, strict=True))
    if len(a) != int(pairs.rows.sum()):
        raise LogError(
            f"{log.name}: Elo moves once a comparison, but {len(a)} outcomes stand for {pairs.rows.sum():.0f} of them: "
            "give one row a comparison, or use another method"
        )
    generator = np.random.default_rng(seed)
    orders: list[Any] = [generator.permutation(len(a)) for _ in range(permutations)] or [None]
    total = np.zeros(len(pairs.arms))
    for order in orders:
        rating = np.full(len(pairs.arms), 1000.0)
        elo_rows(a, b, y, weight, order, step, 400.0 / np.log(10.0), rating)
        total += rating
    return pairs, total / len(orders)


MATRIX_METHODS: dict[str, Callable[..., Any]] = {
    "win-rate": win_rate,
    "eigenvector": eigenvector,
    "pagerank": pagerank,
    "newman": newman,
}


def rank(log: PreferenceLog, method: str = "win-rate", **options: Any) -> pl.DataFrame:
    """Arms by a simple method, best first: arm score rank comparisons; null for an arm without any weight.

    method: "win-rate", "elo" (step=4, permutations=0, seed=0), "eigenvector", "pagerank" (damping=0.85),
    or "newman". For scores with intervals use :class:`steelyard.BradleyTerry`.

    Raises NotIdentifiedError where wins do not connect all arms (eigenvector, newman), ConvergenceError where
    an iteration does not settle, LogError for Elo on counted rows, ValueError for an unknown method.

    Examples
    --------
    >>> import steelyard as sy
    >>> log = sy.scan({"a": ["x", "x", "y"], "b": ["y", "y", "x"], "o": [1, 1, 1]}, a="a", b="b", outcome="o")
    >>> sy.rank(log)["score"].round(3).to_list()
    [0.667, 0.333]
    """
    needs_log(log)
    takes = {"elo": ("step", "permutations", "seed"), "pagerank": ("damping",)}.get(method, ())
    if not set(options) <= set(takes):
        raise TypeError(f"method={method!r} takes {' '.join(takes) or 'no options'}, not {' '.join(options)}")
    if method == "elo":
        pairs, score = elo(log, **options)
    elif method in MATRIX_METHODS:
        pairs = pair_table(log)
        score = np.full(len(pairs.arms), np.nan)
        met = np.unique(np.concatenate([pairs.a, pairs.b]))  # others are known from rows that were left out
        if method in ("eigenvector", "newman"):
            _connected(pairs, met, method)
        score[met] = MATRIX_METHODS[method](win_matrix(pairs)[np.ix_(met, met)], **options)
    else:
        raise ValueError(f"method must be one of {['elo', *MATRIX_METHODS]}, or fit a BradleyTerry; not {method!r}")
    played = np.bincount(pairs.a, pairs.rows, len(score)) + np.bincount(pairs.b, pairs.rows, len(score))
    score = np.where(played > 0, score, np.nan)
    frame = {
        "arm": pairs.arms,
        "score": pl.Series(score).fill_nan(None),
        "rank": pl.Series(ranks(score)).set(pl.Series(np.isnan(score)), None),
        "comparisons": played.astype(np.int64),
    }
    return pl.DataFrame(frame).sort("rank", "arm", nulls_last=True)
