"""Models of assignment once fitted: the probability of what was assigned, of all that could have been, and scores.

Each has log_probability(block) (n,) of what block.drawn says; every(block) (C, n), of every class or pair, in the
order of `labels`; and is a :class:`Nuisance` where its parameters were estimated by a likelihood of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import combinations
from typing import Any

import numpy as np
import scipy  # its parts load when first used

from steelyard.assignment.contexts import Contexts
from steelyard.assignment.softmax import SoftmaxProblem, Solved, chunks, sums
from steelyard.blocks import Block
from steelyard.errors import NotIdentifiedError
from steelyard.models.row_blocks import weights
from steelyard.solve import dense_solver, one_blas_thread

PIECE = 1 << 13  # rows whose design is made at a time


@dataclass(frozen=True)
class SoftmaxModel:
    """A fitted softmax. problem: the rows it was fitted to. free: classes whose coefficients are parameters."""

    contexts: Contexts
    problem: SoftmaxProblem
    solved: Solved
    free: Any
    draws: int

    @property
    def gamma(self) -> Any:
        return self.solved.gamma

    def design(self, block: Block) -> Block:
        """The block with its design as columns."""
        return replace(block, columns=self.contexts.matrix(block))

    def log_probability(self, block: Block) -> Any:
        value = np.empty(block.n)
        for cut, part in block.pieces(PIECE):
            sums(replace(self.design(part), weight=None, count=None), self.gamma, value[cut], None)
        return value

    def every(self, block: Block) -> Any:
        q = self._shares(self.contexts.matrix(block))
        if self.draws == 1:
            return q
        others = 1.0 - q
        a, b = np.array(list(combinations(range(len(q)), 2))).T
        return q[a] * q[b] * (1.0 / others[a] + 1.0 / others[b])

    def _shares(self, x: Any) -> Any:
        """(k, n) softmax of the logits of a design (D, n)."""
        logits = self.gamma @ x
        q = np.exp(logits - logits.max(axis=0))
        return q / q.sum(axis=0)

    def separated(self) -> bool:
        """Whether the contexts tell the class of every row: then chance had no part in it."""
        if self.draws == 2 or self.problem.k == 1:
            return False

        def one(block: Block) -> bool:
            return all(
                bool((np.argmax(self.gamma @ x, axis=0) == block.drawn[0][cut]).all())
                for cut, x in chunks(block, self.problem.k)
            )

        return all(self.problem.blocks.each(one))

    def rows(self, block: Block) -> tuple[Any, Any]:
        scores = self.problem.scores(replace(self.design(block), weight=None, count=None), self.gamma, self.free)
        return -scores, scores * weights(block)[:, None]

    @property
    def tilted(self) -> Any:
        """As it enters overlap weights h / P, where the tilt h depends on it too."""
        return _Tilted(self)

    def gap(self, block: Block, propensity: Any) -> Any:
        """(n, q) d log h / d coefficients, h = 1 / sum_c 1 / P_c the overlap tilt: scores averaged by h / P_c.

        propensity: (C, n) of every class or pair.
        """
        h = 1.0 / (1.0 / propensity).sum(axis=0)
        share, x = h / propensity, self.contexts.matrix(block)
        q = self._shares(x)
        if self.draws == 1:
            tilt = share - q
        else:
            tilt = -q
            for (a, b), s in zip(combinations(range(len(q)), 2), share, strict=True):
                tilt -= s * _after_two(q, a, b)
                tilt[[a, b]] += s
        return (tilt[self.free][:, None] * x).reshape(-1, block.n).T

    @cached_property
    @one_blas_thread()
    def _inverse(self) -> Any:
        q, k, d = len(self.free) * self.problem.d, len(self.free), self.problem.d
        information = self.problem.information(self.gamma, self.free)
        if k == self.problem.k:  # a vector added to all classes changes nothing: tied down, exact for all that matters
            information += np.kron(np.full((k, k), np.trace(information) / q / k), np.eye(d))
        try:
            return dense_solver(information)
        except NotIdentifiedError:  # collinear contexts: probabilities are identified, and so is all that is asked
            return partial(np.matmul, np.linalg.pinv(information, rcond=1e-10, hermitian=True))

    def solve(self, across: Any) -> Any:
        return self._inverse(across)


def _after_two(q: Any, a: int, b: int) -> Any:
    """mu (K, n): mean over the two orders of q without the arm drawn first."""
    without_a, without_b = 1.0 - q[a], 1.0 - q[b]
    first_a = without_b / (without_a + without_b)
    mu = q * (first_a / without_a + (1.0 - first_a) / without_b)
    mu[a] = (1.0 - first_a) * q[a] / without_b
    mu[b] = first_a * q[b] / without_a
    return mu


@dataclass(frozen=True)
class Frequency:
    """Shares of the classes within strata. table: (S, C) weight of the rows. contexts: of the strata; sizes of each."""

    contexts: Contexts
    table: Any

    def stratum(self, block: Block) -> Any:
        """(n,) number of the stratum, -1 where a value was not there."""
        code, known = np.zeros(block.n, np.int64), np.ones(block.n, bool)
        for (_, values), codes in zip(self.contexts.levels, block.levels, strict=True):
            code = code * len(values) + codes
            known &= codes >= 0
        return np.where(known, code, -1)

    def every(self, block: Block) -> Any:
        stratum = self.stratum(block)
        with np.errstate(invalid="ignore"):
            shares = (self.table / self.table.sum(axis=1, keepdims=True)).T
        return np.where(stratum >= 0, shares[:, stratum], np.nan)

    def log_probability(self, block: Block) -> Any:
        stratum, cell = self.stratum(block), block.drawn[0]
        with np.errstate(divide="ignore", invalid="ignore"):
            value = np.log(self.table[stratum, cell] / self.table.sum(axis=1)[stratum])
        return np.where(stratum >= 0, value, np.nan)

    def separated(self) -> bool:
        seen = self.table > 0
        return bool(seen.any(axis=0).sum() > 1 and (seen.sum(axis=1) <= 1).all())

    def rows(self, block: Block) -> tuple[Any, Any]:
        """Indicators of a row's cell and of its stratum: shares within strata are saturated, so means do it all."""
        strata, classes = self.table.shape
        stratum, n = self.stratum(block), np.arange(block.n)
        ones = np.ones(2 * block.n)
        where = (np.tile(n, 2), np.concatenate([stratum * classes + block.drawn[0], strata * classes + stratum]))
        shown = scipy.sparse.coo_array((ones, where), shape=(block.n, strata * classes + strata)).tocsr()
        return shown, scipy.sparse.dia_array((weights(block)[None], [0]), shape=(block.n, block.n)) @ shown

    @property
    def tilted(self) -> Any:
        """As it enters overlap weights h / P, where the tilt h depends on it too."""
        return _TiltedShares(self)

    def solve(self, across: Any) -> Any:
        cells, strata = self.table.ravel(), self.table.sum(axis=1)
        size = np.concatenate([-cells, strata])
        return across * np.divide(1.0, size, out=np.zeros_like(size), where=size != 0)[:, None]


