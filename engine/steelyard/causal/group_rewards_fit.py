"""What a fit of group rewards tells: coefficients, mean outcomes, a test that groups are equal, the naive fit."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl
import scipy  # its parts load when first used

from steelyard.assignment.weights import Weights
from steelyard.causal.pairwise import FEW_ANSWERS, OWN
from steelyard.errors import FormatError, NotIdentifiedError, among, check_level
from steelyard.inference import Influence
from steelyard.inference.bands import p_value, quantile
from steelyard.inference.influence import FLAT
from steelyard.models.reward import loaded_rewards
from steelyard.models.reward_fit import RewardFit
from steelyard.models.saved import LoadedSpec, loaded_influence, settings_facts
from steelyard.result import LOADERS, Contrast, require, write_archive

if TYPE_CHECKING:
    from steelyard.causal.group_rewards import GroupRewards


_THIN = 0.5  # effective share below which a figure may be worse than the plain one


class GroupRow(NamedTuple):
    """One coefficient: whose, of what, where it stands among the parameters, or why it does not."""

    group: str
    term: str
    place: int | None
    reason: str | None


class EqualityTest(NamedTuple):
    """Wald test that every group has the same rewards: statistic, degrees of freedom, p-value."""

    statistic: float
    df: int
    p_value: float

    def __str__(self) -> str:
        return f"rewards equal over groups: Wald {self.statistic:.1f} on {self.df} degrees, p = {self.p_value:.2g}"


@dataclass(frozen=True, eq=False)
class GroupRewardsFit:
    """Rewards of rater groups over everyone's prompts. Made by :meth:`GroupRewards.fit`.

    rows: the coefficients. parameter: (p,) theirs, then the mean outcome of each group. psi: their influence.
    share: (G,) effective share of each group's rows. asked: (G,) how many comparisons these are. plain: (G,) mean
    outcome on its own prompts. n: comparisons.
    units: the fewest comparisons, or clusters of a column, that a group has; where a few rows are heavy fewer, as many
    rows of equal weight as would know a variance as well.
    naive: each group's rewards on its own prompts, where they are finite. overlap: what the propensity alone leaves of
    the log; a file does not keep it. estimand: in words.
    """

    spec: GroupRewards | LoadedSpec
    groups: tuple[str, ...]
    rows: list[GroupRow] = field(repr=False)
    parameter: Any = field(repr=False)
    psi: Influence = field(repr=False)
    share: Any = field(repr=False)
    asked: Any = field(repr=False)
    plain: Any = field(repr=False)
    n: int
    units: int
    iterations: int
    gradient_norm: float
    naive: RewardFit | None = field(repr=False)
    overlap: Weights | None = field(repr=False)
    estimand: str
    dropped: dict[str, int] = field(default_factory=dict)

    @property
    def converged(self) -> bool:
        return True  # a fit that has not converged is an error, never a result

    @property
    def covariance(self) -> Any:
        """(p, p) of the coefficients, then the groups' mean outcomes; NaN of what has no error."""
        return self.psi.covariance

    def coefficients(self, level: float = 0.95) -> pl.DataFrame:
        """group term estimate se low high p_value effective_share naive naive_se reason.

        naive: the plain fit on the group's own prompts. effective_share: of the group's rows, (sum w)^2 / (n sum w^2).
        """
        check_level(level)
        known = [] if self.naive is None else self.naive.coefficients(level).iter_rows(named=True)
        plain = {row["term"]: row for row in known}
        rows = []
        for group, term, place, reason in self.rows:
            other = plain.get(f"{term} [{group}]", {"estimate": None, "se": None})
            share = self.share[self.groups.index(group)]
            *told, why = (*(None,) * 5, reason) if place is None else self._told(place, level)
            rows.append((group, term, *told, share, other["estimate"], other["se"], why))
        names = ["group", "term", "estimate", "se", "low", "high", "p_value", "effective_share", "naive", "naive_se"]
        types = [pl.String, pl.String, *[pl.Float64] * 8, pl.String]
        return pl.DataFrame(rows, schema=dict(zip([*names, "reason"], types, strict=True)), orient="row")

    def compare(self, level: float = 0.95) -> pl.DataFrame:
        """group term naive naive_se estimate se moved effective_share caution.

        caution: where overlap is thin, and the variance of the doubly robust figure exceeds what the naive one's mean
        squared error seems to be (its variance, and the square of the move beyond what chance explains).
        """
        frame = self.coefficients(level).with_columns(moved=pl.col("estimate") - pl.col("naive"))
        excess = (pl.col("se") ** 2 - pl.col("naive_se") ** 2).abs()
        error = pl.col("naive_se") ** 2 + (pl.col("moved") ** 2 - excess).clip(0.0)
        words = pl.format(
            "overlap is thin (effective share {}): the plain figure may be nearer", pl.col("effective_share").round(2)
        )
        thin = pl.col("effective_share") < _THIN
        caution = pl.when(thin & (pl.col("se") ** 2 > error)).then(words).alias("caution")
        return frame.select("group", "term", "naive", "naive_se", "estimate", "se", "moved", "effective_share", caution)

    def rewards(self, level: float = 0.95) -> pl.DataFrame:
        """group reward se low high naive effective_share reason: mean outcome, from a's side, of each group.

        What raters of the group would say on average over everyone's prompts; naive: over their own.
        """
        check_level(level)
        first = len(self.parameter) - len(self.groups)
        told = [self._told(first + j, level) for j in range(len(self.groups))]
        names = ("reward", "se", "low", "high", "p_value", "reason")
        columns = {name: pl.Series(each, dtype=pl.String if name == "reason" else pl.Float64)
                   for name, each in zip(names, zip(*told, strict=True), strict=True)}  # fmt: skip
        frame = pl.DataFrame({"group": self.groups, **columns, "naive": self.plain, "effective_share": self.share})
        return frame.select("group", *names[:4], "naive", "effective_share", "reason")

    def contrast(self, x: str, y: str, term: str | None = None, level: float = 0.95) -> Contrast:
        """Coefficient of a term (default: the mean outcome) in group x, less that in group y."""
        check_level(level)
        along = np.zeros(len(self.parameter))
        for group, sign in ((x, 1.0), (y, -1.0)):
            place, reason = self._place(group, term)
            if place is None:
                return Contrast(None, None, None, None, None, reason)
            along[place] += sign
        estimate, used = float(along @ self.parameter), np.flatnonzero(along)
        why = next(filter(None, (self._reasons[place] for place in used)), None)
        if why or not len(used):
            return Contrast(estimate, None, None, None, None, why or "the same group")
        se = float(np.sqrt(max(0.0, along[used] @ self.covariance[np.ix_(used, used)] @ along[used])))
        if not se > 0.0:
            return Contrast(estimate, None, None, None, None, FLAT)
        z = quantile(level)
        return Contrast(estimate, se, estimate - z * se, estimate + z * se, p_value(estimate / se))

    def test_equal(self, terms: Sequence[str] | None = None) -> EqualityTest:
        """Wald test that every group has the same rewards of these terms (default: all that each group identifies).

        Against Hotelling's T^2 with the degrees of the group that has fewest clusters (or comparisons; of heavy weights
        fewer, see `units`): the covariance was estimated, and of 40 clusters a chi-square rejects 12 equal differences
        six times too often. Where groups share no cluster this rejects too rarely, rather than too often.
        """
        known = {(row.group, row.term): row.place for row in self.rows}
        names = list(dict.fromkeys(row.term for row in self.rows)) if terms is None else list(terms)
        unknown = [name for name in names if (self.groups[0], name) not in known]
        if unknown:
            raise NotIdentifiedError(
                f"no terms {unknown}; there are {among((row.term for row in self.rows), unknown[0])}"
            )
        places = {name: [known[group, name] for group in self.groups] for name in names}
        names = [name for name, at in places.items() if all(p is not None and not self._reasons[p] for p in at)]
        if not names:
            raise NotIdentifiedError("no term has a coefficient with an error in every group: there is nothing to test")
        contrasts = []
        for name in names:
            for group in self.groups[1:]:
                along = np.zeros(len(self.parameter))
                along[known[group, name]], along[known[self.groups[0], name]] = 1.0, -1.0
                contrasts.append(along)
        matrix = np.array(contrasts)
        used = np.flatnonzero(matrix.any(axis=0))
        gap, spread = matrix @ self.parameter, matrix[:, used] @ self.covariance[np.ix_(used, used)] @ matrix[:, used].T
        rank = int(np.linalg.matrix_rank(spread, hermitian=True))
        if rank < len(gap):
            raise NotIdentifiedError(f"{len(gap)} differences with a covariance of rank {rank}: test fewer terms")
        left = self.units - rank
        if left < 1:
            raise NotIdentifiedError(
                f"{len(gap)} differences, but the errors of a group rest on {self.units} clusters or rows of like "
                "weight: test fewer by terms=, or fit without the group (see `effective_share`), or coarser contexts"
            )
        statistic = float(gap @ np.linalg.solve(spread, gap))
        p_value = float(scipy.stats.f.sf(statistic * left / (rank * (self.units - 1)), rank, left))
        return EqualityTest(statistic, rank, p_value)

    def _told(self, place: int, level: float) -> tuple[Any, ...]:
        """Estimate, error, interval, p-value, and why there is none."""
        value, why = float(self.parameter[place]), self._reasons[place]
        se, z = 0.0 if why else float(np.sqrt(self.covariance[place, place])), quantile(level)
        if not se > 0.0:
            return value, None, None, None, None, why or FLAT
        return value, se, value - z * se, value + z * se, p_value(value / se), None

    @cached_property
    def _reasons(self) -> list[str | None]:
        """Of each parameter why it has no error, or None."""
        whose = {row.place: self.groups.index(row.group) for row in self.rows}
        first, why = len(self.parameter) - len(self.groups), list(self.psi.why)
        for place in range(len(why)):
            group = place - first if place >= first else whose[place]
            if self.share[group] * self.asked[group] < OWN:
                why[place] = FEW_ANSWERS
        return why

    def _place(self, group: str, term: str | None) -> tuple[int | None, str | None]:
        if group not in self.groups:
            raise NotIdentifiedError(f"no group {group!r}; there are {list(self.groups)}")
        if term is None:
            return len(self.parameter) - len(self.groups) + self.groups.index(group), None
        for row in self.rows:
            if (row.group, row.term) == (group, term):
                return row.place, row.reason
        raise NotIdentifiedError(f"no term {term!r}; there are {among((row.term for row in self.rows), term)}")

    # --- files -----------------------------------------------------------------------------------
    def save(self, path: str | os.PathLike[str]) -> None:
        """One file of JSON and NumPy arrays, without the rows; read it with :func:`steelyard.load`."""
        plain, beside = (None, {}) if self.naive is None else self.naive.archive()
        facts = {name: getattr(self, name) for name in _FACTS} | {
            "spec": settings_facts(self.spec), "rows": self.rows, "clipped": self.psi.clipped, "naive": plain
        }  # fmt: skip
        arrays = {
            "parameter": self.parameter, **self.psi.arrays(), **{name: getattr(self, name) for name in _OF_GROUPS},
            **{f"naive {name}": part for name, part in beside.items()},
        }  # fmt: skip
        write_archive(path, "group-rewards", facts, arrays)


