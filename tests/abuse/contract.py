"""What every public entry owes, whatever it is fed: a clear error, or finite numbers with reasons for nulls.

Hypothesis draws malformed columns; :func:`kept` runs an entry on them and judges what came.
"""

from __future__ import annotations

import signal
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import steelyard as sy
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

fuzzed = partial(
    settings, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), print_blob=True
)  # the same cases every time; the alarm in `kept` is the deadline
HOME = Path(sy.__file__).parent
SECONDS = 60  # a case takes a fraction of one; what takes this long hangs
MAY_BE_INFINITE = {"inflation"}  # of features that others tell

NAMES = ["x", "y", "z", "", "é\N{GRINNING FACE}", "a" * 40, "x\x00y", "arm"]
ODD = [0.0, -0.0, 1.0, -1.0, 0.5, 3.0, 1e-320, 1e-60, 1e60, 1e308, -1e308, float("nan"), float("inf"), -float("inf")]
TAME = [0.1, 0.5, 1.0, 2.0, 3.0, -1.0]


@st.composite
def logs(draw: Any, least: int = 0, most: int = 60) -> tuple[pl.DataFrame, dict[str, Any]]:
    """A frame of up to `most` rows, and roles to scan it by; a third of the frames are tame, so that fits get far."""
    tame = draw(st.integers(0, 2)) == 0
    n = draw(st.integers(max(least, most // 2) if tame else least, most))

    def column(*pools: list[Any]) -> list[Any]:
        pool = pools[0] if tame else draw(st.sampled_from(pools))
        return draw(st.lists(st.sampled_from(pool), min_size=n, max_size=n))

    names = NAMES[:3] if tame else draw(st.sampled_from([NAMES, NAMES[:2], [*NAMES[:4], None], NAMES[:1]]))
    labels = draw(st.sampled_from([["l", "r"], ["l", "r", "t"]]))
    if not tame:
        labels = draw(st.sampled_from([labels, ["l", "r", None], ["l", "huh"], ["t"]]))
    data: dict[str, Any] = {
        "a": column(names), "b": column(names), "won": column(labels), "share": column(TAME[:3], [0.0, 1.0], ODD),
        "weight": column(TAME[:4], [1.0], ODD), "times": column([1, 2, 3], [1, 5, 0, -1, None], [2**60, 1]),
        "x": column(TAME, [1.0], ODD, [None, 1.0]), "kind": column(["p", "q"], ["p", "q", None], NAMES, ["p"]),
        "who": column([1, 2, 3, 4, 5, 6], [1, None], [1]), "p": column([0.1, 0.3, 0.5], [0.0, 1.0, 2.0], ODD),
        "f1": column(TAME, ODD), "f2": column(TAME, [1.0]), "g1": column(TAME, ODD), "g2": column(TAME, [1.0]),
        "flag": column([True, False], [True, None]),
    }  # fmt: skip
    types: dict[str, Any] = {"a": pl.String, "b": pl.String, "won": pl.String, "kind": pl.String, "who": pl.Int64,
                             "times": pl.Int64, "flag": pl.Boolean}  # fmt: skip
    frame = pl.DataFrame({name: pl.Series(values, dtype=types.get(name, pl.Float64)) for name, values in data.items()})
    roles: dict[str, Any] = {"a": "a", "b": "b", "outcome": draw(st.sampled_from(["won", "won", "share"]))}
    roles["outcomes"] = {"l": 1, "r": 0, "t": 0.5}
    more = {"weight": "weight", "count": "times", "position": "flag", "propensity": "p"}
    roles |= {role: column for role, column in more.items() if not draw(st.integers(0, 3))}
    roles["cluster"] = draw(st.sampled_from([(), (), "who", ("who", "kind")]))
    roles["context"] = draw(st.sampled_from(["kind", "x", ("x", "kind"), ("x", "kind")]))
    roles["covariates"] = draw(st.sampled_from([None, None, {"x": "x"}]))
    roles["features"] = draw(st.sampled_from([(["f1", "f2"], ["g1", "g2"]), ("f1", "g1"), (["f1"], ["g1"])]))
    roles["group"] = draw(st.sampled_from(["kind", "who"]))
    roles["on_bad"] = draw(st.sampled_from(["raise", "drop", "drop"]))
    return frame, roles


def kept(entry: Callable[[], Any]) -> Any:
    """What the entry returns, judged; None where it refused as it should."""
    with _in_time(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            told = entry()
        except Exception as error:
            judge_error(error)
            return None
    for part in told if isinstance(told, list) else [told]:
        judge(part)
    return told


def judge_error(error: Exception) -> None:
    """A refusal is of the family, or a ValueError or TypeError that steelyard itself raised; with words."""
    raised = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
    own = type(error) in (ValueError, TypeError) and raised.is_relative_to(HOME)
    if not (isinstance(error, sy.SteelyardError) or own) or not str(error).strip():
        raise AssertionError(f"a foreign {type(error).__name__}: {error}") from error


def judge(told: Any) -> None:
    """No NaN, no infinity; a null estimate has a reason."""
    if isinstance(told, sy.Contrast):
        if None in (told.estimate, told.se, told.low, told.high):
            assert told.reason, told
        numbers = [v for v in (told.estimate, told.se, told.low, told.high, told.p_value) if v is not None]
        assert np.isfinite(numbers).all(), told
    elif isinstance(told, pl.DataFrame):
        floats = told.select(pl.col(pl.Float64, pl.Float32)).select(pl.exclude(MAY_BE_INFINITE))
        for column in floats:
            assert column.drop_nulls().is_finite().all(), (column.name, told)
        if "reason" in told.columns:
            estimates = [c for c in ("score", "estimate", "se", "low", "high") if c in told.columns]
            silent = told.filter(pl.any_horizontal(pl.col(estimates).is_null()) & pl.col("reason").is_null())
            assert silent.is_empty(), silent
    elif isinstance(told, float):
        assert np.isfinite(told)


@contextmanager
def _in_time() -> Iterator[None]:
    def late(*_: Any) -> None:
        raise AssertionError(f"hangs: not done after {SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
