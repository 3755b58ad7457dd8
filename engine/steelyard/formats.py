"""Presets for public formats of preference logs; spellings of outcomes known by default, and what they are worth."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING, Any

import polars as pl

from steelyard.errors import LogError

if TYPE_CHECKING:
    from steelyard.columns import Column

_TIES = ("tie", "tie (bothbad)", "tie (inconsistent)")  # of the arena, and of MT-bench
OUTCOMES: dict[str, float] = {
    **dict.fromkeys(("a", "A", "model_a", "left", "home", "win", "a_wins", "response_a", "1", "1.0", "true"), 1.0),
    **dict.fromkeys(("b", "B", "model_b", "right", "away", "loss", "b_wins", "response_b", "0", "0.0", "false"), 0.0),
    **dict.fromkeys((*_TIES, "draw", "both_bad", "bothbad", "equal", "0.5"), 0.5),
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
    "arena": Format("model_a", "model_b", "winner", {"model_a": 1.0, "model_b": 0.0, **dict.fromkeys(_TIES, 0.5)}),
    "pairs": Format(
        "model_a",
        "model_b",
        position=pl.lit(value=False),
        tallies=("n_a_wins", "n_b_wins", "n_tie", "n_tie_bothbad"),
    ),
    "chosen_rejected": Format("chosen", "rejected", pl.lit(1.0), position=pl.lit(value=False)),
}


def roles_of(
    preset: Format | None, given: Mapping[str, Column | None], features: bool
) -> tuple[dict[str, Column], tuple[str, ...], bool]:
    """The column of each role, by what was given or else by the format; its tallies; and whether rows show no arms.

    Raises LogError where a role has no column. Rows with features may show none: both arms are then one of that name.
    """
    known = {role: getattr(preset, role, None) if column is None else column for role, column in given.items()}
    tallies = preset.tallies if preset and given["outcome"] is None else ()
    armless = features and known["a"] is None and known["b"] is None
    if armless:
        known |= {side: pl.lit(f"response {side}") for side in "ab"}
    missing = [role for role in ("a", "b", *(() if tallies else ("outcome",))) if known[role] is None]
    if missing:
        raise LogError(f"no column given for {', '.join(missing)}: name them, or choose a format")
    return {role: column for role, column in known.items() if column is not None}, tallies, armless


def values_of(
    preset: Format | None, outcomes: Mapping[Any, float | None] | None
) -> tuple[dict[str, float], tuple[str, ...]]:
    """What each label is worth, and the labels that say that nobody answered."""
    known = outcomes if outcomes is not None else (preset.outcomes if preset and preset.outcomes else OUTCOMES)
    told = worth(known)
    values = {label: value for label, value in told.items() if value is not None}
    wrong = [label for label, value in values.items() if not 0.0 <= value <= 1.0]
    if wrong:
        raise LogError(f"outcomes must lie in [0, 1]; not so for {wrong}")
    return values, tuple(label for label, value in told.items() if value is None)


def worth(outcomes: Mapping[Any, float | None]) -> dict[str, float | None]:
    """What each label is worth, by its text; TypeError for anything but {label: number or None}."""
    if not isinstance(outcomes, Mapping) or not all(isinstance(value, Real | None) for value in outcomes.values()):
        raise TypeError(f"outcomes takes {{label: 1, 0, 0.5, a number between or None}}, not {outcomes!r}")
    known: dict[str, float | None] = {}
    for key, value in outcomes.items():
        label = str(key).lower() if isinstance(key, bool) else str(key)
        number = None if value is None else float(value)
        if label in known and known[label] != number:
            raise ValueError(f"outcomes gives {label!r} two values, {known[label]} and {number}")
        known[label] = number
    return known


def as_mapped(outcome: pl.Expr, kind: pl.DataType, values: Mapping[str, float | None]) -> pl.Expr:
    """A column of numbers as what they are worth; beyond [0, 1], which is no outcome, where they are no label.

    Raises LogError for labels that are one number and worth two.
    """
    known: dict[float, float | None] = {}
    for label, value in values.items():
        with suppress(ValueError):  # a label that is no number is in no such column
            number = pl.Series([float(label)]).cast(pl.Float32 if kind == pl.Float32 else pl.Float64)[0]
            if known.setdefault(number, value) != value:
                raise LogError(
                    f"outcomes gives two values to {number:g}, one of them as {label!r}: cast the column to text"
                )
    mapped = outcome.cast(pl.Float64).replace_strict(known, default=2.0, return_dtype=pl.Float64)
    return pl.when(outcome.is_null()).then(None).otherwise(mapped)
