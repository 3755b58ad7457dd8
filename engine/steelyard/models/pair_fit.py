"""The fit of a Bradley-Terry model: tables, contrasts, predictions, bootstraps and files of it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import erfc, sqrt
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from steelyard._native.pair_likelihood import MODELS, pair_outcomes
from steelyard.blocks import Block, Dictionary, Encoder
from steelyard.errors import NotIdentifiedError
from steelyard.graph import strong_components
from steelyard.inference import Bootstrap, Influence, arm_critical, rank_sets
from steelyard.inference.audit import fewest_rows
from steelyard.inference.bands import DRAWS
from steelyard.inference.bootstrap import multinomial_refits
from steelyard.inference.influence import cluster_sets, multiway
from steelyard.models.cells import Cells, ClusterSums, Estimate
from steelyard.pairs import PairTable, good_rows, pair_table
from steelyard.passes import run_pass
from steelyard.result import Contrast, DropAudit, replacing, write_archive

if TYPE_CHECKING:
    from steelyard.log import PreferenceLog
    from steelyard.models.bradley_terry import BradleyTerry

_SCALES = {"logit": (1.0, 0.0), "elo": (400.0 / np.log(10.0), 1000.0)}
_MANY_ARMS = "beyond 4,000 arms: no rank set; standard error to within {:.1f} % (Monte Carlo)"
_UNSETTLED = "its standard error did not settle in the Monte Carlo draws: ask for a contrast"


@dataclass(frozen=True)
class PairFit:
    """Scores of arms with what is needed to speak of their uncertainty. Made by :meth:`BradleyTerry.fit`.

    pairs: the table it was fitted to. score: (K,) in the order of `arms`, NaN where not identified.
    why: reason for each NaN. estimate: the solver's answer on the identified arms.
    influence: of the parameters (identified arms, then position, then tie).
    """

    spec: BradleyTerry
    pairs: PairTable
    score: Any
    why: list[str | None]
    estimate: Estimate
    influence: Influence | None
    kind: str = "sandwich"
    _cache: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    # --- facts -----------------------------------------------------------------------------------
    @property
    def arms(self) -> list[str]:
        return self.pairs.arms.to_list()

    @property
    def main(self) -> Any:
        """(K,) bool: the arms with a finite score."""
        return np.isfinite(self.score)

    @property
    def n(self) -> int:
        """Comparisons used."""
        return int(self.cells.rows.sum())

    @property
    def dropped(self) -> dict[str, int]:
        """Rows left out, by reason."""
        ties = 0.0
        if self.spec.ties == "drop" and not self.pairs.weighted:
            ties = float(self.pairs.sums[:, 1].sum())
        outside = self.pairs.rows.sum() - ties - self.n
        more = {"tie": int(ties), "comparison with an arm outside the main group": int(outside)}
        return {**self.pairs.dropped, **{reason: count for reason, count in more.items() if count}}

    @property
    def estimand(self) -> str:
        tie = {"half": "a tie counts half", "drop": "ties left out"}.get(self.spec.ties, f"{self.spec.ties} ties")
        shrunk = f", shrunk by ridge {self.spec.ridge:g}" if self.spec.ridge else ""
        return (
            f"{'Thurstone-Mosteller' if self.spec.link == 'probit' else 'Bradley-Terry'} scores ({tie}{shrunk}) "
            "of the comparisons as logged; their mean over the scored arms is 0"
        )

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
        """(p, p) covariance of the identified scores, then position, then tie."""
        return self._known_influence().covariance

    @cached_property
    def cells(self) -> Cells:
        spec = self.spec
        return Cells.of(self.pairs, spec.model, spec.position, spec.ridge, keep_ties=spec.ties != "drop").within(
            self.main
        )

    def _known_influence(self) -> Influence:
        if self.influence is None:
            raise NotIdentifiedError("beyond 4,000 arms no full covariance is held: ask for a contrast")
        return self.influence

    def _draws(self) -> Any:
        if "draws" not in self._cache:
            self._cache["draws"] = self._known_influence().draws(DRAWS, seed=0)[:, : self.main.sum()]
        return self._cache["draws"]

    def _spread(self) -> Any:
        """(k,) standard errors of the identified scores."""
        if self.influence is not None:
            return np.sqrt(np.clip(np.diag(self.covariance)[: self.main.sum()], 0.0, None))
        return self._sampled_spread[0]

    @cached_property
    def _sampled_spread(self) -> tuple[Any, float]:
        return self.cells.spread(self.estimate, self.kind)

    @property
    def spread_error(self) -> float:
        """Relative Monte Carlo error of the standard errors in :meth:`table`; 0 up to 4,000 arms (exact)."""
        return 0.0 if self.influence is not None else self._sampled_spread[1]

    def _critical(self, spread: Any, level: float) -> float:
        """Standard errors that all intervals must reach to hold at once; Bonferroni's beyond 4,000 arms."""
        if self.influence is not None:
            return arm_critical(self._draws(), spread, level)
        return _quantile(1.0 - (1.0 - level) / len(spread))

    # --- tables ----------------------------------------------------------------------------------
    def table(self, level: float = 0.95, scale: str = "logit", simultaneous: bool = False) -> pl.DataFrame:
        """One row an arm: arm score se low high rank rank_low rank_high comparisons reason.

        level: of the intervals (simultaneous: all at once) and of the rank sets (always all at once).
        scale: "logit" (the model's own), or "elo" (400 / ln 10 times that, plus 1000).
        Beyond 4,000 arms standard errors are partly Monte Carlo (:attr:`spread_error`) and rank sets null.
        """
        _check_level(level)
        if scale not in _SCALES:
            raise ValueError(f"scale must be 'logit' or 'elo', not {scale!r}")
        unit, zero = _SCALES[scale]
        main, k = self.main, len(self.score)
        se, low, high = (np.full(k, np.nan) for _ in range(3))
        rank, rank_low, rank_high = (np.zeros(k, np.int64) for _ in range(3))
        score = self.score[main]
        rank[main] = 1 + (score[None, :] > score[:, None]).sum(axis=1) if k <= 4000 else 1 + np.argsort(
            np.argsort(-score, kind="stable"))  # fmt: skip
        why = list(self.why)
        spread, critical = self._spread(), _quantile(level)
        if simultaneous:
            critical = self._critical(spread, level)
        if self.influence is not None:
            m = int(main.sum())
            rank_low[main], rank_high[main] = rank_sets(score, self.covariance[:m, :m], self._draws(), level)
        sure = spread > 1e-9
        se[main] = np.where(sure, spread, np.nan)
        low[main], high[main] = score - critical * se[main], score + critical * se[main]
        unknown = np.flatnonzero(main)[~sure]
        rank_low[unknown], rank_high[unknown] = 0, 0
        for j, missed in zip(unknown, np.isnan(spread[~sure]), strict=True):
            why[j] = _UNSETTLED if missed else "every comparison has the same outcome: no spread, so no interval"
        if self.influence is None:
            why = [reason or _MANY_ARMS.format(100 * self.spread_error) for reason in why]
        frame = pl.DataFrame(
            {
                "arm": self.pairs.arms, "score": zero + unit * self.score, "se": unit * se,
                "low": zero + unit * low, "high": zero + unit * high, "rank": rank, "rank_low": rank_low,
                "rank_high": rank_high, "comparisons": self._comparisons(), "reason": pl.Series(why, dtype=pl.String),
            }
        )  # fmt: skip
        ranks = ("rank", "rank_low", "rank_high")
        return frame.with_columns(
            pl.col("score", "se", "low", "high").fill_nan(None),
            *(pl.when(pl.col(name) > 0).then(pl.col(name)).alias(name) for name in ranks),
        ).sort("score", descending=True, nulls_last=True, maintain_order=True)

    def _comparisons(self) -> Any:
        played = np.zeros(len(self.score))
        for side in (self.pairs.a, self.pairs.b):
            np.add.at(played, side, self.pairs.rows)
        return played.astype(np.int64)

    def coefficients(self, level: float = 0.95) -> pl.DataFrame:
        """Position effect and tie parameter (log nu, or tau): term estimate se low high p_value."""
        _check_level(level)
        m, z = int(self.main.sum()), _quantile(level)
        rows = []
        terms = ["position"] * self.spec.position + ["tie"] * (self.spec.ties in ("davidson", "rao-kupper"))
        for i, term in enumerate(terms):
            value = self.estimate.position if term == "position" else self.estimate.tie
            se = float(np.sqrt(self._variance(np.eye(1, len(self.estimate.parameter), m + i)[0])))
            rows.append((term, value, se, value - z * se, value + z * se, _p_value(value / se)))
        names = ["term", "estimate", "se", "low", "high", "p_value"]
        types = [pl.String, *[pl.Float64] * 5]
        return pl.DataFrame(rows, schema=dict(zip(names, types, strict=True)), orient="row")

    def _code(self, arm: str) -> int:
        try:
            return self.arms.index(str(arm))
        except ValueError:
            raise NotIdentifiedError(f"arm {arm!r} is not in the log; it has {self.arms[:10]}") from None

    def contrast(self, x: str, y: str, level: float = 0.95) -> Contrast:
        """Score of x minus score of y, with a two-sided test that they are equal."""
        _check_level(level)
        i, j = self._code(x), self._code(y)
        for code in (i, j):
            if self.why[code]:
                return Contrast(None, None, None, None, None, f"{self.arms[code]}: {self.why[code]}")
        estimate = float(self.score[i] - self.score[j])
        if i == j:
            return Contrast(0.0, 0.0, 0.0, 0.0, 1.0)
        place = np.cumsum(self.main) - 1
        along = np.zeros(len(self.estimate.parameter))
        along[place[i]], along[place[j]] = 1.0, -1.0
        se = float(np.sqrt(max(self._variance(along), 0.0)))
        if se <= 1e-9:
            return Contrast(estimate, None, None, None, None, "every comparison has the same outcome: no spread")
        z = _quantile(level)
        return Contrast(estimate, se, estimate - z * se, estimate + z * se, _p_value(estimate / se))

    def _variance(self, along: Any) -> float:
        """Variance of along' parameter; along: (p,)."""
        if self.influence is None:
            return self.cells.contrast_variance(self.estimate, along, self.kind)
        used = np.flatnonzero(along)
        return float(along[used] @ self.covariance[np.ix_(used, used)] @ along[used])

    def win_probability(self, x: str, y: str) -> float | None:
        """P(x beats y) without position effect, ties counted half; null where not identified."""
        i, j = self._code(x), self._code(y)
        p_a, p_tie = self._outcomes(np.array([self.score[i] - self.score[j]]))
        value = float(p_a[0] + p_tie[0] / 2)
        return value if np.isfinite(value) else None

    def win_matrix(self) -> pl.DataFrame:
        """P(row beats column), ties counted half, for every two arms; null where not identified."""
        gap = self.score[:, None] - self.score[None, :]
        p_a, p_tie = self._outcomes(gap.ravel())
        matrix = (p_a + p_tie / 2).reshape(gap.shape)
        columns = {name: pl.Series(matrix[:, j]).fill_nan(None) for j, name in enumerate(self.arms)}
        return pl.DataFrame({"arm": self.pairs.arms, **columns})

    def _outcomes(self, eta: Any) -> tuple[Any, Any]:
        p_a, p_tie = np.empty(len(eta)), np.empty(len(eta))
        pair_outcomes(MODELS[self.spec.model], np.ascontiguousarray(eta), self.estimate.tie, p_a, p_tie)
        return p_a, np.where(np.isfinite(eta), p_tie, np.nan)

    # --- scoring logs ----------------------------------------------------------------------------
    def predict(self, log: PreferenceLog) -> pl.LazyFrame:
        """Rows in log order: margin p_a p_tie p_b log_likelihood; null for arms without a score."""
        names = ("margin", "p_a", "p_tie", "p_b", "log_likelihood")
        schema = pl.Schema(dict.fromkeys(names, pl.Float64))
        return log.selected().map_batches(lambda batch: self._scored(log, batch), schema=schema, streamable=True)

    def _scored(self, log: PreferenceLog, batch: pl.DataFrame) -> pl.DataFrame:
        encoder = Encoder(dict(log.outcomes), arms=Dictionary(self.arms))
        block = encoder.block(batch)
        score = np.append(self.score, np.nan)
        a, b = np.maximum(block.a, -1), np.maximum(block.b, -1)
        first = 1.0 if block.first is None else block.first
        eta = score[a] - score[b] + (self.estimate.position * first if self.spec.position else 0.0)
        p_a, p_tie = self._outcomes(eta)
        p_b = 1.0 - p_a - p_tie
        y: Any = block.y
        if block.label is not None and block.value is not None:
            y = np.append(block.value, np.nan)[np.maximum(block.label, -1)]
        with np.errstate(divide="ignore", invalid="ignore"):
            if self.spec.model in ("davidson", "rao-kupper"):
                likelihood = np.log(np.select([y == 1.0, y == 0.5, y == 0.0], [p_a, p_tie, p_b], np.nan))
            else:
                likelihood = y * np.log(p_a) + (1.0 - y) * np.log(p_b)
        columns = {"margin": eta, "p_a": p_a, "p_tie": p_tie, "p_b": p_b, "log_likelihood": likelihood}
        return pl.DataFrame({name: pl.Series(values).fill_nan(None) for name, values in columns.items()})

    def sink(self, log: PreferenceLog, path: str | os.PathLike[str]) -> None:
        """Streams :meth:`predict` to Parquet in bounded memory; the file appears whole or not at all."""
        with replacing(path) as temporary:
            self.predict(log).sink_parquet(temporary)

    # --- more inference --------------------------------------------------------------------------
    def bootstrap(self, replicates: int = 1000, seed: int = 0, method: str = "multinomial") -> Bootstrap:
        """Replicated scores by exact refits ("multinomial") or by the influence ("multiplier").

        Multinomial refits need whole unweighted rows and no clusters; multipliers take any fit.
        """
        draws = np.full((replicates, len(self.score)), np.nan)
        if method == "multiplier":
            draws[:, self.main] = self.score[self.main] + self._known_influence().draws(replicates, seed)[
                :, : self.main.sum()]  # fmt: skip
        elif method == "multinomial":
            if self.pairs.weighted or self.pairs.soft or self.kind == "cluster":
                raise ValueError('exact multinomial refits need unweighted, unclustered rows: use method="multiplier"')
            draws[:, self.main] = multinomial_refits(
                self.cells.sums, int(self.main.sum()), self._refit(), replicates, seed
            )
        else:
            raise ValueError(f"method must be 'multinomial' or 'multiplier', not {method!r}")
        failed = int(np.isnan(draws[:, self.main]).any(axis=1).sum())
        return Bootstrap(self.arms, self.score, draws, method, failed)

    def _refit(self) -> Any:
        cells, start = self.cells, self.estimate.parameter
        graph = cells.sums > 0

        def refit(sums: Any) -> Any:
            drawn = replace(cells, sums=sums)
            if not self.spec.ridge and ((sums > 0) != graph).any():
                groups = strong_components(len(cells.arms), drawn.a, drawn.b, sums)
                if groups.any():
                    raise NotIdentifiedError("an arm has no finite score in this replicate")
            if self.influence is None:
                return drawn.maximise(start).theta
            return drawn.refitted(start, self.influence.bread)[: len(cells.arms)]

        return refit

    def audit(self, x: str, over: str) -> DropAudit:
        """The fewest rows whose removal lets `over` reach x (or x reach `over`, if it is behind)."""
        if self.pairs.weighted or self.pairs.soft:
            raise ValueError("the drop audit needs unweighted rows with hard labels")
        contrast = self.contrast(x, over)
        if contrast.estimate is None:
            raise NotIdentifiedError(str(contrast.reason))
        cells, place, refit = self.cells, np.cumsum(self.main) - 1, self._refit()
        i, j = place[self._code(x)], place[self._code(over)]
        direction = self._known_influence().bread[i] - self._known_influence().bread[j]
        effect = cells.row_effects(self.estimate, direction)

        def refitted(sums: Any) -> float:
            theta = refit(sums)
            return float(theta[i] - theta[j])

        rows, taken, after = fewest_rows(cells.sums, effect, contrast.estimate, refitted)
        cell, outcome = np.nonzero(taken)
        names = np.array(self.arms, object)[self.main]
        frame = pl.DataFrame(
            {
                "a": pl.Series(names[cells.a[cell]].tolist(), dtype=pl.String),
                "b": pl.Series(names[cells.b[cell]].tolist(), dtype=pl.String),
                "outcome": pl.Series([("a", "tie", "b")[o] for o in outcome], dtype=pl.String),
                "rows": taken[cell, outcome].astype(np.int64),
            }
        )
        share = None if rows is None else rows / self.n
        return DropAudit(rows, share, frame, contrast.estimate, after)

    def influence_by_cluster(self, log: PreferenceLog, threads: int | None = None) -> Influence:
        """The influence with scores summed within clusters first: one more pass over the rows."""
        known = self._known_influence()
        sets = cluster_sets(len(log.cluster))
        names = ["+".join(f"cluster_{i}" for i in chosen) for chosen in sets]
        encoder = Encoder(dict(log.outcomes), arms=Dictionary(self.arms),
                          clusters={name: Dictionary() for name in names})  # fmt: skip
        place = np.where(self.main, np.cumsum(self.main) - 1, -1).astype(np.int32)
        sums = ClusterSums(self.estimate, self.spec.model, self.spec.position, self.spec.ties != "drop", place)
        parts: list[Any] = []

        def kernel(block: Block) -> Any:
            return sums.block(good_rows(block)[0])

        run_pass(log, encoder, kernel, parts.append, threads)
        scores = {}
        for i, (chosen, name) in enumerate(zip(sets, names, strict=True)):
            groups = len(encoder.clusters[name])
            if groups < 2:
                raise NotIdentifiedError(f"cluster column {name!r} has {groups} group; clustered errors need two")
            scores[chosen] = sums.gathered([part[i] for part in parts], groups)
        meat, clipped = multiway(scores)
        return Influence(known.bread, meat, clipped)

    def update(self, more: PreferenceLog) -> PairFit:
        """The fit of both logs together; nothing already counted is read again."""
        if self.kind == "cluster":
            raise ValueError("clustered errors need the rows: fit the logs together instead")
        return self.spec.fit_table(self.pairs.plus(pair_table(more)), self.kind)

    # --- files -----------------------------------------------------------------------------------
    def save(self, path: str | os.PathLike[str]) -> None:
        """One file of JSON and Arrow IPC; read it with :func:`steelyard.load`."""
        spec, pairs, estimate = self.spec, self.pairs, self.estimate
        facts = {
            "spec": {name: getattr(spec, name) for name in spec.__dataclass_fields__}, "kind": self.kind,
            "why": self.why, "soft": pairs.soft, "weighted": pairs.weighted, "dropped": pairs.dropped,
            "estimate": estimate.facts(), "clipped": self.influence.clipped if self.influence else None,
        }  # fmt: skip
        arrays = {
            "arms": pl.DataFrame({"arm": pairs.arms}), "a": pairs.a, "b": pairs.b, "first": pairs.first,
            "sums": pairs.sums, "squares": pairs.squares, "rows": pairs.rows, "score": self.score,
            "parameter": estimate.parameter,
        }  # fmt: skip
        if self.influence is not None:
            arrays |= {"bread": self.influence.bread, "meat": self.influence.meat}
        write_archive(path, "pair-fit", facts, arrays)


def _check_level(level: float) -> None:
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must lie between 0 and 1, not {level!r}")


def _quantile(level: float) -> float:
    """How many standard errors a two-sided interval reaches."""
    return NormalDist().inv_cdf((1 + level) / 2)


def _p_value(z: float) -> float:
    """Two-sided, exact in the tails: 2 Phi(-|z|) = erfc(|z| / sqrt 2)."""
    return erfc(abs(z) / sqrt(2.0))
