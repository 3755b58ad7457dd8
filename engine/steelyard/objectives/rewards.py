"""Reward models of raters with objectives, as the paper compares them: Base, Multihead, Adversarial.

Kobalczyk and van der Schaar (2025, arXiv 2506.05967), section 5; docs/estimators.md, 8. Features of both responses,
the rater's objective, and a label go in; the reward of a response by an objective comes out. Linear versions run on the
native row likelihood; the three-layer networks of the paper need PyTorch (extra `neural`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import polars as pl
import scipy  # its parts load when first used

from steelyard.errors import ConvergenceError, LogError, within
from steelyard.log import scan
from steelyard.models.reward import RewardModel
from steelyard.objectives.erasure import Erasure, erasure
from steelyard.simulate import Simulated
from steelyard.solve import one_blas_thread

_STEPS, _SETTLED = 20_000, 1e-7  # of a reduced-rank fit: most steps, and the largest entry of its gradient, over n

Kind = Literal["linear", "network"]


def _check(spec: Any) -> None:
    """Refuses settings that no model takes."""
    rank, lam = getattr(spec, "rank", None), getattr(spec, "lam", 1.0)
    if spec.kind not in ("linear", "network"):
        raise ValueError(f"kind must be 'linear' or 'network', not {spec.kind!r}")
    within("ridge", spec.ridge, 0.0)
    if rank is not None and (spec.kind == "network" or not isinstance(rank, int) or rank < 1):
        raise ValueError(f"rank must be a whole number of at least 1, of a linear model, not {rank!r}")
    if not 0.0 <= lam < np.inf or (spec.kind == "linear" and lam > 1.0):
        raise ValueError(f"lam must be a number >= 0, and of a linear model at most 1, not {lam!r}")


class _Rewards(Protocol):
    def rewards(self, features: Any, objective: Any) -> Any: ...


@dataclass(frozen=True)
class ObjectiveFit:
    """A fitted reward model. Made by `fit` of :class:`Base`, :class:`Multihead` and :class:`Adversarial`.

    objectives, width: how many, and how many features. erased: what linear erasure took away, where there is one.
    """

    spec: Any
    objectives: int
    width: int
    model: _Rewards = field(repr=False)
    erased: Erasure | None = None

    def __str__(self) -> str:
        words = f"{self.spec}: rewards of {self.objectives} objectives on {self.width} features"
        if self.erased is not None:
            words += f"; erasure took {100 * self.erased.variance_removed:.1f} % of their variance"
        return words

    def rewards(self, features: Any, objective: Any) -> Any:
        """(n,) reward of each response by its row's objective, up to a constant that all share.

        features: (n, d). objective: (n,) whole numbers, or one for all rows.
        """
        features = np.asarray(features, np.float64)
        if features.ndim != 2 or features.shape[1] != self.width:
            raise LogError(f"features have the shape {features.shape}; this model reads (n, {self.width})")
        objective = np.array(np.broadcast_to(objective, len(features)))
        if not np.isin(objective, np.arange(self.objectives)).all():
            raise LogError(f"objectives are whole numbers from 0 to {self.objectives - 1}")
        rewards = self.model.rewards(features, objective.astype(np.int64))
        bad = np.flatnonzero(~np.isfinite(rewards))
        if len(bad):
            raise LogError(f"rewards are not finite in {len(bad)} rows (first rows {bad[:10].tolist()}): are features?")
        return rewards

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

    def __post_init__(self) -> None:
        _check(self)

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
            return _network(self, "base", 0.0, a, b, objective, label, c)
        beta = _coefficients(a - b, label, self.ridge)
        return ObjectiveFit(self, c, a.shape[1], Linear(np.tile(beta, (c, 1))))


@dataclass(frozen=True)
class Multihead:
    """A map that all objectives share, and a linear head for each.

    Parameters
    ----------
    kind : as in :class:`Base`
    rank : linear: of the shared map; None: as many as there are objectives, so that heads are free of each other
    ridge : linear: r in r/2 ||.||^2 on the heads' coefficients; of a reduced rank, on the map's and the heads'
    seed : network: as in :class:`Base`
    """

    kind: Kind = "linear"
    rank: int | None = None
    ridge: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        _check(self)

    def fit(self, a: Any, b: Any, objective: Any, label: Any) -> ObjectiveFit:
        """As :meth:`Base.fit`.

        Raises
        ------
        ConvergenceError
            The fit of a reduced rank has not come to a gradient of 1e-5 n.
        """
        a, b, objective, label, c = _checked(a, b, objective, label)
        if self.kind == "network":
            return _network(self, "multihead", 0.0, a, b, objective, label, c)
        return ObjectiveFit(self, c, a.shape[1], _heads(a - b, objective, label, self.rank, self.ridge))


@dataclass(frozen=True)
class Adversarial:
    """Multihead, trained so that its shared map does not tell the objective.

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

    def __post_init__(self) -> None:
        _check(self)

    def fit(self, a: Any, b: Any, objective: Any, label: Any) -> ObjectiveFit:
        """As :meth:`Multihead.fit`."""
        a, b, objective, label, c = _checked(a, b, objective, label)
        if self.kind == "network":
            return _network(self, "adversarial", self.lam, a, b, objective, label, c)
        erased = erasure(np.concatenate([a, b]), np.concatenate([objective, objective]), self.lam)
        heads = _heads(erased(a) - erased(b), objective, label, self.rank, self.ridge)
        return ObjectiveFit(self, c, a.shape[1], Linear(heads.beta, erased), erased)


