"""What a doubly robust fit tells: scores, win rates, the win matrix, rows' influence, and the naive fit beside it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from steelyard.assignment.contexts import Contexts
from steelyard.assignment.weights import Weights
from steelyard.blocks import Block
from steelyard.causal.outcomes import ContextualOutcome
from steelyard.causal.pairwise import FEW_ANSWERS, Pairwise, Residuals
from steelyard.causal.projection import win_rates
from steelyard.errors import FormatError, NotIdentifiedError, check_level
from steelyard.inference import Bootstrap, Influence, arm_critical
from steelyard.inference.bands import DRAWS, p_value, quantile
from steelyard.inference.clusters import told_by
from steelyard.inference.influence import FLAT, ONE, mean_of_known
from steelyard.models.bradley_terry import BradleyTerry
from steelyard.models.pair_fit import PairFit
from steelyard.models.row_blocks import weights
from steelyard.models.saved import LoadedSpec, loaded_scores, loaded_spec, settings_facts
from steelyard.models.score_fit import ScoreFit, Term
from steelyard.result import LOADERS, Contrast, free_name, require, write_archive
from steelyard.solve import one_blas_thread

if TYPE_CHECKING:
    from steelyard.causal.doubly_robust import DoublyRobust


_ROUNDING = 1e-12  # of a sum of squares: a variance below it is what rounding left


@dataclass(frozen=True, eq=False)
class DoublyRobustFit(ScoreFit):
    """Doubly robust scores. Made by :meth:`DoublyRobust.fit`; tables, contrasts and rank sets as of any fit.

    omega: (K, K) weights of the pairs. win: (K, K) mean outcome of the row's arm against the column's, NaN outside the
    target. answered: (K, K) comparisons. total: weight of the target. effective_size: of the answered rows, (sum w)^2 /
    sum w^2, w = omega / propensity. n: comparisons, answered or not. naive: the plain fit of the same rows, where it
    has finite scores.
    overlap: what the propensity alone leaves of the log. words: the estimand. The rest is what rows' influence is told
    from, and is lost in a file.
    """

    spec: DoublyRobust | LoadedSpec  # type: ignore[assignment]
    omega: Any = field(default=None, repr=False)
    win: Any = field(default=None, repr=False)
    answered: Any = field(default=None, repr=False)
    total: float = 0.0
    effective_size: float = 0.0
    n: int = 0
    naive: ScoreFit | None = field(default=None, repr=False)
    overlap: Weights | None = field(default=None, repr=False)
    contexts: Contexts | None = field(default=None, repr=False)
    problem: Pairwise | None = field(default=None, repr=False, compare=False)
    residuals: Residuals | None = field(default=None, repr=False, compare=False)
    centre: Any = field(default=None, repr=False, compare=False)
    alone: Any = field(default=None, repr=False)
    rate_meat: Any = field(default=None, repr=False)
    clusters: list[tuple[int, str, int]] = field(default_factory=list, repr=False)
    words: str = ""
    dropped: dict[str, int] = field(default_factory=dict)

    @property
    def estimand(self) -> str:
        return f"{self.words}; {self._zero}"

    @property
    def effective_share(self) -> float:
        """Effective size, as a share of the answered comparisons of the target's pairs."""
        return self.effective_size / float(self.answered[self.omega > 0].sum() / 2)

    def _terms(self) -> list[Term]:
        return []

    def _rates(self) -> Influence:
        """The influence on the win rates of the scored arms."""
        inverse = 1.0 / (self.total * self.omega.sum(axis=1)[self.main])
        known = self._known_influence()
        meat = known.meat if self.rate_meat is None else self.rate_meat
        return replace(known, bread=np.diag(inverse), meat=meat)

    def win_rates(self, level: float = 0.95, simultaneous: bool = False) -> pl.DataFrame:
        """arm win_rate se low high comparisons reason: mean outcome over the scored opponents, by the pairs' weights.

        An average, so that no model is needed for it to mean something. simultaneous: all intervals at once.
        """
        check_level(level)
        main, rates = self.main, self._rates()
        rate = np.full(len(main), np.nan)
        rate[main] = win_rates(self.win, self.omega)[main]
        se = np.full(len(main), np.nan)
        se[main] = np.sqrt(np.clip(np.diag(rates.covariance), 0.0, None))
        why = np.array(self.why, object)
        why[main] = rates.why
        reach = arm_critical(rates.draws(DRAWS, seed=0), rates.covariance, level) if simultaneous else quantile(level)
        columns = {"win_rate": rate, "se": se, "low": rate - reach * se, "high": rate + reach * se}
        frame = pl.DataFrame({"arm": self.pairs.arms, **columns, "comparisons": self._comparisons(),
                              "reason": pl.Series(why.tolist(), dtype=pl.String)})  # fmt: skip
        return frame.with_columns(pl.col(*columns).fill_nan(None)).sort(
            "win_rate", descending=True, nulls_last=True, maintain_order=True
        )

    def win_matrix(self) -> pl.DataFrame:
        """a b win_rate comparisons extrapolated, of every pair of the target, both ways round.

        extrapolated: no answered comparison of the two: the entry rests on the outcome model alone. Entries may leave
        [0, 1] in small samples. Intervals, pair by pair: :meth:`win_rate`.
        """
        a, b = np.nonzero(self.omega)
        names = self.pairs.arms
        return pl.DataFrame(
            {
                "a": names.gather(a), "b": names.gather(b), "win_rate": self.win[a, b],
                "comparisons": self.answered[a, b].astype(np.int64), "extrapolated": self.answered[a, b] == 0,
            }
        )  # fmt: skip

    def unsupported_pairs(self) -> pl.DataFrame:
        """a b: pairs of the target without an answered comparison."""
        return self.win_matrix().filter(pl.col("extrapolated") & (pl.col("a") < pl.col("b"))).select("a", "b")

    def win_probability(self, x: str, y: str) -> float | None:
        """Mean outcome of x against y over the target's contexts; null outside the target's pairs."""
        i, j = self._code(x), self._code(y)
        value = 0.5 if i == j else float(self.win[i, j])
        return value if np.isfinite(value) else None

    def win_rate(self, x: str, y: str, level: float = 0.95) -> Contrast:
        """Mean outcome of x against y over the target's contexts, with its interval: an entry of the win matrix.

        p_value: of a mean outcome of 1/2. One pass over the rows, and one more for each cluster column. Null errors
        with a reason where the two have too few answered comparisons. Raises ValueError for a loaded fit.
        """
        check_level(level)
        if self.problem is None or self.residuals is None:
            raise ValueError("a loaded fit has lost its rows: fit it again")
        i, j, value = self._code(x), self._code(y), self.win_probability(x, y)
        if i == j or value is None:
            return Contrast(value, None, None, None, None, "the same arm" if i == j else "no pair of the target")
        pair = np.zeros_like(self.omega)
        pair[i, j] = pair[j, i] = 1.0
        divided = [self.residuals.answers(pair), *([self.residuals.judged(pair)] if self.problem.judged else [])]
        if not all(normaliser.own[min(i, j), max(i, j)] for normaliser in divided):
            return Contrast(value, None, None, None, None, FEW_ANSWERS)
        if self.clusters and _clusters_of(self.problem, self.clusters, {i, j}) < 2:
            return Contrast(value, None, None, None, None, ONE)
        alone = replace(self.problem, omega=pair, counted=None, shift=None, turn=None, stack=None)
        with one_blas_thread():
            alone, moments = alone.turned(self.residuals, alone.moments(self.residuals))
            meat, _ = alone.meat(self.residuals, moments, self.clusters)
        if not meat[i, i] > _ROUNDING * moments.square[i, i]:
            return Contrast(value, None, None, None, None, FLAT)
        se, z = float(np.sqrt(meat[i, i])) / self.total, quantile(level)
        return Contrast(value, se, value - z * se, value + z * se, p_value((value - 0.5) / se))

    def influence(self, *arms: str) -> pl.DataFrame:
        """row, fold, and a column an arm (default all scored ones): each row's influence on the scores.

        row: its number in the log; called _row, and fold _fold, where an arm has that name. Scores err by the sum over
        rows, nearly.
        """
        if self.problem is None:
            raise ValueError("a loaded fit has lost its rows: fit it again")
        names = list(arms) or [name for name, known in zip(self.arms, self.main, strict=True) if known]
        unscored = [name for name in names if not self.main[self._code(name)]]
        if unscored:
            raise NotIdentifiedError(f"{unscored[0]} has no score: {self.why[self._code(unscored[0])]}")
        place = np.cumsum(self.main) - 1
        bread = self._known_influence().bread[[place[self._code(name)] for name in names]]
        problem, residuals, main = self.problem, self.residuals, self.main
        assert residuals is not None

        def one(block: Block) -> tuple[Any, Any, Any]:
            out = np.empty((len(names), block.n))
            for some in problem.rows(block, residuals):
                out[:, some.at] = bread @ (some.sums - self.centre[:, None] * some.t)[main]
            return out if block.count is None else out * block.count, block.fold, block.numbers(np.arange(block.n))

        parts, folds, rows = zip(*problem.blocks.each(one), strict=True)
        columns = dict(zip(names, np.concatenate(parts, axis=1), strict=True))
        row, fold = (free_name(name, columns) for name in ("row", "fold"))
        return pl.DataFrame({row: np.concatenate(rows), fold: np.concatenate(folds), **columns}).sort(row)

    def bootstrap(self, replicates: int = 1000, seed: int = 0) -> Bootstrap:
        """Replicated scores by multipliers on the influence, of clusters where there are some."""
        return self._multiplied(replicates, seed)

    # --- beside the naive fit --------------------------------------------------------------------
    def compare(self, level: float = 0.95, simultaneous: bool = False) -> pl.DataFrame:
        """arm naive naive_low naive_high score low high moved naive_rank rank, of the arms that both fits score.

        Both sides are centred over those arms, but for arms that have no error in one of them, and ranked over all.
        simultaneous: the intervals of a side hold all at once.
        """
        if self.naive is None:
            raise NotIdentifiedError("the plain fit has no finite score to compare with: see win_rates()")
        check_level(level)
        arms, known = self.arms, {name for name, has in zip(self.naive.arms, self.naive.main, strict=True) if has}
        both = [arms[i] for i in np.argsort(-self.score, kind="stable") if self.main[i] and arms[i] in known]
        lacking = {name for fit in (self, self.naive) for name, why in zip(fit.arms, fit._without_error(), strict=True)
                   if why}  # fmt: skip
        told = np.array([name not in lacking for name in both], bool)
        mine, plain = (_within(fit, both, told, level, simultaneous) for fit in (self, self.naive))
        columns = dict(zip(("score", "low", "high", "naive", "naive_low", "naive_high"), (*mine, *plain), strict=True))
        joined = pl.DataFrame({"arm": pl.Series(both, dtype=pl.String), **columns}).with_columns(
            pl.col(pl.Float64).fill_nan(None)
        )
        ranked = [pl.col(name).rank("min", descending=True).cast(pl.Int64) for name in ("naive", "score")]
        return joined.select(
            "arm", "naive", "naive_low", "naive_high", "score", "low", "high",
            (pl.col("score") - pl.col("naive")).alias("moved"), ranked[0].alias("naive_rank"), ranked[1].alias("rank"),
        )  # fmt: skip

    def moves(self) -> pl.DataFrame:
        """arm context shown target slope contribution: which context moved an arm, largest first.

        shown: mean of the context where the arm was shown; target: over all contexts, both in standard deviations of
        the log. slope: of the arm's score, less the mean arm's. contribution = slope * (target - shown): what the move
        from the naive score would be if this context alone mattered, to first order. Contextual outcomes only.
        """
        if self.problem is None or not isinstance(self.problem.outcome, ContextualOutcome) or self.contexts is None:
            raise ValueError('moves() needs outcome="contextual", and rows that a loaded fit has lost')
        k, terms = len(self.score), self.contexts.terms

        def one(block: Block) -> Any:
            t, x = weights(block), np.asarray(block.design)
            known = np.isfinite(np.asarray(block.y)) * weights(replace(block, weight=block.sampling))
            shown = [np.bincount(block.a, known * c, k) + np.bincount(block.b, known * c, k) for c in x]
            return np.column_stack([*shown]), x @ t

        shown, target = (sum(part) for part in zip(*self.problem.blocks.each(one), strict=True))
        theta = self.problem.outcome.fit.theta
        with np.errstate(invalid="ignore"):
            mean = shown[:, 1:] / shown[:, :1]
        frame = pl.DataFrame(
            {
                "arm": np.repeat(self.arms, len(terms)), "context": terms * k, "shown": mean.ravel(),
                "target": np.tile(np.round(target[1:] / target[0], 12), k), "slope": theta[:, 1:].ravel(),
            },
            schema_overrides={"arm": pl.String, "context": pl.String},
        )  # fmt: skip
        moved = frame.with_columns(contribution=pl.col("slope") * (pl.col("target") - pl.col("shown")))
        return moved.fill_nan(None).sort(pl.col("contribution").abs(), descending=True, nulls_last=True)

    def judge_gain(self) -> pl.DataFrame:
        """arm se se_alone saved: the share of the variance that the judge saves against human labels alone.

        Of rows, not clusters, on both sides.
        """
        if self.alone is None:
            raise ValueError("this fit had no judge=")
        if self.kind == "cluster":
            raise ValueError("the judge's gain is told row by row: fit the log scanned without cluster= for it")
        known = self._known_influence()
        both = [np.sqrt(np.diag(replace(known, meat=meat).covariance)) for meat in (known.meat, self.alone)]
        arms: Sequence[str] = [name for name, inside in zip(self.arms, self.main, strict=True) if inside]
        saved = 1 - (both[0] / both[1]) ** 2
        frame = pl.DataFrame({"arm": arms, "se": both[0], "se_alone": both[1], "saved": saved})
        return frame.with_columns(pl.col(pl.Float64).fill_nan(None))

    # --- files -----------------------------------------------------------------------------------
    def save(self, path: str | os.PathLike[str]) -> None:
        """One file of JSON and NumPy arrays, without the rows; read it with :func:`steelyard.load`."""
        facts, arrays = self._archive()
        plain, beside = (None, {}) if self.naive is None else self.naive._archive()
        names = ("total", "effective_size", "n", "words", "dropped")
        facts |= {name: getattr(self, name) for name in names} | {"naive": plain}
        arrays |= {name: getattr(self, name) for name in ("omega", "win", "answered")}
        arrays |= {name: part for name in ("alone", "rate_meat") if (part := getattr(self, name)) is not None}
        write_archive(path, "doubly-robust", facts, arrays | {f"naive {name}": part for name, part in beside.items()})

    def _spec_facts(self) -> dict[str, Any]:
        return settings_facts(self.spec)


