"""Uncertainty: one Influence per fit, and what is derived from it."""

from steelyard.inference.bands import arm_critical, rank_sets
from steelyard.inference.bootstrap import Bootstrap
from steelyard.inference.influence import Influence, Pending

__all__ = ["Bootstrap", "Influence", "Pending", "arm_critical", "rank_sets"]
