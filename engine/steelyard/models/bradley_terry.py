"""The Bradley-Terry family on compressed pair tables (docs/estimators.md, 1 to 3).

log -> pair table (one pass) -> estimable arms -> Newton -> influence -> tables (pair_fit.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from steelyard.columns import several
from steelyard.errors import FormatError, LogError, NotIdentifiedError, within
from steelyard.graph import reasons, separated, strong_components
from steelyard.log import needs_log
from steelyard.models.cells import TIE_MODELS, Cells
from steelyard.models.likelihood import Likelihood
from steelyard.models.pair_fit import PairFit
from steelyard.models.row_fit import RowFit, fit_rows
from steelyard.models.saved import loaded_scores, loaded_spec, loaded_terms
from steelyard.models.score_fit import RowWeights, ScoreFit
from steelyard.pairs import PairTable, pair_table
from steelyard.passes import Executor, on
from steelyard.result import LOADERS

if TYPE_CHECKING:
    from steelyard.log import PreferenceLog


@dataclass(frozen=True)
class BradleyTerry:
    """Bradley-Terry scores and their relatives, one score an arm, from comparisons alone.

    Parameters
    ----------
    ties : "half" (a tie is half a win), "drop", "davidson" (Davidson 1970), "rao-kupper" (Rao and Kupper 1967)
    link : "logistic", "probit" (Thurstone-Mosteller), or a :class:`Likelihood`; the last two with ties "half" or "drop"
    position : estimate the effect of being shown first, and remove it from the scores
    ridge : r in the penalty r/2 ||theta||^2 on the summed log-likelihood; 0 by default
    separation : "flag" (arms without a finite score get null and a reason) or "raise"
    covariates : names among the log's; default all of them, () for none. Scores are then those at equal covariates
    covariance : "sandwich", "model" (only for true likelihoods), "cluster"; default "cluster" where the log
        has clusters, else "sandwich"
    weights : weights of the rows from a propensity (:class:`Weights`); errors then know that it was estimated

    Examples
    --------
    >>> import polars as pl, steelyard as sy
    >>> frame = pl.DataFrame({"model_a": list("xyxyzz"), "model_b": list("yxyzyx"),
    ...                       "winner": ["model_a", "model_a", "model_a", "tie", "model_a", "model_b"]})
    >>> fit = sy.BradleyTerry().fit(sy.scan(frame, format="arena"))
    >>> fit.table()["arm"].to_list()
    ['x', 'z', 'y']
    """

    ties: Literal["half", "drop", "davidson", "rao-kupper"] = "half"
    link: Literal["logistic", "probit"] | Likelihood = "logistic"
    position: bool = False
    ridge: float = 0.0
    separation: Literal["flag", "raise"] = "flag"
    covariance: Literal["sandwich", "model", "cluster"] | None = None
    covariates: str | Sequence[str] | None = None
    weights: RowWeights | None = None

    def __post_init__(self) -> None:
        for name, value, choices in (
            ("ties", self.ties, ("half", "drop", "davidson", "rao-kupper")),
            ("link", "logistic" if self.own else self.link, ("logistic", "probit")),
            ("separation", self.separation, ("flag", "raise")),
            ("covariance", self.covariance, (None, "sandwich", "model", "cluster")),
        ):
            if value not in choices:
                more = ", or a Likelihood" if name == "link" else ""
                raise ValueError(f"{name} must be one of {choices}{more}, not {value!r}")
        if self.weights is not None and not hasattr(self.weights, "weighed"):
            raise ValueError(
                "weights takes the Weights that a propensity gives; for a column of weights use scan(weight=)"
            )
        if self.link != "logistic" and self.ties not in ("half", "drop"):
            raise ValueError(f"link={self.link!r} takes ties='half' or 'drop', not {self.ties!r}")
        if not isinstance(self.position, bool):
            raise ValueError(f"position must be True or False, not {self.position!r}")
        within("ridge", self.ridge, 0.0)

    @property
    def model(self) -> str:
        """The kernel's name of the likelihood."""
        if self.ties in TIE_MODELS:
            return self.ties
        return "probit" if self.link == "probit" else "bradley-terry"

    @property
    def own(self) -> Likelihood | None:
        """The likelihood of one's own, where there is one."""
        return self.link if isinstance(self.link, Likelihood) else None

    def fit(
        self,
        log: PreferenceLog,
        threads: int | None = None,
        executor: Executor | None = None,
        start: ScoreFit | None = None,
    ) -> PairFit | RowFit:
        """Scores of every arm that the log identifies.

        One pass, and one more for clusters; with covariates, or clusters beyond 4,000 arms, the rows are kept, and read
        once a Newton step.

        threads: that passes have, by default one a core. executor: a :class:`RayExecutor`, for passes on a cluster.
        start: a fit of much the same log, say of all days but the last: the same maximum, in fewer steps over the rows
        (a fit without covariates reads them once anyhow, and starts anywhere).

        Raises
        ------
        LogError
            Bad rows under ``on_bad="raise"``, no usable rows, soft labels under a tie model.
        NotIdentifiedError
            One arm, a position or tie effect that the log cannot tell, or ``separation="raise"``.
        ConvergenceError
            Newton stopped short of the largest score entry <= 1e-10 n.
        """
        needs_log(log)
        if not (start is None or isinstance(start, ScoreFit)):
            raise TypeError(f"start takes a fit of scores, not {type(start).__name__}")
        if threads is not None or executor is not None:
            return on(threads, executor, partial(self.fit, start=start), log)
        kind = self.covariance or ("cluster" if log.cluster else "sandwich")
        if kind == "cluster" and not log.cluster:
            raise ValueError('covariance="cluster" needs a log scanned with cluster=')
        if log.armless:
            raise LogError(
                f"{log.name} was scanned without a= and b=: scores need arms; RewardModel needs features only"
            )
        names = tuple(log.covariates) if self.covariates is None else several(self.covariates)
        if names or self.own or self.weights is not None:
            return fit_rows(self, log, names, kind, start)
        fit = self.fit_table(pair_table(log, clustered=kind == "cluster" and log.on_bad != "raise"), kind)
        if kind != "cluster":
            return fit
        if fit.psi is None:  # of so many arms that no covariance is held: contrasts then ask the rows
            return fit_rows(self, log, (), kind, fit)
        return fit.referred(fit.influence_by_cluster(log))

    def fit_table(self, pairs: PairTable, kind: str = "sandwich") -> PairFit:
        """The fit of a pair table; kind is "sandwich", "model" or "cluster" (its influence is then pending)."""
        if self.weights is not None:
            raise ValueError("weights are of rows, and a table of pairs has none: use fit(log)")
        self.check_labels(pairs, kind)
        cells = Cells.of(pairs, self.model, self.position, self.ridge, keep_ties=self.ties != "drop")
        main, why = self.main_group(pairs, cells)
        cells = cells.within(main)
        self._identified(cells)
        estimate = cells.maximise()
        k = len(pairs.arms)
        score = np.full(k, np.nan)
        score[main] = estimate.theta
        fit = PairFit(self, pairs, score, why, estimate, cells.influence(estimate, kind), kind)
        return fit if kind == "cluster" else fit.referred(fit.psi)

    def check_labels(self, pairs: PairTable, kind: str) -> None:
        """Refuses labels that the model, or the model-based covariance, cannot read."""
        if pairs.soft and self.ties != "half":
            raise LogError(
                f"{pairs.soft} rows have soft labels between 0, 1/2 and 1; ties={self.ties!r} needs hard ones. "
                'Use ties="half".'
            )
        if kind == "model" and self.ties == "half" and pairs.sums[:, 1].any():
            raise ValueError('ties="half" is no true likelihood: use covariance="sandwich", or a tie model')
        if kind == "model" and pairs.weighted and (pairs.squares != pairs.sums).any():
            raise ValueError(
                'covariance="model" would take a sampling weight for so many comparisons: use covariance="sandwich", '
                "or scan counts of identical comparisons with count="
            )

    def main_group(self, pairs: PairTable, cells: Cells) -> tuple[Any, list[str | None]]:
        """(K,) bool: the arms that are fitted; and the reason for each of the others."""
        k = len(pairs.arms)
        if k < 2:
            raise NotIdentifiedError(f"the log knows {k} arm; a comparison needs two")
        played = np.bincount(cells.a, cells.rows, k) + np.bincount(cells.b, cells.rows, k)
        if self.ridge:
            return played > 0, [None if games else "no usable comparison" for games in played.tolist()]
        group = strong_components(k, cells.a, cells.b, cells.sums)
        sizes = np.bincount(group)
        weight = np.bincount(group, weights=played)
        best = np.lexsort((-weight, -sizes))[0]
        main = group == best
        why = reasons(k, cells.a, cells.b, cells.sums, cells.rows, main)
        if sizes[best] < 2:
            raise NotIdentifiedError(
                "no two arms have both won and lost against each other, directly or through others: every score "
                "is infinite or arbitrary. Collect more comparisons, or use ridge= to shrink, labelled as such."
            )
        if self.separation == "raise" and not main.all():
            names = [f"{name}: {reason}" for name, reason in zip(pairs.arms, why, strict=True) if reason]
            raise NotIdentifiedError(f"{len(names)} of {k} arms have no finite score ({'; '.join(names[:5])}).")
        return main, why

    def check_ties(self, sums: Any) -> None:
        """Refuses a tie model without ties, or without anything else. sums: (m, 3) win, tie, loss."""
        ties = self.ties in TIE_MODELS
        wins, draws, losses = np.ones(len(sums)) @ sums  # five times as fast as a sum along the rows
        if ties and not draws:
            raise NotIdentifiedError(
                f'no ties in the log: the tie parameter of ties="{self.ties}" is not identified. Use ties="half".'
            )
        if self.ties == "drop" and not wins + losses:
            raise NotIdentifiedError('only ties in the log: ties="drop" leaves no comparison. Use ties="half".')
        if ties and not wins + losses:
            raise NotIdentifiedError(f'only ties in the log: ties="{self.ties}" cannot tell scores. Use ties="half".')

    def _identified(self, cells: Cells) -> None:
        self.check_ties(cells.sums)
        if self.position and not cells.first.any():
            raise NotIdentifiedError(
                "no comparison of the log says that being shown first counted (its position= is false everywhere, as "
                'in format="pairs"): the position effect is not identified. Fit without position=True.'
            )
        ties, first = self.ties in TIE_MODELS, cells.first * self.position
        if (self.position or ties) and separated(
            len(cells.arms), cells.a, cells.b, first, cells.sums, ties, self.ridge > 0
        ):
            raise NotIdentifiedError(
                "the log does not identify the position or tie effect: some direction of the parameters never "
                "lowers the likelihood (every pair shown in one order only, or the first shown always wins)."
            )


def _loaded_pairs(facts: dict[str, Any], arrays: dict[str, Any]) -> PairFit:
    fit = PairFit(BradleyTerry(**loaded_spec(facts["spec"])), **loaded_scores(facts, arrays))
    if len(fit.estimate.parameter) != fit.estimate.k + fit.spec.position + (fit.spec.ties in TIE_MODELS):
        raise FormatError("parameters that are not those of the model")
    return fit


def _loaded_rows(facts: dict[str, Any], arrays: dict[str, Any]) -> RowFit:
    more = {"covariates": tuple(facts["covariates"]), "terms": loaded_terms(facts, arrays), "n": facts["n"]}
    return RowFit(BradleyTerry(**loaded_spec(facts["spec"])), **loaded_scores(facts, arrays), **more)


LOADERS |= {"pair-fit": _loaded_pairs, "row-fit": _loaded_rows}
