"""Simulated preference logs in which a dial spoils identification, with the truth beside them.

The two case studies of Kobalczyk and van der Schaar (2025, arXiv 2506.05967): latent factors that go together, so that
few pairs tell them apart (thin latent overlap), and raters whose objective decides what they ask (confounding).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import scipy  # its parts load when first used

from steelyard.errors import LogError
from steelyard.log import PreferenceLog, scan

_WEIGHT = np.array([0.25, 0.75])  # of the two factors in the reward, as in the paper
_SPREAD = 1.7  # standard deviation of the difference of two rewards, on the logit scale
_NOISE = np.array([0.4, 0.7])  # standard deviation of what blurs each factor in the features
_WIDTH = 16  # features that the factors are mixed into
_MOST = 0.999  # correlation up to which the quadrature is good to six digits
_NODES, _REACH = 200, 12.0  # of the quadrature: nodes of each half axis, and how far it reaches


@dataclass(frozen=True, repr=False)
class Simulated:
    """Comparisons with their truth.

    a, b: (n, d) features of both responses. objective, prompt_type: (n,) whole numbers from 0. label: (n,) 1 where a
    was preferred. probability: (n,) the chance of that.
    """

    a: Any
    b: Any
    objective: Any
    prompt_type: Any
    label: Any
    probability: Any

    def __repr__(self) -> str:
        return f"Simulated({len(self.label)} comparisons, {np.shape(self.a)[1]} features)"

    @property
    def parts(self) -> tuple[Any, Any, Any, Any]:
        """a, b, objective, label: what a reward model is fitted to, as in ``Base().fit(*data.parts)``."""
        return self.a, self.b, self.objective, self.label

    @property
    def consistent(self) -> Any:
        """(n,) rows whose prompt is of the kind that belongs to the rater's objective."""
        return self.objective == self.prompt_type

    @property
    def ceiling(self) -> float:
        """Accuracy of the model that knows every reward, on average over labels."""
        return float(np.maximum(self.probability, 1.0 - self.probability).mean())

    def where(self, rows: Any) -> Simulated:
        """Some of the comparisons; rows: (n,) bool or places."""
        parts = (self.a, self.b, self.objective, self.prompt_type, self.label, self.probability)
        return Simulated(*(part[rows] for part in parts))

    def log(self) -> PreferenceLog:
        """As a log with features, the objective as group, the prompt type as context (text)."""
        names = pl.Series("prompt_type", self.prompt_type).cast(pl.String)
        frame = pl.DataFrame(
            {
                "a": pl.Series(self.a.astype(np.float64), dtype=pl.Array(pl.Float64, self.a.shape[1])),
                "b": pl.Series(self.b.astype(np.float64), dtype=pl.Array(pl.Float64, self.b.shape[1])),
                "label": self.label, "objective": self.objective, "prompt_type": "type " + names,
            }
        )  # fmt: skip
        context = ["prompt_type"] if len(np.unique(self.prompt_type)) > 1 else []
        return scan(frame, outcome="label", features=("a", "b"), group="objective", context=context)


def effective_share(rho: float) -> float:
    """Effective share of the rows under two equally common objectives and prompt types: 4 rho (1 - rho)."""
    _check_share("rho", rho)
    return 4.0 * rho * (1.0 - rho)