_OF_GROUPS = ("share", "asked", "plain")
_FACTS = ("groups", "n", "units", "iterations", "gradient_norm", "estimand", "dropped")


def _loaded(facts: dict[str, Any], arrays: dict[str, Any]) -> GroupRewardsFit:
    beside = {name[6:]: part for name, part in arrays.items() if name.startswith("naive ")}
    naive = None if facts["naive"] is None else loaded_rewards(facts["naive"], beside)
    rows, psi = [GroupRow(*row) for row in facts["rows"]], loaded_influence(facts, arrays)
    fit = GroupRewardsFit(
        LoadedSpec(**facts["spec"]), rows=rows, psi=psi, naive=naive, overlap=None,  # type: ignore[arg-type]
        parameter=arrays["parameter"], **{name: arrays[name] for name in _OF_GROUPS},
        **{name: facts[name] for name in _FACTS},
    )  # fmt: skip
    fit = replace(fit, groups=tuple(fit.groups))
    _check(fit, arrays)
    return fit


def _check(fit: GroupRewardsFit, arrays: dict[str, Any]) -> None:
    """Refuses a loaded file whose groups, coefficients and arrays do not go together."""
    groups, free = len(fit.groups), len(fit.parameter) - len(fit.groups)
    require(arrays, parameter=(free + groups,), share=(groups,), asked=(groups,), plain=(groups,))
    names = {row.term for row in fit.rows}
    if not groups or not names or not all(isinstance(name, str) for name in (*fit.groups, *names, fit.estimand)):
        raise FormatError("groups, coefficients or an estimand without words")
    if sorted((row.group, row.term) for row in fit.rows) != sorted((g, term) for g in fit.groups for term in names):
        raise FormatError("groups that do not each have one coefficient of every term")
    if not all(type(count) is int and count > 0 for count in (fit.n, fit.units, fit.iterations)):
        raise FormatError("a number of comparisons, clusters or steps that is none")
    for _, _, place, reason in fit.rows:
        if (place is None) != isinstance(reason, str):
            raise FormatError("a coefficient without a place and a reason, or with both")
        if place is not None and not (type(place) is int and 0 <= place < free):
            raise FormatError("a coefficient that is not there")
    if not (np.abs(fit.parameter) <= 1e50).all() or not ((fit.share > 0) & (fit.share <= 1 + 1e-9)).all():
        raise FormatError("coefficients that are no numbers or beyond all use, or shares that are none")
    if not (fit.asked > 0).all() or not np.isfinite(fit.plain).all() or fit.psi is None:
        raise FormatError("mean outcomes that are not finite, or no covariance")


LOADERS["group-rewards"] = _loaded
