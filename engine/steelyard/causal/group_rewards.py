"""Rewards of each rater group over everyone's prompts (docs/estimators.md, 6): the paper's case 2.

Raters with one objective write their own prompts, so that the plain rewards of a group are those on its own prompts.
For group c, reward beta_c solves, over the rows of all groups,
    sum_i t_i [ 1{C_i = c} / e_c(x_i) (y_i - m_c(i)) + m_c(i) - s(beta_c' delta_i) ] delta_i = 0,
e_c the propensity of the group, m_c its outcome model, both fitted without the row's fold.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy  # its parts load when first used

from steelyard.assignment.balancing import Balancing
from steelyard.assignment.contexts import (
    Contexts,
    by_place,
    context_encoder,
    in_order,
    learned,
    occurring,
    seen_by,
)
from steelyard.assignment.propensity import GroupPropensity, Propensity
from steelyard.assignment.weighing import toward, weigh_rows
from steelyard.blocks import Block, Encoder
from steelyard.causal.contextual import Contextual, ContextualProblem
from steelyard.causal.folds import fold_slices, folded, refuse_lone
from steelyard.causal.group_rewards_fit import GroupRewardsFit, GroupRow
from steelyard.causal.held_out import held_out, shown
from steelyard.causal.prepared import check_settings
from steelyard.dictionary import Dictionary
from steelyard.errors import ConvergenceError, NotIdentifiedError, OverlapError, warn
from steelyard.inference import Influence
from steelyard.inference.clusters import cluster_names, clustered_meat, squared_sums, told_by
from steelyard.inference.influence import warn_of_few
from steelyard.log import needs_log
from steelyard.models.cells import WIDEST_DENSE
from steelyard.models.reward import RewardModel
from steelyard.models.reward_fit import RewardFit
from steelyard.models.row_maximum import bread_of, maximise, sums_at
from steelyard.models.row_problem import RowProblem
from steelyard.models.told_apart import Identified, identified
from steelyard.passes import Changes, Executor, on
from steelyard.rows import Rows, read_rows
from steelyard.solve import one_blas_thread
from steelyard.spill import Blocks, changed, settled

if TYPE_CHECKING:
    from steelyard.log import PreferenceLog

_ROWS = 1 << 13  # rows whose scores are made at a time
_HEAVY = 50  # rows of equal weight, fewer than which tell too little of a variance


@dataclass(frozen=True)
class GroupRewards:
    """Rewards of response features for each rater group, over the prompts of all groups.

    The log is scanned with ``features=``, ``group=`` and ``context=``. Kobalczyk and van der Schaar (2025), case 2;
    augmented inverse propensity weighting with cross-fitting (Robins, Rotnitzky and Zhao 1994).

    Parameters
    ----------
    propensity : of the group, given context; any :class:`GroupPropensity`
    folds, seed, target, floor, unsupported : as in :class:`DoublyRobust`; the floor is for every group
    ridge : r in r/2 ||beta||^2 on the summed log-likelihood of each group's outcome model, in which every feature's
        effect may change with every context. Contexts are standardised, features are not: of small ones (entries of
        an embedding of norm 1) it shrinks the model more, and the estimate rests on the propensity alone
    """

    propensity: GroupPropensity = field(default_factory=GroupPropensity)
    folds: int = 5
    seed: int = 0
    target: Any = None
    ridge: float = 1.0
    floor: float = 0.01
    unsupported: float = 0.1

    def __post_init__(self) -> None:
        if not isinstance(self.propensity, GroupPropensity):
            raise ValueError(f"propensity must be a GroupPropensity, not {self.propensity!r}")
        check_settings(self)

    def fit(self, log: PreferenceLog, threads: int | None = None, executor: Executor | None = None) -> GroupRewardsFit:
        """Rewards and mean outcomes of every group, with one covariance for all of them.

        threads: that passes have, by default one a core. executor: a :class:`RayExecutor`, for passes on a cluster.

        Raises
        ------
        LogError
            Bad rows, one group only, no features or contexts.
        NotIdentifiedError
            A group without rows outside some fold, a model without a finite fit.
        OverlapError
            Contexts that tell the group, or too small an effective share of some group.
        """
        needs_log(log)
        if threads is not None or executor is not None:
            return on(threads, executor, self.fit, log)
        names, features = cluster_names(len(log.cluster)), log.feature_names()
        encoder = Encoder(dict(log.outcomes), clusters={name: Dictionary() for name in names}, features=features,
                          covariates=())  # fmt: skip
        encoder = context_encoder(log, replace(encoder, group=Dictionary()), None)
        rows = read_rows(log, encoder)
        clusters = [(i, log.cluster_label(name), len(rows.encoder.clusters[name])) for i, name in enumerate(names)]
        naive = _naive(log, rows)
        rows = replace(rows, blocks=folded(rows.blocks, self.folds, self.seed, clusters[: len(log.cluster)]))
        _refuse_lone_groups(rows.blocks, self.folds, _known(rows.encoder.group))
        with one_blas_thread():
            propensity = self._propensity(log, rows)
            target = "uniform" if self.target is None else self.target
            overlap = weigh_rows(propensity, log, propensity.blocks, target, "hajek", None, None, 0.0, self.unsupported)
            contexts, coded = learned(rows.blocks, rows.encoder, self.propensity.unseen)
            group = _known(rows.encoder.group)
            _, place = in_order(group, occurring(rows.blocks, len(group), lambda block: np.asarray(block.group)))
            ready, tilt = self._ready(log, rows.blocks, (coded, partial(by_place, place)), contexts, propensity)
            sums = _Sums.of(ready, len(propensity.assigned.labels))
            self._refuse(sums, propensity.assigned.labels)
            return _estimated(
                self, naive, ready, sums, tilt, propensity, features, clusters, overlap, rows.pairs.dropped
            )

    def _propensity(self, log: PreferenceLog, rows: Rows) -> Propensity:
        own, view = seen_by(self.propensity.asked_of(Encoder({}), log), rows.encoder)
        own = replace(own, group=rows.encoder.group)
        found = self.propensity.of_rows(rows.blocks.map(view), own, rows.pairs.dropped, log)
        return replace(found, read=(view, *found.read))

    def _ready(
        self, log: PreferenceLog, blocks: Blocks, read: Changes, contexts: Contexts, propensity: Propensity
    ) -> tuple[Blocks, Balancing | None]:
        """columns (m, n): delta. design (G, n): m_c of every group. propensity (n,): of the row's own group.

        And what made the weights toward the target, if there is one; rows keep their contexts then.
        """
        groups = len(propensity.assigned.labels)
        held = held_out(propensity, self.folds)
        viewed = blocks.map(partial(changed, changes=read))
        models = [self._outcome(viewed, contexts, group) for group in range(groups)]
        tilt = None if self.target is None else toward(contexts, log, viewed, self.target)

        def ready(block: Block) -> Block:
            e, block = shown(held, block), changed(block, read)
            design, means = _design(block, contexts), np.empty((groups, block.n))
            for f, at in fold_slices(block):
                for group, model in enumerate(models):
                    means[group, at] = scipy.special.expit(model.of(f)[1] @ design[:, at])
            weight = block.weight if tilt is None else tilt.weight(block) * (
                1.0 if block.weight is None else block.weight)  # fmt: skip
            columns = np.ascontiguousarray(np.asarray(block.features, np.float64).T)
            made = replace(block, columns=columns, features=None, design=means, weight=weight, sampling=block.weight,
                           propensity=e)  # fmt: skip
            return replace(made, context=(), levels=()) if tilt is None else made

        return settled(blocks.map(ready)), tilt

    def _outcome(self, viewed: Blocks, contexts: Contexts, group: int) -> Contextual:
        """m_c: a reward of the group's own rows, its effects linear in context; without each fold."""

        def mine(block: Block) -> Block:
            block = block.where(np.asarray(block.group) == group)
            design = np.ascontiguousarray(_design(block, contexts))
            return replace(block, columns=design, features=None, context=(), design=np.empty((0, block.n)))

        parts = [part.packed().map(mine) for part in viewed.split(self.folds)]
        d = next(iter(parts[0].each(lambda block: len(np.asarray(block.columns)))))
        if d > WIDEST_DENSE:
            raise NotIdentifiedError(f"{d} features times contexts: the outcome model is for up to {WIDEST_DENSE}")
        return ContextualProblem(parts, (), 0, d, np.full(d, self.ridge)).fit()

    def _refuse(self, sums: _Sums, labels: tuple[str, ...]) -> None:
        for label, share in zip(labels, sums.share, strict=True):
            if share < self.floor:
                raise OverlapError(
                    f"too little overlap: group {label!r} has an effective share of {share:.4f} of its rows; the floor "
                    f"is {self.floor}. Use coarser contexts, or a lower floor=."
                )


