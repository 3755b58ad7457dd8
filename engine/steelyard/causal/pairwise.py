"""Doubly robust means of every pair of arms, and the second moments of what each row adds (docs/estimators.md, 5).

Row i, pair jk, target weight t, propensity pi of the pair, o of an answer, mu the outcome model, nu the same given a
judge (nu = mu without one):
    m~ = t mu_jk(x) + 1{pair = jk} t [ (nu - mu) / pi + answered (y - nu) / (pi o) ]
each of the two residual sums divided by the sum of its own weights (Hajek), pair by pair; pairs of few rows share one
divisor, so that sums over an arm's opponents hold though some of them were hardly met, or by chance never. One pass
sums residuals; a second one all pairs: per row the sum over opponents, which is all that scores and win rates need.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import scipy  # its parts load when first used

from steelyard._native.label_sums import label_sums, work_size
from steelyard.assignment.assigned import pair_number
from steelyard.assignment.balancing import Balancing
from steelyard.blocks import Block
from steelyard.causal.folds import fold_slices
from steelyard.errors import OverlapError
from steelyard.inference.clusters import squared_sums
from steelyard.inference.influence import Squares, multiway
from steelyard.spill import Blocks

OWN = 20.0  # effective rows from which a pair's residuals are divided by their own weights
FEW_ANSWERS = f"fewer than {OWN:g} effective answers of what is asked for: no interval"
_CELLS = 1 << 19  # arm scores that are worked on at a time


class Normaliser(NamedTuple):
    """How the weighted residuals of rows become a part of the mean of their pair, (K, K) upper triangles.

    correction: that part. A row adds scale * h * (residual - centre) to the total times its error. own: pairs that are
    divided by their own weights; the others, of too few rows for that, share one divisor, so that pairs which chance
    left out count too. drift: (K,) what a row of those, by omega h, takes from all sums through the divisor.
    """

    correction: Any
    scale: Any
    centre: Any
    own: Any
    drift: Any

    @staticmethod
    def of(h: Any, r: Any, square: Any, omega: Any, total: float, chance: bool) -> Normaliser:
        """h, r, square: (K, K) sums of weights h, of h times the residual, of h^2. omega: of the pairs.

        chance: every pair could have been shown, so that those without rows have a part in the shared divisor.
        """
        effective = _ratio(h * h, square)
        own, upper = effective >= OWN, np.triu(omega, 1)
        shared = np.where(own | ((h == 0) & (not chance)), 0.0, upper)
        weight, held = float(shared.sum()), float((shared * h).sum())
        per = weight / held if held > 0 else 0.0
        correction = np.where(own, _ratio(r, h), per * r)
        moved = shared * correction
        drift = (moved.sum(axis=1) - moved.sum(axis=0)) * (total / held if held > 0 else 0.0)
        scale = total * np.where(own, _ratio(np.ones_like(h), h), per)
        return Normaliser(correction, scale, np.where(own, correction, 0.0), own, drift)

    def added(self, sums: Any, pair: tuple[Any, Any], omega: Any, h: Any, residual: Any) -> None:
        """Adds what rows have of their own to their sums (K, n), in one piece. residual: of the pair's lower arm."""
        k, n = sums.shape
        assert sums.flags.c_contiguous
        code, row, flat = pair[0] * k + pair[1], np.arange(n), sums.reshape(-1)
        own = omega * self.scale.take(code) * h * (residual - self.centre.take(code))
        flat[pair[0] * np.int64(n) + row] += own
        flat[pair[1] * np.int64(n) + row] -= own
        if self.drift.any():
            sums -= self.drift[:, None] * np.where(self.own.take(code), 0.0, omega * h)

    def along(self, v: Any, pair: tuple[Any, Any], omega: Any, h: Any, residual: Any) -> Any:
        """(n,) v' of what :meth:`added` adds. v: (K,)."""
        own = omega * self.scale[pair] * h * (residual - self.centre[pair]) * (v[pair[0]] - v[pair[1]])
        return own - float(v @ self.drift) * np.where(self.own[pair], 0.0, omega * h)