def _clusters_of(problem: Pairwise, clusters: list[tuple[int, str, int]], pair: set[int]) -> int:
    """How many clusters have an answered comparison of two arms, of the column that has fewest."""

    def codes(block: Block) -> list[Any]:
        answered = np.isfinite(np.asarray(block.y))
        return [np.where(answered & np.isin(block.a, [*pair]) & np.isin(block.b, [*pair]), 0, -1)]

    return int(told_by(problem.blocks, clusters, 1, codes)[0])


def _within(fit: ScoreFit, arms: list[str], told: Any, level: float, simultaneous: bool) -> tuple[Any, Any, Any]:
    """Scores of some of a fit's arms, less the mean of those that are told (n,), and the ends of their intervals.

    NaN for arms that are not told, and without a spread.
    """
    place = {name: at for at, name in enumerate(np.array(fit.arms)[fit.main])}
    at = np.array([place[name] for name in arms], int)
    score, reach = fit.score[fit.main][at], np.full(len(at), np.nan)
    score = score - mean_of_known(score, told)
    centre = np.eye(int(told.sum())) - 1.0 / max(int(told.sum()), 1)
    among = centre @ fit.covariance[np.ix_(at[told], at[told])] @ centre
    spread = np.sqrt(np.clip(np.diag(among), 0.0, None))
    wide = arm_critical(fit._draws[:, at[told]] @ centre, among, level) if simultaneous else quantile(level)
    reach[told] = wide * np.where(spread > _ROUNDING, spread, np.nan)
    return score, score - reach, score + reach


