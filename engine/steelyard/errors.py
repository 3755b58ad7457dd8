"""The exception family: every message says what, where, how many, and what to do."""


class SteelyardError(Exception):
    """Base of every error that steelyard raises on purpose."""


class LogError(SteelyardError):
    """The preference log is bad: a column, a reason, a count and the first row numbers."""


class NotIdentifiedError(SteelyardError):
    """The log cannot tell what was asked for."""


class OverlapError(SteelyardError):
    """Too little of the target population is supported by the log."""


class ConvergenceError(SteelyardError):
    """The solver stopped before the gradient was small enough."""


class FormatError(SteelyardError):
    """A file that cannot be loaded as a steelyard result."""
