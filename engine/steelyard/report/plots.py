"""Plots of the report as SVG text; matplotlib is imported where used."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.figure import Figure

    from steelyard.pairs import PairTable

MOST_ARMS = 60
_COLOUR = "#1f5a7a"


def _svg(figure: Figure) -> str:
    from matplotlib import rc_context

    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none"}):  # text stays text: searchable, and smaller
        figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    content = buffer.getvalue()
    return content[content.index("<svg") :]


def forest_plot(table: pl.DataFrame) -> str:
    """Scores with their intervals, best on top; the first 60 arms with a score."""
    from matplotlib.figure import Figure

    shown = table.filter(table["score"].is_not_null()).head(MOST_ARMS)
    height = len(shown)
    figure = Figure(figsize=(8.0, 1.0 + 0.2 * height))
    axes = figure.subplots()
    place = np.arange(height)[::-1]
    score = shown["score"].to_numpy()
    known = shown["se"].is_not_null().to_numpy()
    low, high = (shown[name].to_numpy()[known] for name in ("low", "high"))
    axes.hlines(place[known], low, high, color=_COLOUR, linewidth=1.6)
    axes.plot(score, place, "o", color=_COLOUR, markersize=4)
    axes.axvline(float(score.mean()) if height else 0.0, color="#999999", linewidth=0.8, linestyle=":")
    axes.set_yticks(place, [name[:40] for name in shown["arm"]], fontsize=7, parse_math=False)
    axes.set_ylim(-0.8, height - 0.2)
    axes.set_xlabel("score, with interval")
    axes.spines[["top", "right"]].set_visible(False)
    return _svg(figure)


def coverage_plot(pairs: PairTable, order: list[str]) -> str:
    """How often each two arms were compared, on a log scale; white = never. Arms in the given order."""
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    order = order[:MOST_ARMS]
    place = {name: i for i, name in enumerate(order)}
    where = np.array([place.get(name, -1) for name in pairs.arms])
    a, b = where[pairs.a], where[pairs.b]
    inside = (a >= 0) & (b >= 0)
    count = np.zeros((len(order), len(order)))
    np.add.at(count, (a[inside], b[inside]), pairs.rows[inside])
    count += count.T
    figure = Figure(figsize=(8.0, 7.2))
    axes = figure.subplots()
    top = max(2.0, float(count.max(initial=0.0)))
    image = axes.imshow(np.ma.masked_equal(count, 0.0), norm=LogNorm(1.0, top), cmap="YlGnBu", rasterized=True)
    axes.set_xticks(range(len(order)), [name[:24] for name in order], rotation=90, fontsize=6, parse_math=False)
    axes.set_yticks(range(len(order)), [name[:24] for name in order], fontsize=6, parse_math=False)
    figure.colorbar(image, ax=axes, label="comparisons", shrink=0.8)
    return _svg(figure)
