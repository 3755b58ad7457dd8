"""Scores of arms with their uncertainty: the tables, contrasts and probabilities that every fit offers."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
import polars as pl

from steelyard._native.pair_likelihood import MODELS, pair_likelihood, pair_outcomes
from steelyard.blocks import Block, Encoder
from steelyard.dictionary import Dictionary
from steelyard.errors import NotIdentifiedError, among, check_level
from steelyard.inference import Influence, arm_critical, rank_sets
from steelyard.inference.bands import DRAWS, p_value, quantile, ranks
from steelyard.inference.bootstrap import Bootstrap, check_replicates
from steelyard.inference.influence import FLAT, mean_of_known, warn_of_few
from steelyard.inference.nuisance import Nuisance
from steelyard.log import needs_log
from steelyard.models.cells import TIE_MODELS, Estimate
from steelyard.models.likelihood import Likelihood
from steelyard.models.saved import TABLE, refuse_own, spec_facts
from steelyard.models.scored_files import sink
from steelyard.pairs import PairTable, refuse_other_names
from steelyard.result import Contrast, free_name

if TYPE_CHECKING:
    from steelyard.log import PreferenceLog
    from steelyard.models.bradley_terry import BradleyTerry

ZERO = {"logit": 0.0, "elo": 1000.0}  # what a score of 0 is on each scale
_SCALES = {"logit": (1.0, ZERO["logit"]), "elo": (400.0 / np.log(10.0), ZERO["elo"])}
_MANY_ARMS = "beyond 4,000 arms: no rank set; standard error to within {:.1f} % (Monte Carlo)"
NO_SPREAD = 1e-9  # standard error on the logit scale below which there is none
_UNSETTLED = "its standard error did not settle in the Monte Carlo draws: ask for a contrast"

Term = tuple[str, tuple[int, ...] | None, str | None]
"""A coefficient: its name, the places after the scores that it is the sum of, or None and the reason."""


class RowWeights(Protocol):
    """Weights of rows that a fit asks for; :class:`steelyard.Weights` are such.

    asked_of: the fit's encoder, asked for the columns they read. weighed: a block with its weights.
    """

    @property
    def estimand(self) -> str: ...
    @property
    def nuisances(self) -> Sequence[Nuisance]: ...
    def asked_of(self, encoder: Encoder) -> Encoder: ...
    def weighed(self, block: Block) -> Block: ...


def population(weights: RowWeights | None) -> str:
    """Whose comparisons an estimate speaks of, in words."""
    return "the comparisons as logged" if weights is None else f"the comparisons {weights.estimand}"


class Fit(ABC):
    """What every fit by likelihood offers: coefficients, and predictions of logs.

    spec: the model. estimate: the solver's answer, scores of the identified arms first. psi: influence of the
    estimate's parameters. kind: of the covariance. covariates: names of those that a margin needs.
    """

    spec: Any
    estimate: Estimate
    psi: Influence | None
    kind: str
    covariates: tuple[str, ...] = ()

    @property
    def converged(self) -> bool:
        return True  # a fit that has not converged is an error, never a result

    @property
    def iterations(self) -> int:
        return self.estimate.iterations

    @property
    def gradient_norm(self) -> float:
        """Largest score entry, divided by n."""
        return self.estimate.gradient_norm

    @property
    def log_likelihood(self) -> float:
        return self.estimate.log_likelihood

    @property
    def covariance(self) -> Any:
        """(p, p) of the identified scores, then of the terms of :meth:`coefficients`; NaN of what has no error."""
        return self._known_influence().covariance

    def _known_influence(self) -> Influence:
        if self.psi is None:
            raise NotIdentifiedError("beyond 4,000 arms or columns no full covariance is held: ask for a contrast")
        return self.psi

    def coefficients(self, level: float = 0.95) -> pl.DataFrame:
        """Covariates, position effect and tie parameter (log nu, or tau): term estimate se low high p_value reason."""
        check_level(level)
        k, z = self.estimate.k, quantile(level)
        rows: list[tuple[Any, ...]] = []
        for term, places, why in self._terms():
            if places is None:
                rows.append((term, None, None, None, None, None, why))
                continue
            along = np.zeros(len(self.estimate.parameter))
            along[[k + place for place in places]] = 1.0
            value, why = float(along @ self.estimate.parameter), self._costly or self._unknown(along)
            se = 0.0 if why else float(np.sqrt(max(self._variance(along), 0.0)))
            if not se > 0.0:
                rows.append((term, value, None, None, None, None, why or FLAT))
                continue
            rows.append((term, value, se, value - z * se, value + z * se, p_value(value / se), None))
        names = ["term", "estimate", "se", "low", "high", "p_value", "reason"]
        types = [pl.String, *[pl.Float64] * 5, pl.String]
        return pl.DataFrame(rows, schema=dict(zip(names, types, strict=True)), orient="row")

    @property
    def _costly(self) -> str | None:
        """Why a table has no standard errors, where each of them takes passes over the rows."""
        return None

    def _terms(self) -> list[Term]:
        """The coefficients beside the scores."""
        names = ["position"] * self.spec.position + ["tie"] * (self.spec.ties in TIE_MODELS)
        return [(name, (place,), None) for place, name in enumerate(names)]

    def _contrast(self, along: Any, level: float) -> Contrast:
        """along' parameter with its interval; along: (p,)."""
        check_level(level)
        estimate, why = float(along @ self.estimate.parameter), self._unknown(along)
        se = 0.0 if why else float(np.sqrt(max(self._variance(along), 0.0)))
        if se <= self._no_spread(estimate):
            return Contrast(estimate, None, None, None, None, why or FLAT)
        z = quantile(level)
        return Contrast(estimate, se, estimate - z * se, estimate + z * se, p_value(estimate / se))

    def _no_spread(self, estimate: float) -> float:
        """Standard error of a contrast below which there is none."""
        return NO_SPREAD

    def _unknown(self, along: Any) -> str | None:
        """Why along' parameter, along (p,), has no error; None where it has one."""
        return None if self.psi is None else self.psi.reason(along)

    def _variance(self, along: Any) -> float:
        """Variance of along' parameter; along: (p,)."""
        return self._known_influence().variance(along)

    @property
    def own(self) -> Likelihood | None:
        """The likelihood of one's own that was fitted, where there is one."""
        return self.spec.link if isinstance(self.spec.link, Likelihood) else None

    def _outcomes(self, eta: Any) -> tuple[Any, Any]:
        if self.own is not None:
            return np.exp(self.own.at(eta, 1.0)[0]), np.where(np.isfinite(eta), 0.0, np.nan)
        p_a, p_tie = np.empty(len(eta)), np.empty(len(eta))
        pair_outcomes(MODELS[self.spec.model], np.ascontiguousarray(eta), self.estimate.tie, p_a, p_tie)
        return p_a, np.where(np.isfinite(eta), p_tie, np.nan)

    def _log_likelihood(self, eta: Any, y: Any) -> Any:
        """(n,) log-likelihood of outcomes at margins, by the kernel: exact however unlikely; NaN where it has none."""
        n = len(eta)
        shares = [y, np.zeros(n), 1.0 - y]
        if self.spec.model in TIE_MODELS:
            shares = [np.where(np.isin(y, (0.0, 0.5, 1.0)), y == share, np.nan) for share in (1.0, 0.5, 0.0)]
        outcomes, out = np.ascontiguousarray(np.stack(shares, axis=1)), np.empty((6, n))
        known = np.isfinite(eta) & np.isfinite(outcomes).all(axis=1)
        eta, outcomes = np.where(known, eta, 0.0), np.where(known[:, None], outcomes, 0.0)
        a, b = np.zeros(n, np.int32), np.ones(n, np.int32)  # two arms alike: the margin is all in the position effect
        pair_likelihood(MODELS[self.spec.model], a, b, eta, outcomes, np.zeros(2), 1.0, self.estimate.tie, out)
        return np.where(known, out[0], np.nan)

    # --- scoring logs ----------------------------------------------------------------------------
    def predict(self, log: PreferenceLog) -> pl.LazyFrame:
        """Rows in log order: margin p_a p_tie p_b log_likelihood; null for arms without a score.

        The likelihood is null where the outcome is, where it is no outcome, and of a tie where `ties="drop"` left ties
        out; and of tallies (format="pairs"), each row of which holds several outcomes.
        """
        names = ("margin", "p_a", "p_tie", "p_b", "log_likelihood")
        schema = pl.Schema(dict.fromkeys(names, pl.Float64))
        log = needs_log(log).by_row
        self._checked(log)
        selected = log.selected(self._encoder(log))
        return selected.map_batches(lambda batch: self._scored(log, batch), schema=schema, streamable=True)

    def _scored(self, log: PreferenceLog, batch: pl.DataFrame) -> pl.DataFrame:
        block = self._encoder(log).block(batch)
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is null
            eta = self._margin(block)
        eta = np.where(np.isfinite(eta), eta, np.nan)
        p_a, p_tie = self._outcomes(eta)
        p_b = 1.0 - p_a - p_tie if self.own else self._outcomes(-eta)[0]
        y: Any = block.y
        if block.label is not None and block.value is not None:
            y = np.append(block.value, np.nan)[np.maximum(block.label, -1)]
        y = np.where((y >= 0.0) & (y <= 1.0), y, np.nan)  # other numbers are no outcome
        if self.spec.ties == "drop":
            y = np.where(y == 0.5, np.nan, y)
        likelihood = self.own.at(eta, y)[0] if self.own else self._log_likelihood(eta, y)
        columns = {"margin": eta, "p_a": p_a, "p_tie": p_tie, "p_b": p_b, "log_likelihood": likelihood}
        return pl.DataFrame({name: pl.Series(values).fill_nan(None) for name, values in columns.items()})

    def sink(self, log: PreferenceLog, path: str | os.PathLike[str], resume: bool = False) -> int:
        """Streams :meth:`predict` to Parquet in bounded memory; a file appears whole or not at all.

        path: a file ending in .parquet; or a folder, for a log scanned from a folder or glob: one file for each of
        its files, under the same name. resume: leave out what the folder already holds, scored by this fit from the
        file as it is now. Returns how many rows of all have a null margin, for arms without a score.
        """
        return sink(self, log, Path(path), resume)

    @property
    @abstractmethod
    def parameters_of(self) -> Sequence[str]:
        """Of arms or columns, what the parameters are of."""

    @abstractmethod
    def _encoder(self, log: PreferenceLog) -> Encoder:
        """What turns the batches of a log into blocks that this fit can score."""

    @abstractmethod
    def _checked(self, log: PreferenceLog) -> None:
        """Refuses a log whose columns are not those that were fitted."""

    @abstractmethod
    def _margin(self, block: Block) -> Any:
        """(n,) linear predictor of a block's rows, NaN where it cannot be told."""


