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


def short(name: str, most: int) -> str:
    """A name of so many letters at most: what stands in the middle is left out, since versions differ at the end."""
    return name if len(name) <= most else f"{name[: most // 2]}…{name[-((most - 1) // 2) :]}"


def forest_plot(table: pl.DataFrame, zero: float = 0.0) -> str:
    """Scores with their intervals, best on top; the first 60 arms with a score. zero: the mean of all of them."""
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
    axes.plot(score[known], place[known], "o", color=_COLOUR, markersize=4)
    if not known.all():
        axes.plot(score[~known], place[~known], "o", markerfacecolor="none", color="#999999", label="no interval")
        axes.legend(loc="lower right", fontsize=8, frameon=False)
    reach = np.concatenate([score, low, high])
    inside = bool(height and reach.min() <= zero <= reach.max())
    if inside:
        axes.axvline(zero, color="#999999", linewidth=0.8, linestyle=":")
    axes.set_yticks(place, [short(name, 40) for name in shown["arm"]], fontsize=7, parse_math=False)
    axes.set_ylim(-0.8, height - 0.2)
    axes.set_xlabel(f"score, with interval{'; dotted: the mean of all arms' if inside else ''}")
    axes.spines[["top", "right"]].set_visible(False)
    return _svg(figure)


def compare_plot(compared: pl.DataFrame) -> str:
    """Naive scores and debiased ones, with intervals, one line an arm, best debiased arm first; the first MOST_ARMS."""
    from matplotlib.figure import Figure

    shown = compared.head(MOST_ARMS)
    height = len(shown)
    figure = Figure(figsize=(8.0, 1.4 + 0.26 * height))
    axes = figure.subplots()
    place = np.arange(height)[::-1]
    for name, shift, colour, low, high in (
        ("naive", 0.16, "#b5651d", "naive_low", "naive_high"), ("score", -0.16, _COLOUR, "low", "high"),
    ):  # fmt: skip
        label = "naive" if name == "naive" else "doubly robust"
        axes.hlines(place + shift, shown[low].to_numpy(), shown[high].to_numpy(), color=colour, linewidth=1.4)
        axes.plot(shown[name].to_numpy(), place + shift, "o", color=colour, markersize=4, label=label)
    axes.axvline(0.0, color="#999999", linewidth=0.8, linestyle=":")
    axes.set_yticks(place, [short(name, 40) for name in shown["arm"]], fontsize=7, parse_math=False)
    axes.set_ylim(-0.8, height - 0.2)
    axes.set_xlabel("score, with interval")
    axes.legend(loc="lower right", fontsize=8, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return _svg(figure)


def balance_plot(balance: pl.DataFrame) -> str:
    """Differences of context means from the target's, in standard deviations, before and after weighting.

    One line a context column: the largest difference among the arms or groups. The 40 largest.
    """
    import polars as pl
    from matplotlib.figure import Figure

    worst = (
        balance.group_by("column", maintain_order=True)
        .agg(pl.col("difference_before", "difference_after").abs().max())
        .sort("difference_before", descending=True)
        .head(40)
    )
    figure = Figure(figsize=(8.0, 1.2 + 0.24 * len(worst)))
    axes = figure.subplots()
    place = np.arange(len(worst))[::-1]
    before, after = (worst[f"difference_{when}"].to_numpy() for when in ("before", "after"))
    axes.hlines(place, np.minimum(before, after), np.maximum(before, after), color="#c9d3d8", linewidth=1.2)
    axes.plot(before, place, "o", color="#b5651d", markersize=5, label="before weighting")
    axes.plot(after, place, "o", color=_COLOUR, markersize=5, label="after")
    axes.axvline(0.1, color="#999999", linewidth=0.8, linestyle=":")
    axes.set_yticks(place, [short(name, 40) for name in worst["column"]], fontsize=8, parse_math=False)
    axes.set_ylim(-0.8, len(worst) - 0.2)
    axes.set_xlim(left=0.0)
    axes.set_xlabel("largest difference from the target, in standard deviations (dotted: 0.1)")
    axes.legend(loc="best", fontsize=8, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return _svg(figure)


def propensity_plot(histogram: pl.DataFrame) -> str:
    """Histograms of the propensity of what was assigned, for each arm or group; those of the 12 with most rows."""
    import polars as pl
    from matplotlib.figure import Figure

    labels = (
        histogram.group_by("label").agg(pl.col("rows").sum()).sort("rows", "label", descending=[True, False]).head(12)
    )
    columns = 3 if len(labels) > 2 else len(labels)
    rows = -(-len(labels) // columns)
    figure = Figure(figsize=(8.0, 0.8 + 1.5 * rows), layout="constrained")
    grid = np.atleast_1d(figure.subplots(rows, columns, sharex=True, squeeze=False)).ravel()
    for axes, label in zip(grid, labels["label"], strict=False):
        mine = histogram.filter(pl.col("label") == label)
        low, high, count = (mine[name].to_numpy() for name in ("low", "high", "rows"))
        axes.bar(low, count, width=high - low, align="edge", color=_COLOUR)
        axes.set_xscale("log")
        axes.set_title(short(label, 30), fontsize=8, parse_math=False)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid[len(labels) :]:
        axes.set_visible(False)
    figure.supxlabel("propensity of what was assigned", fontsize=9)
    figure.supylabel("rows", fontsize=9)
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
    size = max(1.0, len(order) / 40.0)
    figure = Figure(figsize=(8.0 * size, 7.2 * size))
    axes = figure.subplots()
    top = max(2.0, float(count.max(initial=0.0)))
    image = axes.imshow(np.ma.masked_equal(count, 0.0), norm=LogNorm(1.0, top), cmap="YlGnBu", rasterized=True)
    axes.set_xticks(range(len(order)), [short(name, 24) for name in order], rotation=90, fontsize=6, parse_math=False)
    axes.set_yticks(range(len(order)), [short(name, 24) for name in order], fontsize=6, parse_math=False)
    figure.colorbar(image, ax=axes, label="comparisons", shrink=0.8)
    return _svg(figure)