class Residuals(NamedTuple):
    """Sums over the rows. by_pair: (8, K, K), upper triangles, from the lower arm's side:

    answers' weights h, h (y - nu), h (y - mu), h^2, and how many they are; weights t / pi of all, times nu - mu, and
    squared.
    total: of t. size, square, largest: of w = omega h; asked: how many have one. rows: comparisons, answered or not.
    chance: see :class:`Normaliser`.
    """

    by_pair: Any
    total: float
    size: float
    square: float
    asked: float
    rows: float
    largest: float
    chance: bool

    @property
    def effective_size(self) -> float:
        return effective(self.size, self.square)

    @property
    def answered(self) -> Any:
        return self.by_pair[4]

    def answers(self, omega: Any) -> Normaliser:
        """Of y - nu."""
        h, r, _, square, *_ = self.by_pair
        return Normaliser.of(h, r, square, omega, self.total, self.chance)

    def judged(self, omega: Any) -> Normaliser:
        """Of nu - mu."""
        h, r, square = self.by_pair[5:]
        return Normaliser.of(h, r, square, omega, self.total, self.chance)

    def alone(self, omega: Any) -> Normaliser:
        """Of y - mu."""
        h, _, r, square, *_ = self.by_pair
        return Normaliser.of(h, r, square, omega, self.total, self.chance)

    def correction(self, omega: Any) -> Any:
        """(K, K) what the residuals add to the mean of each pair, its lower arm's side."""
        return self.answers(omega).correction + self.judged(omega).correction


def effective(total: float, square: float) -> float:
    """How many equal weights err as much as some of this sum and sum of squares (Kish 1965); 0 of none."""
    return float((total / np.sqrt(square)) ** 2) if square else 0.0  # by the root: squares may be infinite


def refuse_thin(found: Any, floor: float) -> None:
    """Raises OverlapError where weights leave too little of the answered rows. found: size, square, largest, asked."""
    if not found.size > 0:
        raise OverlapError("no answered comparison of what was asked for: support is empty")
    size = effective(found.size, found.square)
    if not size / found.asked >= floor:
        raise OverlapError(
            f"too little overlap: effective size {size:.1f} of {found.asked:.0f} answered comparisons (share "
            f"{size / found.asked:.4f}), largest share of the weight in one {found.largest / found.size:.2g}; the "
            f"floor is {floor}. Use coarser contexts, a question nearer to what the log shows (pairs='log', another "
            "target), or a lower floor=."
        )


class Added(NamedTuple):
    """Some rows, and what they add. at: where they stood. t: (n,) target weights. sums: (K, n) E, the sums over
    opponents before they are centred; alone: (K, n) the same without the judge, if there is one. means: (K, K) the sum
    of t mu. table: the outcome model's of the rows.
    """

    at: Any
    block: Block
    t: Any
    sums: Any
    alone: Any
    means: Any
    table: Any

    @property
    def count(self) -> Any:
        """(n,) how many comparisons each row stands for."""
        return np.ones(self.block.n) if self.block.count is None else self.block.count


class Moments(NamedTuple):
    """Of all rows. means: (K, K) sum of t mu. square: (K, K) of E E'. cross: (K,) of t E. tt: of t^2.

    E (K,) is a row's sums over opponents, omega t mu plus its own residual, before they are centred. alone: the same
    two from the answered rows alone, without the judge.
    """

    means: Any
    square: Any
    cross: Any
    tt: float
    alone: Any
    alone_cross: Any

    def plus(self, other: Moments) -> Moments:
        return Moments(*(mine + more for mine, more in zip(self, other, strict=True)))


def _ratio(above: Any, below: Any) -> Any:
    return np.divide(above, below, out=np.zeros_like(below), where=below > 0)