@dataclass(frozen=True, eq=False)
class ScoreFit(Fit):
    """What a fit with one score an arm offers, whatever it was fitted to.

    pairs: the log's table of pairs. score: (K,) in the order of `arms`, NaN where not identified.
    why: reason for each NaN. psi: influence of the parameters; None beyond 4,000 arms.
    """

    spec: BradleyTerry
    pairs: PairTable = field(repr=False)
    score: Any = field(repr=False)
    why: list[str | None] = field(repr=False)
    estimate: Estimate = field(repr=False)
    psi: Influence | None = field(repr=False)
    kind: str

    @property
    def arms(self) -> list[str]:
        return self.pairs.arms.to_list()

    @property
    def parameters_of(self) -> Sequence[str]:
        return self.arms

    def _checked(self, log: PreferenceLog) -> None:
        refuse_other_names(log, self.arms)

    @property
    def main(self) -> Any:
        """(K,) bool: the arms with a finite score."""
        return np.isfinite(self.score)

    @property
    def estimand(self) -> str:
        tie = {"half": "a tie counts half", "drop": "ties left out"}.get(self.spec.ties, f"{self.spec.ties} ties")
        shrunk = f", shrunk by ridge {self.spec.ridge:g}" if self.spec.ridge else ""
        equal = f", at equal {' and '.join(self.covariates)}" if self.covariates else ""
        link = {"logistic": "Bradley-Terry", "probit": "Thurstone-Mosteller"}.get(str(self.spec.link), repr(self.own))
        return f"{link} scores ({tie}{shrunk}{equal}) of {population(self.spec.weights)}; {self._zero}"

    @property
    def _zero(self) -> str:
        """What the scores are told from, in words."""
        known = np.array([reason is None for reason in self._reasons])
        moved = not known.all() and known.sum() > 1
        return f"their mean over the scored arms{' that have an error' if moved else ''} is 0"

    def referred(self, psi: Influence | None) -> Self:
        """The fit with this influence, and its scores less their mean over the arms that have an error by it.

        Warns of arms that few clusters tell of.
        """
        if psi is None:
            return replace(self, psi=None)
        psi, score = psi.centred(self.estimate.k), self.score.copy()
        known = psi.known[: self.estimate.k]
        score[self.main] = self.estimate.theta - (0.0 if known.all() else mean_of_known(self.estimate.theta, known))
        if psi.told is not None:
            names = [*self.pairs.arms.filter(self.main), *(name for name, at, _ in self._terms() if at is not None)]
            warn_of_few(names, psi.told, psi.groups)
        return replace(self, score=score, psi=psi)

    def _coefficient(self, term: str) -> float:
        """Of the position or a covariate; 0 for what the fit does not have."""
        return self.estimate.position if term == "position" else 0.0

    def near(self, ties: str, arms: Sequence[str], terms: Sequence[str], tie: Sequence[float]) -> Any:
        """(p,) where the fit of a longer log may start: scores, coefficients, tie; 0 for what is not known here.

        ties: its model of them. tie: where its tie parameter would start, if it has one.
        """
        known = dict(zip(self.arms, np.where(self.main, self.score, 0.0), strict=True))
        tie = [self.estimate.tie] * len(tie) if ties == self.spec.ties else tie
        return np.array([*(known.get(arm, 0.0) for arm in arms), *map(self._coefficient, terms), *tie])

    @cached_property
    def _draws(self) -> Any:
        return self._drawn(DRAWS)

    def _drawn(self, n: int) -> Any:
        """(n, k) errors of the scores, the first n of the same whatever n."""
        return self._known_influence().draws(n, seed=0)[:, : self.main.sum()]

    @property
    def _unsettled(self) -> str:
        """Why an arm's standard error is NaN, though it has one."""
        return _UNSETTLED

    def _unknown(self, along: Any) -> str | None:
        if self.psi is not None:
            return super()._unknown(along)
        return next(filter(None, self._reasons[np.flatnonzero(along[: self.estimate.k])]), None)

    @property
    def _reasons(self) -> Any:
        """(k,) why each identified score has no error, None where it has one."""
        k = self.estimate.k
        return np.full(k, None) if self.psi is None else np.array(self.psi.why[:k], object)

    def _spread(self) -> Any:
        """(k,) standard errors of the identified scores."""
        return np.sqrt(np.clip(np.diag(self.covariance)[: self.main.sum()], 0.0, None))

    @property
    def spread_error(self) -> float:
        """Relative Monte Carlo error of the standard errors in :meth:`table`; 0 where they are exact."""
        return 0.0

    def _critical(self, spread: Any, level: float) -> float:
        """Standard errors that all intervals must reach to hold at once; Bonferroni's beyond 4,000 arms."""
        if self.psi is not None:
            m = int(self.main.sum())
            return arm_critical(self._draws, self.covariance[:m, :m], level)
        return quantile(1.0 - (1.0 - level) / len(spread))

    # --- tables ----------------------------------------------------------------------------------
    def table(self, level: float = 0.95, scale: str = "logit", simultaneous: bool = False) -> pl.DataFrame:
        """One row an arm: arm score se low high rank rank_low rank_high comparisons reason.

        level: of the intervals (simultaneous: all at once) and of the rank sets (always all at once).
        scale: "logit" (the model's own), or "elo" (400 / ln 10 times that, plus 1000).
        Beyond 4,000 arms standard errors are partly Monte Carlo (:attr:`spread_error`) and rank sets null.
        """
        check_level(level)
        if scale not in _SCALES:
            raise ValueError(f"scale must be 'logit' or 'elo', not {scale!r}")
        unit, zero = _SCALES[scale]
        main, k = self.main, len(self.score)
        se, low, high = (np.full(k, np.nan) for _ in range(3))
        rank, rank_low, rank_high = (np.zeros(k, np.int64) for _ in range(3))
        score = self.score[main]
        rank[main] = ranks(score)
        why = list(self.why)
        spread, critical = self._spread(), quantile(level)
        if simultaneous:
            critical = self._critical(spread, level)
        if self.psi is not None:
            m = int(main.sum())
            rank_low[main], rank_high[main] = rank_sets(score, self.covariance[:m, :m], self._drawn, level)
        sure = spread > NO_SPREAD
        se[main] = np.where(sure, spread, np.nan)
        low[main], high[main] = score - critical * se[main], score + critical * se[main]
        unknown = np.flatnonzero(main)[~sure]
        rank_low[unknown], rank_high[unknown] = 0, 0
        for j, reason, missed in zip(unknown, self._reasons[~sure], np.isnan(spread[~sure]), strict=True):
            why[j] = reason or (self._unsettled if missed else FLAT)
        if self.psi is None:
            why = [reason or _MANY_ARMS.format(100 * self.spread_error) for reason in why]
        order = np.argsort(-self.score, kind="stable")  # those without a score, NaN, come last
        floats = {
            "score": zero + unit * self.score,
            "se": unit * se,
            "low": zero + unit * low,
            "high": zero + unit * high,
        }
        places = {"rank": rank, "rank_low": rank_low, "rank_high": rank_high}
        return pl.DataFrame(
            {
                "arm": self.pairs.arms.gather(order),
                **{name: pl.Series(values[order], nan_to_null=True) for name, values in floats.items()},
                **{
                    name: pl.Series(values[order]).set(pl.Series(values[order] == 0), None)
                    for name, values in places.items()
                },
                "comparisons": self._comparisons()[order],
                "reason": pl.Series([why[j] for j in order], dtype=pl.String),
            }
        )

    def _comparisons(self) -> Any:
        pairs, k = self.pairs, len(self.score)
        return (np.bincount(pairs.a, pairs.rows, k) + np.bincount(pairs.b, pairs.rows, k)).astype(np.int64)

    def _code(self, arm: str) -> int:
        try:
            return self.arms.index(str(arm))
        except ValueError:
            raise NotIdentifiedError(f"arm {arm!r} is not in the log; it has {among(self.arms, arm)}") from None

    def contrast(self, x: str, y: str, level: float = 0.95) -> Contrast:
        """Score of x minus score of y, with a two-sided test that they are equal."""
        check_level(level)
        i, j = self._code(x), self._code(y)
        for code in (i, j):
            if self.why[code]:
                return Contrast(None, None, None, None, None, f"{self.arms[code]}: {self.why[code]}")
        if i == j:
            return Contrast(0.0, 0.0, 0.0, 0.0, 1.0)
        place = np.cumsum(self.main) - 1
        along = np.zeros(len(self.estimate.parameter))
        along[place[i]], along[place[j]] = 1.0, -1.0
        return self._contrast(along, level)

    def _multiplied(self, replicates: int, seed: int) -> Bootstrap:
        """Scores under multipliers on the influence, NaN for arms without a score or an error."""
        check_replicates(replicates, seed)
        draws = np.full((replicates, len(self.score)), np.nan)
        psi, k = self._known_influence(), int(self.main.sum())
        errors = psi.draws(replicates, seed)[:, :k]
        errors[:, ~psi.known[:k]] = np.nan
        draws[:, self.main] = self.score[self.main] + errors
        return Bootstrap(self.arms, self.score, draws, "multiplier", 0, why=self._without_error())

    def _without_error(self) -> list[str | None]:
        """Of every arm why it has no score, or none with an error."""
        why = np.array(self.why, object)
        why[self.main] = self._reasons
        return list(why)

    def _audited(self, x: str, over: str) -> tuple[float, int, int, Any]:
        """What a drop audit starts from: the contrast, the places of both scores, and its direction (p,) = A^+ c."""
        if self.pairs.weighted or self.pairs.soft:
            raise ValueError("the drop audit needs unweighted rows with hard labels")
        contrast = self.contrast(x, over)
        if contrast.estimate is None:
            raise NotIdentifiedError(str(contrast.reason))
        place, bread = np.cumsum(self.main) - 1, self._known_influence().bread
        i, j = int(place[self._code(x)]), int(place[self._code(over)])
        return contrast.estimate, i, j, bread[i] - bread[j]

    def win_probability(self, x: str, y: str) -> float | None:
        """P(x beats y) without position effect, ties counted half; null where not identified."""
        i, j = self._code(x), self._code(y)
        p_a, p_tie = self._outcomes(np.array([self.score[i] - self.score[j]]))
        value = float(p_a[0] + p_tie[0] / 2)
        return value if np.isfinite(value) else None

    def win_matrix(self) -> pl.DataFrame:
        """P(row beats column), ties counted half, for every two arms; null where not identified.

        The first column, arm, names the row; it is called _arm where an arm has that name.
        """
        gap = self.score[:, None] - self.score[None, :]
        p_a, p_tie = self._outcomes(gap.ravel())
        matrix = (p_a + p_tie / 2).reshape(gap.shape)
        columns = {name: pl.Series(matrix[:, j]).fill_nan(None) for j, name in enumerate(self.arms)}
        return pl.DataFrame({free_name("arm", columns): self.pairs.arms, **columns})

    def _encoder(self, log: PreferenceLog) -> Encoder:
        return Encoder(dict(log.outcomes), arms=Dictionary(self.arms), covariates=self.covariates or None)

    def _margin(self, block: Block) -> Any:
        score = np.append(self.score, np.nan)
        a, b = np.maximum(block.a, -1), np.maximum(block.b, -1)
        first = 1.0 if block.first is None else np.where(block.first < 2, block.first, np.nan)
        return score[a] - score[b] + (self.estimate.position * first if self.spec.position else 0.0)

    def _archive(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Facts and arrays that every fit with scores is saved by; :func:`loaded_scores` reads them."""
        refuse_own(self.own)
        pairs = self.pairs
        facts = {
            "spec": self._spec_facts(), "kind": self.kind,
            "arms": pairs.arms.to_list(), "why": self.why,
            "soft": pairs.soft, "weighted": pairs.weighted, "dropped": pairs.dropped,
            "estimate": self.estimate.facts(), "clipped": self.psi.clipped if self.psi else None,
        }  # fmt: skip
        arrays = {
            **{name: getattr(pairs, name) for name in TABLE},
            "score": self.score, "parameter": self.estimate.parameter,
        }  # fmt: skip
        if self.psi is not None:
            arrays |= self.psi.arrays()
        return facts, arrays

    def _spec_facts(self) -> dict[str, Any]:
        return spec_facts(self.spec)