def _naive(log: PreferenceLog, rows: Rows) -> RewardFit | None:
    """The plain fit of each group's own rows; None where a small group's are told completely."""
    try:
        fit = RewardModel(heads="per-group").of_rows(
            rows, replace(log, covariates={}), "cluster" if log.cluster else "sandwich"
        )
    except (ConvergenceError, NotIdentifiedError):
        return None
    return replace(fit, rows=None)  # no audit asks for them, and they may be many


def _refuse_lone_groups(blocks: Blocks, folds: int, group: Dictionary) -> None:
    """Raises NotIdentifiedError where one fold holds every row of a group."""
    size = len(group)

    def one(block: Block) -> Any:
        fold = np.asarray(block.fold).astype(np.int64)
        return np.bincount(fold * size + np.asarray(block.group), minlength=folds * size).reshape(folds, size)

    rows, out = np.sum([*blocks.each(one)], axis=0), "join them with others, leave them out"
    refuse_lone(rows, group.labels(), "groups", out)


def _known(group: Dictionary | None) -> Dictionary:
    assert group is not None
    return group


def _design(block: Block, contexts: Contexts) -> Any:
    """(m (1 + d), n) every feature difference, times 1 and every standardised context."""
    delta, x = np.asarray(block.features, np.float64).T, contexts.matrix(block)
    return (x[:, None] * delta).reshape(len(x) * len(delta), block.n)