def compared(a: Any, b: Any, prompt_type: Any, rewards_a: Any, rewards_b: Any, rho: float, seed: int = 0) -> Simulated:
    """Raters with objectives for pairs of responses whose rewards are known, from features of one's own.

    Each pair is asked by a rater whose objective is the prompt's own with probability rho, otherwise any of the
    others; at rho = 1 / C objective and prompt have nothing to do with each other. Labels are drawn from the reward of
    the objective.

    Parameters
    ----------
    a, b : (n, d) features
    prompt_type : (n,) whole numbers below C
    rewards_a, rewards_b : (n, C) reward of each response by each objective, on the logit scale
    rho : P(objective = prompt type), 0 to 1

    Raises
    ------
    LogError
        Shapes that do not fit, numbers that are not finite, a prompt type outside 0 to C - 1, rho outside [0, 1].
    """
    a, b, rewards_a, rewards_b = (np.asarray(part, np.float64) for part in (a, b, rewards_a, rewards_b))
    kind = np.asarray(prompt_type)
    if (
        a.ndim != 2
        or a.shape != b.shape
        or rewards_a.ndim != 2
        or rewards_a.shape != rewards_b.shape
        or not (len(a) == len(kind) == len(rewards_a))
    ):
        raise LogError(
            f"features {a.shape} and {b.shape}, prompt types {kind.shape}, rewards {rewards_a.shape} and "
            f"{rewards_b.shape} must have one row a pair, rewards one column an objective"
        )
    n, c = rewards_a.shape
    _check_share("rho", rho)
    if c < 2 or not np.isin(kind, np.arange(c)).all():
        raise LogError(f"prompt types must be whole numbers from 0 to {c - 1}, for 2 or more objectives")
    for name, part in (("features", np.hstack([a, b])), ("rewards", np.hstack([rewards_a, rewards_b]))):
        bad = np.flatnonzero(~np.isfinite(part).all(axis=1))
        if len(bad):
            raise LogError(f"{name} are not finite in {len(bad)} rows (first rows {bad[:10].tolist()})")
    rng, gap, kind = np.random.default_rng(seed), rewards_a - rewards_b, kind.astype(np.int64)
    other = (kind + rng.integers(1, c, n)) % c
    objective = np.where(rng.random(n) < rho, kind, other)
    p = scipy.special.expit(gap[np.arange(n), objective])
    return Simulated(a, b, objective, kind, (rng.random(n) < p) * 1.0, p)


# --- case 1: factors that go together ------------------------------------------------------------
def factors(n: int, rho: float, seed: int = 0, disagree: bool = False) -> Simulated:
    """Two latent factors whose differences between responses have correlation rho; reward .25 z1 + .75 z2.

    Its scale is such that the difference of two rewards has standard deviation 1.7 at every rho. Seen through 16
    features, in which the second factor is blurred more than the first: the closer the two go together, the more a
    model leans on the first. 1/2 - arcsin(rho) / pi of the pairs tell them apart, one response being ahead by one
    factor and the other by the other; disagree: only such pairs.
    """
    _check_rho(rho)
    rng, z = np.random.default_rng(seed), np.empty((0, 2, 2))
    root = np.array([[1.0, 0.0], [rho, np.sqrt(1.0 - rho**2)]])
    while len(z) < n:
        more = rng.normal(size=(max(n, 64), 2, 2)) @ root.T  # pair, response, factor
        gap = more[:, 0] - more[:, 1]
        z = np.concatenate([z, more[gap.prod(axis=1) < 0] if disagree else more])
    z = z[:n]
    mix = np.linalg.qr(np.random.default_rng(0).normal(size=(_WIDTH, 2)))[0].T * np.sqrt(_WIDTH)
    seen = (z + _NOISE * rng.normal(size=z.shape)) @ mix
    p = scipy.special.expit((z[:, 0] - z[:, 1]) @ _reward(rho))
    same = np.zeros(n, np.int64)
    return Simulated(seen[:, 0], seen[:, 1], same, same, (rng.random(n) < p) * 1.0, p)


