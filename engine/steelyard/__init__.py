"""steelyard: causal estimation for preference data."""

from steelyard import objectives, simulate
from steelyard.assignment.latent import LatentOverlap, latent_overlap
from steelyard.assignment.overlap import Overlap
from steelyard.assignment.propensity import GroupPropensity, LabelPropensity, PairPropensity, Propensity
from steelyard.assignment.weights import Weights
from steelyard.causal.doubly_robust import DoublyRobust
from steelyard.causal.doubly_robust_fit import DoublyRobustFit
from steelyard.causal.effects import effects
from steelyard.causal.group_rewards import GroupRewards
from steelyard.causal.group_rewards_fit import GroupRewardsFit
from steelyard.causal.plan import Plan, plan
from steelyard.causal.policy_responses import Responses
from steelyard.causal.policy_value import PolicyValue
from steelyard.causal.policy_value_fit import PolicyValueFit
from steelyard.causal.sensitivity import Sensitivity, sensitivity
from steelyard.errors import (
    ConvergenceError,
    FormatError,
    LogError,
    NotIdentifiedError,
    OverlapError,
    SteelyardError,
)
from steelyard.frames import SteelyardFrame
from steelyard.log import PreferenceLog, scan
from steelyard.models.bradley_terry import BradleyTerry
from steelyard.models.likelihood import Likelihood
from steelyard.models.pair_fit import PairFit
from steelyard.models.rankers import rank
from steelyard.models.reward import RewardModel
from steelyard.models.reward_fit import RewardFit
from steelyard.models.row_fit import RowFit
from steelyard.ray import RayExecutor
from steelyard.report.card import Card, card
from steelyard.result import Contrast, DropAudit, load

__version__ = "0.1.0"

__all__ = [
    "BradleyTerry",
    "Card",
    "Contrast",
    "ConvergenceError",
    "DoublyRobust",
    "DoublyRobustFit",
    "DropAudit",
    "FormatError",
    "GroupPropensity",
    "GroupRewards",
    "GroupRewardsFit",
    "LabelPropensity",
    "LatentOverlap",
    "Likelihood",
    "LogError",
    "NotIdentifiedError",
    "Overlap",
    "OverlapError",
    "PairFit",
    "PairPropensity",
    "Plan",
    "PolicyValue",
    "PolicyValueFit",
    "PreferenceLog",
    "Propensity",
    "RayExecutor",
    "Responses",
    "RewardFit",
    "RewardModel",
    "RowFit",
    "Sensitivity",
    "SteelyardError",
    "SteelyardFrame",
    "Weights",
    "card",
    "effects",
    "latent_overlap",
    "load",
    "objectives",
    "plan",
    "rank",
    "scan",
    "sensitivity",
    "simulate",
]
