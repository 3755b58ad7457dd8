"""The value of a policy over arms: what every row adds to it, from the outcome model and from what was shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl

from steelyard._native.all_pairs import ROWS, policy_terms
from steelyard.blocks import Block
from steelyard.causal.folds import fold_slices
from steelyard.causal.outcomes import ArmScores, PairMeans
from steelyard.causal.policy_value_fit import PolicyTerms, Terms, estimand
from steelyard.causal.prepared import Prepared, apart, prepared, warn_extrapolated
from steelyard.errors import LogError, OverlapError, among, within
from steelyard.models.row_blocks import weights
from steelyard.pairs import PairTable
from steelyard.spill import Blocks, enlarged

if TYPE_CHECKING:
    from steelyard.causal.policy_value import PolicyValue
    from steelyard.log import PreferenceLog

_CELLS = 1 << 19  # arm scores that are worked on at a time
Policy = Mapping[str, Any] | str


def of_arms(spec: PolicyValue, log: PreferenceLog) -> PolicyTerms:
    """What the rows add to the value of a policy over arms, as :class:`PolicyValue` says."""
    columns: dict[str, Any] = {}
    for name, policy in (("policy", spec.policy), ("reference", spec.reference)):
        for arm, chance in policy.items() if isinstance(policy, Mapping) else ():
            if not isinstance(chance, Real | str | pl.Expr):
                raise ValueError(f"{name} gives {arm!r} {chance!r}: a probability or a column of them belongs there")
            if isinstance(chance, Real):
                within(f"{name} of {arm!r}", chance, 0.0, 1.0)
            columns[f"{name} of {arm}"] = pl.lit(float(chance)) if isinstance(chance, Real) else chance
    ready = prepared(spec, log, columns)
    policy, reference = (_Chances.of(chances, name, ready.pairs, ready.columns) for chances, name in
                         ((spec.policy, "policy"), (spec.reference, "reference")))  # fmt: skip
    supported = _supported(ready)
    terms = partial(_terms, supported=supported, outcome=ready.outcome, policy=policy, reference=reference,
                    tilted=ready.tilt is not None)  # fmt: skip
    blocks = ready.beside.made(terms) if ready.beside else enlarged(ready.blocks, terms)
    _refuse_wrong(blocks)
    _refuse_unsupported(blocks, ready, supported, policy, reference, spec.unsupported)
    whose = "the log's own contexts" if spec.target is None else "the target's contexts (their means taken as known)"
    return PolicyTerms(blocks, ready.clusters, ready.pairs.dropped, estimand(whose), ready.tilt)


@dataclass(frozen=True)
class _Chances:
    """Probabilities of the arms: fixed (K,), or where place (K,) is no -1 that column of the blocks, row by row."""

    fixed: Any
    place: Any

    @staticmethod
    def of(policy: Policy, name: str, pairs: PairTable, columns: Sequence[str]) -> _Chances:
        arms = pairs.arms.to_list()
        none = np.full(len(arms), -1)
        if policy == "uniform" and "uniform" not in arms:  # of those that some row compares
            compared = np.isin(np.arange(len(arms)), [pairs.a, pairs.b])
            return _Chances(compared / compared.sum(), none)
        shares = {policy: 1.0} if isinstance(policy, str) else {str(arm): share for arm, share in policy.items()}
        strange = [arm for arm in shares if arm not in arms]
        if strange:
            known = among(arms, strange[0])
            raise LogError(f"{name} names {strange[:5]}: it may be 'uniform', or of the log's arms, {known}")
        if not isinstance(policy, str) and not all(isinstance(share, Real) for share in shares.values()):
            place = [columns.index(f"{name} of {arm}") if arm in shares else -1 for arm in arms]
            return _Chances(np.zeros(len(arms)), np.array(place))
        fixed = np.array([float(shares.get(arm, 0.0)) for arm in arms])
        if (fixed < 0).any() or abs(fixed.sum() - 1.0) > 1e-6:
            raise LogError(
                f"{name} has the probabilities {dict(shares)}: none may be negative, and they must add to 1, not "
                f"{fixed.sum():g}"
            )
        return _Chances(fixed, none)

    def at(self, block: Block) -> Any:
        """(K, n) of a block's rows."""
        if (self.place < 0).all():
            return np.broadcast_to(self.fixed[:, None], (len(self.fixed), block.n))
        chance = np.asarray(block.columns)[self.place]
        chance[self.place < 0] = 0.0
        return chance


def _supported(ready: Prepared) -> Any:
    """(K, K) bool: pairs that the correction speaks of.

    Pairs with answered comparisons; by a softmax of two draws also those that chance left out, of arms that are joined.
    """
    k, table = len(ready.pairs.arms), ready.pairs
    joined = np.array([reason is None for reason in apart(table)])
    answered = np.zeros((k, k), bool)
    answered[table.a, table.b] = True
    return np.outer(joined, joined) & (answered | answered.T | ready.chance)


class _Drawn(NamedTuple):
    """Of every row the chance that the policy's arm wins; that both policies draw a supported pair; the same arm; a and
    b, or b and a; and the sums of their chances, NaN where one is negative.
    """

    value: Any
    share: Any
    same: Any
    win: Any
    lose: Any
    policy: Any
    reference: Any


