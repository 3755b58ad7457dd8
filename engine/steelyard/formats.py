"""Presets for public formats of preference logs, and the spellings of outcomes known by default."""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

OUTCOMES: dict[str, float] = {
    **dict.fromkeys(("a", "A", "model_a", "left", "home", "win", "a_wins", "response_a", "1", "true"), 1.0),
    **dict.fromkeys(("b", "B", "model_b", "right", "away", "loss", "b_wins", "response_b", "0", "false"), 0.0),
    **dict.fromkeys(("tie", "draw", "tie (bothbad)", "both_bad", "bothbad", "equal", "0.5"), 0.5),
}


@dataclass(frozen=True)
class Format:
    """Column roles of a public format; `tallies` are (win, loss, tie...) count columns of one row a pair."""

    a: str
    b: str
    outcome: str | pl.Expr | None = None
    outcomes: dict[str, float] = field(default_factory=dict)
    position: pl.Expr | None = None
    tallies: tuple[str, ...] = ()


FORMATS: dict[str, Format] = {
    "arena": Format("model_a", "model_b", "winner", {"model_a": 1.0, "model_b": 0.0, "tie": 0.5, "tie (bothbad)": 0.5}),
    "pairs": Format(
        "model_a",
        "model_b",
        position=pl.lit(value=False),
        tallies=("n_a_wins", "n_b_wins", "n_tie", "n_tie_bothbad"),
    ),
    "chosen_rejected": Format("chosen", "rejected", pl.lit(1.0), position=pl.lit(value=False)),
}
