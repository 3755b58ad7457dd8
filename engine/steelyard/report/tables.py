"""Tables for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from steelyard.report.plots import short

if TYPE_CHECKING:
    from rich.table import Table

    from steelyard.causal.doubly_robust_fit import DoublyRobustFit
    from steelyard.checks import Check


_EXPLAINED = 0.2  # of a move, from which a context is named as its reason


def text(value: Any) -> str:
    """A cell in print: null as a dash, floats with three decimals."""
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def frame_table(frame: pl.DataFrame, title: str, most: int = 100) -> Table:
    """Any frame as a rich table, numbers to the right; an all-null reason column is left out, and rows beyond most."""
    from rich.markup import escape  # for the command line only
    from rich.table import Table

    if "reason" in frame.columns and frame["reason"].is_null().all():
        frame = frame.drop("reason")
    more = len(frame) - most
    table = Table(title=title, caption=f"and {more} more: --out writes all" if more > 0 else None)
    for name, dtype in frame.schema.items():
        table.add_column(name, justify="right" if dtype.is_numeric() else "left", overflow="fold")
    for row in frame.head(most).iter_rows():
        table.add_row(*(escape(text(value)) for value in row))
    return table


def check_table(check: Check) -> Table:
    """What a log holds, and its components when there is more than one."""
    from rich.markup import escape

    table = frame_table(check.frame(), "Preference log")
    if len(check.components) > 1:
        for group in sorted(check.components, key=len, reverse=True)[:5]:
            shown = ", ".join(short(name, 40) for name in group[:5]) + (", ..." if len(group) > 5 else "")
            table.add_row(f"component of {len(group)}", escape(shown))
    return table


def moved_most(fit: DoublyRobustFit, most: int = 12) -> pl.DataFrame:
    """arm moved context shown target slope contribution: arms that moved most, with the context that explains most."""
    compared = fit.compare().select("arm", "moved").sort(pl.col("moved").abs(), descending=True)
    try:
        moves = fit.moves()
    except ValueError:  # other outcome models have no slopes
        return compared.head(0)
    along = moves.join(compared, on="arm").with_columns(helps=pl.col("contribution") * pl.col("moved").sign())
    best = along.sort("helps", descending=True, nulls_last=True).group_by("arm", maintain_order=True).first()
    columns = ("arm", "moved", "context", "shown", "target", "slope", "contribution")
    told = pl.col("helps") >= _EXPLAINED * pl.col("moved").abs()
    best = best.with_columns(
        pl.when(told).then(pl.col("context")).otherwise(pl.lit("no single one")),
        *(pl.when(told).then(pl.col(name)).alias(name) for name in columns[3:]),
    )
    return best.sort(pl.col("moved").abs(), descending=True).select(columns).head(most)
