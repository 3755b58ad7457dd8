"""The likelihood of a paired-comparison model on the cells of a pair table: evaluate, maximise, differentiate."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy  # its parts load when first used

from steelyard._native.draws import normals
from steelyard._native.laplacian import laplacian_edges, laplacian_rows
from steelyard._native.pair_likelihood import MODELS, pair_hessian, pair_likelihood, pair_score, pair_sums
from steelyard._native.pair_table import folded_cells
from steelyard.inference.influence import EXACT, Influence
from steelyard.pairs import PairTable
from steelyard.passes import in_order
from steelyard.solve import (
    STEP,
    TOLERANCE,
    Point,
    bordered_solve,
    centred_inverse,
    dense_solver,
    laplacian_solve,
    newton,
    one_blas_thread,
    pinned,
)

TIE_MODELS = ("davidson", "rao-kupper")  # with a parameter of ties
WIDEST_DENSE = 4000  # parameters up to which the Hessian is a dense matrix
_ROUGH = 1e-4  # of the residual, at which a Newton step is near enough; at more, trees of arms do not converge
_PART = 1 << 17  # edges at least that are summed on a thread; and four to an arm, so that adding up parts costs little
_MOST_PARTS = 8
_ROUNDING = 1e-14  # of the parts of a sum
_BATCH = 8  # draws solved together beyond
_MOST_BATCHES = 128


@dataclass(frozen=True)
class Estimate:
    """The maximum. parameter: (p,) k scores, then columns if any, position and tie, as the model has them."""

    parameter: Any
    k: int
    position: float
    tie: float
    log_likelihood: float
    iterations: int
    gradient_norm: float

    @property
    def theta(self) -> Any:
        return self.parameter[: self.k]

    def facts(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "parameter"}


@dataclass(frozen=True)
class Cells:
    """Cells of a pair table under one model. arms: codes in the table. a, b: (m,) places in `arms`.

    first: (m,) 1.0 where the position effect applies. sums, squares: (m, 3). rows: (m,).
    """

    arms: Any
    a: Any
    b: Any
    first: Any
    sums: Any
    squares: Any
    rows: Any
    model: str
    position: bool
    ridge: float

    @staticmethod
    def of(pairs: PairTable, model: str, position: bool, ridge: float, keep_ties: bool) -> Cells:
        """All cells of the table; the two orders of a pair folded into one where position is not modelled."""
        sums: Any = pairs.sums
        squares: Any = pairs.squares
        rows: Any = pairs.rows
        if not keep_ties:
            rows = rows * 0.0 + sums[:, 0] + sums[:, 2] if not pairs.weighted else rows
            decided = sums * [1.0, 0.0, 1.0]
            squares = decided if squares is sums else squares * [1.0, 0.0, 1.0]
            sums = decided
        a: Any = pairs.a
        b: Any = pairs.b
        first: Any = pairs.first
        if not position:
            a, b, first, sums, squares, rows = _folded(a, b, sums, squares, rows)
        cells = Cells(np.arange(len(pairs.arms)), a, b, first, sums, squares, rows, model, position, ridge)
        return cells if keep_ties else cells._kept(sums.any(axis=1))

    def within(self, main: Any) -> Cells:
        """The cells between arms of `main` (K,) bool, renumbered."""
        if main.all():
            return self
        inside = main[self.a] & main[self.b]
        place = (np.cumsum(main) - 1).astype(np.int32)
        kept = self._kept(inside)
        return replace(kept, arms=np.flatnonzero(main), a=place[kept.a], b=place[kept.b])

    def _kept(self, which: Any) -> Cells:
        """Some of the cells, (m,) bool; unweighted logs keep one array for sums and squares."""
        if which.all():
            return self
        a, b, first, sums, rows = (values[which] for values in (self.a, self.b, self.first, self.sums, self.rows))
        squares = sums if self.squares is self.sums else self.squares[which]
        return replace(self, a=a, b=b, first=first, sums=sums, squares=squares, rows=rows)

    @property
    def has_tie(self) -> bool:
        return self.model in TIE_MODELS

    @property
    def size(self) -> int:
        return len(self.arms) + self.position + self.has_tie

    @property
    def n(self) -> float:
        return float(self.sums.sum())

    @property
    def penalty(self) -> Any:
        """(p,) ridge on the scores, none on position and tie."""
        return np.where(np.arange(self.size) < len(self.arms), self.ridge, 0.0)

    @property
    def tie_start(self) -> float:
        """The tie parameter that the share of ties suggests."""
        wins, ties, losses = np.ones(len(self.sums)) @ self.sums
        share = ties / (wins + ties + losses)
        odds = 2 * share / (1 - share)
        return float(np.log(odds) if self.model == "davidson" else np.log1p(odds))

    def split(self, parameter: Any) -> tuple[Any, float, float]:
        """Scores, position effect and tie parameter (0 where the model has none)."""
        k = len(self.arms)
        return (
            np.ascontiguousarray(parameter[:k]),
            float(parameter[k]) if self.position else 0.0,
            float(parameter[-1]) if self.has_tie else 0.0,
        )

    def derivatives(self, parameter: Any, outcomes: Any, out: Any = None) -> Any:
        """(6, m) value d_eta d_tie h_eta h_cross h_tie at (m, 3) outcome weights; into `out` where given."""
        theta, position, tie = self.split(parameter)
        out = np.zeros((6, len(self.a))) if out is None else out
        weights = np.ascontiguousarray(outcomes)
        pair_likelihood(MODELS[self.model], self.a, self.b, self.first, weights, theta, position, tie, out)
        return out

    def score(self, derivatives: Any) -> Any:
        """(p,) sum of the cells' first-order terms."""
        score = np.zeros(self.size)
        pair_score(len(self.arms), self.position, self.has_tie, self.a, self.b, self.first, derivatives, score)
        return score

    def matrix(self, derivatives: Any) -> Any:
        """(p, p) sum of the cells' second-order terms."""
        matrix = np.zeros((self.size, self.size))
        pair_hessian(len(self.arms), self.position, self.has_tie, self.a, self.b, self.first, derivatives, matrix)
        return matrix

    def _start(self) -> Any:
        start = np.zeros(self.size)
        if self.has_tie:
            start[-1] = self.tie_start
        return start

    @one_blas_thread()
    def maximise(self, start: Any = None) -> Estimate:
        """Newton from `start` (default: all scores 0, ties at their share)."""
        inside = self._dense_point if self.size <= WIDEST_DENSE else _SparseProblem(self).point

        def evaluate(parameter: Any) -> Point:
            if self.model == "rao-kupper" and parameter[-1] <= 0:
                return Point(-np.inf, np.zeros(self.size), lambda v: v)
            return inside(parameter)

        solution = newton(evaluate, self._start() if start is None else start, self.n)
        parameter = solution.parameter.copy()
        k = len(self.arms)
        if not self.ridge:
            parameter[:k] -= parameter[:k].mean()
        _, position, tie = self.split(parameter)
        penalty = 0.5 * self.ridge * float(parameter[:k] @ parameter[:k])
        return Estimate(parameter, k, position, tie, solution.point.value + penalty, solution.iterations,
                        solution.gradient_norm)  # fmt: skip

    def refitted(self, start: Any, bread: Any) -> Any:
        """The maximum (p,) near `start`: Newton steps by the inverse `bread` (p, p) of a Hessian near by.

        The same stop as :func:`newton`. Where a step is not half the last one, Newton with Hessians of its own.
        """
        parameter, room, last, k = start, np.zeros((6, len(self.a))), np.inf, len(self.arms)
        while True:
            score = self.score(self.derivatives(parameter, self.sums, room))
            score[:k] -= self.ridge * parameter[:k]
            step = bread @ score
            size = float(np.abs(step).max())
            if size <= STEP and float(np.abs(score).max()) <= TOLERANCE * self.n:
                return parameter
            if not size <= 0.5 * last:
                return self.maximise(start).parameter
            parameter, last = parameter + step, size

    def _dense_point(self, parameter: Any) -> Point:
        derivatives = self.derivatives(parameter, self.sums)
        score, hessian, k = self.score(derivatives), self.matrix(derivatives), len(self.arms)
        score[:k] -= self.ridge * parameter[:k]
        value = float(derivatives[0].sum()) - 0.5 * self.ridge * float(parameter[:k] @ parameter[:k])
        return Point(value, score, lambda v: dense_solver(pinned(hessian, k, self.penalty))(v))

    @one_blas_thread()
    def influence(self, estimate: Estimate, kind: str) -> Influence | None:
        """Bread and row meat; kind "model" takes the information, and the ridge, as meat. None beyond dense size."""
        if self.size > WIDEST_DENSE:
            return None
        hessian = self.matrix(self.derivatives(estimate.parameter, self.sums))
        k = len(self.arms)
        bread = centred_inverse(hessian, k, self.penalty)
        if kind == "model":
            return Influence(bread, hessian + np.diag(self.penalty))
        lost = np.zeros((self.size, 0)) if self.ridge else None
        return Influence(bread, self.matrix(self._moments(estimate)), lost=lost)

    def _second_moments(self, estimate: Estimate, kind: str) -> Any:
        """(6, m) second moments of the cells' scores as rows 3 to 5; kind "model": the curvatures themselves."""
        return self.derivatives(estimate.parameter, self.sums) if kind == "model" else self._moments(estimate)

    def _moments(self, estimate: Estimate) -> Any:
        """(6, m) with the second moments of row scores where :meth:`matrix` expects curvatures.

        Of soft labels the three outcomes' parts cancel where all rows of a cell are met exactly: rounding is then left.
        """
        out, parts = np.zeros((6, len(self.a))), np.zeros(len(self.a))
        for outcome in range(3):
            d_eta, d_tie = self._outcome_scores(estimate, outcome)
            square = self.squares[:, outcome]
            out[3] += square * d_eta**2
            parts += np.abs(square) * d_eta**2
            out[4] += square * d_eta * d_tie
            out[5] += square * d_tie**2
        out[3, out[3] <= _ROUNDING * parts] = 0.0
        return out

    def _outcome_scores(self, estimate: Estimate, outcome: int) -> tuple[Any, Any]:
        """d log p / d eta and / d tie (m,) of one row with this outcome (0 win, 1 tie, 2 loss)."""
        one = np.zeros((len(self.a), 3))
        one[:, outcome] = 1.0
        out = self.derivatives(estimate.parameter, one)
        return out[1], out[2]

    def row_effects(self, estimate: Estimate, direction: Any) -> Any:
        """(m, 3) influence of one row of each cell and outcome on direction' parameter, direction (p,) = A^+ c."""
        along, along_tie = self._along(direction)
        effects = np.empty((len(self.a), 3))
        for outcome in range(3):
            d_eta, d_tie = self._outcome_scores(estimate, outcome)
            effects[:, outcome] = d_eta * along + d_tie * along_tie
        return effects

    def _along(self, direction: Any) -> tuple[Any, float]:
        """Change of eta (m,) and of the tie parameter when the parameters move along `direction` (p,)."""
        scores, position, tie = self.split(direction)
        return scores[self.a] - scores[self.b] + position * self.first, tie

    def still(self, estimate: Estimate, kind: str) -> Any:
        """(k,) bool: arms whose rows are all met exactly, so that their scores show no spread."""
        curvatures, k = self.derivatives(estimate.parameter, self.sums), len(self.arms)
        both = self._second_moments(estimate, kind)[3], curvatures[3]
        moment, own = (np.bincount(self.a, each, k) + np.bincount(self.b, each, k) for each in both)
        return np.sqrt(moment) <= EXACT * (own + self.ridge)

    def contrast_variance(self, estimate: Estimate, contrast: Any, kind: str) -> float:
        """Variance of contrast' parameter, contrast (p,), by conjugate gradients: no matrix is held."""
        problem = _SparseProblem(self)
        problem.evaluate(estimate.parameter)
        solved = problem.solve(contrast[:, None], 1e-10)[:, 0]
        if kind == "model":
            return float(contrast @ solved)
        along, along_tie = self._along(solved)
        _, _, _, by_eta, by_both, by_tie = self._second_moments(estimate, kind)
        return float((by_eta * along**2 + 2.0 * by_both * along * along_tie + by_tie * along_tie**2).sum())

    def spread(self, estimate: Estimate, kind: str) -> tuple[Any, float]:
        """Standard errors of the scores (k,) without holding a matrix, and their relative Monte Carlo error.

        The error of the scores is x = A^+ s with s of known variance (that of kind "model" is A), so x = u + n with
        u = s / diagonal and n the pull of the neighbours. Var u and the first term of Cov(u, n) are summed exactly;
        the small rest is the mean over draws of s, each one conjugate-gradient solve, until 99 of 100 standard
        errors are within 1 % (one Monte Carlo standard error) and all within 5 %, or 1,024 draws are done. NaN
        where that left a variance below 0.
        """
        problem, k = _SparseProblem(self), len(self.arms)
        problem.evaluate(estimate.parameter)
        diagonal = problem.diagonal[:, None]
        moments, shrunk = self._second_moments(estimate, kind), self.ridge if kind == "model" else 0.0
        ends = np.minimum(self.a, self.b), np.maximum(self.a, self.b)
        a, b, both = _by_pair(*ends, np.column_stack([problem.edge, moments[3]]))
        curvature, moment = both.T
        own = (np.bincount(a, moment, k) + np.bincount(b, moment, k) + shrunk * (1.0 - 1.0 / k)) / problem.diagonal**2
        shared = curvature * (moment + shrunk / k)
        towards = np.bincount(a, shared / problem.diagonal[b], k) + np.bincount(b, shared / problem.diagonal[a], k)
        known = own - 2.0 * towards / problem.diagonal**2

        def rest(batch: int) -> tuple[Any, Any]:
            """Sums over one batch of draws of what is not known exactly, and of its square."""
            score = np.stack([self._drawn_score(moments, shrunk, batch * _BATCH + r) for r in range(_BATCH)], axis=1)
            u = score[:k] / diagonal
            pull = problem.solve(score, 1e-8)[:k] - u  # at less, arms of little weight beside others are off
            first = u - problem.product(u) / diagonal  # the neighbours' own u, pulled once
            value = 2.0 * u * (pull - first) + pull**2
            return value.sum(axis=1), (value**2).sum(axis=1)

        total, square = np.zeros(k), np.zeros(k)
        for done in range(0, _MOST_BATCHES, 4):
            for value, squared in in_order(rest, range(done, done + 4)):
                total += value
                square += squared
            n = (done + 4) * _BATCH
            variance = known + total / n
            scatter = np.sqrt(np.maximum(square / n - (total / n) ** 2, 0.0) / n)
            relative = scatter / np.maximum(2.0 * variance, 1e-300)
            error = float(np.quantile(relative, 0.99, method="higher"))
            if error <= 0.01 and relative.max() <= 0.05:
                break
        return np.sqrt(np.where(variance < 0.0, np.nan, variance)), error

    def _drawn_score(self, moments: Any, shrunk: float, draw: int) -> Any:
        """One draw of the summed score (p,): independent cells with second moments as rows 3 to 5 of (6, m).

        shrunk: second moment of what each arm has beside them, less their mean: no ridge says how high all stand.
        """
        m, k = len(self.a), len(self.arms)
        draws, noise = np.empty((1, m * (1 + self.has_tie) + k)), np.zeros((6, m))
        normals(0, draw, draws)
        first, second, beside = draws[0, :m], draws[0, m:-k], draws[0, -k:]
        _, _, _, by_eta, by_both, by_tie = moments
        root = np.sqrt(by_eta)
        noise[1] = root * first
        if self.has_tie:
            lean = np.divide(by_both, root, out=np.zeros_like(root), where=root > 0)
            noise[2] = lean * first + np.sqrt(np.maximum(by_tie - lean**2, 0.0)) * second
        score = self.score(noise)
        score[:k] += np.sqrt(shrunk) * (beside - beside.mean())
        return score


