"""How strong something unmeasured would have to be to turn a conclusion around (docs/estimators.md, 7)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import exp, log, sqrt
from typing import Any

import numpy as np
import polars as pl
import scipy  # its parts load when first used

from steelyard.assignment.contexts import Contexts
from steelyard.assignment.fitting import fitted_model
from steelyard.assignment.models import Logged
from steelyard.assignment.propensity import PairPropensity, Propensity
from steelyard.blocks import Block
from steelyard.causal.doubly_robust_fit import DoublyRobustFit
from steelyard.causal.marginal import End, Marginal
from steelyard.causal.matched import Matched, matched
from steelyard.causal.projection import win_rates
from steelyard.errors import NotIdentifiedError, SteelyardError, check_level
from steelyard.inference.bands import quantile
from steelyard.models.row_blocks import weights
from steelyard.result import Contrast
from steelyard.solve import one_blas_thread

_LAMBDAS = (1.0, 1.1, 1.25, 1.5, 2.0, 3.0)
_FARTHEST = 1e3  # Lambda up to which the one that turns the order around is looked for
_SHARE = 0.95  # of the rows, whose odds a context moves by less than its strength
_BEYOND = "no finite scores fit the win matrix at this end"


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """What hidden causes of what was shown could do to "x over y". Made by :func:`sensitivity`; print it.

    contrast: the scores' difference. e_value, e_value_limit: of the ratio of win rates, and of its interval's end
    nearer to 1. bounds: quantity lambda low high low_limit high_limit reason: what the difference of scores, and each
    win rate, may be, and the intervals' ends around that. flip, flip_limit: the smallest Lambda at which the order, and
    the interval's say in it, is lost, or no finite scores fit; None where no Lambda up to 1,000 does. matched: the sign
    test's Gamma. contexts: context strength reason, of each context of the propensity: the factor that leaving it out
    moves the odds of the shown pair by in 95 % of the rows.
    """

    x: str
    over: str
    level: float
    contrast: Contrast
    e_value: float
    e_value_limit: float
    bounds: pl.DataFrame = field(repr=False)
    flip: float | None
    flip_limit: float | None
    matched: Matched
    contexts: pl.DataFrame = field(repr=False)

    def __str__(self) -> str:
        lines = [f"{self.x} over {self.over}: {self._turned()}"]
        lines += [f"  {words}" for words in self._beside()]
        lines.append(
            f"  E-value of the ratio of win rates {self.e_value:.3g}, of its interval {self.e_value_limit:.3g}"
        )
        lines.append(f"  {self.matched}")
        return "\n".join(lines)

    def _turned(self) -> str:
        told = ["no Lambda up to 1,000" if at is None else f"Lambda = {at:.3g}" for at in (self.flip, self.flip_limit)]
        return f"the order is lost at {told[0]}, its interval reaches 0 at {told[1]}"

    def _beside(self) -> list[str]:
        """Each measured context, as a measure of what is strong here."""
        words = []
        for context, strength, reason in self.contexts.iter_rows():
            if strength is None:
                words.append(f"no measure of how strong {context!r} is: {reason}")
                continue
            less = self.flip is None or strength < self.flip
            turns = "would not turn it around" if less else "could turn it around, if it also decided who wins"
            words.append(f"a confounder as strong as {context!r} (Lambda {strength:.3g}) {turns}")
        return words or ["no measure of what is strong here: the propensity reads no contexts that could be left out"]


def sensitivity(
    fit: DoublyRobustFit, x: str, over: str, lambdas: Sequence[float] = _LAMBDAS, level: float = 0.95
) -> Sensitivity:
    """How far "x over y" depends on nothing unmeasured having decided both what was shown and what was preferred.

    Bounds of the marginal sensitivity model (Tan 2006; Zhao, Small and Bhattacharya 2019; Dorn and Guo 2023): the odds
    that a pair was shown, given context, are off by a factor of at most Lambda for every pair by itself. Of win rates
    they are exact; of scores, which are no straight function of those, the farthest of a few points that following the
    slope leads to: with large Lambda and many arms the farthest of all may lie a little beyond. With ties they are
    valid but wide. E-value: VanderWeele and Ding (2017). Gamma: Rosenbaum (2002).

    Parameters
    ----------
    fit : of :class:`DoublyRobust`, without judge=
    x, over : the two arms, whichever is ahead
    lambdas : at which bounds are told, each at least 1
    level : of the intervals

    Raises
    ------
    NotIdentifiedError
        An arm without a score, a fit with a judge.
    ValueError
        A loaded fit, which has lost its rows.

    Examples
    --------
    >>> import numpy as np, polars as pl, steelyard as sy
    >>> rng = np.random.default_rng(0)
    >>> frame = pl.DataFrame({"a": np.array(["x", "y", "x"])[(pair := rng.integers(0, 3, 900))],
    ...                       "b": np.array(["y", "z", "z"])[pair], "code": rng.random(900) < 0.5,
    ...                       "won": (rng.random(900) < 0.7) * 1.0})
    >>> log = sy.scan(frame, a="a", b="b", outcome="won", context="code")
    >>> found = sy.sensitivity(sy.DoublyRobust(propensity=sy.PairPropensity(method="pairs")).fit(log), "x", over="z")
    >>> found.bounds["quantity"].unique(maintain_order=True).to_list()
    ['score of x less that of z', 'win rate of x', 'win rate of z']
    """
    check_level(level)
    _check(fit, lambdas)
    i, j = fit._code(x), fit._code(over)
    contrast = fit.contrast(x, over, level)
    if contrast.estimate is None or contrast.se is None or i == j:
        raise NotIdentifiedError(f"{x} over {over} has no contrast: {contrast.reason or 'they are the same arm'}")
    problem, found, contexts = fit.problem, fit.residuals, fit.contexts
    assert problem is not None
    assert found is not None
    assert contexts is not None
    ends = _Ends(fit, i, j, level)
    ahead, behind = (i, j) if contrast.estimate >= 0 else (j, i)
    return Sensitivity(
        x, over, level, contrast, *_e_values(fit, ahead, behind, level), _table(ends, lambdas, x, over),
        ends.lost(False), ends.lost(True), matched(problem.blocks, contexts, ahead, behind, level), _strengths(fit),
    )  # fmt: skip


def _check(fit: DoublyRobustFit, lambdas: Sequence[float]) -> None:
    if not isinstance(fit, DoublyRobustFit):
        raise TypeError(f"sensitivity() takes a fit of DoublyRobust, not {type(fit).__name__}")
    if fit.problem is None:
        raise ValueError("a loaded fit has lost its rows: fit it again")
    if fit.problem.judged is not None:
        raise NotIdentifiedError("bounds are not known for a fit with a judge: fit the human labels alone")
    if isinstance(lambdas, str) or not np.iterable(lambdas) or not all(1.0 <= lam < np.inf for lam in lambdas):
        raise ValueError(f"lambdas are finite numbers of at least 1, not {lambdas!r}")


@dataclass(frozen=True)
class _Ends:
    """What the difference of two arms' scores, and their win rates, may be."""

    fit: DoublyRobustFit
    x: int
    y: int
    level: float

    def at(self, lam: float) -> Marginal:
        assert self.fit.problem is not None
        assert self.fit.residuals is not None
        with one_blas_thread():
            return Marginal.of(self.fit.problem, self.fit.residuals, lam)

    def contrast(self, model: Marginal, upper: bool) -> End | None:
        along = np.zeros(len(self.fit.score))
        along[self.x], along[self.y] = 1.0, -1.0
        try:
            return model.contrast(along, self.fit.main, upper)
        except NotIdentifiedError:
            return None

    def rate(self, model: Marginal, arm: int, upper: bool) -> End:
        v = np.zeros(len(self.fit.score))
        v[arm] = 1.0 / self.fit.omega[arm].sum()
        return model.rate(v, upper)

    def all(self, model: Marginal) -> list[End | None]:
        """Low and high, of the difference of scores, of the win rate of x, of that of y."""
        return [self.contrast(model, False), self.contrast(model, True),
                *(self.rate(model, arm, upper) for arm in (self.x, self.y) for upper in (False, True))]  # fmt: skip

    def lost(self, limit: bool) -> float | None:
        """The smallest Lambda at which the nearer end, or its interval's, is 0."""
        upper = bool(self.fit.score[self.x] < self.fit.score[self.y])
        sign, reach = (-1.0 if upper else 1.0), quantile(self.level) if limit else 0.0

        def left(log_lambda: float) -> float:
            model = self.at(exp(log_lambda))
            end = self.contrast(model, upper)
            if end is None:
                return -1.0
            return sign * end.value - (reach * float(model.errors([end], self.fit.clusters)[0]) if limit else 0.0)

        if left(0.0) <= 0.0:
            return 1.0
        near, far = 0.0, log(1.5)
        while left(far) > 0.0:
            if far >= log(_FARTHEST):
                return None
            near, far = far, min(2.0 * far, log(_FARTHEST))
        return exp(scipy.optimize.brentq(left, near, far, xtol=1e-5))


