"""Reward models of raters with objectives, as the paper compares them: Base, Multihead, Adversarial.

Kobalczyk and van der Schaar (2025, arXiv 2506.05967), section 5; estimators.md, section 15. Features of both responses,
the rater's objective, and a label go in; the reward of a response by an objective comes out. Linear versions run on the
native row likelihood; the three-layer networks of the paper need PyTorch (extra `neural`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import polars as pl

from steelyard.errors import ConvergenceError, LogError
from steelyard.log import PreferenceLog, scan
from steelyard.models.reward import RewardModel
from steelyard.objectives.erasure import Erasure, erasure
from steelyard.simulate import Simulated

_TURNS = 200  # alternations of a reduced-rank fit
_SETTLED = 1e-8  # of the log-likelihood, a row

Kind = Literal["linear", "network"]


class _Rewards(Protocol):
    def rewards(self, features: Any, objective: Any) -> Any: ...


@dataclass(frozen=True)
class ObjectiveFit:
    """A fitted reward model. Made by `fit` of :class:`Base`, :class:`Multihead` and :class:`Adversarial`.

    objectives: how many. erased: what linear erasure took away, where there is one.
    """

    spec: Any
    objectives: int
    model: _Rewards = field(repr=False)
    erased: Erasure | None = None

    def rewards(self, features: Any, objective: Any) -> Any:
        """(n,) reward of each response by its row's objective, up to a constant that all share.

        features: (n, d). objective: (n,) whole numbers, or one for all rows.
        """
        features = np.asarray(features, np.float64)
        objective = np.array(np.broadcast_to(objective, len(features)))
        if not np.isin(objective, np.arange(self.objectives)).all():
            raise LogError(f"objectives are whole numbers from 0 to {self.objectives - 1}")
        return self.model.rewards(features, objective)

    def accuracy(self, data: Simulated) -> dict[str, float]:
        """Share of pairs whose preferred response gets the larger reward, on average over labels.

        Of all pairs, the consistent ones (prompt of the objective's own type) and the inconsistent ones; NaN where
        there are none.
        """
        gap = self.rewards(data.a, data.objective) - self.rewards(data.b, data.objective)
        right = np.where(gap > 0, data.probability, np.where(gap < 0, 1.0 - data.probability, 0.5))
        own = data.consistent
        parts = {"all": right, "consistent": right[own], "inconsistent": right[~own]}
        return {name: float(part.mean()) if len(part) else float("nan") for name, part in parts.items()}


@dataclass(frozen=True)
class Base:
    """One reward for everyone, which is told the objective. A linear one cannot use it: it cancels in a comparison.

    Parameters
    ----------
    kind : "linear", or "network" (three layers of 512 GELU units, Adam at 1e-4, 10 epochs, the best by validation)
    ridge : linear: r in r/2 ||beta||^2 on the summed log-likelihood
    seed : network: of its start, batches and validation rows
    """

    kind: Kind = "linear"
    ridge: float = 1.0
    seed: int = 0

    def fit(self, a: Any, b: Any, objective: Any, label: Any) -> ObjectiveFit:
        """a, b: (n, d) features. objective: (n,) whole numbers from 0. label: (n,) in [0, 1], 1 where a is preferred.

        Raises
        ------
        LogError
            Shapes that do not fit, features that are not finite, objectives that are not 0 to C - 1.
        ImportError
            kind="network" without PyTorch.
        """
        a, b, objective, label, c = _checked(a, b, objective, label)
        if self.kind == "network":
            return ObjectiveFit(self, c, _network("base", a, b, objective, label, c, 0.0, self.seed))
        beta = _coefficients(a - b, None, label, self.ridge)
        return ObjectiveFit(self, c, Linear(np.repeat(beta, c, axis=0)))


@dataclass(frozen=True)
class Multihead:
    """A map that all objectives share, and a linear head for each.

    Parameters
    ----------
    kind : as in :class:`Base`
    rank : linear: of the shared map; None: as many as there are objectives, so that heads are free of each other
    ridge : linear: r in r/2 ||.||^2 on the heads' coefficients; of a reduced rank, on the map and on the heads in turn
    seed : network: as in :class:`Base`
    """

    kind: Kind = "linear"
    rank: int | None = None
    ridge: float = 1.0
    seed: int = 0

    def fit(self, a: Any, b: Any, objective: Any, label: Any) -> ObjectiveFit:
        """As :meth:`Base.fit`.

        Raises
        ------
        ConvergenceError
            The alternation of a reduced rank has not settled.
        """
        a, b, objective, label, c = _checked(a, b, objective, label)
        if self.kind == "network":
            return ObjectiveFit(self, c, _network("multihead", a, b, objective, label, c, 0.0, self.seed))
        return ObjectiveFit(self, c, _heads(a - b, objective, label, self.rank, self.ridge))


@dataclass(frozen=True)
class Adversarial:
    """Multihead, whose shared map may not tell the objective.

    Linear: closed-form erasure of the objective from the levels of both responses (LEACE), then heads on what is left;
    `fit.erased.variance_removed` tells how much went with it. Network: a second network reads the objective off the
    map, through a reversed gradient.

    Parameters
    ----------
    lam : linear: the part of the objective that is erased, 0 to 1; network: weight of the reversed gradient
    kind, rank, ridge, seed : as in :class:`Multihead`
    """

    lam: float = 1.0
    kind: Kind = "linear"
    rank: int | None = None
    ridge: float = 1.0
    seed: int = 0

    def fit(self, a: Any, b: Any, objective: Any, label: Any) -> ObjectiveFit:
        """As :meth:`Multihead.fit`."""
        a, b, objective, label, c = _checked(a, b, objective, label)
        if self.kind == "network":
            return ObjectiveFit(self, c, _network("adversarial", a, b, objective, label, c, self.lam, self.seed))
        erased = erasure(np.concatenate([a, b]), np.concatenate([objective, objective]), self.lam)
        heads = _heads(erased(a) - erased(b), objective, label, self.rank, self.ridge)
        return ObjectiveFit(self, c, Linear(heads.beta, erased), erased)


@dataclass(frozen=True)
class Linear:
    """beta: (C, d) of each objective, on the features after `before`."""

    beta: Any
    before: Callable[[Any], Any] | None = None

    def rewards(self, features: Any, objective: Any) -> Any:
        features = features if self.before is None else self.before(features)
        return (features * self.beta[objective]).sum(axis=1)


def _network(kind: str, *of: Any) -> Any:
    try:
        from steelyard.objectives.networks import trained
    except ImportError as error:
        raise ImportError('kind="network" needs PyTorch: pip install "steelyard[neural]"') from error
    return trained(kind, *of)


def _checked(a: Any, b: Any, objective: Any, label: Any) -> tuple[Any, Any, Any, Any, int]:
    a, b, label = (np.asarray(part, np.float64) for part in (a, b, label))
    objective = np.asarray(objective)
    if a.ndim != 2 or a.shape != b.shape or not len(a) == len(objective) == len(label):
        raise LogError(
            f"features {a.shape} and {b.shape}, objectives {objective.shape} and labels {label.shape} must have one "
            "row a comparison"
        )
    for name, part in (("a", a), ("b", b)):
        bad = np.flatnonzero(~np.isfinite(part).all(axis=1))
        if len(bad):
            raise LogError(f"features of {name} are not finite in {len(bad)} rows (first rows {bad[:10].tolist()})")
    bad = np.flatnonzero(~((label >= 0) & (label <= 1)))
    if len(bad):
        raise LogError(f"labels are not within [0, 1] in {len(bad)} rows (first rows {bad[:10].tolist()})")
    known = np.unique(objective)
    c = len(known)
    if not len(known) or not (known == np.arange(c)).all():
        raise LogError(f"objectives must be whole numbers from 0, each occurring; these are {known[:10].tolist()}")
    return a, b, objective.astype(np.int64), label, c


def _log(gap: Any, objective: Any, label: Any) -> PreferenceLog:
    """The comparisons as a log; rewards are the same where only differences are given."""
    width = pl.Array(pl.Float64, gap.shape[1])
    frame = pl.DataFrame({"gap": pl.Series(gap, dtype=width), "none": pl.Series(np.zeros_like(gap), dtype=width),
                          "label": label, "objective": 0 if objective is None else objective})  # fmt: skip
    return scan(frame, outcome="label", features=("gap", "none"), group=None if objective is None else "objective")


def _coefficients(gap: Any, objective: Any, label: Any, ridge: float) -> Any:
    """(C, d) of each objective's own head, (1, d) without objectives."""
    if objective is None:
        return RewardModel(ridge=ridge).fit(_log(gap, None, label)).coefficient[None]
    # a ridge on heads of their own, not toward a shared one: each head is a fit by itself
    return np.concatenate([_coefficients(gap[objective == c], None, label[objective == c], ridge)
                           for c in range(int(objective.max()) + 1)])  # fmt: skip


def _heads(gap: Any, objective: Any, label: Any, rank: int | None, ridge: float) -> Linear:
    """Coefficients of every head; of a lower rank by turns: the map given the heads, the heads given the map."""
    beta = _coefficients(gap, objective, label, ridge)
    c, d = beta.shape
    if rank is None or rank >= min(c, d):
        return Linear(beta)
    if rank < 1:
        raise ValueError(f"rank must be at least 1, not {rank}")
    left, size, right = np.linalg.svd(beta, full_matrices=False)
    heads, shared, last = left[:, :rank] * np.sqrt(size[:rank]), right[:rank] * np.sqrt(size[:rank, None]), -np.inf
    for _ in range(_TURNS):
        crossed = (heads[objective][:, :, None] * gap[:, None, :]).reshape(len(gap), rank * d)
        shared = _coefficients(crossed, None, label, ridge).reshape(rank, d)
        heads = _coefficients(gap @ shared.T, objective, label, ridge)
        eta = (gap * (heads @ shared)[objective]).sum(axis=1)
        value = float((label * eta - np.logaddexp(0.0, eta)).sum())
        value -= 0.5 * ridge * float((heads**2).sum() + (shared**2).sum())
        if value - last <= _SETTLED * len(gap):
            return Linear(heads @ shared)
        last = value
    raise ConvergenceError(f"the fit of rank {rank} has not settled in {_TURNS} turns")
