"""The report's pictures as SVG text: matplotlib figures without pyplot, so nothing global is left behind."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from steelyard.pairs import PairTable

WIDEST = 60  # arms in a picture; tables show all
INK, QUIET, GRID, ACCENT = "#1f2933", "#66727f", "#e4e8ec", "#1f6f8b"
_STYLE = {
    "svg.fonttype": "none",  # names stay text: they can be searched, and the browser has the glyphs
    "svg.hashsalt": "steelyard",  # the same figure gives the same bytes
    "text.parse_math": False,  # an arm may be called "$x$"
    "font.size": 9.0,
    "axes.edgecolor": GRID,
    "axes.labelcolor": QUIET,
    "xtick.color": QUIET,
    "ytick.color": INK,
    "text.color": INK,
}


def printable(name: str, width: int | None = None) -> str:
    """The name without control characters, cut to width characters with an ellipsis."""
    text = "".join(c if c.isprintable() else "\ufffd" for c in name)
    return text if width is None or len(text) <= width else text[: width - 1] + "…"


@contextmanager
def _style() -> Iterator[None]:
    import matplotlib

    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # measured in another font, drawn by the browser
        yield


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", bbox_inches="tight", pad_inches=0.05, transparent=True, metadata={"Date": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :]


def forest_figure(table: pl.DataFrame, label: str = "score") -> Figure:
    """Scores with their intervals, best on top; the first :data:`WIDEST` arms of a leaderboard."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    shown = table.filter(pl.col("score").is_not_null()).head(WIDEST)
    n = len(shown)
    score, low, high = (shown[name].cast(pl.Float64).to_numpy() for name in ("score", "low", "high"))
    y = np.arange(n)
    figure = Figure(figsize=(7.6, 0.9 + 0.215 * max(n, 2)))
    axes = figure.subplots()
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    known = np.isfinite(low) & np.isfinite(high)
    axes.hlines(y[known], low[known], high[known], color=ACCENT, linewidth=1.6, alpha=0.55)
    axes.plot(score, y, "o", color=ACCENT, markersize=4.2, markeredgewidth=0)
    axes.set_yticks(y, [printable(name, 44) for name in shown["arm"]])
    axes.tick_params(length=0)
    axes.set_ylim(max(n, 1) - 0.4, -0.6)
    axes.xaxis.set_major_locator(MaxNLocator(7))
    axes.set_xlabel(label)
    return figure


def forest_plot(table: pl.DataFrame, label: str = "score") -> str:
    """The forest plot of a leaderboard as an SVG element."""
    with _style():
        return _svg(forest_figure(table, label))


def coverage_matrix(pairs: PairTable, arms: Sequence[str]) -> Any:
    """(k, k) comparisons of every two of these arms, either order; symmetric."""
    place = {name: i for i, name in enumerate(arms)}
    code = np.array([place.get(name, -1) for name in pairs.arms.to_list()], np.int64)
    a, b = code[pairs.a], code[pairs.b]
    inside = (a >= 0) & (b >= 0)
    counts = np.zeros((len(arms), len(arms)))
    np.add.at(counts, (a[inside], b[inside]), pairs.rows[inside])
    return counts + counts.T


def most_compared(pairs: PairTable) -> list[str]:
    """Names of the :data:`WIDEST` arms with the most comparisons, most first."""
    k = len(pairs.arms)
    played = np.bincount(pairs.a, pairs.rows, k) + np.bincount(pairs.b, pairs.rows, k)
    return [pairs.arms[int(i)] for i in np.argsort(-played, kind="stable")[:WIDEST]]


def coverage_figure(pairs: PairTable, arms: Sequence[str] | None = None) -> Figure:
    """How often every two arms were compared; arms default to the most compared, and are cut to WIDEST."""
    import matplotlib
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    names = list(most_compared(pairs) if arms is None else arms)[:WIDEST]
    counts = coverage_matrix(pairs, names)
    k = len(names)
    side = 1.2 + 0.15 * max(k, 8)
    figure = Figure(figsize=(side + 0.6, side))
    axes = figure.subplots()
    top = max(float(counts.max(initial=0.0)), 2.0)
    colours = matplotlib.colormaps["GnBu"].with_extremes(bad="#f6f7f8")
    seen = np.ma.masked_less_equal(counts, 0)
    image = axes.imshow(seen, cmap=colours, norm=LogNorm(1, top), interpolation="none", aspect="equal")
    for spine in axes.spines.values():
        spine.set_visible(False)
    labels = [printable(name, 28) for name in names]
    axes.set_xticks(range(k), labels, rotation=90, fontsize=6.5)
    axes.set_yticks(range(k), labels, fontsize=6.5)
    axes.tick_params(length=0, colors=INK)
    bar = figure.colorbar(image, ax=axes, fraction=0.03, pad=0.02, format="%g")
    bar.outline.set_visible(False)  # type: ignore[operator]
    bar.ax.tick_params(length=0, labelsize=7)
    bar.set_label("comparisons of the pair (log scale; blank: none)", fontsize=7.5, color=QUIET)
    return figure


def coverage_plot(pairs: PairTable, arms: Sequence[str] | None = None) -> str:
    """The pair-coverage heat map as an SVG element."""
    with _style():
        return _svg(coverage_figure(pairs, arms))