def _loaded(facts: dict[str, Any], arrays: dict[str, Any]) -> DoublyRobustFit:
    plain = {name[6:]: part for name, part in arrays.items() if name.startswith("naive ")}
    own = facts["naive"]
    naive = PairFit(BradleyTerry(**loaded_spec(own["spec"])), **loaded_scores(own, plain)) if own else None
    more = {name: facts[name] for name in ("total", "effective_size", "n", "words", "dropped")}
    _check_pairs(len(facts["arms"]), facts["total"], arrays["omega"], arrays["win"], arrays["answered"])
    more |= {name: arrays.get(name) for name in ("omega", "win", "answered", "alone", "rate_meat")}
    scores = loaded_scores(facts, arrays)
    size = (scores["estimate"].k,) * 2
    require(arrays, "<f8", **{name: size for name in ("alone", "rate_meat") if name in arrays})
    return DoublyRobustFit(LoadedSpec(**facts["spec"]), **scores, **more, naive=naive)


def _check_pairs(k: int, total: float, omega: Any, win: Any, answered: Any) -> None:
    """Refuses a loaded file whose (K, K) arrays are not of pairs of different arms, the same both ways round."""
    require({"omega": omega, "win": win, "answered": answered}, omega=(k, k), win=(k, k), answered=(k, k))
    for values, most in ((omega, 2.0), (answered, 2.0**53)):
        if not ((values >= 0) & (values <= most)).all() or (values != values.T).any() or np.diag(values).any():
            raise FormatError("pairs whose weights or counts are no such numbers, or not the same both ways round")
    if (np.isfinite(win) != (omega > 0)).any() or (np.abs(win[omega > 0]) > 1e50).any() or not 0 < total < np.inf:
        raise FormatError("pairs of the target without an outcome, others with one, or outcomes beyond all numbers")


LOADERS["doubly-robust"] = _loaded
