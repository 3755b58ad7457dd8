"""The identification card: what an estimate stands for, the assumptions it needs, and what this log says of each.

The assumptions are those of Kobalczyk and van der Schaar (2025, arXiv 2506.05967), section 3: consistency,
unconfoundedness, positivity, and where rewards are learned from features, latent sufficiency and latent positivity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import Any

import numpy as np

from steelyard.assignment.propensity import Propensity
from steelyard.assignment.weights import Weights
from steelyard.causal.doubly_robust_fit import DoublyRobustFit
from steelyard.causal.group_rewards_fit import GroupRewardsFit
from steelyard.causal.policy_value_fit import PolicyValueFit
from steelyard.causal.sensitivity import sensitivity
from steelyard.errors import NotIdentifiedError
from steelyard.models.reward_fit import RewardFit
from steelyard.models.saved import LoadedWeights
from steelyard.models.score_fit import Fit

_BOUNDS = "bounds are known for doubly robust scores and win rates: see steelyard.sensitivity"
_UNMEASURED = "that nothing else decides both what was shown and what is preferred cannot be seen in the log"


@dataclass(frozen=True)
class Assumption:
    """name: the paper's. statement: in words of this estimate. evidence: what this log says of it."""

    name: str
    statement: str
    evidence: str


@dataclass(frozen=True)
class Card:
    """An identification card. Made by :func:`card`; print it, or take it as a dict."""

    estimand: str
    n: int
    assumptions: list[Assumption]
    overlap: dict[str, Any]
    numerics: dict[str, Any]
    sensitivity: str

    def dict(self) -> dict[str, Any]:
        """The card as plain data."""
        assumptions = [{"name": a.name, "statement": a.statement, "evidence": a.evidence} for a in self.assumptions]
        return {"estimand": self.estimand, "n": self.n, "assumptions": assumptions, "overlap": self.overlap,
                "numerics": self.numerics, "sensitivity": self.sensitivity}  # fmt: skip

    def __str__(self) -> str:
        lines = [f"Estimand: {self.estimand}.", f"Comparisons: {self.n:,}", "", "Assumptions"]
        for each in self.assumptions:
            lines += [f"  {each.name}: {each.statement}.", f"    here: {each.evidence}."]
        for title, figures in (("Overlap", self.overlap), ("Numerics", self.numerics)):
            if figures:
                lines += ["", title, *(f"  {name}: {_print(value)}" for name, value in figures.items())]
        return "\n".join([*lines, "", f"Sensitivity: {self.sensitivity}."])


def card(result: Any) -> Card:
    """The identification card of a fit: estimand, assumptions with the evidence here, overlap, numerics.

    Parameters
    ----------
    result : of DoublyRobust, GroupRewards, PolicyValue, BradleyTerry or RewardModel

    Examples
    --------
    >>> import polars as pl, steelyard as sy
    >>> frame = pl.DataFrame({"model_a": list("xyxyzz"), "model_b": list("yxyzyx"),
    ...                       "winner": ["model_a", "model_a", "model_a", "tie", "model_a", "model_b"]})
    >>> card = sy.card(sy.BradleyTerry().fit(sy.scan(frame, format="arena")))
    >>> card.assumptions[1].name
    'unconfoundedness'
    """
    if isinstance(result, DoublyRobustFit):
        return _of_scores(result)
    if isinstance(result, GroupRewardsFit):
        return _of_groups(result)
    if isinstance(result, PolicyValueFit):
        return _of_policy(result)
    if isinstance(result, Fit):
        return _of_plain(result)
    raise TypeError(f"card() takes a fit, not {type(result).__name__}")


def _consistency(what: str) -> Assumption:
    return Assumption(
        "consistency", f"the label is what this rater prefers between these two {what}, whatever else was asked",
        "not testable; repeated raters are allowed for by clustered errors where the log names them",
    )  # fmt: skip


def _unconfounded(what: str, propensity: Propensity) -> Assumption:
    names = [] if propensity.contexts is None else propensity.contexts.names
    statement = f"given {', '.join(names) or 'nothing'}, {what} hangs on nothing that also decides the preference"
    return Assumption("unconfoundedness", statement, f"{_dependence(propensity)}; {_UNMEASURED}")


def _dependence(propensity: Propensity) -> str:
    try:
        return str(propensity.dependence())
    except ValueError:
        return "the propensity has no model of contexts to test"


