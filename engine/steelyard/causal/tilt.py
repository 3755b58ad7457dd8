"""Weights toward a target as an estimate knows of them: fitted, so that they err with the rows as it does.

Weights t s of rows, t = exp(lambda' z) and s the log's own, give the log the target's means m of z: sum of
u = t s z - s m is 0. With d t / d lambda = t z, what a row adds to the error of an estimate is not D, as at known
weights, but
    D + T u,   T = - (sum D z') (sum t s z z')^-1
(Newey and McFadden 1994, section 6). The means are the target's own, and do not err.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from steelyard.assignment.balancing import Balancing
from steelyard.blocks import Block
from steelyard.solve import dense_solver


@dataclass(frozen=True)
class Tilt:
    """columns: z (D, n) of a block with its design. means: (D,) of z. curvature: (D, D) sum of t s z z'."""

    columns: Callable[[Block], Any]
    means: Any
    curvature: Any

    @staticmethod
    def of(toward: Balancing) -> Tilt:
        return Tilt(toward.design, toward.goal[0] / toward.n, toward.curvature)

    def scores(self, block: Block) -> Any:
        """(D, n) u of a block's rows, of one comparison each; their weight is t s, their sampling s."""
        own = np.ones(block.n) if block.sampling is None else block.sampling
        return self.columns(block) * block.weight - np.multiply.outer(self.means, own)

    def turn(self, across: Any) -> Any:
        """(p, D) T of sum D z' (p, D)."""
        return -dense_solver(self.curvature)(across.T).T
