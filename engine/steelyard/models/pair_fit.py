"""The fit of a Bradley-Terry model to a table of pairs: exact refits, audits, updates and files of it."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from steelyard.blocks import Block, Encoder
from steelyard.dictionary import Dictionary
from steelyard.errors import NotIdentifiedError
from steelyard.graph import strong_components
from steelyard.inference import Bootstrap, Influence
from steelyard.inference.audit import fewest_rows
from steelyard.inference.bootstrap import check_replicates, multinomial_refits
from steelyard.inference.clusters import ClusterSums, Part, cluster_names
from steelyard.inference.influence import FLAT, mean_of_known, multiway
from steelyard.log import needs_log
from steelyard.models import row_meat
from steelyard.models.cells import Cells
from steelyard.models.row_blocks import inside
from steelyard.models.row_problem import RowProblem
from steelyard.models.score_fit import ScoreFit
from steelyard.pairs import Tally, clean, pair_table
from steelyard.passes import run_pass
from steelyard.result import DropAudit, write_archive
from steelyard.spill import Blocks

if TYPE_CHECKING:
    from steelyard.log import PreferenceLog


@dataclass(frozen=True, eq=False)
class PairFit(ScoreFit):
    """Scores of arms with what is needed to speak of their uncertainty. Made by :meth:`BradleyTerry.fit`.

    The estimate's parameters are the scores of the identified arms, then position, then tie.
    """

    # --- facts -----------------------------------------------------------------------------------
    @property
    def n(self) -> int:
        """Comparisons used."""
        return int(self.cells.rows.sum())

    @property
    def dropped(self) -> dict[str, int]:
        """Rows left out, by reason."""
        ties = 0.0
        if self.spec.ties == "drop" and not self.pairs.weighted:
            ties = float(self.pairs.sums[:, 1].sum())
        outside = self.pairs.rows.sum() - ties - self.n
        more = {"tie": int(ties), "comparison with an arm outside the main group": int(outside)}
        return {**self.pairs.dropped, **{reason: count for reason, count in more.items() if count}}

    @cached_property
    def cells(self) -> Cells:
        spec = self.spec
        return Cells.of(self.pairs, spec.model, spec.position, spec.ridge, keep_ties=spec.ties != "drop").within(
            self.main
        )

    def _spread(self) -> Any:
        """(k,) standard errors of the identified scores."""
        return super()._spread() if self.psi is not None else self._sampled_spread[0]

    @cached_property
    def _sampled_spread(self) -> tuple[Any, float]:
        spread, error = self.cells.spread(self.estimate, self.kind)
        return np.where([reason is None for reason in self._reasons], spread, np.nan), error

    @property
    def spread_error(self) -> float:
        """Relative Monte Carlo error of the standard errors in :meth:`table`; 0 up to 4,000 arms (exact)."""
        return 0.0 if self.psi is not None else self._sampled_spread[1]

    @cached_property
    def _reasons(self) -> Any:
        """(k,) why each identified score has no error, None where it has one."""
        if self.psi is not None:
            return super()._reasons
        return np.array([FLAT if still else None for still in self.cells.still(self.estimate, self.kind)], object)

    def _variance(self, along: Any) -> float:
        """Variance of along' parameter; along: (p,)."""
        if self.psi is None:
            return self.cells.contrast_variance(self.estimate, along, self.kind)
        return super()._variance(along)

    # --- more inference --------------------------------------------------------------------------
    def bootstrap(self, replicates: int = 1000, seed: int = 0, method: str = "multinomial") -> Bootstrap:
        """Replicated scores by exact refits ("multinomial") or by the influence ("multiplier").

        Multinomial refits need whole unweighted rows and no clusters; multipliers take any fit.
        """
        if method == "multiplier":
            return self._multiplied(replicates, seed)
        if method != "multinomial":
            raise ValueError(f"method must be 'multinomial' or 'multiplier', not {method!r}")
        if self.pairs.weighted or self.pairs.soft or self.kind == "cluster":
            raise ValueError('exact multinomial refits need unweighted, unclustered rows: use method="multiplier"')
        check_replicates(replicates, seed)
        draws = np.full((replicates, len(self.score)), np.nan)
        refits = multinomial_refits(self.cells.sums, int(self.main.sum()), self._refit(), replicates, seed)
        known = np.array([reason is None for reason in self._reasons])
        if not known.all():
            refits = np.where(known, refits - mean_of_known(refits.T, known)[:, None], np.nan)
        draws[:, self.main] = refits
        failed = int(np.isnan(refits[:, known]).any(axis=1).sum())
        return Bootstrap(self.arms, self.score, draws, method, failed, why=self._without_error())

    def _refit(self) -> Any:
        cells, start = self.cells, self.estimate.parameter
        graph = cells.sums > 0

        def refit(sums: Any) -> Any:
            drawn = replace(cells, sums=sums)
            if not self.spec.ridge and ((sums > 0) != graph).any():
                groups = strong_components(len(cells.arms), drawn.a, drawn.b, sums)
                if groups.any():
                    raise NotIdentifiedError("an arm has no finite score in this replicate")
            if self.psi is None:
                return drawn.maximise(start).theta
            return drawn.refitted(start, self.psi.bread)[: len(cells.arms)]

        return refit

    def audit(self, x: str, over: str) -> DropAudit:
        """The fewest rows whose removal lets `over` reach x (or x reach `over`, if it is behind)."""
        before, i, j, direction = self._audited(x, over)
        cells, refit = self.cells, self._refit()
        effect = cells.row_effects(self.estimate, direction)

        def refitted(sums: Any) -> float:
            theta = refit(sums)
            return float(theta[i] - theta[j])

        rows, taken, after = fewest_rows(cells.sums, effect, before, refitted)
        cell, outcome = np.nonzero(taken)
        names = np.array(self.arms, object)[self.main]
        frame = pl.DataFrame(
            {
                "a": pl.Series(names[cells.a[cell]].tolist(), dtype=pl.String),
                "b": pl.Series(names[cells.b[cell]].tolist(), dtype=pl.String),
                "outcome": pl.Series([("a", "tie", "b")[o] for o in outcome], dtype=pl.String),
                "rows": taken[cell, outcome].astype(np.int64),
            }
        )
        share = None if rows is None else rows / self.n
        return DropAudit(rows, share, frame, before, after)

    def influence_by_cluster(self, log: PreferenceLog) -> Influence:
        """The influence with scores summed within clusters first: one more pass over the rows."""
        known, names, spec = self._known_influence(), cluster_names(len(log.cluster)), self.spec
        clusters = {name: Dictionary() for name in names}
        encoder = Encoder(dict(log.outcomes), arms=Dictionary(self.arms), clusters=clusters, covariates=())
        place = np.where(self.main, np.cumsum(self.main) - 1, -1).astype(np.int32)
        p = len(self.estimate.parameter)
        rows = RowProblem(Blocks([]), self.estimate.k, ("position",) * spec.position, spec.model, np.zeros(p))
        sums, tally = [ClusterSums(rows.k, p - rows.k) for _ in names], Tally(log.unfolded)

        def kernel(block: Block) -> tuple[dict[str, Any], list[Part]]:
            good, bad, at = clean(block)
            kept = inside(replace(good, place=at.astype(np.int32)), place, spec.position, spec.ties != "drop")
            return bad, [row_meat.cluster_sums(rows, kept, self.estimate, column) for column in range(len(names))]

        def merge(told: tuple[dict[str, Any], list[Part]]) -> None:
            tally.found(told[0])
            for total, part in zip(sums, told[1], strict=True):
                total.add(part)

        run_pass(log, encoder, kernel, merge)
        tally.refuse(log, encoder, 1.0)
        lost = np.zeros((p, 0)) if spec.ridge else None
        labels = [log.cluster_label(name) for name in names]
        return Influence(known.bread, *multiway(labels, [s.squared() for s in sums]), lost=lost)

    def update(self, more: PreferenceLog) -> PairFit:
        """The fit of both logs together; nothing already counted is read again."""
        needs_log(more)
        if self.kind == "cluster" or more.cluster:
            raise ValueError("clustered errors need the rows: fit the logs together instead")
        if more.covariates:
            raise ValueError("the new log has covariates, for which this fit does not adjust: fit the logs together")
        self._checked(more)
        return self.spec.fit_table(self.pairs.plus(pair_table(more)), self.kind)

    # --- files -----------------------------------------------------------------------------------
    def save(self, path: str | os.PathLike[str]) -> None:
        """One file of JSON and NumPy arrays; read it with :func:`steelyard.load`."""
        write_archive(path, "pair-fit", *self._archive())
