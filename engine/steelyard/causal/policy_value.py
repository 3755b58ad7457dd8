"""The chance that a policy's answer is preferred to a reference's (docs/estimators.md, 6).

Over arms: V = E_x sum_jk pi_j(x) rho_k(x) mu_jk(x), the outcome model, plus a correction from what was shown,
(pi_a rho_b - pi_b rho_a) / p_ab (y - mu_ab). Of single responses with logged probabilities (Xu et al. 2025, arXiv
2506.01183): 1/2 sum_a E_{y ~ pi} g(y, Y^a), plus 1/2 (w_a - w_b) (Z - g(Y^1, Y^2)), w = pi / pi_ref.
Either correction is divided by the sum of its own weights (Hajek).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from steelyard.assignment.propensity import PairPropensity
from steelyard.causal.policy_arms import Policy, of_arms
from steelyard.causal.policy_responses import Responses, of_responses
from steelyard.causal.policy_value_fit import PolicyValueFit, valued
from steelyard.causal.prepared import check_models
from steelyard.log import PreferenceLog, needs_log
from steelyard.passes import Executor, on
from steelyard.solve import one_blas_thread


@dataclass(frozen=True)
class PolicyValue:
    """How often a policy over arms beats a reference policy, a tie counting half.

    Parameters
    ----------
    policy : name of an arm; "uniform"; or {arm: its probability, a number, or a column where it depends on the
        prompt}, arms left out having none; or :class:`Responses`, of logged responses and candidates
    reference : the same, but no Responses; those have their own
    outcome, propensity, folds, seed, target, ridge, floor : as in :class:`DoublyRobust`; Responses take the floor only
    unsupported : share of what the policies would compare in pairs without an answered comparison, beyond which it
        refuses, unless the propensity says that chance left them out
    clip : largest ratio of probabilities of a response; counted. For Responses only

    Examples
    --------
    >>> import numpy as np, polars as pl, steelyard as sy
    >>> rng = np.random.default_rng(0)
    >>> frame = pl.DataFrame({"a": rng.choice(["x", "y"], 400), "b": ["z"] * 400, "t": rng.random(400),
    ...                       "won": (rng.random(400) < 0.7) * 1.0})
    >>> log = sy.scan(frame, a="a", b="b", outcome="won", context="t")
    >>> against_z = sy.PairPropensity(method="pairs")
    >>> fit = sy.PolicyValue(policy={"x": 0.5, "y": 0.5}, reference="z", propensity=against_z).fit(log)
    >>> abs(fit.value - frame["won"].mean()) < 0.02
    True
    """

    policy: Any
    reference: Policy = "uniform"
    outcome: Any = "contextual"
    propensity: PairPropensity = field(default_factory=PairPropensity)
    folds: int = 5
    seed: int = 0
    target: Any = None
    ridge: float = 1.0
    floor: float = 0.01
    unsupported: float = 0.1
    clip: float | None = None

    labelled: ClassVar[None] = None
    judge: ClassVar[None] = None

    def __post_init__(self) -> None:
        check_models(self)
        for name, policy in (("policy", self.policy), ("reference", self.reference)):
            if not isinstance(policy, str | Mapping | (Responses if name == "policy" else str)):
                raise ValueError(f"{name} must be an arm, 'uniform' or {{arm: probability}}, not {policy!r}")
        if self.clip is not None and not (isinstance(self.policy, Responses) and self.clip > 0):
            raise ValueError("clip= is a positive bound on the ratios of Responses")
        if isinstance(self.policy, Responses):
            for name in ("reference", "outcome", "propensity", "folds", "seed", "target", "ridge", "unsupported"):
                own, default = getattr(self, name), getattr(PolicyValue("uniform"), name)
                if own is not default and (name == "target" or own != default):
                    raise ValueError(f"{name}= is not for Responses: they bring their probabilities and scores along")

    def fit(self, log: PreferenceLog, threads: int | None = None, executor: Executor | None = None) -> PolicyValueFit:
        """The policy's value with its interval.

        threads: that passes have, by default one a core. executor: a :class:`RayExecutor`, for passes on a cluster.

        Raises
        ------
        LogError
            Bad rows, arms that the log does not have, probabilities that are negative or do not add to 1.
        NotIdentifiedError, OverlapError
            As of :meth:`DoublyRobust.fit`.
        """
        needs_log(log)
        if threads is not None or executor is not None:
            return on(threads, executor, self.fit, log)
        with one_blas_thread():
            if isinstance(self.policy, Responses):
                terms = of_responses(self.policy, log, self.clip)
            else:
                terms = of_arms(self, log)
            return valued(self, terms)
