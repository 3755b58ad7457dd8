"""The chance that a policy's answer is preferred to a reference's (estimators.md, section 10).

Over arms: V = E_x sum_jk pi_j(x) rho_k(x) mu_jk(x), the outcome model, plus a correction from what was shown,
(pi_a rho_b - pi_b rho_a) / p_ab (y - mu_ab). Of single responses with logged probabilities (Xu et al. 2025, arXiv
2506.01183): 1/2 sum_a E_{y ~ pi} g(y, Y^a), plus 1/2 (w_a - w_b) (Z - g(Y^1, Y^2)), w = pi / pi_ref.
Either correction is divided by the sum of its own weights (Hajek).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import isfinite
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import polars as pl

from steelyard._native.all_pairs import ROWS, policy_value
from steelyard.assignment.propensity import PairPropensity
from steelyard.blocks import Block, Dictionary, Encoder
from steelyard.causal.folds import fold_slices
from steelyard.causal.outcomes import ArmScores, PairMeans, sigmoid
from steelyard.causal.pairwise import refuse_thin
from steelyard.causal.prepared import Prepared, apart, check_models, prepared
from steelyard.errors import FormatError, LogError, OverlapError, check_level
from steelyard.inference.clusters import cluster_names, squared_sums
from steelyard.inference.influence import multiway
from steelyard.log import needs_log, several
from steelyard.models.row_problem import weights
from steelyard.models.saved import LoadedSpec, settings_facts
from steelyard.models.score_fit import quantile
from steelyard.passes import Executor, on
from steelyard.result import LOADERS, write_archive
from steelyard.rows import read_rows
from steelyard.solve import one_blas_thread
from steelyard.spill import Blocks

if TYPE_CHECKING:
    from steelyard.log import Column, PreferenceLog

_LARGEST = 1e50  # of a value in a file
_CELLS = 1 << 19  # arm scores that are worked on at a time
Policy = Mapping[str, Any] | str


@dataclass(frozen=True)
class PolicyValue:
    """How often a policy over arms beats a reference policy, a tie counting half.

    Parameters
    ----------
    policy : name of an arm; "uniform"; or {arm: its probability, a number, or a column where it depends on the
        prompt}, arms left out having none; or :class:`Responses`, of logged responses and candidates
    reference : the same, but no Responses; those have their own
    outcome, propensity, folds, seed, target, ridge, floor : as in :class:`DoublyRobust`; Responses take the floor only
    unsupported : share of what the policies would compare in pairs without an answered comparison, beyond which it
        refuses, unless the propensity says that chance left them out
    clip : largest ratio of probabilities of a response; counted. For Responses only

    Examples
    --------
    >>> import numpy as np, polars as pl, steelyard as sy
    >>> rng = np.random.default_rng(0)
    >>> frame = pl.DataFrame({"a": rng.choice(["x", "y"], 400), "b": ["z"] * 400, "t": rng.random(400),
    ...                       "won": (rng.random(400) < 0.7) * 1.0})
    >>> log = sy.scan(frame, a="a", b="b", outcome="won", context="t")
    >>> against_z = sy.PairPropensity(method="pairs")
    >>> fit = sy.PolicyValue(policy={"x": 0.5, "y": 0.5}, reference="z", propensity=against_z).fit(log)
    >>> abs(fit.value - frame["won"].mean()) < 0.02
    True
    """

    policy: Any
    reference: Policy = "uniform"
    outcome: Any = "contextual"
    propensity: PairPropensity = field(default_factory=PairPropensity)
    folds: int = 5
    seed: int = 0
    target: Any = None
    ridge: float = 1.0
    floor: float = 0.01
    unsupported: float = 0.1
    clip: float | None = None

    labelled: ClassVar[None] = None
    judge: ClassVar[None] = None

    def __post_init__(self) -> None:
        check_models(self)
        for name, policy in (("policy", self.policy), ("reference", self.reference)):
            if not isinstance(policy, str | Mapping | (Responses if name == "policy" else str)):
                raise ValueError(f"{name} must be an arm, 'uniform' or {{arm: probability}}, not {policy!r}")
        if self.clip is not None and not (isinstance(self.policy, Responses) and self.clip > 0):
            raise ValueError("clip= is a positive bound on the ratios of Responses")
        if isinstance(self.policy, Responses):
            for name in ("reference", "outcome", "propensity", "folds", "seed", "target", "ridge", "unsupported"):
                own, default = getattr(self, name), getattr(PolicyValue("uniform"), name)
                if own is not default and (name == "target" or own != default):
                    raise ValueError(f"{name}= is not for Responses: they bring their probabilities and scores along")

    def fit(self, log: PreferenceLog, threads: int | None = None, executor: Executor | None = None) -> PolicyValueFit:
        """The policy's value with its interval.

        threads: default all cores. executor: a :class:`RayExecutor`, for passes on a cluster.

        Raises
        ------
        LogError
            Bad rows, arms that the log does not have, probabilities that are negative or do not add to 1.
        NotIdentifiedError, OverlapError
            As of :meth:`DoublyRobust.fit`.
        """
        needs_log(log)
        if executor is not None:
            return on(executor, self.fit, log)
        if isinstance(self.policy, Responses):
            return _of_responses(self, self.policy, log, threads)
        columns: dict[str, Any] = {}
        for name, policy in (("policy", self.policy), ("reference", self.reference)):
            for arm, chance in policy.items() if isinstance(policy, Mapping) else ():
                if not isinstance(chance, Real | str | pl.Expr):
                    raise ValueError(
                        f"{name} gives {arm!r} {chance!r}: a probability or a column of them belongs there"
                    )
                columns[f"{name} of {arm}"] = pl.lit(float(chance)) if isinstance(chance, Real) else chance
        ready = prepared(self, log, threads, columns)
        names = [*(f"score of {arm}" for arm in (self.outcome if isinstance(self.outcome, Mapping) else ())), *columns]
        arms = ready.pairs.arms.to_list()
        chances = [_Chances.of(policy, name, arms, names) for policy, name in
                   ((self.policy, "policy"), (self.reference, "reference"))]  # fmt: skip
        for each in chances:
            each.check(ready.blocks)
        supported = _supported(ready, chances, self.unsupported)
        terms = partial(_arm_terms, supported=supported, ready=ready, policy=chances[0], reference=chances[1])
        return _valued(self, ready.blocks, terms, ready.clusters, ready.pairs.dropped)


@dataclass(frozen=True)
class Responses:
    """Responses with logged probabilities, and candidates to average the policy over.

    Parameters
    ----------
    logp_policy, logp_reference : columns of a's and of b's log-probability under the policy and under the model that
        wrote them both
    score : columns of a's and of b's score by a reward model, logits; never trusted to be right
    candidates : a column of lists with the scores of candidate responses, and one with their log-probabilities under
        the policy, made to add to 1; lists of one length
    """

    logp_policy: tuple[Column, Column]
    logp_reference: tuple[Column, Column]
    score: tuple[Column, Column]
    candidates: tuple[Column, Column]

    def __post_init__(self) -> None:
        for name in ("logp_policy", "logp_reference", "score", "candidates"):
            if len(several(getattr(self, name), name)) != 2:
                raise ValueError(f"{name} takes two columns, not {getattr(self, name)!r}")


class _Terms(NamedTuple):
    """Of every row. model: value by the outcome model. share: of it that the correction speaks of, 1 or less.

    weight: of the correction; signed: that times the residual. alone: that times the outcome. same: chance that both
    policies give one arm. clipped: comparisons.
    """

    model: Any
    share: Any
    weight: Any
    signed: Any
    alone: Any
    same: Any
    clipped: int = 0


@dataclass(frozen=True)
class PolicyValueFit:
    """The value of a policy. Made by :meth:`PolicyValue.fit`.

    value, se: doubly robust, with its standard error. model, weights: what the outcome model alone and the weights
    alone would say. n: comparisons; asked: those of arms that the policies give. effective_size: of the weights.
    unsupported: share of what the policies compare that rests on the outcome model alone. clipped: comparisons with a
    ratio that was cut. estimand: in words.
    """

    spec: PolicyValue | LoadedSpec
    value: float
    se: float
    model: float
    weights: float
    n: int
    asked: int
    effective_size: float
    largest_share: float
    unsupported: float
    clipped: int
    kind: str
    estimand: str
    dropped: dict[str, int]

    @property
    def converged(self) -> bool:
        return True  # a model that has not converged is an error, never a result

    @property
    def effective_share(self) -> float:
        """Effective size, as a share of the comparisons that the policies ask for."""
        return self.effective_size / self.asked

    def table(self, level: float = 0.95) -> pl.DataFrame:
        """estimator value se low high reason: doubly robust, and what either half of it would say alone."""
        check_level(level)
        reach = quantile(level) * self.se
        alone = "no interval: right only if this half is, and its error is not known"
        rows = [
            ("doubly robust", self.value, self.se, self.value - reach, self.value + reach, None),
            ("outcome model alone", self.model, None, None, None, alone),
            ("weights alone", self.weights, None, None, None, alone),
        ]
        names = ["estimator", "value", "se", "low", "high", "reason"]
        types = [pl.String, *[pl.Float64] * 4, pl.String]
        return pl.DataFrame(rows, schema=dict(zip(names, types, strict=True)), orient="row")

    def save(self, path: str | os.PathLike[str]) -> None:
        """One file of JSON, without the rows; read it with :func:`steelyard.load`."""
        facts = {name: getattr(self, name) for name in self.__dataclass_fields__}
        write_archive(path, "policy-value", facts | {"spec": settings_facts(self.spec)}, {})


def _loaded(facts: dict[str, Any], arrays: dict[str, Any]) -> PolicyValueFit:
    fit = PolicyValueFit(**facts | {"spec": LoadedSpec(**facts["spec"])})
    counts, shares = (fit.n, fit.asked, fit.clipped), (fit.largest_share, fit.unsupported)
    if not all(type(count) is int for count in counts) or not 0 < fit.asked <= fit.n or fit.clipped < 0:
        raise FormatError("counts that are none")
    told = (fit.value, fit.se, fit.model, fit.weights, fit.effective_size, *shares)
    if not all(isinstance(x, float) and isfinite(x) and abs(x) <= _LARGEST for x in told):
        raise FormatError("a value that is not a number, or beyond all use")
    if not (isinstance(fit.kind, str) and isinstance(fit.estimand, str) and isinstance(fit.dropped, dict)):
        raise FormatError("words that are none")
    if not (fit.se >= 0 and 0 < fit.effective_size <= fit.asked * (1 + 1e-9) and all(0 <= x <= 1 for x in shares)):
        raise FormatError("a standard error, an effective size or a share that is none")
    return fit


LOADERS["policy-value"] = _loaded


# --- arms ----------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Chances:
    """Probabilities of the arms. fixed: (K,), or None; then place: (K,) column of each arm in the blocks, -1: none."""

    fixed: Any
    place: Any
    name: str

    @staticmethod
    def of(policy: Policy, name: str, arms: Sequence[str], columns: Sequence[str]) -> _Chances:
        k = len(arms)
        if policy == "uniform" and "uniform" not in arms:
            return _Chances(np.full(k, 1.0 / k), None, name)
        shares = {policy: 1.0} if isinstance(policy, str) else {str(arm): share for arm, share in policy.items()}
        strange = [arm for arm in shares if arm not in arms]
        if strange:
            raise LogError(f"{name} names {strange[:5]}: the log's arms are {list(arms)[:10]}")
        if not isinstance(policy, str) and not all(isinstance(share, Real) for share in shares.values()):
            place = [columns.index(f"{name} of {arm}") if arm in shares else -1 for arm in arms]
            return _Chances(None, np.array(place), name)
        fixed = np.array([float(shares.get(arm, 0.0)) for arm in arms])
        if (fixed < 0).any() or abs(fixed.sum() - 1.0) > 1e-6:
            raise LogError(
                f"{name} has the probabilities {dict(shares)}: none may be negative, and they must add to 1, not "
                f"{fixed.sum():g}"
            )
        return _Chances(fixed, None, name)

    def at(self, block: Block) -> Any:
        """(K, n) of a block's rows."""
        if self.fixed is not None:
            return np.broadcast_to(self.fixed[:, None], (len(self.fixed), block.n))
        chance = np.asarray(block.columns)[self.place]
        chance[self.place < 0] = 0.0
        return chance

    def check(self, blocks: Blocks) -> None:
        """Raises LogError where the probabilities of some row are none."""
        if self.fixed is not None:
            return

        def one(block: Block) -> Any:
            chance = self.at(block)
            bad = (chance < 0).any(axis=0) | (np.abs(chance.sum(axis=0) - 1.0) > 1e-6)
            return block.numbers(np.flatnonzero(bad))

        bad = np.concatenate(list(blocks.each(one)))
        if len(bad):
            raise LogError(
                f"{len(bad)} rows: the probabilities of {self.name} are negative or do not add to 1 (first rows "
                f"{bad[:10].tolist()}): every arm needs its column, and they must add to 1"
            )


