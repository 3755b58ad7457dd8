"""A likelihood of one's own, in plain Python, compiled so that the native pass calls it once per 256 rows."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np

_ETA = (-2.5, -0.7, 0.0, 0.4, 3.0)
_OUTCOMES = (0.0, 0.5, 1.0)
_STEP = 1e-5

Scalar = Callable[[float, float], float]


class Likelihood:
    """A log-likelihood l(eta, y) of one comparison, for ``BradleyTerry(link=...)`` and ``RewardModel(link=...)``.

    value, first, second : functions of (eta, y), floats in and out: l, and its first and second derivative in eta,
        in Python that numba compiles (``math`` and plain arithmetic; its exp, expm1, log and log1p take several rows at
        a time). eta is the margin, y the outcome from a's side.
        l should be concave in eta, and exp(l(eta, 1)) the probability that a wins.

    Raises
    ------
    ValueError
        A function that does not compile, is not finite at ordinary points, or is not the derivative it should be;
        checked when made, at 15 points.

    Examples
    --------
    >>> import math
    >>> import steelyard as sy
    >>> def value(eta, y):
    ...     return y * eta - math.log1p(math.exp(eta))
    >>> def first(eta, y):
    ...     return y - 1.0 / (1.0 + math.exp(-eta))
    >>> def second(eta, y):
    ...     return -1.0 / ((1.0 + math.exp(-eta)) * (1.0 + math.exp(eta)))
    >>> sy.BradleyTerry(link=sy.Likelihood(value, first, second)).link
    Likelihood(value, first, second)
    """

    def __init__(self, value: Scalar, first: Scalar, second: Scalar) -> None:
        self.functions = (value, first, second)
        for function, what in zip(self.functions, _ROLES, strict=True):
            if not callable(function):
                raise TypeError(f"the {what} is a function of (eta, y), not {function!r}")
        compiled = [_compiled(function, what) for function, what in zip(self.functions, _ROLES, strict=True)]
        self._block = _block(*compiled)
        self.address = int(self._block.address)
        self._check()

    def __reduce__(self) -> Any:
        return Likelihood, self.functions  # compiled anew wherever it arrives

    def __repr__(self) -> str:
        return f"Likelihood({', '.join(function.__name__ for function in self.functions)})"

    def at(self, eta: Any, y: Any) -> tuple[Any, Any, Any]:
        """l and its two derivatives at eta and y, (n,) each."""
        eta, y = (np.ascontiguousarray(x, np.float64) for x in np.broadcast_arrays(eta, y))
        out = np.empty((3, len(eta)))
        pointers = (array.ctypes.data_as(self._block.ctypes.argtypes[1]) for array in (eta, y, np.ones(len(eta)), *out))
        self._block.ctypes(len(eta), *pointers)
        return out[0], out[1], -out[2]

    def _check(self) -> None:
        eta, y = (grid.ravel() for grid in np.meshgrid(_ETA, _OUTCOMES))
        here, up, down = (self.at(eta + step, y) for step in (0.0, _STEP, -_STEP))
        for what, function, values in zip(_ROLES, self.functions, here, strict=True):
            if not np.isfinite(values).all():
                i = int(np.flatnonzero(~np.isfinite(values))[0])
                raise ValueError(
                    f"the {what} {function.__name__!r} is {values[i]} at eta = {eta[i]}, y = {y[i]}; it must be finite"
                )
        for order in (1, 2):
            slope = (up[order - 1] - down[order - 1]) / (2 * _STEP)
            wrong = np.abs(slope - here[order]) > 1e-6 * (1.0 + np.abs(slope))
            if wrong.any():
                i = int(np.flatnonzero(wrong)[0])
                name, below = (self.functions[k].__name__ for k in (order, order - 1))
                raise ValueError(
                    f"the {_ROLES[order]} {name!r} is {here[order][i]:.8g} at eta = {eta[i]}, y = {y[i]}, "
                    f"but differences of {below!r} give {slope[i]:.8g}"
                )


_ROLES = ("log-likelihood", "first derivative", "second derivative")


def _compiled(function: Scalar, what: str) -> Any:
    import numba

    from steelyard.models.elementary import with_ours

    compiled = numba.njit("float64(float64, float64)", error_model="numpy", inline="always")
    with contextlib.suppress(numba.core.errors.NumbaError):  # arrays and complex numbers need numba's own functions
        return compiled(with_ours(function))
    try:
        return compiled(function)
    except numba.core.errors.NumbaError as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise ValueError(
            f"the {what} {getattr(function, '__name__', function)!r} does not compile: it takes (eta, y), floats, and "
            f"returns a float, in Python that numba knows. {' '.join(lines[:4])}"
        ) from error


def _block(value: Any, first: Any, second: Any) -> Any:
    """The compiled loop over n rows with the signature that the kernel calls (sy_own)."""
    import numba

    pointer: Any = numba.types.CPointer(numba.float64)  # type: ignore[no-untyped-call]
    signature = numba.void(numba.intp, pointer, pointer, pointer, pointer, pointer, pointer)

    @numba.cfunc(signature, error_model="numpy")
    def block(n: int, eta: Any, y: Any, weight: Any, out: Any, d_eta: Any, h_eta: Any) -> None:
        for i in range(n):
            out[i] = weight[i] * value(eta[i], y[i])
            d_eta[i] = weight[i] * first(eta[i], y[i])
            h_eta[i] = -weight[i] * second(eta[i], y[i])

    return block