def _table(ends: _Ends, lambdas: Sequence[float], x: str, y: str) -> pl.DataFrame:
    z, rows = quantile(ends.level), []
    which = (f"score of {x} less that of {y}", f"win rate of {x}", f"win rate of {y}")
    for lam in sorted(float(each) for each in lambdas):
        model = ends.at(lam)
        found = ends.all(model)
        known = [end for end in found if end is not None]
        se = iter(model.errors(known, ends.fit.clusters))
        told = [None if end is None else (end.value, float(next(se))) for end in found]
        for place, name in enumerate(which):
            low, high = told[2 * place : 2 * place + 2]
            rows.append((place, name, lam, low and low[0], high and high[0], low and low[0] - z * low[1],
                         high and high[0] + z * high[1], None if low and high else _BEYOND))  # fmt: skip
    names = ["place", "quantity", "lambda", "low", "high", "low_limit", "high_limit", "reason"]
    types = [pl.Int64, pl.String, *[pl.Float64] * 5, pl.String]
    frame = pl.DataFrame(rows, schema=dict(zip(names, types, strict=True)), orient="row")
    return frame.sort("place", "lambda").drop("place")


def _e_values(fit: DoublyRobustFit, x: int, y: int, level: float) -> tuple[float, float]:
    """Of the ratio of the win rates of x, ahead, and y; and of its interval's end nearer to 1."""
    place = np.cumsum(fit.main) - 1
    rates = win_rates(fit.win, fit.omega)
    both, along = place[[x, y]], np.array([1.0 / rates[x], -1.0 / rates[y]])
    se = sqrt(max(along @ fit._rates().covariance[np.ix_(both, both)] @ along, 0.0))
    ratio = float(rates[x] / rates[y])  # below 1 where win rates, by the pairs' weights, order the two otherwise
    return e_value(max(1.0, ratio)), e_value(max(1.0, ratio * exp(-quantile(level) * se)))