@dataclass(frozen=True)
class _Sums:
    """total: of t. h: (G,) sum of t / e over each group's rows. r: (G, m) of h (y - m_c) delta; mean: (G,) of t m_c.

    gap: (G,) of h (y - m_c). share: (G,) effective share of each group's rows, which are `rows` (G,). square: (G,) how
    many rows of equal weight know their variance as well as these know theirs, the effective size of h^2. plain: (G,)
    mean outcome as logged.
    """

    total: float
    h: Any
    r: Any
    mean: Any
    gap: Any
    share: Any
    rows: Any
    square: Any
    plain: Any

    @staticmethod
    def of(ready: Blocks, groups: int) -> _Sums:
        def one(block: Block) -> list[Any]:
            t, own, h, e = _residual(block)
            c = np.ones(block.n) if block.count is None else block.count

            def by(values: Any) -> Any:
                return np.bincount(own, c * values, groups)

            r = np.stack([by(h * e * row) for row in np.asarray(block.columns)], axis=1)
            y, s = np.asarray(block.y), np.ones(block.n) if block.sampling is None else block.sampling
            m = np.asarray(block.design) @ (c * t)
            return [c @ t, by(h), r, m, by(h * e), by(h * h), by(h**4), by(1.0), by(s), by(s * y)]

        total, h, r, mean, gap, square, fourth, n, t, won = (sum(part) for part in zip(*ready.each(one), strict=True))
        return _Sums(total, h, r / h[:, None], mean / total, gap / h, h**2 / square / n, n, square**2 / fourth, won / t)

    @property
    def rewards(self) -> Any:
        """(G,) mean outcome over everyone's prompts."""
        return self.mean + self.gap