def _positivity(weights: Weights, share: float, what: str) -> Assumption:
    facts = weights.overlap()
    return Assumption(
        "positivity", f"in every context every {what} had a chance",
        f"effective share {share:.3f}; {100 * facts.unsupported:.1f} % of the target in contexts where a {what} never "
        "occurred though chance would have given it 5 rows",
    )  # fmt: skip


def _every_pair(fit: DoublyRobustFit, never: int, pairs: int) -> Assumption:
    assert fit.overlap is not None
    plain = _positivity(fit.overlap, fit.effective_share, "pair")
    if (found := fit.overlap.propensity.misfit) is not None:
        plain = Assumption(plain.name, plain.statement, f"{plain.evidence}; {found}")
    if not never:
        return plain
    chance = getattr(fit.overlap.propensity.model, "draws", 1) == 2
    how = "the propensity gives them a chance, so that other pairs of their arms stand for them" if chance else (
        "they rest on the outcome model alone, whose error no interval holds")  # fmt: skip
    return Assumption(
        plain.name, plain.statement, f"{plain.evidence}; {never} of {pairs} pairs were never answered: {how}"
    )


def _latent(sufficient: str, positive: str) -> list[Assumption]:
    return [
        Assumption("latent sufficiency", "what is preferred hangs on the answers through what the model sees of them",
                   sufficient),
        Assumption("latent positivity", "what tells the answers apart varies enough on its own", positive),
    ]  # fmt: skip


_WHOLE = _latent(
    "not needed: arms are compared as wholes, and an estimate speaks of their answers as they were drawn",
    "not needed: nothing is said of parts of an answer",
)


def _of_features(fit: RewardFit | None) -> list[Assumption]:
    """Both latent assumptions, with what a fit on features says of them."""
    unseen = "what features leave out cannot be seen in the log"
    if fit is None:
        return _latent(f"{unseen}; the plain fit beside it has no finite rewards",
                       "see steelyard.latent_overlap(log)")  # fmt: skip
    sufficient = unseen
    if fit.spec.model in ("bradley-terry", "probit") and fit.own is None:
        told = 1.0 + fit.log_likelihood / (fit.weight * log(2.0))
        sufficient = f"the features explain {100 * told:.1f} % of the log-likelihood of a coin; {unseen}"
    names = [name for name, at, _ in fit.terms if at is not None]
    left = [name for name, at, _ in fit.terms if at is None]
    lacking = f"without a reward of their own: {', '.join(left[:5])}" if left else ""
    if not names:
        return _latent(unseen, lacking)
    words = [_inflation(fit, names), lacking, "pair by pair see steelyard.latent_overlap(log)"]
    return _latent(sufficient, "; ".join(filter(None, words)))


def _inflation(fit: RewardFit, names: Sequence[str]) -> str:
    """How much wider the worst interval is for what the features share; names: of those that have a reward."""
    if fit.psi is None:
        return "variance inflation is not computed beyond 4,000 columns"
    bread = fit.psi.bread
    inflation = np.diag(bread) * np.diag(np.linalg.pinv(bread, hermitian=True))
    most = int(inflation[: len(names)].argmax())
    return f"largest variance inflation {inflation[most]:.1f} ({names[most]})"


def _first_over_second(fit: DoublyRobustFit) -> str:
    """What it takes to turn the two arms around that come first."""
    if fit.problem is None or fit.problem.judged is not None:
        return "not computed: bounds are not known for a fit with a judge"
    first = fit.table().drop_nulls("se")["arm"].to_list()[:2]
    if len(first) < 2:
        return "not computed: fewer than two arms have an interval"
    try:
        return str(sensitivity(fit, first[0], first[1], lambdas=())).replace("\n  ", "; ")
    except NotIdentifiedError as error:
        return f"not computed: {error}"


_EITHER = Assumption(
    "one model right", "either the outcome model or the propensity is right, and both are near enough",
    "not testable; where the estimate moves far when one of them changes, at least one is wrong",
)  # fmt: skip


