"""Which columns a reward has, and how they are made of a block: features, interactions, heads of groups, covariates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from steelyard.blocks import NARROW, Block, Encoder
from steelyard.dictionary import Dictionary
from steelyard.errors import LogError
from steelyard.models.row_blocks import position_column, usable

if TYPE_CHECKING:
    from steelyard.log import PreferenceLog


@dataclass(frozen=True)
class Design:
    """Which columns a reward has: features, interactions, both for each group, covariates, the position.

    contexts: of numbers, that interact. levels: those of text, with their values, of which the first has no column; the
    others' are called name=value.
    """

    features: tuple[str, ...]
    covariates: tuple[str, ...]
    contexts: tuple[str, ...]
    levels: tuple[tuple[str, tuple[str, ...]], ...]
    interactions: tuple[tuple[str, str], ...]
    groups: tuple[str, ...]
    pooled: bool
    position: bool

    @property
    def _base(self) -> list[str]:
        return [*self.features, *(f"{feature}:{context}" for feature, context in self.interactions)]

    @property
    def _heads(self) -> int:
        """How many copies of the features there are: the shared one, and one a group."""
        return len(self.groups) + (self.pooled or not self.groups)

    @property
    def _bare(self) -> bool:
        """Whether the columns are the features and no more."""
        return not (self.covariates or self.interactions or self.groups or self.position)

    @property
    def names(self) -> list[str]:
        """Names of the columns."""
        base = self._base
        shared = base if self.pooled or not self.groups else []
        own = [f"{name} [{group}]" for group in self.groups for name in base]
        return [*shared, *own, *self.covariates, *["position"] * self.position]

    def terms(self) -> list[tuple[str, tuple[int, ...]]]:
        """What is reported, and the columns whose coefficients it is the sum of: a pooled head is shared plus own."""
        m, names = len(self._base), self.names
        terms: list[tuple[str, tuple[int, ...]]] = []
        for j, name in enumerate(names):
            own = self.groups and self.pooled and m <= j < m * self._heads
            terms.append((name, (j % m, j) if own else (j,)))
        return terms

    def shrunk(self, ridge: float) -> Any:
        """Places of the columns under the ridge: the features, or with groups what each head has of its own."""
        m = len(self._base)
        first = m if self.groups and self.pooled else 0
        return np.arange(first, m * self._heads if ridge else first)

    def asked_of(self, log: PreferenceLog) -> Encoder:
        """What reads the contexts of a log, values coded by their place."""
        levels = {name: Dictionary(list(values)) for name, values in self.levels}
        return Encoder(dict(log.outcomes), context=self.contexts, levels=levels)

    def view(self, encoder: Encoder) -> Callable[[Block], Block]:
        """Of the blocks of another encoder what :meth:`asked_of` would have read, of contexts."""
        at, known = [list(encoder.context).index(name) for name in self.contexts], list(encoder.levels)
        places = []
        for name, values in self.levels:
            place = {value: j for j, value in enumerate(values)}
            codes = [*(place.get(label, -1) for label in encoder.levels[name].labels()), -1]
            places.append((known.index(name), np.array(codes, np.int32)))

        def viewed(block: Block) -> Block:
            levels = tuple(codes[np.maximum(block.levels[j], -1)] for j, codes in places)
            return replace(block, context=tuple(block.context[i] for i in at), levels=levels)

        return viewed

    def beside(self, block: Block) -> dict[str, Any]:
        """(n,) each context column of a block, by the name that interactions know; NaN for a value not known here."""
        columns = dict(zip(self.contexts, block.context, strict=True))
        for (name, values), codes in zip(self.levels, block.levels, strict=True):
            columns |= {f"{name}={value}": np.where(codes < 0, np.nan, codes == j)
                        for j, value in enumerate(values) if j}  # fmt: skip
        return columns

    def matrix(self, block: Block) -> Any:
        """(n, d) of a block read with features, covariates, contexts and, where there are heads, group."""
        features, z, codes = block.differences(), np.asarray(block.columns).T, np.asarray(block.group)
        at = {name: j for j, name in enumerate(self.features)}
        beside = self.beside(block) if self.interactions else {}
        crossed = [features[:, at[f]] * beside[c] for f, c in self.interactions]
        base = np.column_stack([features, *crossed]) if crossed else features
        parts = [base] if self.pooled or not self.groups else []
        parts += [base * (codes == g)[:, None] for g in range(len(self.groups))]
        parts.append(z)
        if self.position:
            parts.append(position_column(block)[:, None])
        if len(parts) == 2 and not self.covariates:
            return base
        if sum(part.shape[1] for part in parts) > NARROW:  # the memory of single precision for all, where they are many
            parts = [_single(part) for part in parts] if features.dtype == np.float32 else parts
        return np.concatenate(parts, axis=1)

    def block(self, block: Block, keep_ties: bool, view: Callable[[Block], Block]) -> Block:
        """The block as a RowProblem without scores reads it. view: of its contexts."""
        assert block.y is not None
        use = usable(block, keep_ties)
        if not use.all():
            place = np.arange(block.n, dtype=np.int32) if block.place is None else block.place
            block = replace(block, place=place).where(use)
        if block.sides and self._bare:
            return replace(block, columns=None)
        matrix = self.matrix(view(block))
        block = replace(block, sides=(), squares=None)
        if matrix.shape[1] > NARROW:
            return replace(block, columns=None, features=np.ascontiguousarray(matrix))
        return replace(block, columns=np.ascontiguousarray(matrix.T, np.float64), features=None)


def _single(part: Any) -> Any:
    """In single precision. Raises LogError where a number is too large for it; what is no number stays so."""
    large = part[np.abs(part) > np.finfo(np.float32).max] if part.dtype != np.float32 else part[:0]
    if np.isfinite(large).any():
        raise LogError(
            "covariates or contexts beyond 3.4e38 beside more than 32 columns in single precision: give them in "
            "another unit, or the features in double precision"
        )
    return part.astype(np.float32, copy=False)
