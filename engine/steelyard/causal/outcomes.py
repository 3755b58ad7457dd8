"""Outcome models: what every two arms would score against each other in the context of each row.

An outcome model gives, for some rows and the fold they are in, a table with between(a, b), (n,) means of single
pairs, sums(omega, weight): over the opponents of each arm (K, n), and over the rows for each pair (K, K), and
ends and along, which marginal.py asks for.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import scipy  # its parts load when first used

from steelyard._native.all_pairs import ROWS, all_pairs, pair_along, pair_ends
from steelyard.assignment.contexts import Contexts
from steelyard.blocks import Block
from steelyard.causal.contextual import Contextual, ContextualProblem, by_pair, scattered
from steelyard.errors import LogError, NotIdentifiedError
from steelyard.models.row_blocks import weights
from steelyard.spill import Blocks, joined

_CELLS = 1 << 22  # entries of a classifier's features that are made at a time


@dataclass(frozen=True)
class ArmScores:
    """A Bradley-Terry table: score (K, n), logits of every arm."""

    score: Any

    def between(self, a: Any, b: Any) -> Any:
        return scipy.special.expit(_picked(self.score, a) - _picked(self.score, b))

    def sums(self, omega: Any, weight: Any) -> tuple[Any, Any]:
        k, n = self.score.shape
        sums, means = np.empty((k, n)), np.zeros((k, k))
        all_pairs(np.ascontiguousarray(self.score), omega, weight, np.empty((2 * k + 1, ROWS)), sums, means)
        return sums, means

    def ends(self, wanted: Any, weight: Any, lam: float) -> Any:
        k, score = len(self.score), np.ascontiguousarray(self.score)
        ends = np.zeros((2, k, k))
        pair_ends(score, wanted, weight, lam, np.empty((k + 1, ROWS)), ends)
        return ends

    def along(self, along: Any, lam: float) -> Any:
        value = np.empty(self.score.shape[1])
        pair_along(np.ascontiguousarray(self.score), along, lam, np.empty((len(self.score) + 1, ROWS)), value)
        return value


@dataclass(frozen=True)
class PairMeans:
    """Any table: mean (P, n) of every pair, in the order of combinations, from the lower arm's side."""

    mean: Any
    k: int

    def between(self, a: Any, b: Any) -> Any:
        low, high = np.minimum(a, b), np.maximum(a, b)
        place = low * (2 * self.k - low - 1) // 2 + high - low - 1
        mean = self.mean[place, np.arange(len(a))]
        return np.where(a < b, mean, 1.0 - mean)

    def sums(self, omega: Any, weight: Any) -> tuple[Any, Any]:
        sums, means = np.zeros((self.k, self.mean.shape[1])), np.zeros((self.k, self.k))
        for (i, j), mean in zip(combinations(range(self.k), 2), self.mean, strict=True):
            sums[i] += omega[i, j] * mean
            sums[j] += omega[i, j] * (1.0 - mean)
            means[i, j] = mean @ weight
        return sums, means

    def ends(self, wanted: Any, weight: Any, lam: float) -> Any:
        ends = np.zeros((2, self.k, self.k))
        for (i, j), mean in zip(combinations(range(self.k), 2), self.mean, strict=True):
            if wanted[i, j] != 0:
                ends[:, i, j] = [end @ weight for end in ends_of(mean, lam)]
        return ends

    def along(self, along: Any, lam: float) -> Any:
        value = np.zeros(self.mean.shape[1])
        for (i, j), mean in zip(combinations(range(self.k), 2), self.mean, strict=True):
            if along[i, j] != 0:
                value += along[i, j] * ends_of(mean, lam)[int(along[i, j] > 0)]
        return value


@dataclass(frozen=True)
class ContextualOutcome:
    """Arm scores linear in context; blocks have their design. fit: see :class:`Contextual`."""

    fit: Contextual

    def at(self, block: Block, fold: int) -> ArmScores:
        return ArmScores(self.fit.of(fold)[0] @ np.asarray(block.design))


@dataclass(frozen=True)
class GivenScores:
    """Arm scores that columns of the log give. place: (K,) of each arm's among the columns of a block."""

    place: Any

    def at(self, block: Block, fold: int) -> ArmScores:
        columns, first = np.asarray(block.columns), int(self.place[0])
        if (np.diff(self.place) == 1).all():
            return ArmScores(columns[first : first + len(self.place)])
        return ArmScores(columns[self.place])