@dataclass(frozen=True)
class Linear:
    """beta: (C, d) of each objective, on the features after `before`."""

    beta: Any
    before: Callable[[Any], Any] | None = None

    def rewards(self, features: Any, objective: Any) -> Any:
        features = features if self.before is None else self.before(features)
        return (features * self.beta[objective]).sum(axis=1)


def _network(spec: Any, kind: str, lam: float, a: Any, b: Any, objective: Any, label: Any, c: int) -> ObjectiveFit:
    try:
        from steelyard.objectives.networks import trained
    except ImportError as error:
        raise ImportError('kind="network" needs PyTorch: pip install "steelyard[neural]"') from error
    return ObjectiveFit(spec, c, a.shape[1], trained(kind, a, b, objective, label, c, lam, spec.seed))


def _checked(a: Any, b: Any, objective: Any, label: Any) -> tuple[Any, Any, Any, Any, int]:
    a, b, label = (np.asarray(part, np.float64) for part in (a, b, label))
    objective = np.asarray(objective)
    if a.ndim != 2 or not a.size or a.shape != b.shape or not objective.shape == label.shape == a.shape[:1]:
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


def _coefficients(gap: Any, label: Any, ridge: float) -> Any:
    """(d,) of one reward. Rewards are the same where only the difference of the features is given."""
    width = pl.Array(pl.Float64, gap.shape[1])
    columns = {"gap": pl.Series(gap, dtype=width), "none": pl.Series(np.zeros_like(gap), dtype=width), "label": label}
    log = scan(pl.DataFrame(columns), outcome="label", features=("gap", "none"))
    return RewardModel(ridge=ridge).fit(log).coefficient


def _heads(gap: Any, objective: Any, label: Any, rank: int | None, ridge: float) -> Linear:
    """Coefficients of every head; of a lower rank by L-BFGS from the best approximation of the free heads."""
    c, d = int(objective.max()) + 1, gap.shape[1]
    beta = np.stack([_coefficients(gap[objective == j], label[objective == j], ridge) for j in range(c)])
    if rank is None or rank >= min(c, d):
        return Linear(beta)
    left, size, right = np.linalg.svd(beta, full_matrices=False)
    start = [left[:, :rank] * np.sqrt(size[:rank]), right[:rank] * np.sqrt(size[:rank, None])]

    def loss(flat: Any) -> tuple[float, Any]:
        heads, shared = flat[: c * rank].reshape(c, rank), flat[c * rank :].reshape(rank, d)
        seen = gap @ shared.T
        eta = (seen * heads[objective]).sum(axis=1)
        off = scipy.special.expit(eta) - label
        by_head = np.stack([off[objective == j] @ seen[objective == j] for j in range(c)])
        by_map = (heads[objective] * off[:, None]).T @ gap
        gradient = np.concatenate([by_head.ravel(), by_map.ravel()]) + ridge * flat
        value = float((np.logaddexp(0.0, eta) - label * eta).sum()) + 0.5 * ridge * float(flat @ flat)
        return value / len(gap), gradient / len(gap)

    options = {"maxiter": _STEPS, "gtol": _SETTLED, "ftol": 0.0}
    first = np.concatenate([part.ravel() for part in start])
    with one_blas_thread():
        found = scipy.optimize.minimize(loss, first, jac=True, method="L-BFGS-B", options=options)
    left_over = float(np.abs(found.jac).max())
    if left_over > 100 * _SETTLED:
        raise ConvergenceError(f"the fit of rank {rank} stopped at a gradient of {left_over:.1e} n")
    return Linear(found.x[: c * rank].reshape(c, rank) @ found.x[c * rank :].reshape(rank, d))
