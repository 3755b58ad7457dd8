"""Doubly robust Bradley-Terry scores and win rates over arms (docs/estimators.md, 5).

log -> rows with contexts, encoded once -> folds -> outcome model and propensity without each fold -> one pass of
residuals, one of all pairs -> win matrix -> Bradley-Terry projection, with the influence of every row.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import polars as pl

from steelyard.assignment.propensity import LabelPropensity, PairPropensity
from steelyard.blocks import Block
from steelyard.causal.doubly_robust_fit import DoublyRobustFit
from steelyard.causal.pairwise import Moments, Pairwise, Residuals, centre_of, centred, refuse_thin, shifts
from steelyard.causal.prepared import Prepared, apart, check_models, prepared, warn_extrapolated
from steelyard.causal.projection import project, win_rates
from steelyard.causal.stacked import outcome_error
from steelyard.errors import LogError, NotIdentifiedError, OverlapError, among
from steelyard.graph import components
from steelyard.inference import Influence
from steelyard.inference.clusters import told_by
from steelyard.log import needs_log
from steelyard.models import row_meat
from steelyard.models.bradley_terry import BradleyTerry
from steelyard.models.cells import Estimate
from steelyard.models.row_blocks import inside
from steelyard.models.row_problem import RowProblem
from steelyard.pairs import PairTable
from steelyard.passes import Executor, on
from steelyard.solve import one_blas_thread
from steelyard.spill import Blocks

if TYPE_CHECKING:
    from steelyard.columns import Column
    from steelyard.log import PreferenceLog
    from steelyard.models.score_fit import ScoreFit


@dataclass(frozen=True)
class DoublyRobust:
    """Scores and win rates that hold if either the outcome model or the propensity is right.

    For every pair of arms the mean outcome over all of the log's contexts (or the target's), by augmented inverse
    propensity weighting with cross-fitting (Robins, Rotnitzky and Zhao 1994; Chernozhukov et al. 2018); scores are the
    Bradley-Terry projection of that win matrix, win rates its row means. A tie counts half.

    Parameters
    ----------
    outcome : "contextual" (Bradley-Terry with arm scores linear in the log's contexts); a column with the probability
        that a wins, as some other model has it, which a contextual model carries to the pairs that were not shown;
        {arm: column}, scores on the logit scale that a reward model gave every arm's answer, shown or not; or any
        scikit-learn classifier with predict_proba, on indicators of the pair and the standardised contexts
    propensity : of the pair that was shown; any :class:`PairPropensity`
    labelled : of an answer, for logs in which only some rows have one: their contexts then count too. Default: rows
        without an outcome are left out
    judge : column of a judge's probability that a wins, known for labelled and unlabelled rows alike; it sharpens the
        answers that are missing and is never trusted to be right. Goes with labelled
    folds : rows of a fold have no part in the models they are judged by; folds never split a cluster. 1: no folds
    seed : of the folds
    target : rows of the target population (a log counts them by its weight= and count=), {context: {value: share}}, or
        None: the log's own contexts
    pairs : weight of each pair: "uniform", "log" (as often as in the log; for logs in which one arm is in every
        comparison), or a frame with columns a, b, weight
    ridge : r in r/2 ||theta||^2 on the summed log-likelihood of the contextual outcome model, contexts standardised
    floor : effective share of the answered rows below which it refuses
    unsupported : share of the target without support above which it refuses; see :meth:`Propensity.weights`

    Examples
    --------
    >>> import numpy as np, polars as pl, steelyard as sy
    >>> rng = np.random.default_rng(0)
    >>> code = rng.random(900) < 0.5
    >>> often = np.where(code[:, None], [0.5, 0.3, 0.2], [0.2, 0.3, 0.5])  # of x | y, y | z, x | z
    >>> pair = (rng.random(900)[:, None] > often.cumsum(axis=1)).sum(axis=1)
    >>> frame = pl.DataFrame({"a": np.array(["x", "y", "x"])[pair], "b": np.array(["y", "z", "z"])[pair], "code": code,
    ...                       "won": (rng.random(900) < np.where(code, 0.7, 0.4)) * 1.0})
    >>> log = sy.scan(frame, a="a", b="b", outcome="won", context="code")
    >>> dr = sy.DoublyRobust(propensity=sy.PairPropensity(method="pairs")).fit(log)
    >>> dr.table()["arm"].to_list()
    ['x', 'y', 'z']
    """

    outcome: Any = "contextual"
    propensity: PairPropensity = field(default_factory=PairPropensity)
    labelled: LabelPropensity | None = None
    judge: Column | None = None
    folds: int = 5
    seed: int = 0
    target: Any = None
    pairs: Any = "uniform"
    ridge: float = 1.0
    floor: float = 0.01
    unsupported: float = 0.1

    # how the scores are read
    model: ClassVar[str] = "bradley-terry"
    ties: ClassVar[str] = "half"
    link: ClassVar[str] = "logistic"
    position: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_models(self)
        if self.labelled is not None and not isinstance(self.labelled, LabelPropensity):
            raise ValueError(f"labelled must be a LabelPropensity, not {self.labelled!r}")
        if self.judge is not None and self.labelled is None:
            raise ValueError("judge= helps where answers are missing: it goes with labelled=LabelPropensity()")
        if isinstance(self.pairs, str) and self.pairs not in ("uniform", "log"):
            raise ValueError(f"pairs must be 'uniform', 'log' or a frame with a, b and weight, not {self.pairs!r}")

    def fit(self, log: PreferenceLog, threads: int | None = None, executor: Executor | None = None) -> DoublyRobustFit:
        """Scores and win rates of every arm that the target's pairs join.

        One pass to encode the rows; a few for the outcome model and the propensity; two for the estimate.

        threads: that passes have, by default one a core. executor: a :class:`RayExecutor`, for passes on a cluster.

        Raises
        ------
        LogError
            Bad rows, contexts that are null or constant, a target or pairs with other columns or arms.
        NotIdentifiedError
            A model without a finite fit in some fold, fewer clusters than folds, no projection.
        OverlapError
            A propensity of 0, too small an effective share, too much of the target without support.
        """
        needs_log(log)
        if threads is not None or executor is not None:
            return on(threads, executor, self.fit, log)
        ready = prepared(self, log)
        naive = _naive(ready.pairs, ready.blocks, ready.clusters)
        why = apart(ready.pairs)
        while True:
            omega = pair_weights(self.pairs, ready.pairs, np.array([reason is None for reason in why]))
            problem = Pairwise(ready.blocks, omega, ready.outcome, ready.judged, ready.chance, tilt=ready.tilt)
            with one_blas_thread():
                found = problem.residuals()
                refuse_thin(found, self.floor)
                alone = _extrapolated(self, ready, omega, found)
                if alone or _misfit(ready):
                    problem = replace(problem, stack=self._outcome_error(problem, found))
                warn_extrapolated(alone, known=problem.stack is not None)
                moments = problem.moments(found)
            win = _win_matrix(problem, found, moments)
            lost = _beyond(win, omega)
            if not any(lost):
                break
            why = [known or reason for known, reason in zip(why, lost, strict=True)]  # and once more without them
        with one_blas_thread():
            return _estimated(self, ready, problem, found, moments, win, why, naive)

    def _outcome_error(self, problem: Pairwise, found: Residuals) -> Any:
        """What the outcome model's own error adds, where it is a contextual one of the log's own answers; else None."""
        own = isinstance(self.outcome, str) and self.outcome == "contextual"
        return outcome_error(problem, found, self.ridge) if own else None


def _misfit(ready: Prepared) -> bool:
    """Whether the propensity is known not to be right."""
    misfit = None if ready.overlap is None else ready.overlap.propensity.misfit
    return misfit is not None and not misfit.fits


def _extrapolated(spec: DoublyRobust, ready: Prepared, omega: Any, found: Residuals) -> float:
    """Share of pairs without an answer that the propensity does not say chance left out; a refusal where it is much.

    A softmax of two draws gives every pair a chance, so that pairs which were shown stand for those it left out. By any
    other propensity such pairs rest on the outcome model alone.
    """
    if ready.chance:
        return 0.0
    never = np.triu((omega > 0) & (found.answered + found.answered.T == 0), 1)
    share = float(omega[never].sum())
    if share > spec.unsupported:
        names = [f"{ready.pairs.arms[int(i)]} | {ready.pairs.arms[int(j)]}" for i, j in np.argwhere(never)[:5]]
        raise OverlapError(
            f"{never.sum()} pairs, {100 * share:.1f} % of what pairs= asks for, were never answered "
            f"({', '.join(names)}): they rest on the outcome model alone. Ask for what the log has by pairs='log'; use "
            "PairPropensity(method='softmax') if chance left them out, which it did not where one arm is in every "
            f"comparison; or put up with them by unsupported={min(1.0, share + 0.01):.2f}."
        )
    return share


def pair_weights(pairs: Any, table: PairTable, joined: Any) -> Any:
    """(K, K) symmetric weights of the pairs, 1 in all; 0 with arms that are not joined (K,)."""
    k = len(table.arms)
    weight = np.zeros((k, k))
    np.add.at(weight, (table.a, table.b), table.sums.sum(axis=1))
    if isinstance(pairs, str):
        omega = 1.0 - np.eye(k) if pairs == "uniform" else weight + weight.T
    else:
        omega = _given_weights(pairs, table)
    omega = omega * np.outer(joined, joined)
    if not omega.any():
        raise NotIdentifiedError("no pair of the target has arms that labelled comparisons join, and finite scores")
    return omega * (2.0 / omega.sum())


def _given_weights(pairs: Any, table: PairTable) -> Any:
    try:
        frame = pairs if isinstance(pairs, pl.DataFrame) else pl.DataFrame(pairs)
        if not {"a", "b", "weight"} <= set(frame.columns):
            raise LogError(f"pairs= has the columns {frame.columns}; it needs a, b and weight")
        frame = frame.select(pl.col("a", "b").cast(pl.String), pl.col("weight").cast(pl.Float64))
    except (pl.exceptions.PolarsError, TypeError, ValueError) as error:
        raise LogError(f"pairs= is no frame with arms a, b and numbers weight: {error}") from error
    place = {name: code for code, name in enumerate(table.arms)}
    omega = np.zeros((len(place), len(place)))
    for a, b, weight in frame.select("a", "b", "weight").iter_rows():
        if a not in place or b not in place or a == b:
            known = among(place, b if a in place else a)
            raise LogError(f"pairs= has the pair {a!r}, {b!r}: the log's arms are {known}")
        if weight is None or not 0.0 <= weight < np.inf:
            raise LogError(f"pairs= gives {a!r}, {b!r} the weight {weight}: weights are finite numbers >= 0")
        omega[place[a], place[b]] += weight
        omega[place[b], place[a]] += weight
    return omega


def _naive(pairs: PairTable, blocks: Blocks, clusters: list[tuple[int, str, int]]) -> ScoreFit | None:
    """The plain Bradley-Terry fit of the same rows; None where it has no finite score."""
    try:
        fit = BradleyTerry().fit_table(pairs, "cluster" if clusters else "sandwich")
    except NotIdentifiedError:
        return None
    if not clusters:
        return fit
    place = np.where(fit.main, np.cumsum(fit.main) - 1, -1).astype(np.int32)

    def within(block: Block) -> Block:
        own = replace(block, columns=np.empty((0, block.n)), design=None, weight=block.sampling)
        return inside(own, place, False, True)

    k = int(fit.main.sum())
    problem = RowProblem(blocks.map(within), k, (), "bradley-terry", np.zeros(k))
    known = fit.psi
    assert known is not None
    sizes = [(name, n) for _, name, n in clusters]
    return fit.referred(row_meat.clustered(problem, fit.estimate, known.bread, sizes))


def _win_matrix(problem: Pairwise, found: Residuals, moments: Moments) -> Any:
    """(K, K) mean outcome of the row's arm against the column's, NaN outside the target."""
    win = np.triu(moments.means / found.total + found.correction(problem.omega), 1)
    win = win + np.tril(1.0 - win.T, -1)
    win[(problem.omega == 0) | np.eye(problem.k, dtype=bool)] = np.nan
    return win


def _beyond(win: Any, omega: Any) -> list[str | None]:
    """Of each arm why no score fits it: its mean outcome over all opponents leaves (0, 1)."""
    words = "its win rate over the target is {:.3f}: no finite score"
    return [words.format(rate) if rate <= 1e-9 or rate >= 1 - 1e-9 else None for rate in win_rates(win, omega)]


def _estimated(
    spec: DoublyRobust, ready: Prepared, problem: Pairwise, found: Residuals, moments: Moments, win: Any,
    why: list[str | None], naive: ScoreFit | None,
) -> DoublyRobustFit:  # fmt: skip
    """Projection and influence from the win matrix and the sums of both passes.

    Two passes more, or two for each cluster column, where the pairs' weights are the log's: these were estimated too.
    And two where there is a target: its weights were.
    """
    omega, k = problem.omega, problem.k
    centre = centre_of(omega, moments.means / found.total)
    a, b = np.nonzero(np.triu(omega, 1))
    group = components(k, a, b)
    main = group == np.bincount(group, omega.sum(axis=1)).argmax()
    outside = "no pair of the target joins it to the scored arms"
    why = [reason or (None if inside else outside) for reason, inside in zip(why, main, strict=True)]
    kept = np.ix_(main, main)
    try:
        projection = project(win[kept], omega[kept])
    except NotIdentifiedError as error:
        off = np.argwhere(np.triu((win < 0) | (win > 1)))
        names = [f"{ready.pairs.arms[int(i)]} | {ready.pairs.arms[int(j)]} {win[i, j]:.3f}" for i, j in off[:5]]
        raise NotIdentifiedError(
            f"no finite scores fit the win matrix ({error}): {len(off)} of its entries lie outside [0, 1] ({names}), "
            "or some arms always win. Use coarser contexts, or pairs='log'."
        ) from error
    score = np.full(k, np.nan)
    score[main] = projection.theta
    estimate = Estimate(projection.theta, int(main.sum()), 0.0, 0.0, float("nan"), projection.iterations,
                        projection.gradient_norm)  # fmt: skip
    rate_meat = None
    problem, moments = problem.turned(found, moments)
    if isinstance(spec.pairs, str) and spec.pairs == "log":
        counted = float(ready.pairs.sums.sum(axis=1) @ (omega[ready.pairs.a, ready.pairs.b] > 0))
        shares = np.zeros((k, k))
        shares[kept] = projection.share
        by_score, by_rate = (
            replace(problem, counted=counted, shift=shifts(omega, win, like, found.total, counted))
            for like in (shares, win_rates(win, omega)[:, None])
        )
        rates = moments if ready.clusters else by_rate.moments(found)  # of clusters no more than means is asked
        rate_meat = by_rate.meat(found, rates, ready.clusters)[0][kept]
        problem, moments = by_score, moments if ready.clusters and spec.judge is None else by_score.moments(found)
    meat, clipped = problem.meat(found, moments, ready.clusters)
    groups = min((codes for *_, codes in ready.clusters), default=0)
    psi = Influence(projection.bread / found.total, meat[kept], clipped, _told(ready, found, omega)[main], groups)
    alone = None
    if spec.judge is not None:
        alone = centred(moments.alone, moments.alone_cross, moments.tt, centre)[kept]
    left = ready.pairs.dropped.items()
    dropped = {reason: n for reason, n in left if spec.labelled is None or reason != "not labelled"}
    fit = DoublyRobustFit(
        spec, ready.pairs, score, why, estimate, None, "cluster" if ready.clusters else "sandwich", omega, win,
        answered=found.answered + found.answered.T, total=found.total, effective_size=found.effective_size,
        n=int(found.rows), naive=naive, overlap=ready.overlap, contexts=ready.contexts, problem=problem,
        residuals=found, centre=centre, alone=alone, rate_meat=rate_meat, clusters=ready.clusters,
        words=_estimand(spec), dropped=dropped,
    )  # fmt: skip
    return fit.referred(psi)


def _told(ready: Prepared, found: Residuals, omega: Any) -> Any:
    """(K,) how many answers, or clusters that have one, tell of each arm: 1 / sum of the pairs' shares over theirs.

    Share: of what answers put into the variance of the arm's sum. The residuals of a pair that is divided by its own
    weights sum to 0, so that of m clusters with an answer 1 / m of its variance is not seen; pairs that share a divisor
    are told of by all their clusters together.
    """
    k, answers = len(omega), found.answers(omega)
    own = answers.own | answers.own.T

    def codes(block: Block) -> list[Any]:
        told = np.isfinite(np.asarray(block.y)) & (omega[block.a, block.b] > 0)
        alone = own[block.a, block.b]
        pair = np.minimum(block.a, block.b).astype(np.int64) * k + np.maximum(block.a, block.b)
        shared = [np.where(told & ~alone, k * k + arm, -1) for arm in (block.a, block.b)]
        return [np.where(told & alone, pair, -1), *shared]

    if ready.clusters:
        count = told_by(ready.blocks, ready.clusters, k * k + k, codes)
        pairs, together = np.triu(count[: k * k].reshape(k, k), 1), count[k * k :]
    else:
        pairs, met = found.answered, np.where((omega > 0) & ~own, found.answered + found.answered.T, 0.0)
        together = met.sum(axis=1)
    part = np.triu(omega, 1) ** 2 * answers.scale**2 * found.by_pair[3]
    part, pairs = part + part.T, pairs + pairs.T
    unseen = np.divide(part, pairs, out=np.zeros_like(part), where=own & (pairs > 0)).sum(axis=1)
    rest = np.where(own, 0.0, part).sum(axis=1)
    unseen += np.divide(rest, together, out=np.zeros(k), where=together > 0)
    return np.divide(part.sum(axis=1), unseen, out=np.zeros(k), where=unseen > 0)


def _estimand(spec: DoublyRobust) -> str:
    whose = "the log's own contexts" if spec.target is None else "the target's contexts (their means taken as known)"
    pairs = spec.pairs if isinstance(spec.pairs, str) else "given"
    often = {"uniform": "every pair equally often", "log": "every pair as often as in the log"}.get(
        pairs, "pairs as often as pairs= says"
    )
    return (
        f"Bradley-Terry scores nearest to the win matrix over {whose}, {often}"
        " in every context alike (a tie counts half)"
    )