@dataclass(frozen=True)
class ClassifiedOutcome:
    """A scikit-learn classifier without each fold, on the indicators e_j - e_k of the pair and the context.

    Read from both sides of the pair, and averaged, so that nothing hangs on the arms' order.
    """

    held: Sequence[Any]
    k: int

    def at(self, block: Block, fold: int) -> PairMeans:
        x, pairs = np.asarray(block.design)[1:].T, list(combinations(range(self.k), 2))
        mean = np.empty((len(pairs), block.n))
        step = max(1, _CELLS // max(block.n * (self.k + x.shape[1]), 1))
        for start in range(0, len(pairs), step):
            some = pairs[start : start + step]
            sides = [[_features(np.full(block.n, i), np.full(block.n, j), x, self.k) for i, j in some],
                     [_features(np.full(block.n, j), np.full(block.n, i), x, self.k) for i, j in some]]  # fmt: skip
            up, down = (self._won(np.concatenate(side), fold).reshape(len(some), -1) for side in sides)
            mean[start : start + step] = 0.5 * (up + 1.0 - down)
        return PairMeans(mean, self.k)

    def _won(self, features: Any, fold: int) -> Any:
        model = self.held[fold]
        return model.predict_proba(features)[:, list(model.classes_).index(1)]


@dataclass(frozen=True)
class Judged:
    """The mean of the shown pair given a judge's probability too: contextual scores plus a slope on its logit.

    Blocks hold the logit as the last column.
    """

    fit: Contextual

    def between(self, block: Block, fold: int) -> Any:
        theta, beta = self.fit.of(fold)
        score = theta @ np.asarray(block.design)
        return scipy.special.expit(
            _picked(score, block.a) - _picked(score, block.b) + beta[0] * np.asarray(block.columns)[-1]
        )


def _picked(score: Any, arm: Any) -> Any:
    """(n,) of scores (K, n) that of each row's arm; by place where they are one piece, in a third of the time."""
    n = score.shape[1]
    if score.flags.c_contiguous:
        return score.reshape(-1).take(arm * np.int64(n) + np.arange(n))
    return score[arm, np.arange(n)]


def ends_of(mu: Any, lam: float) -> tuple[Any, Any]:
    """The least and the largest mean of an outcome in [0, 1] whose odds were tilted by at most lam either way."""
    return np.maximum(mu / lam, 1.0 - lam * (1.0 - mu)), np.minimum(lam * mu, 1.0 - (1.0 - mu) / lam)


def contextual(blocks: Blocks, arms: Sequence[str], contexts: Contexts, ridge: float, folds: int,
               judge: bool = False) -> Contextual:  # fmt: skip
    """Contextual Bradley-Terry on the rows with an outcome. judge: with a slope on the last column."""

    def ready(block: Block) -> Block:
        columns = np.asarray(block.columns)[-1:] if judge else np.empty((0, block.n))
        return replace(block, columns=columns, propensity=None, clusters=(), sampling=None, drawn=(), place=None)

    parts = blocks.map(ready).split(folds, view=True)
    if any(joined(parts).each(scattered)):
        parts = [part.packed().map(by_pair) for part in parts]
    q, d = 1 + len(contexts.mean), int(judge)
    return ContextualProblem(parts, arms, q, d, np.full(len(arms) * q + d, ridge)).fit()


def classified_outcome(classifier: Any, blocks: Blocks, k: int, folds: int) -> ClassifiedOutcome:
    """A copy of the classifier fitted without each fold; a tie, or a soft label y, is y of a win, 1 - y of a loss."""
    parts = blocks.split(folds)

    def rows(block: Block) -> tuple[Any, Any, Any]:
        block = block.where(np.isfinite(np.asarray(block.y)))
        x, y = np.asarray(block.design)[1:].T, np.asarray(block.y)
        both = [_features(block.a, block.b, x, k), _features(block.b, block.a, x, k)]
        return np.concatenate(both), np.concatenate([y, 1.0 - y]), np.tile(0.5 * weights(block), 2)

    held = []
    for fold in range(folds):
        others = joined([part for f, part in enumerate(parts) if f != fold or folds == 1])
        x, y, w = (np.concatenate(part) for part in zip(*others.each(rows), strict=True))
        won, lost = y > 0, y < 1
        if not (won.any() and lost.any()):
            raise NotIdentifiedError(f"every outcome outside fold {fold} is the same: a classifier needs both")
        features, label = np.concatenate([x[won], x[lost]]), np.repeat([1, 0], [won.sum(), lost.sum()])
        weight = np.concatenate([(w * y)[won], (w * (1 - y))[lost]])
        model = copy.deepcopy(classifier)
        model.fit(features, label) if (weight == 1.0).all() else model.fit(features, label, sample_weight=weight)
        held.append(model)
    return ClassifiedOutcome(held, k)


def _features(j: Any, k_: Any, x: Any, k: int) -> Any:
    """(n, K + d) +1 at arm j, -1 at the other, then the context."""
    n = len(j)
    out = np.zeros((n, k + x.shape[1]))
    out[np.arange(n), j], out[np.arange(n), k_] = 1.0, -1.0
    out[:, k:] = x
    return out


def score_columns(outcome: Sequence[str], arms: Sequence[str]) -> None:
    """Refuses columns of scores that are not those of the log's arms, one each."""
    lacking, strange = [arm for arm in arms if arm not in outcome], [arm for arm in outcome if arm not in arms]
    if lacking or strange:
        raise LogError(
            f"outcome= names a column of scores for each arm: {lacking[:5]} have none, and the log does not know "
            f"{strange[:5]}"
        )
