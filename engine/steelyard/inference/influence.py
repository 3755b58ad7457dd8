"""The influence of rows on parameters, held through its two moments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import scipy  # its parts load when first used

from steelyard._native.draws import normals
from steelyard.errors import NotIdentifiedError, warn
from steelyard.passes import in_order
from steelyard.solve import one_blas_thread

FEW = 15  # clusters, or rows: what so few tell of has errors that are too small
ONE = "all that tells of it is in one cluster, or one row, and nothing says how that would vary: no interval"
FLAT = "no spread, so no interval: what tells of it is met exactly, by row or by cluster, or the ridge holds it all"
PART = "what sets it apart is in one cluster, or met exactly, and nothing says how that would vary: no interval"
EXACT = 1e-8  # standard error, in a parameter's own unit, that is no more than what a solver's last step leaves
_LOST = 0.1  # of a variance, that may be left out of it before there is no interval
_ZERO = 1e-12  # of the largest, an eigenvalue that is what rounding left
_PLAIN = 1e-9  # a pivot, of a diagonal of 1, above which nothing is 0
_WIDEST = 500  # parameters among which combinations are looked at, which takes the cube of their number
_SHIFTED = 1e-11  # of a parameter's meat, which makes a singular one's root a continuous function of it
_DRAWN_TOGETHER = 128  # whatever the number of cores, so that the sums have the same bits


@dataclass(frozen=True, eq=False)
class Influence:
    """psi_i = A^+ s_i for every row i (docs/estimators.md, 3).

    bread: (p, p) A^+, its scores referred to a mean (:meth:`centred`). meat: (p, p) sum of s s' over rows, or over
    clusters. clipped: the most negative eigenvalue that multiway clustering produced and that was set to 0, as a share
    of the largest, parameters in units of their spread. told: (p,) rows, or clusters of the column that has fewest,
    that tell of each parameter; None where they were not counted. groups: clusters of that column in all. unit: (p,)
    that of each parameter: of a score 1, of a feature's coefficient 1 / the feature's size; None: 1. lost: (p, q) see
    :attr:`missing`; None: to be found out, without a ridge. k: how many parameters are scores, of which differences
    alone are told.
    """

    bread: Any
    meat: Any
    clipped: float = 0.0
    told: Any = None
    groups: int = 0
    unit: Any = None
    lost: Any = None
    k: int = 0

    def __getstate__(self) -> dict[str, Any]:
        """Without what is read only, which a copy would make anew, and writable."""
        return {name: value for name, value in vars(self).items() if name not in ("_sandwich", "covariance")}

    @cached_property
    @one_blas_thread()
    def _sandwich(self) -> Any:
        value = self.bread @ self.meat @ self.bread.T
        return _read_only((value + value.T) / 2)

    @cached_property
    def covariance(self) -> Any:
        """(p, p) sandwich A^+ (sum s s') A^+; NaN of parameters that have no error."""
        if self.known.all():
            return self._sandwich
        value = self._sandwich.copy()
        value[~self.known], value[:, ~self.known] = np.nan, np.nan
        return _read_only(value)

    def variance(self, along: Any) -> float:
        """Of along' parameter, along (p,), which has an error."""
        used = np.flatnonzero(along)
        return float(along[used] @ self._sandwich[np.ix_(used, used)] @ along[used])

    @cached_property
    def _alone(self) -> list[str | None]:
        """Of each parameter why it has no error by itself, or None.

        The scores of all rows sum to 0. So do those of one cluster, where it has all that tell of a parameter; those
        of rows that the fit meets exactly are 0 each. What is then left of a parameter's own error is rounding.
        """
        one = np.zeros(len(self.bread), bool) if self.told is None else (self.told > 0) & (self.told < 2)
        share = np.ones(len(one)) if self.told is None else self.told
        return [(ONE if count <= 1 else PART) if few else FLAT if flat else None
                for few, count, flat in zip(one, share, self._still, strict=True)]  # fmt: skip

    @cached_property
    def _still(self) -> Any:
        """(p,) bool: the parameters whose own scores show no spread."""
        own = np.abs(np.diag(self.bread)) * np.sqrt(np.maximum(np.diag(self.meat), 0.0))
        return own <= EXACT * (1.0 if self.unit is None else self.unit)

    @cached_property
    @one_blas_thread()
    def missing(self) -> Any:
        """(p, q) N: of the model's own covariance A^+ the part N N' is what no error here knows of.

        It lies along combinations of parameters whose scores are 0 in every row, or cluster: two halves of the arms
        that one cluster joins, levels of which one cluster has the one that the others stand against. Not looked for
        among many parameters, under a ridge, nor where clusters are too few for all combinations to vary, or cross.
        """
        if self.lost is not None:
            return self.lost
        p = len(self.bread)
        unit = np.sqrt(np.abs(np.diag(self.bread)))
        unit = np.where(unit > 0.0, unit, 1.0)
        if not 0 < p <= _WIDEST or self.clipped or 0 < self.groups <= p or self._varied():
            return np.zeros((p, 0))
        values, vectors = np.linalg.eigh(self.bread / np.outer(unit, unit))
        kept = values > _ZERO * values.max()
        root = vectors[:, kept] * np.sqrt(values[kept])
        spread, turn = np.linalg.eigh(root.T @ (self.meat * np.outer(unit, unit)) @ root)
        return unit[:, None] * (root @ turn[:, spread <= _ZERO * spread.max(initial=0.0)])

    def _varied(self) -> bool:
        """Whether every combination of parameters plainly varies, by the pivots of the meat: of most fits all does."""
        own = np.diag(self.meat)
        if not (own > 0.0).all():
            return False
        scaled = self.meat / np.sqrt(np.outer(own, own))
        scaled[: self.k, : self.k] += 1.0  # only differences of scores are told
        try:
            return bool(np.diag(np.linalg.cholesky(scaled)).min() ** 2 > _PLAIN)
        except np.linalg.LinAlgError:
            return False

    @cached_property
    def why(self) -> list[str | None]:
        """Of each parameter why it has no error, or None.

        Scores have one if they are among the most arms that nothing missing sets apart.
        """
        why, missing, k = list(self._alone), self.missing, self.k
        if not missing.shape[1]:
            return why
        free = np.flatnonzero([reason is None for reason in why[:k]])
        apart = np.ones(len(why), bool)
        apart[free[_largest_class(missing[free], np.sqrt(np.abs(np.diag(self.bread)).max()))]] = False
        apart[k:] = (missing[k:] ** 2).sum(axis=1) > _LOST * np.diag(self.bread)[k:]
        return [reason or (PART if lone else None) for reason, lone in zip(why, apart, strict=True)]

    @cached_property
    def known(self) -> Any:
        """(p,) bool: the parameters that have an error."""
        return np.array([reason is None for reason in self.why], bool)

    def reason(self, along: Any) -> str | None:
        """Why along' parameter, along (p,), has no error; None where it has one."""
        alone = next((self._alone[place] for place in np.flatnonzero(along) if self._alone[place]), None)
        if alone is not None or not self.missing.shape[1]:
            return alone
        lost = float(((along @ self.missing) ** 2).sum())
        return PART if lost > _LOST * float(along @ self.bread @ along) else None

    def centred(self, k: int) -> Influence:
        """The same with the first k parameters, scores, less their mean over those that have an error.

        Where some have none, a mean over all would carry what nobody knows into the error of each.
        """
        made = replace(self, k=k)
        known = made.known[:k]
        if known.all():
            return made
        bread = self.bread.copy()
        bread[:k] -= mean_of_known(bread[:k], known)
        return replace(made, bread=bread, lost=made.missing)

    def arrays(self) -> dict[str, Any]:
        """What a file holds of it, beside `clipped`."""
        counted = {"told": self.told, "unit": self.unit, "lost": self.missing}
        more = {name: np.asarray(values, float) for name, values in counted.items() if values is not None}
        return {"bread": self.bread, "meat": self.meat, **more}

    @one_blas_thread()
    def draws(self, n: int, seed: int) -> Any:
        """(n, p) errors of the estimate under normal multipliers, sum_i xi_i psi_i, xi_i ~ N(0, 1).

        Their law given the log is N(0, covariance) whatever the rows, so it is drawn directly, through a Cholesky root
        of the meat. That is singular: rows tell of differences of scores, and clusters may be fewer than parameters.
        A hair's breadth on its diagonal makes the root, and the draws, the same but for rounding in any order of rows.
        """
        own = np.where(self._still, 0.0, np.diag(self.meat))  # what else is there of those is rounding
        unit = np.sqrt(np.where(own > 0.0, own, 1.0))
        scaled = np.where(np.outer(own > 0.0, own > 0.0), self.meat / np.outer(unit, unit), 0.0)
        root = scipy.linalg.blas.dtrmm(1.0, _root(scaled) * unit[:, None], self.bread.T, trans_a=1, lower=1)
        errors = np.empty((n, len(unit)))

        def fill(start: int) -> None:
            noise = np.empty((min(_DRAWN_TOGETHER, n - start), len(unit)))
            normals(seed, start, noise)
            np.matmul(noise, root, out=errors[start : start + len(noise)])

        list(in_order(fill, range(0, n, _DRAWN_TOGETHER)))
        return errors


def _read_only(value: Any) -> Any:
    """The array itself, which all that a fit tells is read from: a change in place would change every error."""
    value.flags.writeable = False
    return value


def _largest_class(missing: Any, size: float) -> Any:
    """Places of the most rows of missing (m, q) that are alike, but for rounding beside `size`."""
    best = np.zeros(0, int)
    left = np.arange(len(missing))
    while len(left) > len(best):
        alike = np.abs(missing[left] - missing[left[0]]).max(axis=1) <= 1e-6 * size
        best = left[alike] if alike.sum() > len(best) else best
        left = left[~alike]
    return best


def mean_of_known(scores: Any, known: Any) -> Any:
    """Mean of scores (k, ...) over the arms that have an error, known (k,) bool; over all where fewer than two do."""
    return scores[known if known.sum() > 1 else slice(None)].mean(axis=0)


def _root(scaled: Any) -> Any:
    """(p, p) lower triangle L, L L' a matrix with a diagonal of 1 and 0, and a hair's breadth more."""
    try:
        return np.linalg.cholesky(scaled + _SHIFTED * np.eye(len(scaled)))
    except np.linalg.LinAlgError:  # sums of large numbers that cancel have left a little that is no sum of squares
        values, vectors = np.linalg.eigh(scaled)
        return np.linalg.qr((vectors * np.sqrt(np.maximum(values, 0.0))).T)[1].T


class Pending:
    """An influence that is made when it is first asked for.

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
        return Influence, (made.bread, made.meat, made.clipped, made.told, made.groups, made.unit, made.missing, made.k)


def squared_rows(scores: Any, count: Any) -> Any:
    """(p, p) the sum of s s' over comparisons; scores: (n, p) of rows, count (n,) times s where one stands for many."""
    return (scores if count is None else scores / count[:, None]).T @ scores


class Squares(NamedTuple):
    """Of the clusters of a column. square: (p, p) the sum of s s', s the sum of a cluster's row scores. groups: how
    many they are. told: (p,) those of them with a score of each parameter."""

    square: Any
    groups: int
    told: Any


class Meat(NamedTuple):
    """Of cluster columns, as :class:`Influence` takes it after its bread."""

    square: Any
    clipped: float
    told: Any
    groups: int


@one_blas_thread()
def multiway(names: Sequence[str], squares: Sequence[Squares]) -> Meat:
    """Cluster-robust meat by inclusion and exclusion over cluster columns (Cameron, Gelbach and Miller 2011).

    names, squares: for each of :func:`cluster_sets`, in its order, what to call it, and its clusters. Each term carries
    its factor G / (G - 1); negative eigenvalues are set to 0 and told. Raises NotIdentifiedError for a single cluster;
    warns of a column of few.
    """
    meat: Any = 0.0
    sets = cluster_sets(len(names).bit_length())
    for chosen, name, (square, count, _) in zip(sets, names, squares, strict=True):
        if count < 2:
            raise NotIdentifiedError(f"cluster column {name!r} has {count} group; clustered errors need two")
        if count < FEW and len(chosen) == 1:
            warn(
                f"cluster column {name!r} has {count} groups: with fewer than {FEW} intervals by cluster are too short "
                "(of 95 %, some 80 with 3, 90 with 5)"
            )
        meat = meat + square * (count / (count - 1)) * (-1) ** (len(chosen) + 1)
    told, groups = np.min([each.told for each in squares], axis=0), min(each.groups for each in squares)
    if len(names) == 1:
        return Meat(meat, 0.0, told, groups)
    unit = np.sqrt(np.abs(np.diag(meat)))
    unit = np.where(unit > 0, unit, 1.0)  # each parameter's own, so that the unit of a covariate changes nothing
    values, vectors = np.linalg.eigh((meat + meat.T) / (2 * np.outer(unit, unit)))
    clipped = max(0.0, -float(values.min())) / (float(values.max()) or 1.0)
    vectors *= unit[:, None]
    return Meat((vectors * np.clip(values, 0.0, None)) @ vectors.T, clipped, told, groups)


def warn_of_few(names: Sequence[str], told: Any, groups: int) -> None:
    """Warns of what so few clusters tell of that its error is too small. told: (n,) how many; groups: there are in all.

    Of fewer in all the whole column was warned of.
    """
    few = [f"{name} ({int(count)})" for name, count in zip(names, told, strict=True) if 2 <= count < FEW]
    if few and groups >= FEW:
        more = f" and {len(few) - 10} more" if len(few) > 10 else ""
        warn(
            f"fewer than {FEW} clusters tell of {', '.join(few[:10])}{more}: their intervals are too short, and tests "
            "find what is not there (of 95 %, some 65 cover with 2, 80 with 3, 90 with 5). Collect from more."
        )


def cluster_sets(count: int) -> list[tuple[int, ...]]:
    """All non-empty sets of cluster columns."""
    return [chosen for size in range(1, count + 1) for chosen in combinations(range(count), size)]
