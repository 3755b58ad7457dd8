"""The exception family: every message says what, where, how many, and what to do. And warnings, checks of arguments."""

import difflib
import sys
import warnings
from collections.abc import Iterable
from math import inf, isfinite
from numbers import Integral, Real
from typing import Any

_LARGEST = 2**63 - 1


class SteelyardError(Exception):
    """Base of every error that steelyard raises on purpose."""


class LogError(SteelyardError):
    """The preference log is bad: a column, a reason, a count and the first row numbers."""


class NotIdentifiedError(SteelyardError):
    """The log cannot tell what was asked for."""


class OverlapError(SteelyardError):
    """Too little of the target population is supported by the log."""


class ConvergenceError(SteelyardError):
    """The solver stopped before the gradient was small enough.

    stopped: the parameters where it did, and the step that it would have taken next, where they are known.
    """

    def __init__(self, words: str, stopped: tuple[Any, Any] | None = None) -> None:
        super().__init__(words)
        self.stopped = stopped


class FormatError(SteelyardError):
    """A file that cannot be loaded as a steelyard result."""


def warn(words: str) -> None:
    """A UserWarning at the line that called the package: it is shown once for that line, however often it came up."""
    frame, depth, outermost = sys._getframe(1), 1, 1
    while frame is not None:
        if (frame.f_globals.get("__name__") or "").partition(".")[0] == "steelyard":
            outermost = depth
        frame, depth = frame.f_back, depth + 1  # type: ignore[assignment]
    warnings.warn(words, UserWarning, stacklevel=outermost + 2)


def said(error: Exception) -> str:
    """What polars says of an error, without the plan of the query in which it met it, and hints to who wrote that."""
    return str(error).partition("\n\nResolved plan")[0].partition(", hint: ")[0].strip()


def among(names: Iterable[str], wanted: object) -> str:
    """In words, which names there are, ten at most, and the one that was perhaps meant."""
    names = [*dict.fromkeys(names)]
    plain = {name.casefold(): name for name in names}
    close = difflib.get_close_matches(str(wanted).casefold(), plain, 1)
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return f"{names[:10]}{more}" + (f". Did you mean {plain[close[0]]!r}?" if close else "")


def whole(name: str, value: Any, least: int = 0, most: int = _LARGEST) -> int:
    """An argument that is a whole number from `least` to `most`; ValueError otherwise."""
    if not isinstance(value, Integral) or isinstance(value, bool) or not least <= int(value) <= most:
        span = f"of at least {least}" if most == _LARGEST else f"from {least} to {most}"
        raise ValueError(f"{name} must be a whole number {span}, not {value!r}")
    return int(value)


def within(name: str, value: Any, low: float, high: float = inf) -> float:
    """An argument that is a finite number from low to high; ValueError otherwise."""
    if not isinstance(value, Real) or isinstance(value, bool) or not low <= float(value) <= high or not isfinite(value):
        upper = "" if high == inf else f" and at most {high:g}"
        raise ValueError(f"{name} must be a finite number of at least {low:g}{upper}, not {value!r}")
    return float(value)


def refuse_class(value: Any, name: str) -> None:
    """Raises TypeError for the class of a model where a model belongs."""
    if isinstance(value, type):
        raise TypeError(f"{name} is a model, not its class: give {value.__name__}(...)")


def check_level(level: Any) -> float:
    """A confidence level, between 0 and 1; ValueError otherwise."""
    if not isinstance(level, Real) or not 0.0 < float(level) < 1.0 - 1e-12:
        raise ValueError(f"level must be a number between 0 and 1, not {level!r}")
    return float(level)