def _supported(ready: Prepared, chances: Sequence[_Chances], most: float) -> Any:
    """(K, K) bool: pairs that the correction speaks of. Refuses where the policies ask too much of the others.

    Pairs with answered comparisons; by a softmax of two draws also those that chance left out, of arms that are joined.
    """
    k, table = len(ready.pairs.arms), ready.pairs
    joined = np.array([reason is None for reason in apart(table)])
    answered = np.zeros((k, k), bool)
    answered[table.a, table.b] = True
    supported = np.outer(joined, joined) & (answered | answered.T | ready.chance)
    policy, reference = chances

    def one(block: Block) -> Any:
        return (policy.at(block) * weights(block)) @ reference.at(block).T

    asked = np.sum([*ready.blocks.each(one)], axis=0)
    np.fill_diagonal(asked, 0.0)
    share = float(asked[~supported].sum() / asked.sum()) if asked.any() else 0.0
    if share > most:
        worst = np.argwhere((asked > 0) & ~supported)[:5]
        names = ", ".join(f"{table.arms[int(i)]} | {table.arms[int(j)]}" for i, j in worst)
        raise OverlapError(
            f"{100 * share:.1f} % of what the policies would compare was never answered ({names}): it would rest on "
            "the outcome model alone. Ask for policies nearer to the log, or put up with it by "
            f"unsupported={share + 0.01:.2f}."
        )
    return supported