def _of_scores(fit: DoublyRobustFit) -> Card:
    if fit.overlap is None:
        raise ValueError("a loaded fit has lost its rows: the card needs them")
    never = len(fit.unsupported_pairs())
    pairs = int((fit.omega > 0).sum() / 2)
    overlap: dict[str, Any] = {
        "effective size": fit.effective_size, "effective share": fit.effective_share,
        "pairs of the target": pairs, "of these never answered": never,
    }  # fmt: skip
    if fit.naive is not None:
        overlap["largest move from the naive score"] = fit.compare()["moved"].abs().max()
    assumptions = [
        _consistency("arms' answers"), _unconfounded("which pair was shown", fit.overlap.propensity),
        _every_pair(fit, never, pairs), *_WHOLE, _EITHER,
    ]  # fmt: skip
    if fit.alone is not None:
        assumptions.append(Assumption(
            "judge", "none: it is never trusted to be right, and only its agreement with the answers is used",
            "see judge_gain() for the variance that it saves" if fit.kind != "cluster" else
            "what it saves is told of logs without cluster=",
        ))  # fmt: skip
    labelled = getattr(fit.spec, "labelled", None)
    if labelled is not None:
        given = "context and the two arms" if getattr(labelled, "arms", False) else "context"
        assumptions.append(Assumption(
            "answers missing at random", f"given {given}, whether a row was answered hangs on nothing that decides it",
            f"{fit.n - int(fit.answered.sum() / 2):,} of {fit.n:,} rows have no answer; {_UNMEASURED}",
        ))  # fmt: skip
    numerics = {**_numerics(fit), "folds": fit.spec.folds} if hasattr(fit.spec, "folds") else _numerics(fit)
    return Card(fit.estimand, fit.n, assumptions, overlap, numerics, _first_over_second(fit))


def _of_groups(fit: GroupRewardsFit) -> Card:
    if fit.overlap is None:
        raise ValueError("a loaded fit has lost its rows: the card needs them")
    overlap = {f"effective share of {group}": float(share) for group, share in zip(fit.groups, fit.share, strict=True)}
    assumptions = [
        _consistency("answers"), _unconfounded("a rater's group", fit.overlap.propensity),
        _positivity(fit.overlap, float(fit.share.min()), "group"),
        *_of_features(fit.naive), _EITHER,
    ]  # fmt: skip
    return Card(fit.estimand, fit.n, assumptions, overlap, _numerics(fit), f"not computed for groups; {_BOUNDS}")


def _of_policy(fit: PolicyValueFit) -> Card:
    overlap = {"effective size": fit.effective_size, "effective share": fit.effective_share,
               "largest share of the weight in one row": fit.largest_share, "clipped rows": fit.clipped}  # fmt: skip
    assumptions = [
        _consistency("answers"),
        Assumption("unconfoundedness", "given context, which answers were shown hangs on nothing else", _UNMEASURED),
        Assumption("positivity", "every answer that the policies give had a chance to be shown",
                   f"effective share {fit.effective_share:.3f}; {100 * fit.unsupported:.1f} % of what they compare "
                   "rests on the outcome model alone"),
        *_WHOLE, _EITHER,
    ]  # fmt: skip
    numerics = {"converged": fit.converged, "covariance": fit.kind}
    return Card(fit.estimand, fit.n, assumptions, overlap, numerics, f"not computed for policies; {_BOUNDS}")


def _of_plain(fit: Fit) -> Card:
    if isinstance(fit.spec.weights, LoadedWeights):
        raise ValueError("a loaded fit has lost its weights: the card needs what they leave of the log")
    weights = fit.spec.weights if isinstance(fit.spec.weights, Weights) else None
    if weights is None:
        other = "GroupRewards" if isinstance(fit, RewardFit) else "DoublyRobust"
        unconfounded = Assumption(
            "unconfoundedness", "what was shown hangs on nothing that also decides the preference: nothing is adjusted "
            "for but covariates", f"not tested here; see steelyard.{other}. {_UNMEASURED}",
        )  # fmt: skip
        positivity = Assumption("positivity", "arms are joined by comparisons", "arms that are not have a null score")
        if isinstance(fit, RewardFit):
            words = "the two answers differ in every feature, now and then"
            positivity = Assumption("positivity", words, "features that never do have a null coefficient")
        overlap: dict[str, Any] = {}
    else:
        unconfounded = _unconfounded("what was shown", weights.propensity)
        positivity = _positivity(weights, weights.effective_share, weights.propensity.assigned.kind)
        overlap = {"effective size": weights.effective_size, "effective share": weights.effective_share}
    latent = _of_features(fit) if isinstance(fit, RewardFit) else _WHOLE
    assumptions = [_consistency("answers"), unconfounded, positivity, *latent]
    n = int(getattr(fit, "n", 0))
    return Card(getattr(fit, "estimand", ""), n, assumptions, overlap, _numerics(fit), f"not computed; {_BOUNDS}")


def _numerics(fit: Any) -> dict[str, Any]:
    return {"converged": fit.converged, "Newton steps": fit.iterations,
            "largest score entry, divided by n": fit.gradient_norm}  # fmt: skip


def _print(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