def _terms(
    block: Block, supported: Any, outcome: Any, policy: _Chances, reference: _Chances, tilted: bool
) -> Block:  # fmt: skip
    """The block with its :class:`Terms`; then what the policies ask of different arms, and for either of them whether
    its chances are wrong. tilted: and with its design and levels, which are then asked for again.
    """
    terms, step = np.empty((len(Terms._fields) + 3, block.n)), max(ROWS, _CELLS // len(supported) // ROWS * ROWS)
    for f, at in fold_slices(block, step):
        part = block.where(at, view=True)
        terms[:, at] = _some_terms(part, outcome.at(part, f), supported, policy, reference)
    return Terms(*terms[:-3]).within(block if tilted else replace(block, design=None), *terms[-3:])


def _some_terms(block: Block, table: Any, supported: Any, policy: _Chances, reference: _Chances) -> tuple[Any, ...]:
    y, p = np.asarray(block.y), np.asarray(block.propensity)[0]
    drawn = (_by_scores if isinstance(table, ArmScores) else _by_means)(block, table, supported, policy, reference)
    residual = y - table.between(block.a, block.b)
    alone = (drawn.win * y + drawn.lose * (1.0 - y)) / p
    wrong = [~(np.abs(total - 1.0) <= 1e-6) for total in (drawn.policy, drawn.reference)]
    return (drawn.value, drawn.share, (drawn.win + drawn.lose) / p, (drawn.win - drawn.lose) / p * residual, alone,
            drawn.same, np.zeros(block.n), drawn.policy * drawn.reference - drawn.same, *wrong)  # fmt: skip


def _by_scores(block: Block, table: ArmScores, supported: Any, policy: _Chances, reference: _Chances) -> _Drawn:
    k, drawn = len(supported), np.empty((len(_Drawn._fields), block.n))
    columns = np.empty((0, block.n)) if block.columns is None else np.asarray(block.columns)
    policy_terms(
        table.score, columns, policy.place, policy.fixed, reference.place, reference.fixed, supported.view(np.uint8),
        block.a, block.b, np.empty((3 * k + 1, ROWS)), drawn,
    )  # fmt: skip
    return _Drawn(*drawn)


def _by_means(block: Block, table: PairMeans, supported: Any, policy: _Chances, reference: _Chances) -> _Drawn:
    pi, rho, n = policy.at(block), reference.at(block), np.arange(block.n)
    same = np.einsum("kn,kn->n", pi, rho)
    value = 0.5 * same
    for mean, i, j in zip(table.mean, *np.triu_indices(len(pi), 1), strict=True):
        value += pi[i] * rho[j] * mean + pi[j] * rho[i] * (1.0 - mean)
    share = np.einsum("kn,kn->n", pi, (supported & ~np.eye(len(pi), dtype=bool)) @ rho)
    totals = [np.where((chance < 0).any(axis=0), np.nan, chance.sum(axis=0)) for chance in (pi, rho)]
    return _Drawn(value, share, same, pi[block.a, n] * rho[block.b, n], pi[block.b, n] * rho[block.a, n], *totals)


def _refuse_wrong(blocks: Blocks) -> None:
    """Raises LogError where the probabilities of some row are none."""
    found = blocks.each(
        lambda block: [block.numbers(np.flatnonzero(wrong)) for wrong in np.asarray(block.columns)[-2:]]
    )
    for name, rows in zip(("policy", "reference"), zip(*found, strict=True), strict=True):
        bad = np.sort(np.concatenate(rows))
        if len(bad):
            raise LogError(
                f"{len(bad)} rows: the probabilities of {name} are negative or do not add to 1 (first rows "
                f"{bad[:10].tolist()}): every arm needs its column, and they must add to 1"
            )


def _refuse_unsupported(blocks: Blocks, ready: Prepared, supported: Any, policy: _Chances, reference: _Chances,
                        most: float) -> None:  # fmt: skip
    """Raises OverlapError where the policies ask too much of pairs that were never answered."""

    def one(block: Block) -> Any:
        return np.array([np.asarray(block.columns)[-3], Terms.of(block).share]) @ weights(block)

    asked, answered = np.sum([*blocks.each(one)], axis=0).tolist()
    share = 1.0 - answered / asked if asked > 0 else 0.0
    if share <= max(most, 1e-12):  # what rounding leaves
        return warn_extrapolated(share)

    def pairs(block: Block) -> Any:
        return (policy.at(block) * weights(block)) @ reference.at(block).T

    found: list[Any] = []
    if ready.beside:
        ready.beside.each(pairs, found.append)
    else:
        found.extend(ready.blocks.each(pairs))
    by_pair = np.sum(found, axis=0)
    worst = np.argwhere((by_pair > 0) & ~supported & ~np.eye(len(supported), dtype=bool))[:5]
    names = ", ".join(f"{ready.pairs.arms[int(i)]} | {ready.pairs.arms[int(j)]}" for i, j in worst)
    raise OverlapError(
        f"{100 * share:.1f} % of what the policies would compare was never answered ({names}): it would rest on "
        "the outcome model alone. Ask for policies nearer to the log, or put up with it by "
        f"unsupported={share + 0.01:.2f}."
    )
