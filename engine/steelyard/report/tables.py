"""Terminal tables. Names are plain text: no markup and no control characters get through."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl
from rich.table import Table
from rich.text import Text

from steelyard.report.plots import printable

if TYPE_CHECKING:
    from steelyard.pairs import Check

LONGEST = 100  # arms printed on a terminal; files hold all


def number(value: float | None, digits: int) -> str:
    """Rounded, with a real minus sign out of reach of "-0.00"; a dash for null."""
    if value is None:
        return "–"
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text


def span(low: float | None, high: float | None, digits: int) -> str:
    """An interval in words of the table: "low, high", or a dash."""
    return "–" if low is None or high is None else f"{number(low, digits)}, {number(high, digits)}"


def ranks(low: int | None, high: int | None) -> str:
    """A rank set: "3", "3–7", or a dash."""
    if low is None or high is None:
        return "–"
    return str(low) if low == high else f"{low}–{high}"


def digits_for(table: pl.DataFrame) -> int:
    """Decimals that suit the scores: 0 on an Elo-like scale, else 3."""
    largest = table["score"].abs().max() if len(table) else None
    return 0 if isinstance(largest, int | float) and largest > 100 else 3


def leaderboard(table: pl.DataFrame, level: float = 0.95) -> Table:
    """The leaderboard; columns that the table lacks (rankers without intervals) are left out."""
    digits, have = digits_for(table), set(table.columns)
    board = Table(header_style="bold", box=None, pad_edge=False)
    columns: list[tuple[str, str, Any]] = [
        ("rank", "rank", lambda row: "–" if row["rank"] is None else str(row["rank"])),
        ("arm", "arm", lambda row: printable(row["arm"])),
        ("score", "score", lambda row: number(row["score"], digits)),
        ("low", f"{level * 100:g}% interval", lambda row: span(row["low"], row["high"], digits)),
        ("rank_low", "rank set", lambda row: ranks(row["rank_low"], row["rank_high"])),
        ("comparisons", "comparisons", lambda row: f"{row['comparisons']:,}"),
        ("reason", "why not", lambda row: row["reason"] or ""),
    ]
    if "reason" in have and not table["reason"].is_not_null().any():
        have.discard("reason")
    columns = [column for column in columns if column[0] in have]
    for name, heading, _ in columns:
        words = name in ("arm", "reason")
        board.add_column(heading, justify="left" if words else "right", overflow="fold", no_wrap=not words)
    for row in table.head(LONGEST).iter_rows(named=True):
        board.add_row(*(Text(cell(row)) for _, _, cell in columns), style="dim" if row["score"] is None else "")
    if len(table) > LONGEST:
        board.caption = f"the first {LONGEST} of {len(table):,} arms; --out and --report hold all"
    return board


def check_table(check: Check) -> Table:
    """What a log holds, bad rows and separate groups of arms in yellow."""
    found = Table(header_style="bold", box=None, pad_edge=False)
    found.add_column("check")
    found.add_column("value", overflow="fold")
    for name, value in check.frame().iter_rows():
        wrong = name.startswith("bad:") or (name.startswith("components") and len(check.components) > 1)
        found.add_row(Text(name), Text(printable(value)), style="yellow" if wrong else "")
    if len(check.components) > 1:
        for i, group in enumerate(sorted(check.components, key=len, reverse=True)[:10], 1):
            names = ", ".join(printable(name) for name in group[:8]) + (", …" if len(group) > 8 else "")
            found.add_row(Text(f"  group {i}"), Text(f"{len(group)} arms: {names}"))
    return found
