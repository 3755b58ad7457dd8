"""What a preference log is: a lazy source, the roles of its columns, and what to do with bad rows."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from steelyard.columns import (
    Column,
    a_column,
    as_written,
    both_sides,
    expression_of,
    name_of,
    of_side,
    own_name,
    refuse_wrapping,
    several,
)  # fmt: skip
from steelyard.dictionary import alike, is_label
from steelyard.errors import LogError, said, warn
from steelyard.formats import FORMATS, as_mapped, roles_of, values_of
from steelyard.sources import broken, opened, reader, scanned_by, unlike

if TYPE_CHECKING:
    from steelyard.blocks import Encoder
    from steelyard.checks import Check


_OUTCOMES = frozenset({"winner", "outcome", "preference", "preferred", "verdict", "vote", "chosen"})  # names of them


@dataclass(frozen=True, eq=False)
class PreferenceLog:
    """A log of comparisons, unread until a pass needs it. Made by :func:`scan`, whose arguments most fields are.

    name: of the source, in messages. roles: column of a, b and outcome, and of weight, count and position where there
    are any; of tallies, count columns of one row a pair, without an outcome. outcomes: what labels are worth;
    unanswered: labels that say what null says. files: those it is read from, if local. armless: a and b are one arm
    each, since features alone count.
    """

    source: pl.LazyFrame
    name: str
    roles: Mapping[str, Column]
    outcomes: Mapping[str, float] = field(repr=False)
    tallies: tuple[str, ...] = ()
    cluster: tuple[Column, ...] = ()
    context: tuple[Column, ...] = ()
    covariates: Mapping[str, Column] = field(default_factory=dict)
    features: tuple[Any, ...] = ()
    group: Column | None = None
    propensity: Column | None = None
    on_bad: str = "raise"
    files: tuple[str, ...] = ()
    armless: bool = False
    steady: bool = True  # read again it has the same rows in the same order
    held: bool = False  # the source is a frame in memory
    mapped: bool = False  # outcomes were given, and are no default: numbers are labels too
    unanswered: tuple[str, ...] = ()

    def schema(self) -> pl.Schema:
        """Column names and types of the source; reads metadata only."""
        with self.reading():
            return self.source.collect_schema()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Whatever polars finds wrong with the source while it is read is a LogError, which names the file."""
        try:
            yield
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
            file = broken(self.files) if len(self.files) > 1 else None
            more = "" if file is not None or isinstance(error, pl.exceptions.InvalidOperationError) else self._unlike()
            raise LogError(f"could not read {file or self.name}: {said(error)}{more}") from error

    def _unlike(self) -> str:
        """What more there is to say of a log of several files, each of which can be read."""
        told = unlike(self.files) if len(self.files) > 1 else None
        if told is None:
            return ""
        return f'. {told}. Give one frame, as in scan(pl.concat([pl.scan_...(file), ...], how="diagonal_relaxed"))'

    def frame(self) -> pl.LazyFrame:
        """The source as polars sees it."""
        return self.source

    def count(self) -> int:
        """Rows in the source."""
        with self.reading():
            return int(self.source.select(pl.len()).collect().item())

    def shards(self) -> list[tuple[str, PreferenceLog]]:
        """One log a file, with its path below the folder that all files share; for a log scanned from files.

        Raises LogError for any other source.
        """
        if not self.files:
            raise LogError(
                f"{self.name} is not a folder or a glob of local files, each with an output of its own: name one "
                "output file, ending in .parquet"
            )
        root = os.path.commonpath([Path(file).parent for file in self.files])
        kinds = self.schema()  # which one file alone may not tell, as of a folder k=01 beside k=x
        alone = [replace(self, source=reader([file], kinds=kinds), name=file, files=(file,)) for file in self.files]
        return [(str(Path(shard.name).relative_to(root)), shard) for shard in alone]

    def refuse_own(self, *outputs: str | os.PathLike[str]) -> None:
        """Raises ValueError where an output would take the place of a file of the log, or of another output."""
        named = [Path(path).resolve() for path in outputs]
        own = {Path(file).resolve() for file in self.files}
        if not self.files and any(path.exists() for path in named):
            own |= scanned_by(self.source, named)
        for path in named:
            if path in own:
                raise ValueError(f"{path} is a file of the log itself: choose another name for the output")
            if named.count(path) > 1:
                raise ValueError(f"two files of the log would both be written to {path}: give them different names")

    def pairs(self) -> pl.DataFrame:
        """The table of pairs: a (shown first) b win tie loss comparisons; one pass."""
        from steelyard.pairs import pair_table

        return pair_table(self).frame()

    def at_hand(self, encoder: Encoder) -> tuple[pl.DataFrame, pl.LazyFrame | None] | None:
        """Of a frame in memory the columns that are read as they stand, whole, and a query of those that are computed.

        None of other sources. A query would cut the columns into pieces of its own.
        """
        if not self.held or self.tallies:
            return None
        asked = self._read(encoder, self.schema())
        named = [role for role, expression in asked.items() if own_name(expression) is not None]
        if not named:
            return None
        stand = [role for role in asked if role in named or asked[role].meta.is_literal()]
        with self.reading():
            whole = self.source.select(asked[role].alias(role) for role in stand).collect(engine="in-memory")
        rest = [asked[role].alias(role) for role in asked if role not in stand]
        # what is computed may be one value for all rows: a column beside it says how many they are
        return whole, self.source.select(asked[named[0]].alias(named[0]), *rest) if rest else None

    def in_place(self, columns: Iterable[Any]) -> bool:
        """Whether these are columns of a frame in memory, by name: they may be read where they lie."""
        return self.held and not self.tallies and all(isinstance(column, str) for column in columns)

    @property
    def by_row(self) -> PreferenceLog:
        """The log with one row for each of the source: of tallies, which hold several outcomes, without any."""
        if not self.tallies:
            return self
        return replace(self, tallies=(), roles={**self.roles, "outcome": pl.lit(None, pl.Float64)})

    @property
    def unfolded(self) -> int:
        """How many rows :meth:`selected` makes of one: a win, a loss and a tie of each tally."""
        return 3 if self.tallies else 1

    def cluster_label(self, name: str) -> str:
        """What the user calls cluster_0, cluster_1, ... or an intersection of them."""
        return "+".join(name_of(self.cluster[int(part[8:])]) for part in name.split("+"))

    def selected(self, encoder: Encoder) -> pl.LazyFrame:
        """The columns an encoder reads, under their role names; tallies unfolded to one row an outcome.

        Covariates and contexts are named "covariate length", "context length", those read as text "level length".
        Cluster columns are named cluster_0, cluster_1, ...; "cluster_0+cluster_1" is their intersection.
        """
        schema = self.schema()
        expressions = [expression.alias(name) for name, expression in self._read(encoder, schema).items()]
        if not self.tallies:
            return self.source.select(expressions)
        present = [name for name in self.tallies if name in schema]
        if len(present) < 2:
            raise LogError(
                f"{self.name}: format 'pairs' needs the count columns {list(self.tallies)}; found {present} "
                f"among {schema.names()}. Rename the columns, or give a=, b=, outcome= and count= to scan."
            )
        wins, losses, *ties = present
        counts = [pl.col(wins), pl.col(losses), pl.sum_horizontal(ties) if ties else pl.lit(0)]
        tally = pl.concat_list([c.cast(pl.Float64) for c in counts]).alias("count")
        return (
            self.source.select(*expressions, pl.lit(pl.Series([[1.0, 0.0, 0.5]])).first().alias("outcome"), tally)
            .explode("outcome", "count")
        )  # fmt: skip

    def text_columns(self, encoder: Encoder) -> dict[str, str]:
        """As :meth:`selected`, the name in the files of each column, if all are text of Parquet files as it stands."""
        local = all(file.lower().endswith((".parquet", ".pq")) and "=" not in file for file in self.files)
        if not self.files or not local or self.tallies:
            return {}
        schema = self.schema()
        names = {role: own_name(expression) for role, expression in self._read(encoder, schema).items()}
        text = {role: name for role, name in names.items() if name is not None and schema.get(name) == pl.String}
        return text if len(text) == len(names) else {}

    def _read(self, encoder: Encoder, schema: pl.Schema) -> dict[str, pl.Expr]:
        """What is read for each role."""
        roles = {name: expression_of(column, schema, name) for name, column in self.roles.items()}
        kinds = {role: schema[column] if isinstance(column, str) else self.kind(roles[role], role)
                 for role, column in self.roles.items() if role in ("a", "b", "outcome")}  # fmt: skip
        if not any(isinstance(self.roles[side], pl.Expr) and roles[side].meta.is_literal() for side in "ab"):
            self._refuse_unlike(kinds["a"], kinds["b"])
        if self.mapped and kinds["outcome"].is_numeric():
            known = {**self.outcomes, **dict.fromkeys(self.unanswered)}
            roles["outcome"] = as_mapped(roles["outcome"], kinds["outcome"], known)
        elif self.unanswered:
            said_nothing = roles["outcome"].cast(pl.String).is_in(self.unanswered)
            roles["outcome"] = pl.when(said_nothing).then(None).otherwise(roles["outcome"])
        for name in encoder.clusters:
            parts = [expression_of(self.cluster[int(p[8:])], schema, "cluster") for p in name.split("+")]
            texts = [self._text(part, "cluster") for part in parts]
            roles[name] = texts[0] if len(texts) == 1 else pl.concat_str(texts, separator="\x1f")
        for name in encoder.covariates or ():
            roles[f"covariate {name}"] = expression_of(self.covariate(name), schema, "covariate")
        for name in encoder.context:
            roles[f"context {name}"] = expression_of(self._context(name), schema, "context")
        for name in encoder.levels:
            roles[f"level {name}"] = self._text(expression_of(self._context(name), schema, "context"), "context")
        if encoder.group is not None:
            roles["group"] = self._group(schema)
        if encoder.propensity:
            roles["propensity"] = self._propensity(schema)
        if encoder.features:
            for side, columns in zip("ab", self.features, strict=True):
                roles[f"feature_{side}"] = of_side(columns, schema)
        if "position" in roles:
            roles["position"] = self._position(roles["position"])
        for role, expression in roles.items():
            if own_name(expression) is None:
                refuse_wrapping(expression, self.source, f"{self.name}: the {role}")
        return roles

    def _position(self, column: pl.Expr) -> pl.Expr:
        """1 where being shown first counts, 0 where it does not, 2 where neither is said."""
        kind = self.kind(column, "position")
        if not (kind.is_numeric() or kind in (pl.Boolean, pl.Null)):
            raise LogError(f"column role 'position' holds {kind}, but true or false belong there")
        number = column.cast(pl.Float64)
        return pl.when(number == 1.0).then(1).when(number == 0.0).then(0).otherwise(2).cast(pl.UInt8)

    def _refuse_unlike(self, a: pl.DataType, b: pl.DataType) -> None:
        """Raises LogError where a and b are of types whose values are told in two ways, as 1 and 1.0 are."""
        if not alike(a, b) and is_label(a) and is_label(b):
            raise LogError(
                f"{self.name}: a holds {a} and b {b}, so that one arm would have two names: cast both to one type, as "
                "in a=pl.col(...).cast(pl.Int64)"
            )

    def expression(self, column: Column, role: str) -> pl.Expr:
        """A column of the source as an expression; LogError where the source has none of that name."""
        return expression_of(column, self.schema(), role)

    def covariate(self, name: str) -> Column:
        """The column of a covariate; LogError where the log has none of that name."""
        if name not in self.covariates:
            known = list(self.covariates) or "none"
            raise LogError(f"{self.name} has no covariate {name!r}: scan it with covariates={{...}}; it has {known}")
        return self.covariates[name]

    def _group(self, schema: pl.Schema) -> pl.Expr:
        if self.group is None:
            raise LogError(f"{self.name} has no rater group: scan it with group=")
        return self._text(expression_of(self.group, schema, "group"), "group")

    def kind(self, expression: pl.Expr, role: str) -> pl.DataType:
        """The type of what is read for a role; LogError where it is not one column."""
        try:
            kinds = self.source.select(expression).collect_schema().dtypes()
        except pl.exceptions.PolarsError as error:
            raise LogError(f"{self.name}: the {role} {expression} cannot be read: {said(error)}") from error
        if len(kinds) != 1:
            raise LogError(f"{self.name}: the {role} {expression} is {len(kinds)} columns: name them one by one")
        return kinds[0]

    def _text(self, expression: pl.Expr, role: str) -> pl.Expr:
        """Labels as text, or as whole numbers, which are coded sooner; a NaN is no label, just as a null."""
        kind = self.kind(expression, role)
        if not is_label(kind):
            raise LogError(f"column role {role!r} holds {kind}: give text, numbers or dates, one column for each entry")
        if kind.is_integer() or kind == pl.String:
            return expression
        return (expression.fill_nan(None) if kind.is_float() else expression).cast(pl.String)

    def _propensity(self, schema: pl.Schema) -> pl.Expr:
        if self.propensity is None:
            raise LogError(f"{self.name} has no logged propensity: scan it with propensity=")
        return expression_of(self.propensity, schema, "propensity")

    def context_names(self) -> list[str]:
        """Names of the context columns."""
        return [name_of(column) for column in self.context]

    @cached_property
    def _contexts(self) -> dict[str, Column]:
        return dict(zip(self.context_names(), self.context, strict=True))

    def _context(self, name: str) -> Column:
        if name not in self._contexts:
            known = list(self._contexts) or "none: scan it with context="
            raise LogError(f"{self.name} has no context column {name!r}; it has {known}")
        return self._contexts[name]

    def context_kinds(self, names: Sequence[str] | None = None) -> tuple[list[str], list[str]]:
        """Names of the context columns that hold numbers or booleans, and of the others, whose values are levels.

        names: some of them, in this order; default all.
        """
        numeric: list[str] = []
        text: list[str] = []
        schema = self.schema()
        for name in self.context_names() if names is None else names:
            column = self._context(name)
            expression = expression_of(column, schema, "context")
            kind = schema[column] if isinstance(column, str) else self.kind(expression, "context")
            if not is_label(kind):
                raise LogError(
                    f"context {name!r} holds {kind}: give numbers, booleans or text, one column for each entry"
                )
            (numeric if kind.is_numeric() or kind == pl.Boolean else text).append(name)
        return numeric, text

    def feature_columns(self) -> list[str]:
        """Names of a's features, or of the one column that holds all of them in lists."""
        if not self.features:
            raise LogError(f"{self.name} has no features: scan it with features=(columns of a, columns of b)")
        columns = self.features[0]
        return [name_of(column) for column in ((columns,) if isinstance(columns, str | pl.Expr) else columns)]

    def feature_names(self) -> list[str]:
        """Names of the features: of a's columns, or the column's name with a number for each entry of its lists."""
        names, columns = self.feature_columns(), self.features[0]
        if not isinstance(columns, str | pl.Expr):
            return names
        name = names[0]
        first = self.source.select(of_side(columns, self.schema()).alias(name)).drop_nulls().head(1)
        with self.reading():
            dtype = first.collect_schema()[name]
        if not isinstance(dtype, pl.List | pl.Array):
            raise LogError(f"column {name!r} (role features) holds {dtype}; give lists of numbers")
        with self.reading():
            lists = first.collect()[name]
        if not len(lists) or not len(lists[0]):
            raise LogError(f"column {name!r} (role features) is null, or an empty list, in every row, if there is any")
        return [f"{name}[{i}]" for i in range(len(lists[0]))]

    def arms(self) -> list[str]:
        """Names of the arms, sorted; one pass."""
        from steelyard.pairs import pair_table

        return pair_table(self).arms.to_list()

    def check(self) -> Check:
        """Rows, arms, ties, bad rows by reason and components of the comparison graph; one pass."""
        from steelyard.checks import check

        return check(self)

    def quarantined(self) -> pl.DataFrame:
        """The bad rows, as they stand in the source, with their number and the reason; two passes.

        The two columns are named row and reason, or bad row and bad reason where the source has such columns.
        """
        from steelyard.checks import bad_rows

        if self.tallies:
            raise LogError("format 'pairs' cannot hand back single rows: its rows are unfolded into outcomes")
        count = self.count()
        row, reason = ("bad row", "bad reason") if {"row", "reason"} & set(self.schema()) else ("row", "reason")
        read, rows = bad_rows(replace(self, on_bad="drop"))
        if read != count:
            raise LogError(f"{self.name}: its roles are expressions that make {read} rows of {count}: filter it first")
        rows = rows.rename({"row": row, "reason": reason})
        with self.reading():
            numbered = self.source.with_row_index(row)
            return numbered.join(rows.lazy(), on=row, how="inner", maintain_order="left").collect()