def e_value(ratio: float) -> float:
    """How strongly, as risk ratios, a hidden cause must hang together with both what was shown and the outcome to
    explain a ratio away: RR + sqrt(RR (RR - 1)), RR the ratio or its inverse, whichever is above 1."""
    rr = max(ratio, 1.0 / ratio)
    return rr + sqrt(rr * (rr - 1.0))


def _strengths(fit: DoublyRobustFit) -> pl.DataFrame:
    """Of each context how far the odds of the shown pair move when the propensity does without it, or why not."""
    assert fit.overlap is not None
    whole: Propensity = fit.overlap.propensity
    contexts = [] if whole.contexts is None or isinstance(whole.model, Logged) else whole.contexts.names
    rows: list[tuple[str, float | None, str | None]] = []
    for name in contexts:
        if len(whole.assigned.labels) == 2:
            rows.append((name, None, "of two arms the pair is always shown"))
            continue
        try:
            rows.append((name, _strength(whole, name), None))
        except SteelyardError as error:
            rows.append((name, None, f"without it the propensity has no fit: {error}"))
    types = {"context": pl.String, "strength": pl.Float64, "reason": pl.String}
    return pl.DataFrame(rows, schema=types, orient="row")


def _strength(whole: Propensity, name: str) -> float:
    contexts = whole.contexts
    assert contexts is not None
    kept, view = _without(contexts, name)
    spec = whole.spec
    if not kept.names and whole.assigned.pairs is not None:  # nothing is left to tell by: the pairs' shares
        spec = PairPropensity(method="frequency")
    model = fitted_model(spec, whole.assigned, kept, whole.blocks.map(view))
    less = replace(whole, model=model, contexts=kept)

    def one(block: Block) -> tuple[Any, Any]:
        odds = [value - np.log1p(-np.minimum(np.exp(value), 1.0 - 1e-12))
                for value in (whole.log_probability(block), less.log_probability(view(block)))]  # fmt: skip
        return np.abs(odds[0] - odds[1]), weights(block)

    move, weight = (np.concatenate(part) for part in zip(*whole.blocks.each(one), strict=True))
    order = np.argsort(move)
    reached = np.cumsum(weight[order])
    return float(np.exp(move[order][np.searchsorted(reached, _SHARE * reached[-1])]))


def _without(contexts: Contexts, name: str) -> tuple[Contexts, Callable[[Block], Block]]:
    """The contexts without one, and blocks as these read them."""
    owner = [*contexts.numeric, *(own for own, values in contexts.levels for _ in values[1:])]  # of each raw column
    kept = [j for j, own in enumerate(owner) if own != name]
    numeric = [i for i, own in enumerate(contexts.numeric) if own != name]
    levels = [i for i, (own, _) in enumerate(contexts.levels) if own != name]
    less = replace(contexts, numeric=tuple(contexts.numeric[i] for i in numeric), mean=contexts.mean[kept],
                   levels=tuple(contexts.levels[i] for i in levels), scale=contexts.scale[kept])  # fmt: skip

    def view(block: Block) -> Block:
        context = tuple(column for i, column in enumerate(block.context) if i in numeric)
        design = None if block.design is None else block.design[[0, *(1 + j for j in kept)]]
        return replace(block, context=context, levels=tuple(block.levels[i] for i in levels), design=design)

    return less, view
