"""Which comparisons to collect next, and what they will buy (docs/estimators.md, 7).

A-optimal: the next N comparisons are shared out so that the variances of all scores, or rewards, add to the least.
Likelihoods: the information of N comparisons on top of what the fit has, by multiplicative steps until the duality gap
is a thousandth. Doubly robust means: every pair in every context cell has a variance of its own, and the shares are
Neyman's (1934), filled up over what is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from steelyard.assignment.contexts import Contexts
from steelyard.blocks import Block
from steelyard.causal.doubly_robust_fit import DoublyRobustFit
from steelyard.columns import name_of, several
from steelyard.errors import ConvergenceError, NotIdentifiedError, warn, whole
from steelyard.models.reward_fit import RewardFit
from steelyard.models.score_fit import Fit, ScoreFit
from steelyard.solve import one_blas_thread

_GAP = 1e-3  # of the sum of variances, between a plan and the best there is
_STEPS = 20_000
_SEEN, _LEAST = 20.0, 1e-4  # effective answers from which their own variance is read, and the least one
_STEP = 1e-5  # of the linear predictor, in a numerical derivative


@dataclass(frozen=True, eq=False)
class Plan:
    """Where the next comparisons go. Made by :func:`plan`.

    table: what is compared, how often it is in the log, and how many `comparisons` to add, most first; those of none
    left out. forecast: arm or term, se now, after the plan (se_plan), after as many spread evenly (se_even).
    factor: the sum of variances after an even spread over that after the plan.
    """

    n: int
    table: pl.DataFrame = field(repr=False)
    forecast: pl.DataFrame = field(repr=False)
    factor: float

    def __str__(self) -> str:
        return (
            f"{self.n:,} comparisons over {len(self.table):,} choices; "
            f"an even spread would leave {self.factor:.2f} times the variance"
        )


def plan(fit: Any, n: int, context: str | Sequence[str] = ()) -> Plan:
    """The A-optimal allocation of the next n comparisons, and the standard errors to expect after them.

    Of a fit of BradleyTerry: over pairs of scored arms. Of DoublyRobust: over the pairs of its question, and with
    `context` over cells of those context columns too (prompts of that kind are then asked for). Of RewardModel: over
    single-factor comparisons, in which one feature differs by one unit and all else is equal, for each rater group
    where it has heads of their own. New comparisons are taken to be as noisy as the log's, repeated raters included,
    answered as often, and each arm to be shown first as often as second. Of DoublyRobust, pairs without an answer rest
    on the outcome model alone, which `se` does not count: with answers of their own their part is honest, and may be
    larger.

    Parameters
    ----------
    fit : of :class:`BradleyTerry`, :class:`DoublyRobust` or :class:`RewardModel` without interactions
    n : comparisons to come
    context : of DoublyRobust: names of text context columns that make the cells

    Raises
    ------
    NotIdentifiedError
        No covariance to start from: scores without spread, fewer clusters than scores, more than 4,000 arms. Of
        DoublyRobust: more pairs and cells without an answer than comparisons to plan.
    ConvergenceError
        The allocation has not come within a thousandth of the least sum of variances.
    ValueError
        n below 1, contexts that are numbers or of another fit, a loaded doubly robust fit.

    Examples
    --------
    >>> import polars as pl, steelyard as sy
    >>> frame = pl.DataFrame({"model_a": list("xxyyzz") * 20, "model_b": list("yyxxxx") * 20,
    ...                       "winner": ["model_a", "model_b", "model_a", "tie", "model_a", "model_b"] * 20})
    >>> plan = sy.plan(sy.BradleyTerry().fit(sy.scan(frame, format="arena")), 100)
    >>> plan.table["comparisons"].sum()
    100
    """
    n = whole("n", n, 1, 10**12)
    names = tuple(name_of(column) for column in several(context, "context"))
    if isinstance(fit, DoublyRobustFit):
        return _of_means(fit, n, names)
    if names:
        raise ValueError("context= goes with a fit of DoublyRobust: other scores are the same in every context")
    if isinstance(fit, ScoreFit):
        return _of_scores(fit, n)
    if isinstance(fit, RewardFit):
        return _of_rewards(fit, n)
    raise TypeError(f"plan() takes a fit of BradleyTerry, DoublyRobust or RewardModel, not {type(fit).__name__}")


# --- of likelihoods ------------------------------------------------------------------------------
class _Choices(NamedTuple):
    """Comparisons that can be asked for, each of x' theta, x = e_first, or e_first - e_second where they differ (M,).

    unit: information on x' theta of one comparison.
    """

    first: Any
    second: Any
    unit: Any

    def information(self, n: Any, size: int) -> Any:
        """(m, m) of n (M,) comparisons."""
        out, own, pair = np.zeros((size, size)), n * self.unit, self.first != self.second
        np.add.at(out, (self.first, self.first), own)
        for at in ((self.second, self.second), (self.first, self.second), (self.second, self.first)):
            np.add.at(out, at, own * pair * (1.0 if at[0] is at[1] else -1.0))
        return out

    def gains(self, covariance: Any) -> Any:
        """(M,) how fast the sum of variances falls with one more of each."""
        q, i, j = covariance @ covariance, self.first, self.second
        return self.unit * np.where(i == j, q[i, i], q[i, i] + q[j, j] - 2.0 * q[i, j])


def _of_scores(fit: ScoreFit, n: int) -> Plan:
    _warn_of_ridge(fit)
    main, pairs = np.flatnonzero(fit.main), fit.pairs
    k = len(main)
    i, j = np.triu_indices(k, 1)
    eta, first = fit.score[main[i]] - fit.score[main[j]], fit.estimate.position
    along = np.zeros((k, len(fit.estimate.parameter)))
    along[:, :k] = np.eye(k) - 1.0 / k
    now = along @ _covariance(fit) @ along.T
    read = pairs.sums[:, ::2] if fit.spec.ties == "drop" else pairs.sums  # of those to come as many are ties
    choices = _Choices(i, j, _told_by_one(fit, eta, first) * float(read.sum() / pairs.rows.sum()) / _noise(fit, along))
    share, after, even = _allocated(choices, now, n, np.full((k, k), 1.0 / k))
    names, played = pairs.arms, np.zeros((len(pairs.arms), len(pairs.arms)))
    np.add.at(played, (pairs.a, pairs.b), pairs.rows)
    played = (played + played.T)[main[i], main[j]]
    columns = {"a": names.gather(main[i]), "b": names.gather(main[j]), "in_log": played.astype(np.int64)}
    return _plan(n, columns, share, "arm", names.gather(main), *map(np.diag, (now, after, even)))


def _of_rewards(fit: RewardFit, n: int) -> Plan:
    _warn_of_ridge(fit)
    if fit.design.interactions:
        raise ValueError("plan() reads rewards without interactions: with them a feature has no one effect")
    places = {name: at for name, at, _ in fit.terms}
    asked = [(feature, group, places[f"{feature} [{group}]" if group else feature])
             for feature in fit.design.features for group in fit.design.groups or (None,)]  # fmt: skip
    told = [(feature, group, at) for feature, group, at in asked if at is not None]
    if not told:
        raise NotIdentifiedError("no feature has a reward of its own to sharpen")
    along = np.zeros((len(told), len(fit.estimate.parameter)))
    for row, (*_, at) in enumerate(told):
        along[row, list(at)] = 1.0
    now, own = along @ _covariance(fit) @ along.T, np.arange(len(told))
    weight = fit.weight / fit.n * fit.decided  # of those to come as many are ties that are dropped
    parameter = fit.estimate.parameter
    unit = _told_by_one(fit, along @ parameter, float(parameter[[*(places.get("position") or ())]].sum()))
    unit *= weight / _noise(fit, along)
    share, after, even = _allocated(_Choices(own, own, unit), now, n, np.zeros_like(now))
    columns = {
        "feature": [feature for feature, *_ in told],
        "group": pl.Series([g for _, g, _ in told], dtype=pl.String),
    }
    names = [f"{feature} [{group}]" if group else feature for feature, group, _ in told]
    return _plan(n, columns, share, "term", names, *map(np.diag, (now, after, even)))


def _warn_of_ridge(fit: ScoreFit | RewardFit) -> None:
    ridge = getattr(fit.spec, "ridge", 0.0)
    if ridge:
        warn(
            f"the plan starts from a fit with ridge={ridge:g}, whose errors are of shrunk scores: it takes what the "
            "ridge adds for rows, and errors to come will be larger than it says. Plan from a fit without."
        )


def _covariance(fit: Fit) -> Any:
    now = fit.covariance
    if not (np.diag(now) > 1e-18).all():
        raise NotIdentifiedError("some scores or rewards have no error to start from: the fit's table says why")
    return now


def _noise(fit: Fit, along: Any) -> float:
    """How much larger the variances are than if every comparison was a draw of its own from the model."""
    known = fit._known_influence()
    sums = [float(((along @ part) * along).sum()) for part in (known.covariance, known.bread)]
    return sums[0] / sums[1] if fit.kind != "model" else 1.0


def _told_by_one(fit: Fit, eta: Any, position: float) -> Any:
    """(M,) expected information on eta of a comparison that is shown in one order as often as in the other."""
    return (_information(fit, eta + position) + _information(fit, eta - position)) / 2.0


def _information(fit: Fit, eta: Any) -> Any:
    """(M,) expected information on eta of one comparison under the fitted model."""
    there, up, down = (fit._outcomes(np.ascontiguousarray(eta + h)) for h in (0.0, _STEP, -_STEP))
    total = np.zeros(len(eta))
    for p, high, low in zip(*([*each, 1.0 - each[0] - each[1]] for each in (there, up, down)), strict=True):
        slope = (high - low) / (2.0 * _STEP)
        total += np.divide(slope**2, p, out=np.zeros_like(total), where=p > 1e-12)
    return total


@one_blas_thread()
def _allocated(choices: _Choices, now: Any, n: int, free: Any) -> tuple[Any, Any, Any]:
    """(M,) comparisons of each choice, and the covariances after them, and after an even spread.

    free: (m, m) projection on what no comparison tells; now is 0 there.
    """
    free = free * (np.trace(now) / len(now))
    filled = now + free
    values = np.linalg.eigvalsh(filled / np.sqrt(np.outer(np.diag(filled), np.diag(filled))))
    if not values[0] > 1e-10 * values[-1]:
        raise NotIdentifiedError("the covariance has no full rank: there are fewer clusters than scores or rewards")
    have = np.linalg.inv(filled)

    def after(share: Any) -> Any:
        return np.linalg.inv(have + choices.information(share, len(now))) - free

    even = np.full(len(choices.unit), n / len(choices.unit))
    share = even.copy()
    for _ in range(_STEPS):
        covariance = after(share)
        gains, total = choices.gains(covariance), float(np.trace(covariance))
        spent = float(share @ gains)
        if n * gains.max() - spent <= _GAP * total:
            return _whole(share, n), after(share), after(even)
        # all share the information that is there already, so that each step lowers the sum of variances (Yu 2010)
        share = share * np.sqrt(gains + max(total - spent, 0.0) / n)
        share *= n / share.sum()
    raise ConvergenceError(f"the allocation stopped short of {100 * _GAP:g} % of the least variance")


def _whole(share: Any, n: int) -> Any:
    """Whole numbers nearest to the shares, n in all: the largest remainders are rounded up."""
    down = np.floor(share).astype(np.int64)
    rest = np.argsort(down - share, kind="stable")[: n - int(down.sum())]
    down[rest] += 1
    return down


# --- of doubly robust means ----------------------------------------------------------------------
def _of_means(fit: DoublyRobustFit, n: int, names: Sequence[str]) -> Plan:
    """Var = sum over pairs and cells of (omega share B (e_j - e_k))^2 variance / answers, and what contexts add."""
    if fit.problem is None or fit.residuals is None or fit.contexts is None:
        raise ValueError("a loaded fit has lost its rows: fit it again")
    cells, of = _cells(fit.contexts, names)
    main = np.flatnonzero(fit.main)
    upper = np.triu(fit.omega, 1)[np.ix_(main, main)]
    i, j = np.nonzero(upper)
    share, variance, held = _by_cell(fit, len(cells), of, main[i], main[j])
    bread = fit._known_influence().bread * fit.total
    reach = (upper[i, j] * (bread[:, i] - bread[:, j])) ** 2  # (arms, pairs)
    spread = share[:, None] ** 2 * variance  # (cells, pairs)
    size = np.sqrt(spread * reach.sum(axis=0))
    square, beside, rows, labelled = _squares(fit, len(cells), of)
    answered = labelled / float(rows.sum())  # of those to come as many
    empty = int(((held == 0) & (size > 0)).sum())
    if empty > n:
        raise NotIdentifiedError(
            f"{empty:,} of the {held.size:,} pairs and cells have no answer yet, which {n:,} comparisons cannot reach. "
            "Plan more of them, use coarser contexts, or plan for the plain scores: plan(fit.naive, n)."
        )
    more = _whole(_filled(size.ravel(), held.ravel(), n * answered) / answered, n).reshape(size.shape)
    even = np.where(size > 0, n / (size > 0).sum(), 0.0)

    def answers(count: Any) -> Any:
        """(cells, arms) variances of the scores from the answers; pairs without any do not count."""
        some = np.where(count > 0, np.maximum(count, 1.0), np.inf)
        return (spread / some) @ reach.T

    now = np.diag(_covariance(fit))
    if not (square.sum(axis=0) > 0).all():
        raise NotIdentifiedError("some scores have no spread: collect a few comparisons of each arm first")

    def expected(new: Any) -> Any:
        """(arms,) variances by this model, which clusters, and divisors that pairs share, make larger or smaller."""
        left = rows / np.maximum(rows + new.sum(axis=1), 1.0)
        return (answers(held + answered * new) + beside * left[:, None]).sum(axis=0)

    told = [now * (expected(new) / expected(np.zeros_like(even))) for new in (more, even)]
    cell, pair = (axis.ravel() for axis in np.indices(size.shape))
    arms = fit.pairs.arms
    columns = {"a": arms.gather(main[i][pair]), "b": arms.gather(main[j][pair]),
               **{name: [cells[c][at] for c in cell] for at, name in enumerate(names)},
               "effective_in_log": held.ravel()}  # fmt: skip
    return _plan(n, columns, more.ravel(), "arm", arms.gather(main), now, *told)


def _cells(contexts: Contexts, names: Sequence[str]) -> tuple[list[tuple[str, ...]], Any]:
    """The cells, and what tells the cell of each row (n,) from its design."""
    known, first = dict(contexts.levels), {}
    at = 1 + len(contexts.numeric)
    for name, values in contexts.levels:
        first[name] = at
        at += len(values) - 1
    if len(set(names)) < len(names) or {"a", "b", "effective_in_log", "comparisons"} & set(names):
        raise ValueError(f"context={list(names)}: each is named once, and not as a column of the plan's table")
    strange = [name for name in names if name not in known]
    if strange:
        raise ValueError(f"context= names {strange}; cells are made of text contexts, and the fit has {list(known)}")
    cells: list[tuple[str, ...]] = [()]
    for name in names:
        cells = [(*cell, value) for cell in cells for value in known[name]]

    def of(block: Block) -> Any:
        design, cell = np.asarray(block.design), np.zeros(block.n, np.int64)
        for name in names:
            width, start = len(known[name]), first[name]
            shown = design[start : start + width - 1] > 0.0  # standardised indicators
            cell = cell * width + np.where(shown.any(axis=0), 1 + shown.argmax(axis=0), 0)
        return cell

    return cells, of


def _by_cell(fit: DoublyRobustFit, cells: int, of: Any, a: Any, b: Any) -> tuple[Any, Any, Any]:
    """Share of the target (C,), variance of an answer about its model (C, P), effective number of answers (C, P).

    The variance is that of the weighted residuals, a model's error included; of few answers mu (1 - mu) instead.
    """
    problem, found = fit.problem, fit.residuals
    assert problem is not None
    assert found is not None
    k, centre = problem.k, found.answers(problem.omega).centre

    def one(block: Block) -> tuple[Any, Any, Any]:
        total, means, sums = np.zeros(cells), np.zeros((cells, k, k)), np.zeros((3, cells * k * k))
        for _, part, table in problem.parts(block):
            t, h, e, *_ = problem.residual(part, table)
            count, cell = (np.ones(part.n) if part.count is None else part.count), of(part)
            low, high = np.minimum(part.a, part.b), np.maximum(part.a, part.b)
            total += np.bincount(cell, t * count, cells)
            for c in range(cells):
                means[c] += table.sums(problem.omega, t * count * (cell == c))[1]
            where, off = (cell * k + low) * k + high, np.where(part.a < part.b, e, -e) - centre[low, high]
            for to, values in zip(sums, (h, h * h, h * h * off * off), strict=True):
                to += np.bincount(where, count * values, len(to))
        return total, means, sums

    with one_blas_thread():
        total, means, sums = (sum(part) for part in zip(*problem.blocks.each(one), strict=True))
    size, square, off = sums.reshape(3, cells, k, k)[:, :, np.minimum(a, b), np.maximum(a, b)]
    held = np.divide(size**2, square, out=np.zeros_like(size), where=square > 0)
    mean = np.divide(means, total[:, None, None], out=np.full_like(means, 0.5), where=total[:, None, None] > 0)
    mean = mean[:, np.minimum(a, b), np.maximum(a, b)]
    seen = np.divide(off, square, out=np.zeros_like(off), where=square > 0)
    variance = np.where(held >= _SEEN, seen, mean * (1.0 - mean))
    return total / total.sum(), np.clip(variance, _LEAST, None), held


def _squares(fit: DoublyRobustFit, cells: int, of: Any) -> tuple[Any, Any, Any, float]:
    """(C, arms) the squared influence of each cell's rows, and of what they add beside answers; rows (C,), and answers.

    What contexts add shrinks with the rows, whatever their pairs: new comparisons bring contexts too. As a difference
    of the other two it would be mostly noise in a short log.
    """
    problem, found = fit.problem, fit.residuals
    assert problem is not None
    assert found is not None
    bread, main = fit._known_influence().bread, fit.main

    def one(block: Block) -> tuple[Any, Any, float]:
        squares, rows, answers = np.zeros((2, cells, int(main.sum()))), np.zeros(cells), 0.0
        for some in problem.rows(block, found):
            cell, own = of(some.block), some.sums - fit.centre[:, None] * some.t
            rows += np.bincount(cell, some.count, cells)
            answers += float(np.isfinite(np.asarray(some.block.y)) @ some.count)
            without = own - problem.of_answers(found, some.block, some.table)
            for square, errors in zip(squares, (own, without), strict=True):
                each = (bread @ errors[main]) ** 2 * some.count
                for c in range(cells):
                    square[c] += each[:, cell == c].sum(axis=1)
        return squares, rows, answers

    with one_blas_thread():
        squares, rows, answers = (sum(part) for part in zip(*problem.blocks.each(one), strict=True))
    return *squares, rows, answers


def _filled(size: Any, held: Any, n: float) -> Any:
    """Minimises sum size^2 / (held + x) over x >= 0 that add to n: x = max(0, size / level - held)."""
    ratio = np.divide(held, size, out=np.full_like(held, np.inf), where=size > 0)
    order = np.argsort(ratio)
    reached = (n + np.cumsum(held[order])) / np.maximum(np.cumsum(size[order]), 1e-300)  # 1 / level with the first m
    last = np.flatnonzero(reached > ratio[order])[-1]
    return np.clip(np.where(np.isfinite(ratio), size * reached[last] - held, 0.0), 0.0, None)


def _plan(n: int, columns: dict[str, Any], share: Any, what: str, names: Any, *variances: Any) -> Plan:
    """variances: of what is forecast, now, after the plan, after an even spread."""
    table = pl.DataFrame(columns).with_columns(comparisons=pl.Series(share, dtype=pl.Int64))
    table = table.filter(pl.col("comparisons") > 0).sort("comparisons", descending=True, maintain_order=True)
    now, after, even = map(np.sqrt, variances)
    forecast = pl.DataFrame({what: names, "se": now, "se_plan": after, "se_even": even})
    return Plan(n, table, forecast, float((even**2).sum() / (after**2).sum()))