def scan(
    source: Any,
    format: str | None = None,
    *,
    a: Column | None = None,
    b: Column | None = None,
    outcome: Column | None = None,
    outcomes: Mapping[Any, float | None] | None = None,
    weight: Column | None = None,
    count: Column | None = None,
    position: Column | None = None,
    context: Column | Sequence[Column] = (),
    covariates: Mapping[str, Column] | None = None,
    features: tuple[Any, Any] | None = None,
    cluster: Column | Sequence[Column] = (),
    group: Column | None = None,
    propensity: Column | None = None,
    on_bad: str = "raise",
) -> PreferenceLog:
    """A preference log, lazily.

    Parameters
    ----------
    source
        Path, glob, folder or list of them (Parquet, CSV, NDJSON, Arrow IPC), polars LazyFrame or
        DataFrame, pandas DataFrame, or anything with ``__arrow_c_stream__`` (pyarrow, DuckDB). Of a folder, files whose
        names begin with _ or a dot are left out; folders named column=value become columns.
    format
        ``"arena"``, ``"pairs"`` or ``"chosen_rejected"``; explicit roles override it.
    a, b, outcome
        Columns or expressions: the arm shown first, the other one, and who won from a's side (a label,
        or a number in [0, 1]; null = shown but not labelled).
    outcomes
        Label to value, 1 (a wins), 0 (b wins) or 0.5 (tie), or None for shown but not labelled, as null is; common
        spellings are known by default.
    weight, count
        Sampling weight of a row (0, or from 1e-50 to 1e50), and how many identical comparisons it stands for.
    position
        True or false, or 1 or 0: whether being shown first counts in this row (default: everywhere). Rows that say
        neither are bad rows, whatever is fitted.
    context
        Columns known before the answers were shown (of the prompt, of the rater); a reward may interact with them.
    covariates
        Name to column or expression, each a difference that changes sign when a and b swap
        (``{"length": pl.col("length_a") - pl.col("length_b")}``); a fit adjusts for them.
    features
        Those of a and those of b: two columns of fixed-size lists (embeddings), or two lists of numeric columns in
        the same order; :class:`RewardModel` reads them. With features, a and b may be left out.
    cluster
        Columns whose values share a rater, prompt, ...: standard errors are clustered by them.
    group
        Column of the rater's group or objective.
    propensity
        Column of the probability, in (0, 1], with which this pair was shown for its context; see PairPropensity.
    on_bad
        ``"raise"``, ``"drop"`` (counted), or ``"quarantine"`` (as drop; rows by ``log.quarantined()``).

    Raises
    ------
    LogError
        For an unreadable source or a missing role. Nothing else is read until a pass needs it.

    Examples
    --------
    >>> import polars as pl, steelyard as sy
    >>> frame = pl.DataFrame({"left": ["x", "y"], "right": ["y", "x"], "winner": ["left", "tie"]})
    >>> sy.scan(frame, a="left", b="right", outcome="winner").count()
    2
    """
    if format is not None and format not in FORMATS:
        raise ValueError(f"unknown format {format!r}; known are {', '.join(sorted(FORMATS))}")
    if on_bad not in ("raise", "drop", "quarantine"):
        raise ValueError(f"on_bad must be 'raise', 'drop' or 'quarantine', not {on_bad!r}")
    preset = FORMATS[format] if format else None
    given = {"a": a, "b": b, "outcome": outcome, "weight": weight, "count": count, "position": position}
    roles, tallies, armless = roles_of(preset, given, features is not None)
    values, unanswered = values_of(preset, outcomes)
    for role, column in (*roles.items(), ("group", group), ("propensity", propensity)):
        if column is not None:
            a_column(column, role)
    if not isinstance(covariates, Mapping | None):
        raise TypeError(f"covariates takes {{name: column or expression}}, not {covariates!r}")
    adjusted = {name: a_column(column, f"covariate {name!r}") for name, column in (covariates or {}).items()}
    contexts, clusters, sides = several(context, "context"), several(cluster, "cluster"), both_sides(features)
    _check_names([name_of(column) for column in contexts], roles.get("outcome"))
    labels = [(roles["a"], roles["b"]), (group,), *((column,) for column in clusters)]
    others = [*(roles.get(role) for role in ("outcome", "weight", "count", "position")), propensity,
              *adjusted.values(), *contexts]  # fmt: skip
    written = as_written(labels, [*others, *(column for side in sides for column in several(side))])
    read = [column for column in (*chain(*labels), *others) if isinstance(column, str)]
    frame, name, paths = opened(source, written, read)
    return PreferenceLog(
        source=frame,
        name=name,
        roles=roles,
        outcomes=values,
        tallies=tallies,
        cluster=clusters,
        context=contexts,
        covariates=adjusted,
        features=sides,
        group=group,
        propensity=propensity,
        on_bad=on_bad,
        files=paths,
        armless=armless,
        steady=not isinstance(source, pl.LazyFrame),
        held=not (paths or isinstance(source, pl.LazyFrame | str | Path | Sequence)),
        mapped=outcomes is not None and "outcome" in roles and not tallies,
        unanswered=() if tallies else unanswered,
    )


def _check_names(contexts: Sequence[str], outcome: Column | None) -> None:
    """Refuses contexts of one name, and warns of those with the outcome's, which are known after the answer only."""
    twice = sorted({name for name in contexts if contexts.count(name) > 1})
    if twice:
        raise LogError(f"several context columns are named {twice}: leave one out, or rename it with .alias()")
    same = {column.casefold() for column in (outcome,) if isinstance(column, str)}
    for name in contexts:
        if name.casefold() in same | _OUTCOMES:
            warn(
                f"context {name!r} has the name of an outcome: was it known before the answer? A context that came "
                "after it makes every weight and every estimate wrong."
            )


def needs_log(log: Any) -> PreferenceLog:
    """The log itself; TypeError for a frame, a path or anything else that is no log yet."""
    if not isinstance(log, PreferenceLog):
        raise TypeError(f"a log made by steelyard.scan(...) is needed here, not {type(log).__name__}")
    return log