def _arm_terms(block: Block, supported: Any, ready: Prepared, policy: _Chances, reference: _Chances) -> _Terms:
    terms, step = np.empty((6, block.n)), max(ROWS, _CELLS // len(ready.pairs.arms) // ROWS * ROWS)
    for f, at in fold_slices(block, step):
        part = block.where(at, view=True)
        terms[:, at] = _some_terms(part, supported, ready.outcome.at(part, f), policy.at(part), reference.at(part))
    return _Terms(*terms)


def _some_terms(block: Block, supported: Any, table: Any, pi: Any, rho: Any) -> tuple[Any, Any, Any, Any, Any, Any]:
    n, y, p = np.arange(block.n), np.asarray(block.y), np.asarray(block.propensity)[0]
    win, lose = pi[block.a, n] * rho[block.b, n], pi[block.b, n] * rho[block.a, n]
    same = np.einsum("kn,kn->n", pi, rho)
    residual = y - table.between(block.a, block.b)
    alone = (win * y + lose * (1.0 - y)) / p
    share = np.einsum("kn,kn->n", pi, (supported & ~np.eye(len(pi), dtype=bool)) @ rho)
    return _averaged(table, pi, rho), share, (win + lose) / p, (win - lose) / p * residual, alone, same


def _averaged(table: ArmScores | PairMeans, pi: Any, rho: Any) -> Any:
    """(n,) sum over pairs of pi_j rho_k mu_jk."""
    k, n = pi.shape
    if isinstance(table, PairMeans):
        value, places = 0.5 * np.einsum("kn,kn->n", pi, rho), np.triu_indices(k, 1)
        for mean, i, j in zip(table.mean, *places, strict=True):
            value += pi[i] * rho[j] * mean + pi[j] * rho[i] * (1.0 - mean)
        return value
    value, drawn = np.empty(n), (pi.any(axis=1) + 2 * rho.any(axis=1)).astype(np.uint8)
    score, pi, rho = (np.ascontiguousarray(values) for values in (table.score, pi, rho))
    policy_value(score, pi, rho, drawn, np.empty((3 * k + 1, ROWS)), value)
    return value


# --- responses -----------------------------------------------------------------------------------
def _of_responses(spec: PolicyValue, policy: Responses, log: PreferenceLog, threads: int | None) -> PolicyValueFit:
    columns: dict[str, Any] = {}
    for what in ("logp_policy", "logp_reference", "score"):
        for side, column in zip("ab", getattr(policy, what), strict=True):
            columns[f"{what} of {side}"] = column
    width = _width(log, policy.candidates)
    for what, column in zip(("score", "logp"), policy.candidates, strict=True):
        lists = (pl.col(column) if isinstance(column, str) else column).cast(pl.List(pl.Float64))
        for i in range(width):
            columns[f"candidate {what} {i}"] = lists.list.get(i, null_on_oob=True)
    names = cluster_names(len(log.cluster))
    sides = {side: pl.lit(f"response {side}") for side in "ab"}  # the same response may be drawn twice
    log = replace(log, covariates=columns, roles={**log.roles, **sides})
    encoder = Encoder(dict(log.outcomes), clusters={name: Dictionary() for name in names}, covariates=tuple(columns))
    rows = read_rows(log, encoder, threads)
    clusters = [(i, log.cluster_label(name), len(rows.encoder.clusters[name])) for i, name in enumerate(names)]
    terms = partial(_response_terms, width=width, clip=spec.clip)
    return _valued(spec, rows.blocks, terms, clusters, rows.pairs.dropped)


def _width(log: PreferenceLog, candidates: tuple[Column, Column]) -> int:
    """How many candidates each row has; LogError where that differs."""
    names = ("scores", "log-probabilities")
    lists = [log.expression(column, "candidates").alias(name) for name, column in zip(names, candidates, strict=True)]
    for name, kind in log.frame().select(lists).collect_schema().items():
        if not isinstance(kind, pl.List | pl.Array) or not kind.inner.is_numeric():
            raise LogError(f"candidates: the {name} hold {kind}; give columns of lists of numbers, one a candidate")
    told = pl.struct(part.cast(pl.List(pl.Float64)).list.len() for part in lists).unique().alias("length")
    lengths = log.frame().select(told).collect()["length"]
    known = {value for row in lengths for value in row.values()}
    if len(known) != 1 or None in known or 0 in known:
        raise LogError(f"candidates have lists of lengths {sorted(map(str, known))[:6]}: give every row as many")
    return int(known.pop())


def _response_terms(block: Block, width: int, clip: float | None) -> _Terms:
    columns = np.asarray(block.columns)
    policy_a, policy_b, reference_a, reference_b, score_a, score_b = columns[:6]
    scores, logp = columns[6 : 6 + width], columns[6 + width :]
    chance = np.exp(logp - logp.max(axis=0))
    chance /= chance.sum(axis=0)
    model = 0.5 * sum((chance * sigmoid(scores - score)).sum(axis=0) for score in (score_a, score_b))
    with np.errstate(over="ignore"):
        up, down = np.exp(policy_a - reference_a), np.exp(policy_b - reference_b)
    counted = np.ones(block.n) if block.count is None else block.count
    cut = 0 if clip is None else int(counted[(up > clip) | (down > clip)].sum())
    if clip is not None:
        up, down = np.minimum(up, clip), np.minimum(down, clip)
    far = np.flatnonzero(~np.isfinite(up * up + down * down))
    if len(far):
        raise OverlapError(
            f"{len(far)} rows: a response is so much likelier under the policy that no number holds the ratio (first "
            f"rows {block.numbers(far[:10]).tolist()}). Correct the log-probabilities, or bound the ratios by clip=."
        )
    y = np.asarray(block.y)
    signed = 0.5 * (up - down) * (y - sigmoid(score_a - score_b))
    alone, none = 0.5 * (up * y + down * (1.0 - y)), np.zeros(block.n)
    return _Terms(model, np.ones(block.n), 0.5 * (up + down), signed, alone, none, cut)


# --- either --------------------------------------------------------------------------------------
class _Found(NamedTuple):
    """Sums over rows: of t, t model, t share, t weight, t signed, t alone, t same, (t weight)^2; comparisons, and those
    with a weight; largest weight.
    """

    total: float
    model: float
    share: float
    size: float
    signed: float
    alone: float
    same: float
    square: float
    n: float
    asked: float
    clipped: int
    largest: float


@one_blas_thread()
def _valued(
    spec: PolicyValue, blocks: Blocks, terms: Callable[[Block], _Terms], clusters: list[tuple[int, str, int]],
    dropped: dict[str, int],
) -> PolicyValueFit:  # fmt: skip
    """The value and its standard error from the terms of the rows: two passes."""

    def one(block: Block) -> tuple[Any, int, float]:
        of, (t, c) = terms(block), _weights(block)
        w = t * of.weight
        parts = (
            t,
            t * of.model,
            t * of.share,
            w,
            t * of.signed,
            t * of.alone,
            t * of.same,
            w * w,
            np.ones(block.n),
            w > 0,
        )
        return np.array([c @ part for part in parts]), of.clipped, float(w.max(initial=0.0))

    sums, clipped, largest = zip(*blocks.each(one), strict=True)
    found = _Found._make([*np.sum(sums, axis=0).tolist(), sum(clipped), max(largest)])
    refuse_thin(found, spec.floor)
    residual = found.signed / found.size
    model, share = found.model / found.total, found.share / found.total

    def errors(block: Block) -> Any:
        """(n, 1) what each row adds to the error of the value, times its count."""
        of, (t, c) = terms(block), _weights(block)
        own = t * (of.model - model + residual * (of.share - share)) / found.total
        own += share * t * (of.signed - residual * of.weight) / found.size
        return (own * c)[:, None]

    def squared(block: Block) -> float:
        psi = errors(block)[:, 0]
        return float(psi @ (psi if block.count is None else psi / block.count))

    if clusters:
        squares = [squared_sums(blocks, cluster, 1, errors) for cluster in clusters]
        variance = float(multiway([name for _, name, _ in clusters], *zip(*squares, strict=True))[0][0, 0])
    else:
        variance = sum(blocks.each(squared))
    same = found.same / found.total
    alone = 0.5 * same + share * found.alone / found.size
    unsupported = max(0.0, round(1.0 - share / (1.0 - same), 12)) if same < 1.0 else 0.0
    return PolicyValueFit(
        spec, float(model + share * residual), float(np.sqrt(variance)), float(model), float(alone), int(found.n),
        int(found.asked), float(found.size**2 / found.square), float(found.largest / found.size), float(unsupported),
        found.clipped, "cluster" if clusters else "sandwich", _estimand(spec), dropped,
    )  # fmt: skip


def _estimand(spec: PolicyValue) -> str:
    whose = "the log's own contexts" if spec.target is None else "the target's contexts (taken as known)"
    if isinstance(spec.policy, Responses):
        whose = "the log's own prompts"
    return f"chance, over {whose}, that the policy's answer is preferred to the reference's (a tie counts half)"


def _weights(block: Block) -> tuple[Any, Any]:
    """(n,) target weights and counts."""
    ones = np.ones(block.n)
    return ones if block.weight is None else block.weight, ones if block.count is None else block.count
