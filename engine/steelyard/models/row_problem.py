"""The likelihood on blocks of rows with covariates or features: one pass a Newton step (docs/estimators.md, 1 to 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np

from steelyard._native.pair_likelihood import MODELS
from steelyard._native.row_likelihood import row_likelihood
from steelyard.blocks import NARROW, Block
from steelyard.inference.nuisance import Nuisance
from steelyard.models import cells, matrix_free
from steelyard.models.cells import TIE_MODELS, Estimate
from steelyard.models.likelihood import Likelihood
from steelyard.models.row_blocks import Apart, Totals, totals_of
from steelyard.models.wide import add_gram, add_scores, pieces, times
from steelyard.solve import Point, dense_solver, pinned
from steelyard.spill import Blocks

_LONG = 1 << 18  # rows
_ROWS_A_COLUMN = 32  # that some of the rows must leave
_THINNED = 16


@dataclass(frozen=True)
class RowProblem:
    """The likelihood of k scores and d columns on blocks of rows; parameters: scores, columns, tie.

    names: of the d columns.
    blocks: of good rows; codes below k; columns (d, n), or sides of features that lie in a frame, or where there are
    more than NARROW and no scores, perhaps features (n, d), float32 or float64. penalty: (p,) r in r/2 parameter^2 on
    the summed log-likelihood.
    own: a likelihood in place of the model's. nuisances: what was estimated before and entered the weights;
    rest: rows that it was estimated on and that this fit leaves out. apart: of columns that are not in `columns`.
    """

    blocks: Blocks
    k: int
    names: tuple[str, ...]
    model: str
    penalty: Any
    own: Likelihood | None = None
    nuisances: Sequence[Nuisance] = ()
    rest: Sequence[Blocks] = ()
    apart: Apart | None = None

    @property
    def d(self) -> int:
        return len(self.names)

    @property
    def _code(self) -> int:
        return MODELS[self.model] if self.own is None else MODELS["bradley-terry"]

    @property
    def _own(self) -> int:
        """Address of the compiled likelihood of one's own; 0 for the built-in models."""
        return 0 if self.own is None else self.own.address

    @property
    def ties(self) -> bool:
        return self.model in TIE_MODELS

    @property
    def size(self) -> int:
        return self.k + self.d + self.ties

    @property
    def narrow(self) -> bool:
        """Whether the kernel makes all; of more columns BLAS makes the matrices, a few rows at a time."""
        return self.k > 0 or self.d <= NARROW

    @property
    def matrix_free(self) -> bool:
        """Whether there are so many scores and columns that no matrix (p, p) is held."""
        return self.size > cells.WIDEST_DENSE

    @cached_property
    def totals(self) -> Totals:
        """What is counted of the rows before anything is fitted; one pass."""
        return Totals(*(sum(part) for part in zip(*self.blocks.each(partial(totals_of, self.apart)), strict=True)))

    def sums(self, parameter: Any, hessian: bool = True, meat: bool = False) -> Sums:
        """One pass: log-likelihood, score (p,), and where asked for Hessian and meat.

        Without the two it costs a fraction where columns are many.
        """

        def one(block: Block) -> Sums:
            told = Sums(0.0, *self._zeros(hessian, meat))
            return told._replace(value=self._evaluate(block, parameter, None, *told[1:]))

        total, (score, *matrices) = 0.0, self._zeros(hessian, meat)
        for value, some, *more in self.blocks.each(one):
            total += value
            score += some
            for matrix, other in zip(matrices, more, strict=True):
                if matrix is not None:
                    matrix += other
        whole = (None if matrix is None else np.triu(matrix) + np.triu(matrix, 1).T for matrix in matrices)
        return Sums(total, score, *whole)

    def slope(self, parameter: Any) -> tuple[float, Any]:
        """One pass: log-likelihood and score (p,)."""
        return self.sums(parameter, hessian=False)[:2]

    def _zeros(self, hessian: bool, meat: bool) -> tuple[Any, Any, Any]:
        p = self.size
        return np.zeros(p), np.zeros((p, p)) if hessian else None, np.zeros((p, p)) if meat else None

    def _evaluate(self, block: Block, parameter: Any, by_eta: Any, score: Any, hessian: Any, meat: Any) -> float:
        """Adds to what is asked for; matrices (p, p), their upper triangles, or None."""
        asked = (parameter, by_eta, score, hessian, meat)
        by_blas = not self.narrow if block.features is None else hessian is not None or meat is not None
        return self._by_blas(block, *asked) if by_blas else self._by_kernel(block, *asked)

    def _by_kernel(self, block: Block, parameter: Any, by_eta: Any, score: Any, hessian: Any, meat: Any) -> float:
        """All in the kernel."""
        assert block.y is not None
        columns: Any = block.columns if self.apart is None else block.context
        sides: Any = block.sides or (None if block.features is None else (block.features,))
        return row_likelihood(
            self._code, self._own, self.k, block.a, block.b, columns, None, block.y, block.weight, block.count,
            parameter, by_eta, score, hessian, meat, None if self.apart is None else self.apart.origin, sides,
        )  # fmt: skip

    def _by_blas(self, block: Block, parameter: Any, by_eta: Any, score: Any, hessian: Any, meat: Any) -> float:
        """A few rows at a time: margins, the kernel, the score; Gram matrices by BLAS, in double."""
        d, total = self.d, 0.0
        for rows, x in pieces(block):
            part, rest, bend, square = np.empty((4, len(x))), *self._corner()
            total += self.rows_of(block, rows, times(x, parameter[:d]), parameter, part, rest, bend, square)
            d_eta, d_tie, h_eta, h_cross = part
            add_scores(x, d_eta, score[:d])
            score[d:] += rest
            if by_eta is not None:
                by_eta[:, rows] = part
            if hessian is not None:
                add_gram(hessian, x, np.sqrt(h_eta), h_cross, bend)
            if meat is not None:
                one_of = 1.0 if block.count is None else 1.0 / block.count[rows]  # a row for many
                add_gram(meat, x, np.abs(d_eta) * np.sqrt(one_of), one_of * d_eta * d_tie, square)
        return total

    def _corner(self) -> tuple[Any, Any, Any]:
        """Score, Hessian and meat of the tie parameter alone, if there is one."""
        ties = int(self.ties)
        return np.zeros(ties), np.zeros((ties, ties)), np.zeros((ties, ties))

    def rows_of(self, block: Block, cut: slice, offset: Any, parameter: Any, by_eta: Any, score: Any, hessian: Any,
                meat: Any) -> float:  # fmt: skip
        """The kernel on some rows of known margin (offset); score and matrices are of the tie parameter alone."""
        assert block.y is not None
        weight, count = (None if x is None else x[cut] for x in (block.weight, block.count))
        none = np.empty((0, len(offset)))
        return row_likelihood(
            self._code, self._own, 0, block.a[cut], block.b[cut], none, offset, block.y[cut], weight, count,
            parameter[self.k + self.d :], by_eta, score, hessian, meat,
        )  # fmt: skip

    @cached_property
    def thinned(self) -> RowProblem:
        """Every 16th row of a long log, the whole of a short one; what it sees first saves passes over all.

        Many columns make a log long sooner: where every 8th row leaves enough for each of them.
        """
        step = _THINNED if self.totals.rows >= _LONG else 1
        if step == 1 and not self.k and self.d > NARROW:
            step = min(_THINNED, self.totals.rows // (_ROWS_A_COLUMN * self.d))
        if step < _THINNED // 2:
            return self

        def some(block: Block) -> Block:
            block = block.where(slice(None, None, step))
            return self._together(block) if self.apart is None else self.apart.together(block)

        kept = self.blocks.each(some)
        return replace(self, blocks=Blocks(list(kept)), penalty=self.penalty / step + self.scale**2, apart=None)

    def _together(self, block: Block) -> Block:
        """The block with its own columns, or of many and without scores features, where they lay in a frame."""
        block = block.together()
        if block.features is None or not self.narrow:
            return block
        return replace(block, columns=np.ascontiguousarray(block.features.T, np.float64), features=None)

    def outside(self, scaled: Any) -> bool:
        """Whether the likelihood has no value there."""
        return self.model == "rao-kupper" and bool(scaled[-1] <= 0)

    @property
    def nowhere(self) -> Point:
        """What is told there."""
        return Point(-np.inf, np.zeros(self.size), lambda v: v)

    def penalised(self, scaled: Any, value: float, score: Any) -> tuple[float, Any]:
        """Value and score less the penalty's, in units of the scale."""
        parameter = scaled / self.scale
        return value - 0.5 * float(self.penalty @ parameter**2), (score - self.penalty * parameter) / self.scale

    def solver(self, hessian: Any) -> Any:
        """Solves in units of the scale with a Hessian (p, p) and the penalty."""
        unit = np.outer(self.scale, self.scale)
        return dense_solver(pinned(hessian / unit, self.k, self.penalty / self.scale**2))

    @cached_property
    def scale(self) -> Any:
        """(p,) root mean square of each column: the solver's unit, so that columns of any size are solved alike."""
        square, scale = self.totals.squares, np.ones(self.size)
        scale[self.k : self.k + self.d] = np.sqrt(np.where(square > 0, square / self.totals.rows, 1.0))
        return scale

    def row_scores(self, block: Block, parameter: Any) -> Any:
        """(2, n) d log p / d eta and / d tie of a block's rows, with their weights."""
        by_eta = np.empty((4, block.n))
        self._evaluate(block, parameter, by_eta, np.zeros(self.size), None, None)
        return by_eta[:2]

    def effects(self, estimate: Estimate, direction: Any) -> Any:
        """(n,) influence of each row on direction' parameter, direction (p,) = A^+ c."""
        return np.concatenate(list(self.blocks.each(matrix_free.effects_along(self, estimate.parameter, direction))))

    def weighted(self, weight: Any) -> RowProblem:
        """The same rows, each counting as often as weight (n,) says; rows of weight 0 are left out."""
        blocks, at = [], 0
        for block in self.blocks.each(lambda block: block):
            own = weight[at : at + block.n]
            at += block.n
            blocks.append(replace(block, weight=own.copy(), count=None).where(own > 0))
        return replace(self, blocks=Blocks(list(blocks)))

    def only(self, kept: list[int]) -> RowProblem:
        """The problem with some of its columns."""

        def some(block: Block) -> Block:
            block = self._together(block)
            columns: Any = block.columns
            features = block.features
            return replace(block, columns=None if columns is None else np.ascontiguousarray(columns[kept]),
                           features=None if features is None else np.ascontiguousarray(features[:, kept]),
                           context=tuple(block.context[j] for j in kept) if self.apart else block.context)  # fmt: skip

        places = [*range(self.k), *(self.k + j for j in kept), *range(self.k + self.d, self.size)]
        return replace(
            self, blocks=self.blocks.map(some), names=tuple(self.names[j] for j in kept), penalty=self.penalty[places],
            apart=self.apart and Apart(self.apart.origin[kept], self.apart.spread[kept]),
        )  # fmt: skip


class Sums(NamedTuple):
    """Log-likelihood, score (p,), and where asked for Hessian (p, p) and second moments of the row scores."""

    value: float
    score: Any
    hessian: Any
    meat: Any
