"""What a log holds: rows, arms, ties, the parts of the comparison graph, and every bad row with its reason."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from steelyard.blocks import Block, Encoder
from steelyard.dictionary import Dictionary
from steelyard.graph import components
from steelyard.pairs import (
    HARMLESS,
    STATUS,
    Counted,
    Tally,
    clean,
    cluster_columns,
    good_rows,
    lacking,
    not_finite,
    refuse_winners,
    strange_outcomes,
)
from steelyard.passes import run_pass

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from steelyard.log import PreferenceLog


def _of_all(log: PreferenceLog) -> Encoder:
    """Reads every column with a role in a row's verdict."""
    numeric, text = log.context_kinds()
    return Encoder(
        dict(log.outcomes),
        clusters=cluster_columns(log),
        covariates=list(log.covariates) or None,
        features=log.feature_names() if log.features else (),
        context=numeric,
        levels={name: Dictionary() for name in text},
        group=Dictionary() if log.group is not None else None,
        propensity=log.propensity is not None,
    )


def _verdicts(block: Block, encoder: Encoder) -> NDArray[Any]:
    """(n,) why each row is bad, or STATUS[0]; what it lacks beside arms and outcome is told of otherwise good rows."""
    _, status, _ = good_rows(block)
    reasons: NDArray[Any] = np.array(STATUS, object)[status]
    for reason, where in not_finite(block, encoder):
        reasons[where & (reasons == STATUS[0])] = reason
    return reasons


def bad_rows(log: PreferenceLog) -> tuple[int, pl.DataFrame]:
    """How many rows were read; row number and reason of every bad one."""
    found: list[pl.DataFrame] = []
    schema = {"row": pl.UInt32, "reason": pl.String}
    encoder = _of_all(log)

    def told(block: Block) -> pl.DataFrame:
        reasons = _verdicts(block, encoder)
        at = np.flatnonzero(reasons != STATUS[0])
        frame = {"row": (at + block.start).astype(np.uint32), "reason": reasons[at].tolist()}
        return pl.DataFrame(frame, schema=schema).filter(~pl.col("reason").is_in(list(HARMLESS)))

    run_pass(log, encoder, told, found.append)
    return encoder.rows, pl.concat(found) if found else pl.DataFrame(schema=schema)


@dataclass(frozen=True)
class Check:
    """What a log holds. Made by :meth:`PreferenceLog.check`.

    rows: of the log; usable: comparisons among them; nulls: rows shown but not labelled, their outcome null; bad: how
    many of the others there are, and their first row numbers, by reason. components: arms that are joined by
    comparisons, part by part. strange: outcomes that are none, the first of them.
    """

    rows: int
    usable: int
    arms: int
    ties: int
    nulls: int
    bad: dict[str, tuple[int, list[int]]]
    components: list[list[str]]
    strange: list[Any]

    def frame(self) -> pl.DataFrame:
        facts = [
            ("rows", str(self.rows)),
            ("usable comparisons", str(self.usable)),
            ("arms", str(self.arms)),
            ("ties", str(self.ties)),
            ("shown but not labelled", str(self.nulls)),
            ("components of the comparison graph", str(len(self.components))),
            *((f"bad: {reason}", f"{count} (first rows {rows})") for reason, (count, rows) in self.bad.items()),
        ]
        if self.strange:
            facts.append(("outcomes that are not known", str(self.strange)[1:-1]))
        return pl.DataFrame(facts, schema=["check", "value"], orient="row")

    def __str__(self) -> str:
        return "\n".join(f"{name:36s} {value}" for name, value in self.frame().rows())


def check(log: PreferenceLog) -> Check:
    """Counts rows, arms, ties and bad rows, and finds the components of the comparison graph."""
    encoder, tally = _of_all(log), Tally(log.unfolded)

    def counted(block: Block) -> Counted:
        kept, bad, at = clean(block)
        kept = replace(kept, place=at.astype(np.int32))
        part = tally.count(replace(kept, weight=None, clusters=()))  # what ties there are, not what they weigh
        return replace(part, bad=bad | lacking(kept, encoder)[1])

    run_pass(log, encoder, counted, tally.merge)
    refuse_winners(log, encoder)
    table = tally.table(encoder)[0]
    groups = components(len(table.arms), table.a, table.b)
    names = table.arms.to_list()
    bad = {reason: found for reason, found in tally.bad.items() if reason not in HARMLESS}
    return Check(
        rows=log.count() if log.tallies else encoder.rows,
        usable=int(table.rows.sum()),
        arms=len(names),
        ties=int(table.sums[:, 1].sum()),
        nulls=tally.bad.get("not labelled", (0, []))[0],
        bad=bad,
        components=[[names[i] for i in np.flatnonzero(groups == g)] for g in np.unique(groups)],
        strange=strange_outcomes(log, encoder) if "unknown outcome" in bad else [],
    )
