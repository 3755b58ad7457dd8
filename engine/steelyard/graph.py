"""Connectivity of the comparison graph, and what it makes estimable (docs/estimators.md, 2)."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy  # its parts load when first used


def components(k: int, a: Any, b: Any) -> Any:
    """Component number of each arm in the undirected comparison graph; (k,) ints."""
    graph = scipy.sparse.coo_array((np.ones(len(a)), (a, b)), shape=(k, k))
    return scipy.sparse.csgraph.connected_components(graph, directed=False)[1]


def strong_components(k: int, a: Any, b: Any, sums: Any) -> Any:
    """Component number of each arm in the win graph: an edge to whom one beat, a tie an edge both ways.

    The maximum of the likelihood is finite only inside one of them (Ford 1957).
    """
    forward, backward = sums[:, 0] + sums[:, 1] > 0, sums[:, 2] + sums[:, 1] > 0
    rows = np.concatenate([a[forward], b[backward]])
    columns = np.concatenate([b[forward], a[backward]])
    if _soon_reached(k, rows, columns) and _soon_reached(k, columns, rows):
        return np.zeros(k, np.int32)
    graph = scipy.sparse.coo_array((np.ones(len(rows)), (rows, columns)), shape=(k, k))
    return scipy.sparse.csgraph.connected_components(graph, directed=True, connection="strong")[1]


def _soon_reached(k: int, rows: Any, columns: Any) -> bool:
    """Whether three steps along the edges lead from arm 0 to every arm: true of most logs, and quick to tell."""
    reached = np.arange(k) == 0
    for _ in range(3):
        reached[columns[reached[rows]]] = True
        if reached.all():
            return True
    return False


def reasons(k: int, a: Any, b: Any, sums: Any, rows: Any, main: Any) -> list[str | None]:
    """Why an arm outside the main group has no score, in words; None inside it."""
    if main.all():
        return [None] * k
    wins, ties, losses, games = (np.zeros(k) for _ in range(4))
    for side, columns in ((a, (0, 1, 2)), (b, (2, 1, 0))):
        for total, column in zip((wins, ties, losses), columns, strict=True):
            np.add.at(total, side, sums[:, column])
        np.add.at(games, side, rows)
    undirected = components(k, a, b)
    home = np.bincount(undirected[main]).argmax() if main.any() else -1

    def why(j: int) -> str | None:
        count = f"its {games[j]:.0f} comparison{'' if games[j] == 1 else 's'}"
        if main[j]:
            return None
        if not games[j]:
            return "no usable comparison"
        if undirected[j] != home:
            return "never compared with the main group, directly or through others"
        if not wins[j] and not ties[j]:
            return f"lost all of {count}"
        if not losses[j] and not ties[j]:
            return f"won all of {count}"
        return "never both won and lost against the main group, directly or through others"

    return [why(j) for j in range(k)]


def separated(k: int, a: Any, b: Any, first: Any, sums: Any, tie_model: bool, ridge: bool = False) -> bool:
    """Whether some direction of (scores, position, tie parameter) never lowers the likelihood.

    Then the maximum is at infinity, or not unique. Arms must be one strong component, or shrunk by a ridge, which
    holds the scores still. A cell with wins of both sides and a tie elsewhere hold the tie parameter; without
    the former a linear program decides (Albert and Anderson 1984). Then the position effect alone could grow:
    it does where scores exist that explain every outcome once it is large, in either direction.
    """
    wins, draws, losses = (sums[:, j] > 0 for j in range(3))
    if ridge:  # with the scores still, rows differ by outcome and by whether the position counts: two cells say it all
        still = np.zeros(2, np.intp)
        outcomes = np.stack([sums[first == counts].sum(axis=0) for counts in (0.0, 1.0)])
        return separated_by_program(1, still, still, np.array([0.0, 1.0]), outcomes, tie_model)
    if (
        tie_model
        and not ((wins & losses).any() and draws.any())
        and separated_by_program(k, a, b, first, sums, tie_model)
    ):
        return True
    return bool(first.any()) and any(
        _explained(k, a, b, sign * first, wins | draws, losses | draws) for sign in (1.0, -1.0)
    )


def _explained(k: int, a: Any, b: Any, shift: Any, wins: Any, losses: Any) -> bool:
    """Whether d exists with d_a - d_b + shift >= 0 where a won and <= 0 where b won.

    Difference constraints (Bellman and Ford): infeasible as soon as the tightest constraints form a cycle.
    """
    tail, head = np.concatenate([a[wins], b[losses]]), np.concatenate([b[wins], a[losses]])
    length = np.concatenate([shift[wins], -shift[losses]])
    order = np.argsort(head, kind="stable")
    tail, head, length = tail[order], head[order], length[order]
    starts = np.flatnonzero(np.diff(head, prepend=-1))
    target, place = head[starts], np.cumsum(np.diff(head, prepend=-1) > 0) - 1
    bound, binding = np.zeros(k), np.full(k, -1)
    while True:
        reach = bound[tail] + length
        best = np.minimum.reduceat(reach, starts)
        lower = best < bound[target]
        if not lower.any():
            return True
        tight = lower[place] & (reach == best[place])
        binding[head[tight]] = tail[tight]
        bound[target[lower]] = best[lower]
        bound_by = np.flatnonzero(binding >= 0)
        links = scipy.sparse.coo_array((np.ones(len(bound_by)), (binding[bound_by], bound_by)), shape=(k, k))
        if scipy.sparse.csgraph.connected_components(links, connection="strong", return_labels=False) < k:
            return False


def separated_by_program(k: int, a: Any, b: Any, first: Any, sums: Any, tie_model: bool) -> bool:
    """The question of :func:`separated`, without ridge, as a linear program: slow beyond some 10,000 cells."""
    m, t = len(a), np.arange(len(a))
    design = scipy.sparse.coo_array(
        (
            np.concatenate([np.ones(m), -np.ones(m), first]),
            (np.tile(t, 3), np.concatenate([a, b, np.full(m, k)])),
        ),
        shape=(m, k + 2),
    ).tocsr()
    tie_column = scipy.sparse.coo_array((np.ones(m), (t, np.full(m, k + 1))), shape=(m, k + 2)).tocsr()
    step = tie_column if tie_model else tie_column * 0.0
    win, draw, loss = (sums[:, j] > 0 for j in range(3))
    parts = [(design - step)[win], (-design - step)[loss], (step + design)[draw], (step - design)[draw]]
    rules = scipy.sparse.vstack(parts).tocsr()
    answer = scipy.optimize.linprog(
        -np.asarray(rules.sum(axis=0)).ravel(),
        A_ub=-rules,
        b_ub=np.zeros(rules.shape[0]),
        bounds=[(0.0, 0.0)] + [(-1.0, 1.0)] * (k + 1),
    )
    return bool(answer.status == 0 and -answer.fun > 1e-7)
