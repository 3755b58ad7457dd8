"""exp, expm1, log and log1p without a branch, so that loops over a likelihood of one's own become vector loops.

The C library's are called row by row, as the kernels' own (common.h) would be from here. These are their like, compiled
with what calls them, and for all of the numbers: within 4e-16 of the true value (tested against mpmath), with the
limits, infinities and NaN of the C library.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any

import numba
import numpy as np
from numba.extending import intrinsic

_compiled = numba.njit(error_model="numpy")

_SHIFT, _PER_LN2 = float.fromhex("0x1.8p52"), float.fromhex("0x1.71547652b82fep0")
_LN2, _LN2_REST = float.fromhex("0x1.62e42fee00000p-1"), float.fromhex("0x1.a39ef35793c76p-33")
_E3, _E4, _E5 = (float.fromhex(x) for x in ("0x1.5555555555555p-3", "0x1.5555555554cb7p-5", "0x1.1111111110e6ap-7"))
_E6, _E7 = (float.fromhex(x) for x in ("0x1.6c16c1738ff55p-10", "0x1.a01a01a4b322fp-13"))
_E8, _E9 = (float.fromhex(x) for x in ("0x1.a019c9a5652d3p-16", "0x1.71de17e40edfep-19"))
_E10, _E11 = (float.fromhex(x) for x in ("0x1.2880411bad1aap-22", "0x1.af236aac51d05p-26"))
_SQRT2 = 0x6A09E667F3BCC  # its fraction's bits
_FRACTION = (1 << 52) - 1
_SMALLEST, _LIFT = 2.0**-1022, 2.0**54  # of the normal numbers; and what makes any smaller one normal


def _read_as(context: Any, build: Any, signature: Any, given: Any) -> Any:
    """The code that takes the bits of one type for those of another."""
    return build.bitcast(given[0], context.get_value_type(signature.return_type))


def _to_bits(context: Any, x: Any) -> Any:
    return numba.int64(numba.float64), _read_as


def _from_bits(context: Any, bits: Any) -> Any:
    return numba.float64(numba.int64), _read_as


_bits: Any = intrinsic(_to_bits)
_float: Any = intrinsic(_from_bits)


@_compiled
def _reduced(x: float) -> Any:
    """t = e^r - 1 and k with x = k ln 2 + r, |r| <= ln 2 / 2 (Cody and Waite); x as far out as e^x tells apart."""
    x = -746.0 if x < -746.0 else x
    x = 710.0 if x > 710.0 else x
    shifted = x * _PER_LN2 + _SHIFT
    k = shifted - _SHIFT
    r = (x - k * _LN2) - k * _LN2_REST
    z = r * r
    low = (0.5 + r * _E3) + z * (_E4 + r * _E5)
    mid = (_E6 + r * _E7) + z * (_E8 + r * _E9)
    return r + z * (low + (z * z) * (mid + (z * z) * (_E10 + r * _E11))), _bits(shifted) - _bits(_SHIFT)


@_compiled
def exp(x: float) -> Any:
    t, k = _reduced(x)
    half = k >> 1  # in two steps, since 2^k itself may be no normal number
    return ((1.0 + t) * _float((half + 1023) << 52)) * _float((k - half + 1023) << 52)


@_compiled
def expm1(x: float) -> Any:
    t, k = _reduced(x)
    near = k if k < 60 else 60
    near = near if near > -1000 else -1000
    scale = _float((near + 1023) << 52)
    return (scale - 1.0) + scale * t if k < 60 else exp(x)


@_compiled
def _log(x: float, rest: float) -> Any:
    """log x + rest, for x > 0: x = 2^e f, f in [0.70, 1.41), and log f = 2 atanh((f - 1) / (f + 1)) by its series."""
    small = x < _SMALLEST
    bits = _bits(x * _LIFT if small else x)
    above = 1 if (bits & _FRACTION) >= _SQRT2 else 0
    f = _float((bits & _FRACTION) | ((1023 - above) << 52))
    e = float((bits >> 52) + above - 1023) - (54.0 if small else 0.0)
    s = (f - 1.0) / (f + 1.0)
    z = s * s
    p = 1.0 / 25.0
    p = p * z + 1.0 / 23.0
    p = p * z + 1.0 / 21.0
    p = p * z + 1.0 / 19.0
    p = p * z + 1.0 / 17.0
    p = p * z + 1.0 / 15.0
    p = p * z + 1.0 / 13.0
    p = p * z + 1.0 / 11.0
    p = p * z + 1.0 / 9.0
    p = p * z + 1.0 / 7.0
    p = p * z + 1.0 / 5.0
    p = p * z + 1.0 / 3.0
    return e * _LN2 + ((2.0 * s + (2.0 * s) * (z * p)) + (e * _LN2_REST + rest))


@_compiled
def _at_the_ends(x: float, found: float) -> float:
    """The logarithm that was found of x, or what it is of 0, of infinity, and where there is none."""
    found = -math.inf if x == 0.0 else found
    found = math.nan if x < 0.0 else found
    return found if x < math.inf else x  # NaN is itself


@_compiled
def log(x: float) -> float:
    return _at_the_ends(x, _log(x, 0.0))


@_compiled
def log1p(x: float) -> float:
    whole = 1.0 + x
    return _at_the_ends(whole, _log(whole, (x - (whole - 1.0)) / whole))


_OURS = {"exp": exp, "expm1": expm1, "log": log, "log1p": log1p}


def _like(module: ModuleType) -> ModuleType:
    """The module with our functions in the place of its own."""
    ours = ModuleType(module.__name__)
    vars(ours).update(vars(module) | _OURS)
    return ours


_SWAPPED: list[tuple[Any, Any]] = [(module, _like(module)) for module in (math, np)]
_SWAPPED += [(getattr(module, name), ours) for module in (math, np) for name, ours in _OURS.items()]


def with_ours(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that calls these where it calls those of math or NumPy by a global name."""
    if not isinstance(function, FunctionType):
        return function
    swapped = dict(function.__globals__)
    for name in set(function.__code__.co_names) & set(swapped):
        for theirs, ours in _SWAPPED:
            if swapped[name] is theirs:
                swapped[name] = ours
    return FunctionType(function.__code__, swapped, function.__name__, function.__defaults__, function.__closure__)