def factors_accuracy(rho: float, trained: float | None = None, disagree: bool = False) -> float:
    """Accuracy, over labels, of the best linear model trained at one correlation, on pairs of correlation rho.

    For normal features that model follows E[reward | features], whatever the link (Brillinger 1982). trained: the
    correlation it was trained at; None: it knows the reward itself. disagree: on pairs that tell the factors apart.
    """
    for each in (rho, 0.0 if trained is None else trained):
        _check_rho(each)
    score, blur = _WEIGHT, np.zeros(2)
    if trained is not None:
        there = np.array([[1.0, trained], [trained, 1.0]])
        score, blur = np.linalg.solve(there + np.diag(_NOISE**2), there @ _WEIGHT), _NOISE
    nodes, weight = np.polynomial.legendre.leggauss(_NODES)
    half, weight = (nodes + 1.0) * _REACH / 2.0, np.outer(weight, weight).ravel()
    total, mass = 0.0, 0.0
    inverse = np.linalg.inv(2.0 * np.array([[1.0, rho], [rho, 1.0]]))
    spread = np.sqrt(2.0 * (score * blur) @ (score * blur))
    for first, second in ((1, 1), (1, -1)):  # the other two quadrants mirror these
        if disagree and first == second:
            continue
        gap = np.stack([first * np.repeat(half, _NODES), second * np.tile(half, _NODES)])
        density = weight * np.exp(-0.5 * (gap * (inverse @ gap)).sum(axis=0))
        p = scipy.special.expit(_reward(rho) @ gap)
        chosen = scipy.special.ndtr(score @ gap / spread) if spread > 0 else (score @ gap > 0) * 1.0
        total += float(density @ (chosen * p + (1.0 - chosen) * (1.0 - p)))
        mass += float(density.sum())
    return total / mass


def _check_rho(rho: float) -> None:
    if not abs(rho) <= _MOST:
        raise LogError(f"the correlation must lie within -{_MOST} and {_MOST}, not {rho!r}")


def _check_share(name: str, share: float) -> None:
    if not 0.0 <= share <= 1.0:
        raise LogError(f"{name} must lie within [0, 1], not {share!r}")


def _reward(rho: float) -> Any:
    """(2,) weights of the factors, at which the difference of two rewards has the same spread whatever rho."""
    return _WEIGHT * _SPREAD / np.sqrt(2.0 * (_WEIGHT @ _WEIGHT + 2.0 * rho * _WEIGHT.prod()))


# --- case 2: raters who ask what they care about -------------------------------------------------
def confounded(n: int, rho: float, seed: int = 0, shared: float = 0.7, aligned: bool = True) -> Simulated:
    """Two objectives, two prompt types, P(objective = prompt type) = rho; each rewards four factors of its own.

    The eight factors show in three parts of the features. One shows them in every prompt, blurred: correlation
    `shared` with the factor. Each prompt type has a part that shows them plainly there, shifted by 1, and something
    unrelated, not shifted, in the other type. What a model learns of an objective from that part is wrong for prompts
    of the other type, which only raters of that objective there could tell it, whom a rho near 1 leaves out.

    aligned: the shift that tells the prompt types apart is along the rewards, so that erasing it also keeps heads from
    reading those parts apart; False: its signs alternate, at right angles to the rewards, and erasing it is no help.

    Raises
    ------
    LogError
        rho or shared outside [0, 1].
    """
    _check_share("shared", shared)
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 2, n)
    z = rng.normal(size=(2, n, 8))
    shift = np.ones(8) if aligned else np.tile([1.0, -1.0], 4)
    mix = np.linalg.qr(np.random.default_rng(0).normal(size=(24, 24)))[0] * np.sqrt(3.0)
    sides = []
    for own in z:
        parts = [shared * own + rng.normal(size=own.shape) * np.sqrt(1.0 - shared**2)]
        for t in (0, 1):
            shown = np.where((kind == t)[:, None], own + shift, rng.normal(size=own.shape))
            parts.append(shown + 0.3 * rng.normal(size=own.shape))
        sides.append(np.concatenate(parts, axis=1) @ mix)
    rewards = [np.stack([own[:, :4].sum(axis=1), own[:, 4:].sum(axis=1)], axis=1) for own in z]
    return compared(sides[0], sides[1], kind, rewards[0], rewards[1], rho, seed + 1)
