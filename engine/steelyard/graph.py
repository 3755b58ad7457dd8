"""Connectivity of the comparison graph, and what it makes estimable (estimators.md, section 3)."""

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
    graph = scipy.sparse.coo_array((np.ones(len(rows)), (rows, columns)), shape=(k, k))
    return scipy.sparse.csgraph.connected_components(graph, directed=True, connection="strong")[1]


def reasons(k: int, a: Any, b: Any, sums: Any, rows: Any, main: Any) -> list[str | None]:
    """Why an arm outside the main group has no score, in words; None inside it."""
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


def separated(k: int, a: Any, b: Any, first: Any, sums: Any, tie_model: bool) -> bool:
    """Whether some direction of (scores, position, tie parameter) never lowers the likelihood.

    Then the maximum is at infinity, or not unique. A pair shown in both orders, each with wins of both
    sides, rules it out at once; otherwise a linear program decides (Albert and Anderson 1984).
    """
    both = (sums[:, 0] > 0) & (sums[:, 2] > 0) & (first > 0)
    seen = {(int(x), int(y)) for x, y in zip(a[both], b[both], strict=True)}
    if any((y, x) in seen for x, y in seen) and (not tie_model or (sums[:, 1] > 0).any()):
        return False
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
