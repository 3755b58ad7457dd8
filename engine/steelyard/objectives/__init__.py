"""Rewards of raters with different objectives: the paper's models side by side, and the linear erasure of a concept."""

from steelyard.objectives.erasure import Erasure, erasure
from steelyard.objectives.rewards import Adversarial, Base, Linear, Multihead, ObjectiveFit

__all__ = ["Adversarial", "Base", "Erasure", "Linear", "Multihead", "ObjectiveFit", "erasure"]
