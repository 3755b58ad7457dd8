"""Steelyard inside a polars query: ``frame.sy`` on lazy frames, through functions on batches of rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import polars as pl

from steelyard.log import scan

if TYPE_CHECKING:
    from steelyard.models.score_fit import Fit


def _placed(role: Any, made: dict[str, pl.Expr]) -> Any:
    """A role whose expressions are columns of the frame, `made` before it is cut into batches: they may look around."""
    if isinstance(role, pl.Expr):
        name = f"steelyard {len(made)}"
        made[name] = role
        return pl.col(name).alias(role.meta.output_name())
    if isinstance(role, Mapping):
        return {name: _placed(part, made) for name, part in role.items()}
    return [_placed(part, made) for part in role] if isinstance(role, list | tuple) else role


@pl.api.register_lazyframe_namespace("sy")
class SteelyardFrame:
    """Comparisons in a lazy query. The keywords are those of :func:`steelyard.scan`.

    Examples
    --------
    >>> import polars as pl, steelyard as sy
    >>> frame = pl.LazyFrame({"left": ["x", "y", "x"], "right": ["y", "x", "y"], "winner": ["left", "left", "left"]})
    >>> frame.sy.pairs(a="left", b="right", outcome="winner").select("a", "b", "win", "loss").collect().rows()
    [('x', 'y', 2.0, 0.0), ('y', 'x', 1.0, 0.0)]
    """

    def __init__(self, frame: pl.LazyFrame) -> None:
        self._frame = frame

    def predict(self, fit: Fit, format: str | None = None, **roles: Any) -> pl.LazyFrame:
        """The frame with the columns of ``fit.predict``, batch by batch in streaming queries; as ``with_columns``."""

        made: dict[str, pl.Expr] = {}
        placed = {role: _placed(value, made) for role, value in roles.items()}

        def scored(batch: pl.DataFrame) -> pl.DataFrame:
            return batch.drop(made).with_columns(fit.predict(scan(batch, format, **placed)).collect())

        added: dict[str, Any] = dict.fromkeys(("margin", "p_a", "p_tie", "p_b", "log_likelihood"), pl.Float64)
        schema = pl.Schema({**self._frame.collect_schema(), **added})
        return self._frame.with_columns(**made).map_batches(scored, schema=schema, streamable=True)

    def pairs(self, format: str | None = None, **roles: Any) -> pl.LazyFrame:
        """The table of pairs of the frame: a b position win tie loss comparisons."""
        schema = pl.Schema({"a": pl.String, "b": pl.String, "position": pl.Boolean, "win": pl.Float64,
                            "tie": pl.Float64, "loss": pl.Float64, "comparisons": pl.Int64})  # fmt: skip

        def counted(whole: pl.DataFrame) -> pl.DataFrame:
            return scan(whole, format, **roles).pairs() if whole.height else schema.to_frame()

        return self._frame.map_batches(counted, schema=schema)