@dataclass(frozen=True)
class _Tilted:
    """A softmax in overlap weights."""

    model: SoftmaxModel

    def rows(self, block: Block) -> tuple[Any, Any]:
        slopes, scores = self.model.rows(block)
        return slopes + self.model.gap(block, self.model.every(block)), scores

    def solve(self, across: Any) -> Any:
        return self.model.solve(across)


@dataclass(frozen=True)
class _TiltedShares:
    """Shares within strata in overlap weights: d log h is one in all rows of a stratum, whose indicator tells it."""

    model: Frequency

    def rows(self, block: Block) -> tuple[Any, Any]:
        return self.model.rows(block)

    def solve(self, across: Any) -> Any:
        table = self.model.table
        strata, classes = table.shape
        cells, whole = across[: strata * classes].reshape(strata, classes, -1), across[strata * classes :]
        with np.errstate(divide="ignore", invalid="ignore"):  # where some class is never drawn nothing has a weight
            inverse = table.sum(axis=1, keepdims=True) / table
            share = np.nan_to_num(inverse / inverse.sum(axis=1, keepdims=True))
        moved = cells - share[:, :, None] * whole[:, None]
        return self.model.solve(np.concatenate([moved.reshape(strata * classes, -1), np.zeros_like(whole)]))


@dataclass(frozen=True)
class Logged:
    """The logged propensity, trusted."""

    def log_probability(self, block: Block) -> Any:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.log(np.asarray(block.propensity))

    def every(self, block: Block) -> Any:
        raise ValueError(
            'a logged propensity is known for what was shown only: kind="overlap" needs it for every pair. '
            "Use kind='hajek', or a fitted propensity."
        )

    def separated(self) -> bool:
        return False


@dataclass(frozen=True)
class Classified:
    """A scikit-learn classifier with predict_proba, fitted to the standardised contexts. place: of each class."""

    contexts: Contexts
    classifier: Any
    place: Any
    classes: int

    def every(self, block: Block) -> Any:
        shares = np.zeros((self.classes, block.n))
        if block.n:
            shares[self.place] = np.asarray(self.classifier.predict_proba(self.contexts.matrix(block)[1:].T)).T
        return shares

    def log_probability(self, block: Block) -> Any:
        with np.errstate(divide="ignore"):
            return np.log(self.every(block)[block.drawn[0], np.arange(block.n)])

    def separated(self) -> bool:
        return False
