"""The fit of a Bradley-Terry model to a table of pairs: exact refits, audits, updates and files of it."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from steelyard.blocks import Block, Dictionary, Encoder
from steelyard.errors import NotIdentifiedError
from steelyard.graph import strong_components
from steelyard.inference import Bootstrap, Influence
from steelyard.inference.audit import fewest_rows
from steelyard.inference.bootstrap import multinomial_refits
from steelyard.inference.clusters import cluster_names, clustered_meat
from steelyard.models.cells import Cells, ClusterSums, Estimate
from steelyard.models.score_fit import ScoreFit
from steelyard.pairs import PairTable, good_rows, pair_table
from steelyard.passes import run_pass
from steelyard.result import DropAudit, write_archive

if TYPE_CHECKING:
    from steelyard.log import PreferenceLog
    from steelyard.models.bradley_terry import BradleyTerry


@dataclass(frozen=True)
class PairFit(ScoreFit):
    """Scores of arms with what is needed to speak of their uncertainty. Made by :meth:`BradleyTerry.fit`.

    pairs: the table it was fitted to. score: (K,) in the order of `arms`, NaN where not identified.
    why: reason for each NaN. estimate: the solver's answer on the identified arms.
    influence: of the parameters (identified arms, then position, then tie); None beyond 4,000 arms.
    """

    spec: BradleyTerry
    pairs: PairTable
    score: Any
    why: list[str | None]
    estimate: Estimate
    influence: Influence | None
    kind: str = "sandwich"

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
        return super()._spread() if self.influence is not None else self._sampled_spread[0]

    @cached_property
    def _sampled_spread(self) -> tuple[Any, float]:
        return self.cells.spread(self.estimate, self.kind)

    @property
    def spread_error(self) -> float:
        """Relative Monte Carlo error of the standard errors in :meth:`table`; 0 up to 4,000 arms (exact)."""
        return 0.0 if self.influence is not None else self._sampled_spread[1]

    def _variance(self, along: Any) -> float:
        """Variance of along' parameter; along: (p,)."""
        if self.influence is None:
            return self.cells.contrast_variance(self.estimate, along, self.kind)
        return super()._variance(along)

    # --- more inference --------------------------------------------------------------------------
    def bootstrap(self, replicates: int = 1000, seed: int = 0, method: str = "multinomial") -> Bootstrap:
        """Replicated scores by exact refits ("multinomial") or by the influence ("multiplier").

        Multinomial refits need whole unweighted rows and no clusters; multipliers take any fit.
        """
        draws = np.full((replicates, len(self.score)), np.nan)
        if method == "multiplier":
            draws[:, self.main] = self.score[self.main] + self._known_influence().draws(replicates, seed)[
                :, : self.main.sum()]  # fmt: skip
        elif method == "multinomial":
            if self.pairs.weighted or self.pairs.soft or self.kind == "cluster":
                raise ValueError('exact multinomial refits need unweighted, unclustered rows: use method="multiplier"')
            draws[:, self.main] = multinomial_refits(
                self.cells.sums, int(self.main.sum()), self._refit(), replicates, seed
            )
        else:
            raise ValueError(f"method must be 'multinomial' or 'multiplier', not {method!r}")
        failed = int(np.isnan(draws[:, self.main]).any(axis=1).sum())
        return Bootstrap(self.arms, self.score, draws, method, failed)

    def _refit(self) -> Any:
        cells, start = self.cells, self.estimate.parameter
        graph = cells.sums > 0

        def refit(sums: Any) -> Any:
            drawn = replace(cells, sums=sums)
            if not self.spec.ridge and ((sums > 0) != graph).any():
                groups = strong_components(len(cells.arms), drawn.a, drawn.b, sums)
                if groups.any():
                    raise NotIdentifiedError("an arm has no finite score in this replicate")
            if self.influence is None:
                return drawn.maximise(start).theta
            return drawn.refitted(start, self.influence.bread)[: len(cells.arms)]

        return refit

    def audit(self, x: str, over: str) -> DropAudit:
        """The fewest rows whose removal lets `over` reach x (or x reach `over`, if it is behind)."""
        if self.pairs.weighted or self.pairs.soft:
            raise ValueError("the drop audit needs unweighted rows with hard labels")
        contrast = self.contrast(x, over)
        if contrast.estimate is None:
            raise NotIdentifiedError(str(contrast.reason))
        cells, place, refit = self.cells, np.cumsum(self.main) - 1, self._refit()
        i, j = place[self._code(x)], place[self._code(over)]
        direction = self._known_influence().bread[i] - self._known_influence().bread[j]
        effect = cells.row_effects(self.estimate, direction)

        def refitted(sums: Any) -> float:
            theta = refit(sums)
            return float(theta[i] - theta[j])

        rows, taken, after = fewest_rows(cells.sums, effect, contrast.estimate, refitted)
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
        return DropAudit(rows, share, frame, contrast.estimate, after)

    def influence_by_cluster(self, log: PreferenceLog, threads: int | None = None) -> Influence:
        """The influence with scores summed within clusters first: one more pass over the rows."""
        known, names = self._known_influence(), cluster_names(len(log.cluster))
        encoder = Encoder(dict(log.outcomes), arms=Dictionary(self.arms),
                          clusters={name: Dictionary() for name in names})  # fmt: skip
        place = np.where(self.main, np.cumsum(self.main) - 1, -1).astype(np.int32)
        sums = ClusterSums(self.estimate, self.spec.model, self.spec.position, self.spec.ties != "drop", place)
        parts: list[Any] = []

        def kernel(block: Block) -> Any:
            return sums.block(good_rows(block)[0])

        run_pass(log, encoder, kernel, parts.append, threads)
        groups = tuple(len(encoder.clusters[name]) for name in names)
        return Influence(known.bread, *clustered_meat(parts, names, groups, len(self.estimate.parameter)))

    def update(self, more: PreferenceLog) -> PairFit:
        """The fit of both logs together; nothing already counted is read again."""
        if self.kind == "cluster":
            raise ValueError("clustered errors need the rows: fit the logs together instead")
        return self.spec.fit_table(self.pairs.plus(pair_table(more)), self.kind)

    # --- files -----------------------------------------------------------------------------------
    def save(self, path: str | os.PathLike[str]) -> None:
        """One file of JSON and Arrow IPC; read it with :func:`steelyard.load`."""
        spec, pairs, estimate = self.spec, self.pairs, self.estimate
        facts = {
            "spec": {name: getattr(spec, name) for name in spec.__dataclass_fields__}, "kind": self.kind,
            "why": self.why, "soft": pairs.soft, "weighted": pairs.weighted, "dropped": pairs.dropped,
            "estimate": estimate.facts(), "clipped": self.influence.clipped if self.influence else None,
        }  # fmt: skip
        arrays = {
            "arms": pl.DataFrame({"arm": pairs.arms}), "a": pairs.a, "b": pairs.b, "first": pairs.first,
            "sums": pairs.sums, "squares": pairs.squares, "rows": pairs.rows, "score": self.score,
            "parameter": estimate.parameter,
        }  # fmt: skip
        if self.influence is not None:
            arrays |= {"bread": self.influence.bread, "meat": self.influence.meat}
        write_archive(path, "pair-fit", facts, arrays)
