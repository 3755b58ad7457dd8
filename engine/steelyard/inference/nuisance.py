"""What was estimated before a fit and entered its weights: stacked estimating equations.

Newey and McFadden (1994), section 6; for propensities Lunceford and Davidian (2004). Where weights w(gamma) depend
on an estimated gamma with sum of its own scores u_i(gamma) = 0, the score of row i in a weighted fit becomes
    s_i + C u_i,   C = (sum s_i (d log w_i / d gamma)') H,   gamma_hat - gamma = H sum u_i.
"""

from __future__ import annotations

from typing import Any, Protocol

from steelyard.blocks import Block


class Nuisance(Protocol):
    """One set of estimated parameters gamma, q of them, in the weights of a fit.

    estimated_on: (L,) weight of the rows that it was estimated on, by what was assigned.
    """

    @property
    def estimated_on(self) -> Any: ...

    def by_label(self, block: Block) -> Any:
        """(L,) the same of a block's rows."""

    def rows(self, block: Block) -> tuple[Any, Any]:
        """(n, q) d log w / d gamma, and (n, q) u, of a block's rows; NumPy or sparse arrays."""

    def solve(self, across: Any) -> Any:
        """H (q, q) times (q, p)."""
