"""The influence of rows on parameters, held through its two moments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
import scipy  # its parts load when first used

from steelyard._native.draws import normals
from steelyard.errors import NotIdentifiedError, warn
from steelyard.passes import in_order
from steelyard.solve import one_blas_thread

FEW = 15  # clusters, or rows: what so few tell of has errors that are too small
_DRAWN_TOGETHER = 128  # whatever the number of cores, so that the sums have the same bits


@dataclass(frozen=True)
class Influence:
    """psi_i = A^+ s_i for every row i (estimators.md, section 5).

    bread: (p, p) A^+. meat: (p, p) sum of s s' over rows, or over clusters. clipped: the most negative eigenvalue that
    multiway clustering produced and that was set to 0, as a share of the largest, parameters in units of their spread.
    """

    bread: Any
    meat: Any
    clipped: float = 0.0

    @cached_property
    @one_blas_thread()
    def covariance(self) -> Any:
        """(p, p) sandwich A^+ (sum s s') A^+."""
        value = self.bread @ self.meat @ self.bread
        return (value + value.T) / 2

    @one_blas_thread()
    def draws(self, n: int, seed: int) -> Any:
        """(n, p) errors of the estimate under normal multipliers, sum_i xi_i psi_i, xi_i ~ N(0, 1).

        Their law given the log is N(0, covariance) whatever the rows, so it is drawn directly, through the
        pivoted Cholesky root of the covariance, which may be singular.
        """
        root, order, rank, _singular = scipy.linalg.lapack.dpstrf(self.covariance, lower=1)
        back = np.argsort(order)
        root = np.tril(root)[back, :rank].T
        errors = np.empty((n, len(order)))

        def fill(start: int) -> None:
            noise = np.empty((min(_DRAWN_TOGETHER, n - start), rank))
            normals(seed, start, noise)
            np.matmul(noise, root, out=errors[start : start + len(noise)])

        list(in_order(fill, range(0, n, _DRAWN_TOGETHER)))
        return errors


class Pending:
    """An influence that is made when it is first asked for; what it is made of is let go of then.

    A copy, or what is pickled, is the influence. Two threads that ask at once may both make it.
    """

    def __init__(self, make: Callable[[], Influence]) -> None:
        self._make: Callable[[], Influence] | None = make
        self._made: Influence | None = None

    def made(self) -> Influence:
        """The influence."""
        make = self._make
        if self._made is None and make is not None:
            self._made = make()
            self._make = None
        assert self._made is not None
        return self._made

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        made = self.made()
        return Influence, (made.bread, made.meat, made.clipped)


def squared_rows(scores: Any, count: Any) -> Any:
    """(p, p) the sum of s s' over comparisons; scores: (n, p) of rows, count (n,) times s where one stands for many."""
    return (scores if count is None else scores / count[:, None]).T @ scores


@one_blas_thread()
def multiway(names: Sequence[str], squares: Sequence[Any], groups: Sequence[int]) -> tuple[Any, float]:
    """Cluster-robust meat by inclusion and exclusion over cluster columns (Cameron, Gelbach and Miller 2011).

    names, squares, groups: for each of :func:`cluster_sets`, in its order, what to call it, the sum of s s' over its
    clusters, (p, p), and how many they are. Each term carries its factor G / (G - 1); negative eigenvalues are set
    to 0 and told. Raises NotIdentifiedError for a single cluster; warns of a column of few.
    """
    meat: Any = 0.0
    sets = cluster_sets(len(names).bit_length())
    for chosen, name, square, count in zip(sets, names, squares, groups, strict=True):
        if count < 2:
            raise NotIdentifiedError(f"cluster column {name!r} has {count} group; clustered errors need two")
        if count < FEW and len(chosen) == 1:
            warn(
                f"cluster column {name!r} has {count} groups: with fewer than {FEW} intervals by cluster are too short "
                "(of 95 %, some 80 with 3, 90 with 5)"
            )
        meat = meat + square * (count / (count - 1)) * (-1) ** (len(chosen) + 1)
    if len(names) == 1:
        return meat, 0.0
    unit = np.sqrt(np.abs(np.diag(meat)))
    unit = np.where(unit > 0, unit, 1.0)  # each parameter's own, so that the unit of a covariate changes nothing
    values, vectors = np.linalg.eigh((meat + meat.T) / (2 * np.outer(unit, unit)))
    clipped = max(0.0, -float(values.min())) / (float(values.max()) or 1.0)
    vectors *= unit[:, None]
    return (vectors * np.clip(values, 0.0, None)) @ vectors.T, clipped


def cluster_sets(count: int) -> list[tuple[int, ...]]:
    """All non-empty sets of cluster columns."""
    return [chosen for size in range(1, count + 1) for chosen in combinations(range(count), size)]
