"""What a fit of rewards of features tells: coefficients, contrasts, audits, predictions, and the file it is kept in."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from steelyard.blocks import Block, Encoder
from steelyard.dictionary import Dictionary
from steelyard.errors import LogError, NotIdentifiedError, among
from steelyard.inference import Bootstrap, Influence, Pending
from steelyard.inference.bootstrap import check_replicates
from steelyard.models import matrix_free
from steelyard.models.cells import Estimate
from steelyard.models.design import Design
from steelyard.models.row_audit import WON, fewest_of
from steelyard.models.row_problem import RowProblem
from steelyard.models.saved import refuse_own, spec_facts
from steelyard.models.score_fit import NO_SPREAD, Fit, Term, population
from steelyard.result import Contrast, DropAudit, write_archive

if TYPE_CHECKING:
    from steelyard.log import PreferenceLog
    from steelyard.models.reward import RewardModel

_MANY_COLUMNS = "beyond 4,000 columns: ask for a contrast"


@dataclass(frozen=True, eq=False)
class RewardFit(Fit):
    """Rewards of features with what is needed to speak of their uncertainty. Made by :meth:`RewardModel.fit`.

    design: its columns. coefficient: (d,) of each, 0 where it cannot be told. influence: of the parameters, made or to
    be made when asked for. terms: see :data:`Term`. n: comparisons used. dropped: rows left out, by reason. weight: of
    the comparisons used, in all. decided: share of the log's that is no tie, where ties are dropped.
    rows: those of the log, and their clusters, for an audit, and for contrasts among more than 4,000 columns; None once
    loaded.
    """

    spec: RewardModel
    design: Design = field(repr=False)
    coefficient: Any = field(repr=False)
    estimate: Estimate = field(repr=False)
    influence: Influence | Pending | None = field(repr=False)
    kind: str
    terms: list[Term] = field(repr=False)
    n: int
    dropped: dict[str, int] = field(default_factory=dict)
    weight: float = float("nan")
    decided: float = 1.0
    rows: tuple[RowProblem, tuple[tuple[str, int], ...]] | None = field(default=None, repr=False, compare=False)

    @property
    def estimand(self) -> str:
        equal = f", at equal {' and '.join(self.design.covariates)}" if self.design.covariates else ""
        whose = "each group's rewards" if self.design.groups else "rewards"
        shrunk = f", shrunk by ridge {self.spec.ridge:g}" if self.spec.ridge else ""
        return f"{whose} of response features in {population(self.spec.weights)}{equal}{shrunk}"

    @property
    def psi(self) -> Influence | None:  # type: ignore[override]
        """The influence of the parameters; None beyond 4,000 columns."""
        return self.influence.made() if isinstance(self.influence, Pending) else self.influence

    def _terms(self) -> list[Term]:
        return self.terms

    @property
    def _costly(self) -> str | None:
        return None if self.psi is not None else _MANY_COLUMNS

    def _variance(self, along: Any) -> float:
        if self.psi is not None:
            return super()._variance(along)
        if self.rows is None:
            raise NotIdentifiedError("beyond 4,000 columns a contrast asks the rows, which no file holds: fit again")
        return matrix_free.variance(self.rows[0], self.estimate.parameter, along, self.kind, self.rows[1])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "rows": None}  # they may be in a file that only this process has

    def near(self, ties: str, names: Sequence[str], tie: Sequence[float]) -> Any:
        """(p,) where the fit of a longer log may start: coefficients, tie; 0 for what is not known here.

        ties: its model of them. tie: where its tie parameter would start, if it has one.
        """
        known = dict(zip(self.design.names, self.coefficient, strict=True))
        tie = [self.estimate.tie] * len(tie) if ties == self.spec.ties else tie
        return np.array([*(known.get(name, 0.0) for name in names), *tie])

    def _no_spread(self, estimate: float) -> float:
        return NO_SPREAD * abs(estimate)  # features may have any unit

    def contrast(self, x: str, y: str, level: float = 0.95) -> Contrast:
        """Coefficient of term x minus that of term y, with a two-sided test that they are equal."""
        along = self._less(x, y)
        return Contrast(None, None, None, None, None, along) if isinstance(along, str) else self._contrast(along, level)

    def _less(self, x: str, y: str) -> Any:
        """(p,) what makes the difference of two terms of the parameters; or why there is none."""
        along, places = np.zeros(len(self.estimate.parameter)), {name: (at, why) for name, at, why in self.terms}
        for term, sign in ((x, 1.0), (y, -1.0)):
            if term not in places:
                raise NotIdentifiedError(f"no term {term!r}; there are {among(places, term)}")
            at, why = places[term]
            if at is None:
                return str(why)
            np.add.at(along, list(at), sign)
        return along

    def audit(self, x: str, over: str) -> DropAudit:
        """The fewest rows whose removal lets term `over` reach x (or x reach `over`, if it is behind).

        Its cells are rows, by number: row outcome rows. Raises ValueError for a loaded fit, weighted rows, soft labels.
        """
        if self.rows is None:
            raise ValueError("the drop audit needs the rows: fit the log again instead of loading the fit")
        along, problem = self._less(x, over), self.rows[0]
        if isinstance(along, str):
            raise NotIdentifiedError(along)
        parts = problem.blocks.each(lambda block: (block.weight is None, block.numbers(np.arange(block.n)), block.y))
        plain, numbers, y = zip(*parts, strict=True)
        outcome = np.concatenate(y)
        if not all(plain) or not np.isin(outcome, [*WON]).all():
            raise ValueError("the drop audit needs unweighted rows with hard labels")
        direction, before = along @ self._known_influence().bread, float(along @ self.estimate.parameter)
        rows, taken, after = fewest_of(problem, self.estimate, along, direction, before)
        at = np.flatnonzero(taken)
        columns = {"row": np.concatenate(numbers)[at], "outcome": [WON[won] for won in outcome[at].tolist()],
                   "rows": taken[at].astype(np.int64)}  # fmt: skip
        frame = pl.DataFrame(columns, schema_overrides={"outcome": pl.String}).sort("row")
        return DropAudit(rows, None if rows is None else rows / self.n, frame, before, after)

    def update(self, more: PreferenceLog) -> RewardFit:
        """Refused: a fit of rows needs all of them; start=fit saves steps."""
        raise ValueError("a fit of rows cannot be added to: fit the logs together, from start=fit")

    def _encoder(self, log: PreferenceLog) -> Encoder:
        design = self.design
        group = Dictionary(list(design.groups)) if design.groups else None
        return replace(design.asked_of(log), covariates=design.covariates, features=design.features, group=group)

    @property
    def parameters_of(self) -> Sequence[str]:
        return self.design.names

    def _checked(self, log: PreferenceLog) -> None:
        fitted, names = list(self.design.features), log.feature_columns()
        if names not in (fitted, [f"{name.rpartition('[')[0]}" for name in fitted[:1]]):
            raise LogError(
                f"the reward was fitted to the features {fitted[:10]}, in this order; {log.name} has {names[:10]}: "
                "scan it with the same columns, renamed where need be with pl.col(...).alias(...)"
            )

    def _margin(self, block: Block) -> Any:
        margin = self.design.matrix(block).astype(np.float64) @ self.coefficient
        return margin if block.group is None else np.where(block.group < 0, np.nan, margin)

    def bootstrap(self, replicates: int = 1000, seed: int = 0, method: str = "multiplier") -> Bootstrap:
        """Replicated coefficients by normal multipliers on the influence of rows, or of clusters."""
        check_replicates(replicates, seed)
        if method != "multiplier":
            raise ValueError('exact multinomial refits are for fits of scores alone: use method="multiplier"')
        known = self._known_influence()
        errors = known.draws(replicates, seed)
        errors[:, ~known.known] = np.nan
        drawn = self.estimate.parameter + np.vstack([np.zeros(errors.shape[1]), errors])
        values = np.full((replicates + 1, len(self.terms)), np.nan)
        for j, (_, places, _why) in enumerate(self.terms):
            if places is not None:
                values[:, j] = drawn[:, list(places)].sum(axis=1)
        names = [name for name, _, _ in self.terms]
        why = [reason or known.reason(np.bincount(places, minlength=len(known.why))) for _, places, reason in
               ((name, list(at or ()), why) for name, at, why in self.terms)]  # fmt: skip
        return Bootstrap(names, values[0], values[1:], method, 0, ("term", "estimate"), why)

    def save(self, path: str | os.PathLike[str]) -> None:
        """One file of JSON and NumPy arrays, without the rows; read it with :func:`steelyard.load`."""
        write_archive(path, "reward-fit", *self.archive())

    def archive(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Facts and arrays that it is saved by; :func:`loaded_rewards` reads them."""
        refuse_own(self.own)
        spec, design, influence = self.spec, self.design, self.psi
        facts = {
            "spec": spec_facts(spec), "kind": self.kind,
            "design": {name: getattr(design, name) for name in design.__dataclass_fields__}, "terms": self.terms,
            "estimate": self.estimate.facts(), "clipped": influence.clipped if influence else None, "n": self.n,
            "dropped": self.dropped, "weight": self.weight, "decided": self.decided,
        }  # fmt: skip
        arrays = {"coefficient": self.coefficient, "parameter": self.estimate.parameter}
        if influence is not None:
            arrays |= influence.arrays()
        return facts, arrays