@dataclass(frozen=True)
class Pairwise:
    """The rows as the estimator reads them. omega: (K, K) symmetric weights of the pairs.

    blocks: design (q, n); propensity (2, n) of the pair, and of the pair and an answer; y NaN where not
    answered; weight t; fold. outcome, judged: see outcomes.py. chance: the propensity gives every pair one. counted:
    where omega counts the answered rows, their weight, else None; shift: (K, K) what one that counts 1 adds by that to
    its arm's (row) sum, see :func:`shifts`. tilt: what made t, where that was fitted; turn: (K, D) its T, and that of
    the sums without the judge, once they are known. stack: (K, K q) what the outcome model's own error adds, see
    stacked.py.
    """

    blocks: Blocks
    omega: Any
    outcome: Any
    judged: Any = None
    chance: bool = True
    counted: float | None = None
    shift: Any = None
    tilt: Balancing | None = None
    turn: tuple[Any, Any] | None = None
    stack: Any = None

    @property
    def k(self) -> int:
        return len(self.omega)

    def parts(self, block: Block) -> Iterator[tuple[Any, Block, Any]]:
        """Some rows of one fold at a time: where they stood, the rows, and the outcome model's table of them."""
        for f, at in fold_slices(block, max(64, _CELLS // self.k // 64 * 64)):
            part = block.where(at, view=True)
            yield at, part, self.outcome.at(part, f)

    def residual(self, block: Block, table: Any) -> tuple[Any, Any, Any, Any, Any]:
        """(n,) t; h and y - nu of answers, 0 where there is none; t / pi and nu - mu, from a's side."""
        t = np.ones(block.n) if block.weight is None else block.weight
        pi, answered = np.asarray(block.propensity)
        mu = table.between(block.a, block.b)
        nu = mu if self.judged is None else self.judged.between(block, int(block.fold[0]))  # type: ignore[index]
        known = np.isfinite(np.asarray(block.y))
        h = np.where(known, t / answered, 0.0)
        return t, h, np.where(known, block.y, nu) - nu, t / pi, nu - mu

    def residuals(self) -> Residuals:
        """The first pass."""
        k = self.k

        def one(block: Block) -> tuple[Any, Any, float]:
            by_pair, sums, largest, work = np.zeros((k * k, 1, 8)), np.zeros(5), 0.0, np.empty(work_size(8))
            for _, part, table in self.parts(block):
                t, h, e, judged_h, judged_e = self.residual(part, table)
                c = np.ones(part.n) if part.count is None else part.count
                pair, side = pair_number(k, part.a, part.b).astype(np.int32), np.where(part.a < part.b, 1.0, -1.0)
                w = self.omega.take(pair) * h
                e, judged_e = e * side, judged_e * side
                with np.errstate(over="ignore"):  # squares that are no numbers leave no effective size: refused later
                    hh, judged_hh, ww = h * h, judged_h**2, w * w
                each = (h, h * e, h * (e + judged_e), hh, (h > 0) * 1.0, judged_h, judged_h * judged_e, judged_hh)
                label_sums(np.stack(each), c[None], pair[None], work, by_pair)
                sums += [c @ t, c @ w, c @ ww, c @ (w > 0), c.sum()]
                largest = max(largest, float(w.max(initial=0.0)))
            return by_pair[:, 0].T.reshape(-1, k, k), sums, largest

        by_pair, sums, largest = zip(*self.blocks.each(one), strict=True)
        total, size, square, asked, rows = np.sum(sums, axis=0).tolist()
        return Residuals(sum(by_pair), total, size, square, asked, rows, max(largest), self.chance)

    def rows(self, block: Block, found: Residuals) -> Iterator[Added]:
        """Some rows at a time."""
        answers = found.answers(self.omega)
        judged = None if self.judged is None else found.judged(self.omega)
        alone_answers = None if self.judged is None else found.alone(self.omega)
        for at, part, table in self.parts(block):
            t, h, e, judged_h, judged_e = self.residual(part, table)
            pair = np.minimum(part.a, part.b), np.maximum(part.a, part.b)
            side, alone = np.where(part.a < part.b, 1.0, -1.0), None
            omega = self.omega.take(pair_number(self.k, part.a, part.b))
            sums, means = table.sums(self.omega, t * (1.0 if part.count is None else part.count))
            sums *= t
            if judged is not None and alone_answers is not None:
                alone = sums.copy()
                alone_answers.added(alone, pair, omega, h, (e + judged_e) * side)
                judged.added(sums, pair, omega, judged_h, judged_e * side)
            answers.added(sums, pair, omega, h, e * side)
            if self.stack is not None:
                sums += (_scores(part, e, self.k) @ self.stack.T).T
            told = (sums,) if alone is None else (sums, alone)
            if self.shift is not None:
                for own in told:
                    self._counted(own, part)
            if self.tilt is not None and self.turn is not None:
                scores = self.tilt.within(part)[1].T
                for own, turn in zip(told, self.turn, strict=False):
                    own += turn @ scores
            yield Added(at, part, t, sums, alone, means, table)

    def of_answers(self, found: Residuals, block: Block, table: Any) -> Any:
        """(K, n) what the answers of a few rows alone add to E."""
        _, h, e, *_ = self.residual(block, table)
        pair = np.minimum(block.a, block.b), np.maximum(block.a, block.b)
        omega, sums = self.omega.take(pair_number(self.k, block.a, block.b)), np.zeros((self.k, block.n))
        found.answers(self.omega).added(sums, pair, omega, h, np.where(block.a < block.b, e, -e))
        return sums

    def _counted(self, sums: Any, block: Block) -> None:
        """Adds the shift of a few rows to sums (K, n)."""
        a, b, n, each = block.a, block.b, np.arange(block.n), counts(block)
        sums[a, n] += each * self.shift[a, b]
        sums[b, n] += each * self.shift[b, a]

    def moments(self, found: Residuals) -> Moments:
        """The second pass."""
        k = self.k
        none = Moments(np.zeros((k, k)), np.zeros((k, k)), np.zeros(k), 0.0, np.zeros((k, k)), np.zeros(k))

        def one(block: Block) -> Moments:
            total = none
            for some in self.rows(block, found):
                e, c, t, alone = some.sums, some.count, some.t, some.alone
                square = e @ e.T if block.count is None else (e * c) @ e.T  # the first in half the time
                more = (np.zeros((k, k)), np.zeros(k)) if alone is None else ((alone * c) @ alone.T, alone @ (c * t))
                total = total.plus(Moments(some.means, square, e @ (c * t), float(c @ (t * t)), *more))
            return total

        total = none
        for some in self.blocks.each(one):
            total = total.plus(some)
        return total

    def turned(self, found: Residuals, moments: Moments) -> tuple[Pairwise, Moments]:
        """The problem that knows of its tilt's own error, and the moments of that; two passes where there is a tilt.

        As with any nuisance in weights (inference/nuisance.py) a row adds D + T u where it would add D at known ones.
        """
        if self.tilt is None:
            return self, moments
        tilt, plain, k = self.tilt, replace(self, shift=None, turn=None), self.k
        centre = centre_of(self.omega, moments.means / found.total)[:, None]

        def one(block: Block) -> Any:
            across = np.zeros((2, k, tilt.goal.size))
            for some in plain.rows(block, found):
                each = (some.sums,) if some.alone is None else (some.sums, some.alone)
                for to, own in zip(across, each, strict=False):
                    to += ((own - centre * some.t) * some.count) @ tilt.within(some.block)[0]
            return across

        own, alone = np.sum([*self.blocks.each(one)], axis=0)
        made = replace(self, turn=(tilt.solve(own.T).T, tilt.solve(alone.T).T))
        return made, made.moments(found)

    def meat(self, found: Residuals, moments: Moments, clusters: Sequence[tuple[int, str, int]]) -> tuple[Any, float]:
        """(K, K) sum over rows, or clusters, of D D', D a row's E less t times its mean; and what clipping took."""
        k, centre = self.k, centre_of(self.omega, moments.means / found.total)
        if not clusters:
            return centred(moments.square, moments.cross, moments.tt, centre), 0.0
        squares = []
        for cluster in clusters:
            sums = squared_sums(self.blocks, cluster, k + 1, partial(self.entries, found=found))
            e, t, tt = sums.square[:k, :k], sums.square[:k, k], float(sums.square[k, k])
            squares.append(Squares(centred(e, t, tt, centre), sums.groups, sums.told[:k]))
        return multiway([name for _, name, _ in clusters], squares)[:2]

    def entries(self, block: Block, found: Residuals) -> Any:
        """(n, K + 1) E and t of a block's rows, times their count."""
        entries = np.empty((block.n, self.k + 1))
        for some in self.rows(block, found):
            entries[some.at, : self.k], entries[some.at, self.k] = (some.sums * some.count).T, some.t * some.count
        return entries


def _scores(block: Block, residual: Any, k: int) -> Any:
    """(n, K q) sparse, what answers say of arm scores linear in the block's design. residual: (n,) from a's side."""
    x = np.asarray(block.design)
    q, n = x.shape
    entry = (x * residual * (1.0 if block.weight is None else block.weight)).T
    place = np.arange(q)
    columns = np.concatenate([block.a[:, None] * q + place, block.b[:, None] * q + place], axis=1)
    starts = np.arange(0, 2 * q * n + 1, 2 * q)
    return scipy.sparse.csr_array(
        (np.concatenate([entry, -entry], axis=1).ravel(), columns.ravel(), starts), (n, k * q)
    )


def counts(block: Block) -> Any:
    """(n,) what each row counts in the log's own weights of pairs."""
    return np.isfinite(np.asarray(block.y)) * (1.0 if block.sampling is None else block.sampling)


def shifts(omega: Any, win: Any, like: Any, total: float, counted: float) -> Any:
    """(K, K) see :class:`Pairwise`: what omega's being estimated adds to sum_k omega_jk (M_jk - like_jk) = 0.

    total: of the target weights.
    """
    return np.where(omega > 0, total / counted * (win - like), 0.0)


def centred(square: Any, cross: Any, tt: float, centre: Any) -> Any:
    """Sum of (E - t c)(E - t c)' from those of E E', t E and t^2."""
    across = np.outer(cross, centre)
    return square - across - across.T + tt * np.outer(centre, centre)


def centre_of(omega: Any, means: Any) -> Any:
    """(K,) the sum over opponents of omega times the mean, means (K, K) an upper triangle."""
    upper = np.triu(omega, 1)
    return (upper * means).sum(axis=1) + (upper * (1.0 - means)).sum(axis=0)