def _residual(block: Block) -> tuple[Any, Any, Any, Any]:
    """t, the row's group, t / e, and y less the group's model, (n,) each."""
    t = np.ones(block.n) if block.weight is None else block.weight
    own = np.asarray(block.group)
    e = np.asarray(block.y) - np.asarray(block.design)[own, np.arange(block.n)]
    return t, own, t / np.asarray(block.propensity), e


def _of_group(group: int, block: Block) -> Block:
    return block.where(np.asarray(block.group) == group)


def _pseudo(block: Block, group: int, sums: _Sums) -> Block:
    """The rows with the pseudo-outcome of one group; it may leave [0, 1]."""
    _, own, _, e = _residual(block)
    mine = np.where(own == group, e / np.asarray(block.propensity), 0.0)
    return replace(block, y=np.asarray(block.design)[group] + sums.total / sums.h[group] * mine, design=None)


@dataclass(frozen=True)
class _Scores:
    """Scores of rows for all groups' rewards, then their means. kept: the features that each group identifies.

    tilt: what made t, where that was fitted; turn: (size, D) its T, see :meth:`Pairwise.turned`.
    """

    sums: _Sums
    beta: list[Any]
    kept: list[list[int]]
    tilt: Balancing | None = None
    turn: Any = None

    @property
    def size(self) -> int:
        return sum(map(len, self.beta)) + len(self.beta)

    def of(self, block: Block) -> Any:
        """(n, size), each a row's own, before its count."""
        t, own, h, e = _residual(block)
        sums, means, parts, last = self.sums, np.asarray(block.design), [], []
        for group, (beta, kept) in enumerate(zip(self.beta, self.kept, strict=True)):
            delta, r = np.asarray(block.columns)[kept], sums.r[group, kept]
            mine = np.where(own == group, sums.total / sums.h[group] * h, 0.0)
            m = means[group]
            gap = m - scipy.special.expit(beta @ delta)
            parts.append((t * gap * delta + t * r[:, None] + mine * (e * delta - r[:, None])).T)
            last.append(t * (m - sums.mean[group]) + mine * (e - sums.gap[group]))
        told = np.hstack([*parts, np.stack(last, axis=1)])
        return told if self.turn is None else told + self._tilted(block)[1] @ self.turn.T

    def _tilted(self, block: Block) -> tuple[Any, Any]:
        assert self.tilt is not None
        return self.tilt.within(replace(block, design=None))  # of the contexts, not of the groups' means

    def turned(self, blocks: Blocks) -> _Scores:
        """The scores that know of the tilt's own error; one pass where there is a tilt."""
        if self.tilt is None:
            return self

        def one(block: Block) -> Any:
            return sum(self.counted(part).T @ self._tilted(part)[0] for _, part in block.pieces(_ROWS))

        return replace(self, turn=self.tilt.solve(sum(blocks.each(one)).T).T)

    def counted(self, block: Block) -> Any:
        """The same, times its count."""
        return self.of(block) * (1.0 if block.count is None else block.count[:, None])

    def meat(self, blocks: Blocks) -> Any:
        def one(block: Block) -> Any:
            total = np.zeros((self.size, self.size))
            for start in range(0, block.n, _ROWS):
                part = block.where(slice(start, start + _ROWS))
                total += self.of(part).T @ self.counted(part)
            return total

        return sum(blocks.each(one))


def _told(ready: Blocks, clusters: list[tuple[int, str, int]], whose: list[int], which: list[int]) -> Any:
    """(p,) comparisons of a group with a feature that is not 0, or clusters of the column that has fewest.

    whose, which: group and feature of each coefficient.
    """

    def sizes(block: Block) -> Any:
        columns, group = np.asarray(block.columns), np.asarray(block.group)
        return np.abs(columns[which] * (group == np.array(whose)[:, None])).T

    if not clusters:
        return sum(ready.each(lambda block: np.count_nonzero(sizes(block), axis=0)))
    return np.min([squared_sums(ready, cluster, len(which), sizes).told for cluster in clusters], axis=0)


