"""Twins of bindings/draws.pyx: normals draws the same numbers, multinomial only the same distribution."""

import math

import numpy as np
from numpy.typing import NDArray

from tests.reference.common import MASK, mix

_GOLDEN = 0x9E3779B97F4A7C15


def multinomial(
    counts: NDArray[np.float64],
    cumulative: NDArray[np.float64],
    guide: NDArray[np.int64],
    seed: int,
    replicate: int,
    drawn: NDArray[np.float64],
) -> None:
    """Multinomial(n, counts / n) with n = sum of counts, through NumPy's binomials; all arrays (m,)."""
    if len(counts) == 0:
        return
    n = int(cumulative[-1])
    drawn[:] = np.random.default_rng([seed, replicate]).multinomial(n, counts / n) if n else 0.0


def normals(seed: int, first_replicate: int, drawn: NDArray[np.float64]) -> None:
    """Standard normals, one replicate a row: Box and Muller (1958) on splitmix64 streams of (seed, replicate, j)."""
    for r, row in enumerate(drawn):
        key = mix((seed + _GOLDEN * (first_replicate + r + 1)) & MASK)
        for j in range(0, len(row), 2):
            state = mix(key ^ mix((0xD1B54A32D192ED03 * (j + 1)) & MASK))
            u, v = (((mix((state + _GOLDEN * step) & MASK) >> 12) + 0.5) * 2.0**-52 for step in (1, 2))
            radius, angle = math.sqrt(-2.0 * math.log(u)), 2.0 * math.pi * v
            row[j : j + 2] = [radius * math.cos(angle), radius * math.sin(angle)][: len(row) - j]
