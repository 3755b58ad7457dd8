"""What the files of saved fits hold, and the checks that make a fit of them again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import polars as pl

from steelyard.blocks import Block, Encoder
from steelyard.errors import FormatError
from steelyard.inference import Influence
from steelyard.inference.nuisance import Nuisance
from steelyard.models.cells import Estimate
from steelyard.models.likelihood import Likelihood
from steelyard.pairs import PairTable
from steelyard.result import require

if TYPE_CHECKING:
    from steelyard.models.score_fit import Term

_LARGEST = float(np.finfo(float).max)
TABLE = ("a", "b", "first", "sums", "squares", "rows")  # arrays of a pair table


@dataclass(frozen=True)
class LoadedSpec:
    """What a loaded causal fit knows of its settings: the words. The rest is how the scores are read."""

    settings: str

    model: ClassVar[str] = "bradley-terry"
    ties: ClassVar[str] = "half"
    link: ClassVar[str] = "logistic"
    position: ClassVar[bool] = False
    weights: ClassVar[None] = None


@dataclass(frozen=True)
class LoadedWeights:
    """What a loaded fit knows of its weights: the words."""

    estimand: str

    @property
    def nuisances(self) -> Sequence[Nuisance]:
        raise ValueError("a loaded fit has lost its weights: make them again from the propensity")

    def asked_of(self, encoder: Encoder) -> Encoder:
        raise ValueError("a loaded fit has lost its weights: make them again from the propensity")

    def weighed(self, block: Block) -> Block:
        raise ValueError("a loaded fit has lost its weights: make them again from the propensity")


def spec_facts(spec: Any) -> dict[str, Any]:
    """The fields of a model as a file holds them: of weights only the words."""
    facts = {name: getattr(spec, name) for name in spec.__dataclass_fields__}
    return facts | {"weights": None if spec.weights is None else spec.weights.estimand}


def settings_facts(spec: Any) -> dict[str, Any]:
    """The settings of a causal fit as a file holds them: in words."""
    return {"settings": spec.settings if isinstance(spec, LoadedSpec) else repr(spec)}


def loaded_spec(facts: dict[str, Any]) -> dict[str, Any]:
    """The fields of a model from :func:`spec_facts`."""
    words = facts.get("weights")
    return facts | {"weights": None if words is None else LoadedWeights(words)}


def loaded_scores(facts: dict[str, Any], arrays: dict[str, Any]) -> dict[str, Any]:
    """The fields of a ScoreFit from its archive, but for its spec."""
    told = {name: facts[name] for name in ("soft", "weighted", "dropped")}
    if not all(isinstance(name, str) for name in facts["arms"]) or type(told["soft"]) is not int:
        raise FormatError("arms that are no text, or a number of soft labels that is none")
    arms, m = pl.Series("arm", facts["arms"], pl.String), len(arrays["a"])
    require(arrays, "<i4", a=(m,), b=(m,))
    require(arrays, first=(m,), sums=(m, 3), squares=(m, 3), rows=(m,), score=(len(arms),))
    if any(m and not 0 <= code.min() <= code.max() < len(arms) for code in (arrays["a"], arrays["b"])):
        raise FormatError(f"pairs of arms that are not among the {len(arms)}")
    if (arrays["sums"] < 0).any() or not all(np.isfinite(arrays[name]).all() for name in ("sums", "squares")):
        raise FormatError("weights that are negative or no numbers")  # squares of soft labels may be negative
    if not ((arrays["rows"] >= 0) & (arrays["rows"] <= 2**53)).all():
        raise FormatError("counts that are negative, huge or no numbers")
    if not arrays["rows"].any():
        raise FormatError("a table without a comparison")
    if [reason is None for reason in facts["why"]] != np.isfinite(arrays["score"]).tolist():
        raise FormatError("arms without a score and a reason, or with both")
    pairs, estimate = PairTable(arms, **{name: arrays[name] for name in TABLE}, **told), loaded_estimate(facts, arrays)
    if estimate.k != np.isfinite(arrays["score"]).sum():
        raise FormatError(f"{estimate.k} estimated scores where {np.isfinite(arrays['score']).sum()} arms have one")
    return {"pairs": pairs, "score": arrays["score"], "why": facts["why"], "psi": loaded_influence(facts, arrays),
            "estimate": estimate, "kind": facts["kind"]}  # fmt: skip


def loaded_estimate(facts: dict[str, Any], arrays: dict[str, Any]) -> Estimate:
    """The solver's answer from an archive."""
    told = facts["estimate"]
    if not all(isinstance(told[name], int) for name in ("k", "iterations")):
        raise FormatError("a number of scores or iterations that is not whole")
    if not all(isinstance(value, int | float) for value in told.values()):
        raise FormatError("an estimate that is not a number")
    if not all(isfinite(told[name]) for name in ("position", "tie")):
        raise FormatError("a position effect or tie parameter that is not finite")
    estimate = Estimate(parameter=arrays["parameter"], **told)
    require(arrays, parameter=(arrays["parameter"].size,))
    if not 0 <= estimate.k <= len(estimate.parameter) or not np.isfinite(estimate.parameter).all():
        raise FormatError(f"{estimate.k} scores among {len(estimate.parameter)} parameters, or some not finite")
    return estimate


def loaded_influence(facts: dict[str, Any], arrays: dict[str, Any]) -> Influence | None:
    """The moments of the influence from an archive; null where none were saved."""
    if "bread" not in arrays:
        return None
    p = len(arrays["parameter"])
    require(arrays, bread=(p, p), meat=(p, p))
    lost = arrays.get("lost")
    if lost is None or lost.ndim != 2 or len(lost) != p or not np.isfinite(lost).all():
        raise FormatError("a part of the covariance that is none")
    more = {name: arrays[name] for name in ("told", "unit") if name in arrays}
    if any(values.shape != (p,) or values.dtype != np.float64 or not (values >= 0).all() for values in more.values()):
        raise FormatError("numbers of clusters, or units, that are none")
    for name in ("bread", "meat"):
        if not np.isfinite(arrays[name]).all() or (np.diag(arrays[name]) < 0).any():
            raise FormatError("a covariance with entries that are negative or no numbers")
    bread, meat = (float(np.abs(arrays[name]).max(initial=0.0)) for name in ("bread", "meat"))
    if p * p * meat * bread > _LARGEST / max(bread, 1.0):
        raise FormatError("a covariance beyond all numbers")
    return Influence(
        arrays["bread"], arrays["meat"], facts["clipped"], lost=lost, k=facts.get("estimate", {"k": 0})["k"], **more
    )


def refuse_own(own: Likelihood | None) -> None:
    """Refuses to save what a file cannot hold."""
    if own is not None:
        raise ValueError(f"{own!r} is code, and files hold none: save the table and the coefficients instead")


def loaded_terms(facts: dict[str, Any], arrays: dict[str, Any]) -> list[Term]:
    """Terms as JSON brings them back."""
    terms = [(name, None if places is None else tuple(places), why) for name, places, why in facts["terms"]]
    free = len(arrays["parameter"]) - facts["estimate"]["k"]
    if not all(isinstance(name, str) for name, *_ in terms):
        raise FormatError("terms that are no text")
    for name in ("n", "weight"):
        number = facts.get(name, 1)
        if not (isinstance(number, int | float) and 0 < number < inf):
            raise FormatError(f"{name} is {number!r}, where a positive number is due")
    if any(not 0 <= place < free for _, places, _ in terms for place in places or ()):
        raise FormatError("terms of parameters that are not there")
    return terms
