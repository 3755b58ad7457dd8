"""The value of a policy from what every row adds to it, with its interval; and the file it is kept in."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from math import isfinite
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl

from steelyard.assignment.balancing import Balancing
from steelyard.blocks import Block
from steelyard.causal.pairwise import FEW_ANSWERS, OWN, effective, refuse_thin
from steelyard.errors import FormatError, NotIdentifiedError, check_level, warn
from steelyard.inference.bands import quantile
from steelyard.inference.clusters import clustered_meat, told_by
from steelyard.inference.influence import EXACT, FEW, ONE
from steelyard.models.saved import LoadedSpec, settings_facts
from steelyard.result import LOADERS, write_archive
from steelyard.spill import Blocks

if TYPE_CHECKING:
    from steelyard.causal.policy_value import PolicyValue

_FLAT = "no spread: nothing was left to chance, or what clusters that cross add and take away cancels; no interval"
_LARGEST = 1e50  # of a value in a file


class Terms(NamedTuple):
    """Of every row. model: value by the outcome model. share: of it that the correction speaks of, 1 or less.

    weight: of the correction; signed: that times the residual. alone: that times the outcome. same: chance that both
    policies give one arm. cut: 1 where a ratio was cut.
    """

    model: Any
    share: Any
    weight: Any
    signed: Any
    alone: Any
    same: Any
    cut: Any

    def within(self, block: Block, *more: Any) -> Block:
        """A block of these and more columns, with what else is read of its rows."""
        columns = np.stack([*self, *more])
        return replace(block, columns=columns, features=None, context=(), propensity=None, drawn=(), fold=None)

    @staticmethod
    def of(block: Block) -> Terms:
        return Terms(*np.asarray(block.columns)[: len(Terms._fields)])


class PolicyTerms(NamedTuple):
    """Rows whose columns are :class:`Terms`. clusters: place, name and number of codes. dropped: rows, by reason.

    estimand: in words. tilt: what made the rows' weights, where that was fitted; they have their contexts then.
    """

    blocks: Blocks
    clusters: list[tuple[int, str, int]]
    dropped: dict[str, int]
    estimand: str
    tilt: Balancing | None = None


@dataclass(frozen=True)
class PolicyValueFit:
    """The value of a policy. Made by :meth:`PolicyValue.fit`.

    value, se: doubly robust, with its standard error, which is None where there is none; reason: why. model, weights:
    what the outcome model alone and the weights alone would say. n: comparisons; asked: those of arms that the policies
    give. effective_size: of the weights.
    unsupported: share of what the policies compare that rests on the outcome model alone. clipped: comparisons with a
    ratio that was cut. estimand: in words.
    """

    spec: PolicyValue | LoadedSpec
    value: float
    se: float | None
    reason: str | None
    model: float
    weights: float
    n: int
    asked: int
    effective_size: float
    largest_share: float
    unsupported: float
    clipped: int
    kind: str
    estimand: str
    dropped: dict[str, int]

    @property
    def converged(self) -> bool:
        return True  # a model that has not converged is an error, never a result

    @property
    def effective_share(self) -> float:
        """Effective size, as a share of the comparisons that the policies ask for."""
        return self.effective_size / self.asked

    def table(self, level: float = 0.95) -> pl.DataFrame:
        """estimator value se low high reason: doubly robust, and what either half of it would say alone."""
        check_level(level)
        alone = "no interval: right only if this half is, and its error is not known"
        interval: tuple[Any, ...] = (None, None, None, self.reason)
        if self.se is not None:
            reach = quantile(level) * self.se
            interval = (self.se, self.value - reach, self.value + reach, None)
        rows = [
            ("doubly robust", self.value, *interval),
            ("outcome model alone", self.model, None, None, None, alone),
            ("weights alone", self.weights, None, None, None, alone),
        ]
        names = ["estimator", "value", "se", "low", "high", "reason"]
        types = [pl.String, *[pl.Float64] * 4, pl.String]
        return pl.DataFrame(rows, schema=dict(zip(names, types, strict=True)), orient="row")

    def save(self, path: str | os.PathLike[str]) -> None:
        """One file of JSON, without the rows; read it with :func:`steelyard.load`."""
        facts = {name: getattr(self, name) for name in self.__dataclass_fields__}
        write_archive(path, "policy-value", facts | {"spec": settings_facts(self.spec)}, {})


def _loaded(facts: dict[str, Any], arrays: dict[str, Any]) -> PolicyValueFit:
    fit = PolicyValueFit(**facts | {"spec": LoadedSpec(**facts["spec"])})
    counts, shares = (fit.n, fit.asked, fit.clipped), (fit.largest_share, fit.unsupported)
    if not all(type(count) is int for count in counts) or not 0 < fit.asked <= fit.n or fit.clipped < 0:
        raise FormatError("counts that are none")
    if (fit.se is None) != isinstance(fit.reason, str):
        raise FormatError("a value without an error and a reason, or with both")
    se = 0.0 if fit.se is None else fit.se
    told = (fit.value, se, fit.model, fit.weights, fit.effective_size, *shares)
    if not all(isinstance(x, float) and isfinite(x) and abs(x) <= _LARGEST for x in told):
        raise FormatError("a value that is not a number, or beyond all use")
    if not (isinstance(fit.kind, str) and isinstance(fit.estimand, str) and isinstance(fit.dropped, dict)):
        raise FormatError("words that are none")
    if not (se >= 0 and 0 < fit.effective_size <= fit.asked * (1 + 1e-9) and all(0 <= x <= 1 for x in shares)):
        raise FormatError("a standard error, an effective size or a share that is none")
    return fit


LOADERS["policy-value"] = _loaded


class _Found(NamedTuple):
    """Sums over rows: of t, t model, t share, t weight, t signed, t alone, t same, (t weight)^2; comparisons, those
    with a weight, and those that were cut; largest weight.
    """

    total: float
    model: float
    share: float
    size: float
    signed: float
    alone: float
    same: float
    square: float
    n: float
    asked: float
    cut: float
    largest: float


def valued(spec: PolicyValue, terms: PolicyTerms) -> PolicyValueFit:
    """The value and its standard error: two passes over what the rows add, three where there is a tilt."""
    blocks, clusters, tilt = terms.blocks, terms.clusters, terms.tilt
    found = _found(blocks)
    if found.same >= (1.0 - 1e-12) * found.total > 0.0:
        raise NotIdentifiedError("policy and reference give one and the same arm in every row: nothing is compared")
    refuse_thin(found, spec.floor)
    residual = found.signed / found.size
    model, share = found.model / found.total, found.share / found.total

    def known(block: Block) -> Any:
        """(n,) what each row adds to the error of the value at known weights, times its count."""
        of, (t, c) = Terms.of(block), _weighed(block)
        own = t * (of.model - model + residual * (of.share - share)) / found.total
        return c * (own + share * t * (of.signed - residual * of.weight) / found.size)

    turn = None
    if tilt is not None:
        turn = tilt.solve(sum(blocks.each(lambda block: known(block) @ tilt.within(block)[0]))[:, None])[:, 0]

    def errors(block: Block) -> Any:
        """(n, 1) what each row adds to the error of the value, times its count."""
        own = known(block)
        if tilt is not None and turn is not None:
            own = own + tilt.within(block)[1] @ turn * _weighed(block)[1]
        return own[:, None]

    def squared(block: Block) -> float:
        psi = errors(block)[:, 0]
        return float(psi @ (psi if block.count is None else psi / block.count))

    if clusters:
        variance = float(clustered_meat(blocks, clusters, 1, errors).square[0, 0])
    else:
        variance = sum(blocks.each(squared))
    reason = _unknown(variance, found, blocks, clusters)
    se = None if reason else float(np.sqrt(variance))
    same = found.same / found.total
    alone = 0.5 * same + (1.0 - same) * found.alone / found.size  # pairs never answered: as the others on average
    unsupported = max(0.0, round(1.0 - share / (1.0 - same), 12)) if same < 1.0 else 0.0
    return PolicyValueFit(
        spec, float(model + share * residual), se, reason, float(model), float(alone), int(found.n), int(found.asked),
        effective(found.size, found.square), float(found.largest / found.size), float(unsupported),
        int(found.cut), "cluster" if clusters else "sandwich", terms.estimand, terms.dropped,
    )  # fmt: skip


def _unknown(variance: float, found: _Found, blocks: Blocks, clusters: list[tuple[int, str, int]]) -> str | None:
    """Why the value has no error; warns where few clusters tell of it."""
    if not variance > EXACT**2:
        return _FLAT
    if effective(found.size, found.square) < OWN:
        return FEW_ANSWERS
    if not clusters:
        return None
    met = told_by(blocks, clusters, 1, lambda block: [np.where(Terms.of(block).weight > 0, 0, -1)])
    if 1 < met[0] < FEW:
        warn(f"{met[0]} clusters have what the policies ask for: with fewer than {FEW} the interval is too short")
    return ONE if met[0] < 2 else None


def _found(blocks: Blocks) -> _Found:
    def one(block: Block) -> tuple[Any, float]:
        of, (t, c) = Terms.of(block), _weighed(block)
        w, ones = t * of.weight, np.ones(block.n)
        parts = (t, t * of.model, t * of.share, w, t * of.signed, t * of.alone, t * of.same, w * w, ones, w > 0, of.cut)
        return np.array([c @ part for part in parts]), float(w.max(initial=0.0))

    sums, largest = zip(*blocks.each(one), strict=True)
    return _Found._make([*np.sum(sums, axis=0).tolist(), max(largest)])


def estimand(whose: str) -> str:
    """In words. whose: contexts."""
    return f"chance, over {whose}, that the policy's answer is preferred to the reference's (a tie counts half)"


def _weighed(block: Block) -> tuple[Any, Any]:
    """(n,) target weights and counts."""
    ones = np.ones(block.n)
    return ones if block.weight is None else block.weight, ones if block.count is None else block.count
