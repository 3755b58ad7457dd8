"""Columns of a log's source as users name them: by a name or an expression, one or several."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

import polars as pl

from steelyard.errors import LogError

Column = str | pl.Expr


def name_of(column: Column) -> str:
    """What a column is called."""
    if isinstance(column, str):
        return column
    try:
        return column.meta.output_name()
    except pl.exceptions.PolarsError as error:
        raise LogError(f"{column} is not one column: name them one by one ({error})") from error


def own_name(expression: pl.Expr) -> str | None:
    """The column that an expression is, if it is one as it stands."""
    plain = expression.meta.is_column_selection() and not expression.meta.has_multiple_outputs()
    return expression.meta.output_name() if plain else None


def as_written(
    labels: Iterable[tuple[Column | None, ...]], others: Iterable[Column | None]
) -> tuple[tuple[str, ...], ...]:
    """Columns that hold labels and nothing else: in a file of text, or a folder's name, 01 is not 1, and 4.10 not 4.1.

    labels: those that stand together are read in one way, and are told together.
    """
    told = {root for column in others if column is not None
            for root in ([column] if isinstance(column, str) else column.meta.root_names())}  # fmt: skip
    found = list[tuple[str, ...]]()
    for together in labels:
        named = {column if isinstance(column, str) else own_name(column) for column in together if column is not None}
        if None not in named and not named & told:
            found.append(tuple(sorted(name for name in named if name is not None)))
    return tuple(found)


def several(columns: Any, role: str = "columns") -> tuple[Any, ...]:
    """One column, or several, as a tuple; none for None."""
    listed = (columns,) if isinstance(columns, str | pl.Expr) else columns
    if not isinstance(listed, Iterable | None):
        raise TypeError(f"{role} takes names of columns or polars expressions, not {columns!r}")
    return tuple(a_column(column, role) for column in (() if listed is None else listed))


def a_column(column: Any, role: str) -> Any:
    """The column itself; TypeError for what is none."""
    if not isinstance(column, str | pl.Expr):
        raise TypeError(f"{role} takes a column's name or a polars expression, not {column!r}")
    return column


def both_sides(features: tuple[Any, Any] | None) -> tuple[Any, ...]:
    """The features of a and of b, each one column or a tuple of them; () for none."""
    if features is None:
        return ()
    if isinstance(features, str | pl.Expr) or len(features) != 2:
        raise LogError(f"features takes two sides, those of a and those of b, not {features!r}")
    sides = tuple(side if isinstance(side, str | pl.Expr) else several(side, "features") for side in features)
    if any(isinstance(side, tuple) and not side for side in sides):
        raise LogError("features names no column: give those of a and those of b, or leave features out")
    if len({len(side) if isinstance(side, tuple) else 0 for side in sides}) > 1:
        raise LogError(f"features of a and of b must be as many, in the same order; got {sides}")
    return sides


def of_side(columns: Any, schema: pl.Schema) -> pl.Expr:
    """One column of lists for the features of one side."""
    if isinstance(columns, str | pl.Expr):
        return expression_of(columns, schema, "features")
    parts = [expression_of(column, schema, "features") for column in columns]
    text = [column for column in columns if isinstance(column, str) and not schema[column].is_numeric()
            and schema[column] != pl.Boolean]  # fmt: skip
    if text:
        raise LogError(f"columns {text} (role features) do not hold numbers: cast or encode them")
    return pl.concat_arr([part.cast(pl.Float64) for part in parts])


def refuse_wrapping(expression: pl.Expr, source: pl.LazyFrame, what: str) -> None:
    """Raises LogError where a part of an expression is a difference of two columns of unsigned numbers."""
    waiting = [expression]
    while waiting:
        whole = waiting.pop()
        parts = whole.meta.pop()
        waiting += parts
        two = len(parts) == 2 and not any(part.meta.is_literal() for part in parts)
        if not (two and whole.meta.eq(parts[1] - parts[0])):
            continue
        try:
            kind = source.select(whole).collect_schema().dtypes()[0]
        except pl.exceptions.PolarsError:  # a part that means something inside the whole alone, as in list.eval
            continue
        if kind.is_unsigned_integer():
            raise LogError(
                f"{what} has {whole}, a difference of {kind} numbers, which is never below 0 but some billions "
                "instead: cast one of them first, as in pl.col(...).cast(pl.Int64)"
            )


def expression_of(column: Column, schema: pl.Schema, role: str) -> pl.Expr:
    """A column as an expression; LogError where the source has none of that name, or text where numbers belong."""
    if isinstance(column, pl.Expr):
        return column
    if column not in schema:
        close = difflib.get_close_matches(column, schema.names(), 1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise LogError(f"column {column!r} (role {role}) is not in the log; it has {schema.names()}.{hint}")
    if role in ("weight", "count") and not (schema[column].is_numeric() or schema[column] == pl.Boolean):
        raise LogError(f"column {column!r} (role {role}) holds {schema[column]}, but numbers belong there: cast it")
    return pl.col(column)