def _warn_of_heavy(labels: tuple[str, ...], sums: _Sums) -> None:
    """Warns of groups whose errors are told by a few heavy rows among many: they miss what only others would show."""
    each = zip(labels, sums.square.tolist(), sums.rows.tolist(), strict=True)
    heavy = [f"{label} ({size:.0f} of {rows:.0f})" for label, size, rows in each if size < min(_HEAVY, rows / 2)]
    if heavy:
        warn(
            f"the errors of {', '.join(heavy)} rest on few rows of large weight: intervals are too short (of 95 %, "
            "some 91 cover). Use coarser contexts, or collect more of these groups where they are rare."
        )


def _estimated(
    spec: GroupRewards, naive: RewardFit | None, ready: Blocks, sums: _Sums, tilt: Balancing | None,
    propensity: Propensity, features: list[str], clusters: list[tuple[int, str, int]], overlap: Any,
    dropped: dict[str, int],
) -> GroupRewardsFit:  # fmt: skip
    labels, m = propensity.assigned.labels, len(features)
    found: list[Identified] = []
    beta, breads, unit, steps, norm = [], [], [], 0, 0.0
    for group in range(len(labels)):
        blocks = ready.map(partial(_pseudo, group=group, sums=sums))
        own = blocks.map(partial(_of_group, group))  # what its own rows cannot tell, those of others must not fill in
        known = identified(RowProblem(own, 0, tuple(features), "bradley-terry", np.zeros(m)), 0.0)
        everyone = RowProblem(blocks, 0, tuple(features), "bradley-terry", np.zeros(m)).only(list(known.place))
        try:
            maximum = maximise(everyone, known.start)
            bread = bread_of(everyone, sums_at(everyone, maximum).hessian)
        except (ConvergenceError, NotIdentifiedError) as error:
            raise NotIdentifiedError(
                f"group {labels[group]!r}: no finite rewards fit its mean outcomes ({error}). Leave features out, use "
                "coarser contexts, or collect more of its rows."
            ) from error
        found.append(known)
        beta.append(maximum.estimate.parameter)
        breads.append(bread)
        unit.append(1.0 / everyone.scale)
        steps, norm = max(steps, maximum.estimate.iterations), max(norm, maximum.estimate.gradient_norm)
    n = int(sum(ready.each(lambda block: block.n if block.count is None else float(block.count.sum()))))
    scores = _Scores(sums, beta, [list(known.place) for known in found], tilt).turned(ready)
    bread, at = np.zeros((scores.size, scores.size)), 0
    for part in breads:
        bread[at : at + len(part), at : at + len(part)] = part
        at += len(part)
    bread[at:, at:] = np.eye(len(labels)) / sums.total
    if clusters:
        psi = Influence(bread, *clustered_meat(ready, clusters, scores.size, scores.counted))
    else:
        psi = Influence(bread, scores.meat(ready))
    units = told_by(ready, clusters, len(labels), lambda block: [block.group])
    warn_of_few(labels, units, min((codes for *_, codes in clusters), default=0))
    _warn_of_heavy(labels, sums)
    whose = [group for group, known in enumerate(found) for _ in known.place]
    which = [j for known in found for j in known.place]
    told = np.append(_told(ready, clusters, whose, which), units)
    told = np.minimum(told, np.floor(np.append(sums.square[whose], sums.square)))  # a heavy row among light ones is one
    psi = replace(psi, told=told, unit=np.concatenate([*unit, np.ones(len(labels))]))
    rows, at = [], 0
    for group, known in enumerate(found):
        for j, feature in enumerate(features):
            place = at + known.place[j] if j in known.place else None
            rows.append(GroupRow(labels[group], feature, place, known.why.get(j)))
        at += len(known.place)
    people = "everyone's prompts" if spec.target is None else "the target's prompts (their means taken as known)"
    words = f"each group's rewards of response features, and its mean outcome, over {people}"
    return GroupRewardsFit(
        spec, labels, rows, np.concatenate([*beta, sums.rewards]), psi, sums.share, sums.rows, sums.plain, n,
        max(1, int(min(units.min(), sums.square.min()))), steps, norm, naive, overlap, words, dropped,
    )  # fmt: skip