def _folded(a: Any, b: Any, sums: Any, squares: Any, rows: Any) -> tuple[Any, ...]:
    """One cell an unordered pair, seen from the arm with the smaller code; nobody is shown first."""
    low, high, summed = _by_pair(a, b, sums)
    if squares is sums:  # plain rows: as many as the sums say
        return low, high, np.zeros(len(low)), summed, summed, summed[:, 0] + summed[:, 1] + summed[:, 2]
    squared, counted = _by_pair(a, b, squares)[2], _by_pair(a, b, rows[:, None])[2][:, 0]
    return low, high, np.zeros(len(low)), summed, squared, counted


def _by_pair(a: Any, b: Any, values: Any) -> tuple[Any, Any, Any]:
    """Lower and higher arm of each pair, and the sums of its cells' values (n, w), turned where a is the higher."""
    low, high, out = np.empty_like(a), np.empty_like(b), np.empty_like(values)
    m = folded_cells(a, b, values, low, high, out)  # a table keeps the cells of one pair together
    return low[:m], high[:m], out[:m]


class _SparseProblem:
    """Newton's pieces on the graph Laplacian of the cells: only edges, diagonals and a border are held.

    The border is the few dense columns of the position effect and the tie parameter; it is solved for by its
    Schur complement. Edges are summed in a few parts, as many whatever the number of cores, added up in order.
    """

    def __init__(self, cells: Cells) -> None:
        self.cells = cells
        self.k = len(cells.arms)
        self.edge: Any = np.zeros(len(cells.a))
        self.diagonal: Any
        self.border: Any
        self.corner: Any
        self._rows: tuple[Any, Any, Any] | None = None
        m = len(cells.a)
        cuts = np.linspace(0, m, min(max(m // max(_PART, 4 * self.k), 1), _MOST_PARTS) + 1).astype(int)
        self._parts = [slice(*cut) for cut in itertools.pairwise(cuts)]

    def point(self, parameter: Any) -> Point:
        """The solver there holds until the next point is asked for."""
        cells = self.cells
        value, score = self.evaluate(parameter)
        theta = parameter[: self.k]
        score[: self.k] -= cells.ridge * theta
        value -= 0.5 * cells.ridge * float(theta @ theta)
        return Point(value, score, lambda v: self.solve(v[:, None], _ROUGH)[:, 0])

    def evaluate(self, parameter: Any) -> tuple[float, Any]:
        """Log-likelihood and score (p,) without the ridge; takes the curvatures there as the Laplacian's weights."""
        cells, k, q = self.cells, self.k, self.cells.size - self.k
        theta, position, tie = cells.split(parameter)

        def summed(i: int) -> tuple[Any, ...]:
            part, diagonal = self._parts[i], np.full(k, cells.ridge if i == 0 else 0.0)
            score, border, corner = np.zeros(k + q), np.zeros((k, q)), np.zeros((q, q))
            value = pair_sums(
                MODELS[cells.model], cells.position, cells.a[part], cells.b[part], cells.first[part], cells.sums[part],
                theta, position, tie, score, diagonal, border, corner, self.edge[part],
            )  # fmt: skip
            return value, score, diagonal, border, corner

        parts = zip(*in_order(summed, range(len(self._parts))), strict=True)
        value, score, self.diagonal, self.border, corner = map(sum, parts)
        self.corner, self._rows = corner + np.triu(corner, 1).T, None
        return float(value), score

    def product(self, x: Any) -> Any:
        """(k, r) the scores' own part times x."""
        x = np.ascontiguousarray(x)
        if x.shape[1] == 1:
            return self._along_edges(x[:, 0])[:, None]
        self._rows, out = self._rows or self._by_rows(), np.empty_like(x)
        laplacian_rows(*self._rows, self.diagonal, x, out)
        return out

    def _along_edges(self, x: Any) -> Any:
        """(k,) the same of one vector (k,)."""
        cells, parts = self.cells, self._parts
        sums = np.empty((len(parts), self.k))

        def add(i: int) -> None:
            part, ridge = parts[i], cells.ridge if i == 0 else 0.0
            laplacian_edges(cells.a[part], cells.b[part], self.edge[part], ridge, x, sums[i])

        if len(parts) == 1:
            add(0)
            return sums[0]
        list(in_order(add, range(len(parts))))
        return sums.sum(axis=0)

    def _by_rows(self) -> tuple[Any, Any, Any]:
        """Where each arm's neighbours start, who they are, and the weights of the edges to them."""
        a, b, edge = self.cells.a, self.cells.b, self.edge
        ends = np.concatenate([a, b]), np.concatenate([b, a])
        graph = scipy.sparse.coo_array((np.tile(edge, 2), ends), shape=(self.k, self.k)).tocsr()
        return graph.indptr.astype(np.int64), graph.indices.astype(np.int32), graph.data

    def solve(self, right: Any, tolerance: float) -> Any:
        """(Hessian) x = right for (p, r) right-hand sides; the scores of x sum to 0 where there is no ridge."""

        def scores(v: Any) -> Any:
            return laplacian_solve(self.product, self.diagonal, v, self.cells.ridge > 0, tolerance)

        return bordered_solve(scores, self.border, self.corner, right)
