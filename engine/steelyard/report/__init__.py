"""Tables, plots and the HTML report."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from steelyard.report import plots
from steelyard.report.tables import digits_for, number, ranks, span
from steelyard.result import replacing

if TYPE_CHECKING:
    import os

    from steelyard.pairs import Check, PairTable

__all__ = ["write_report"]

_ERRORS = {
    "sandwich": "robust (sandwich)",
    "model": "from the model's information",
    "cluster": "robust, clustered",
}


def write_report(
    path: str | os.PathLike[str],
    fit: Any,
    check: Check,
    title: str = "Leaderboard",
    *,
    level: float = 0.95,
    scale: str = "logit",
    simultaneous: bool = False,
) -> Path:
    """One HTML file that needs no other: estimand, leaderboard, plots, and what was dropped and why.

    Written under a temporary name and renamed, so a failure leaves no partial file.
    """
    html = _html(fit, check, title, level, scale, simultaneous)
    with replacing(path) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return Path(path)


def _html(fit: Any, check: Check, title: str, level: float, scale: str, simultaneous: bool) -> str:
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    table = fit.table(level=level, scale=scale, simultaneous=simultaneous)
    scored = table.filter(pl.col("score").is_not_null())
    shown = scored["arm"].head(plots.WIDEST).to_list()
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(
        resources.files("steelyard.report").joinpath("report.html").read_text(encoding="utf-8")
    )
    label = "score" if scale == "logit" else "Elo-like score"
    return template.render(
        title=title,
        facts=_facts(fit, check),
        estimand=fit.estimand[:1].upper() + fit.estimand[1:] + ".",
        level=f"{level * 100:g}",
        simultaneous=simultaneous,
        board=_board(scored),
        coefficients=_coefficients(fit, level),
        forest=Markup(plots.forest_plot(table, f"{label}, {level * 100:g}% interval")) if shown else "",
        coverage=Markup(plots.coverage_plot(fit.pairs, shown)) if shown else "",
        scored=len(scored),
        widest=plots.WIDEST,
        pairs=_coverage(fit.pairs),
        dropped=[(reason, count, check.bad.get(reason, (0, []))[1]) for reason, count in fit.dropped.items()],
        unscored=table.filter(pl.col("score").is_null()).select("arm", "comparisons", "reason").rows(),
        bare=scored.filter(pl.col("se").is_null()).group_by("reason", maintain_order=True).len().rows(),
        components=[sorted(group) for group in check.components] if len(check.components) > 1 else [],
    )


def _facts(fit: Any, check: Check) -> list[tuple[str, str]]:
    errors = _ERRORS.get(getattr(fit, "kind", ""), "")
    return [
        ("comparisons used", f"{fit.n:,}"),
        ("rows in the log", f"{check.rows:,}"),
        ("arms", f"{len(fit.arms):,}"),
        ("ties", f"{check.ties:,}"),
        *([("standard errors", errors)] if errors else []),
        ("converged", "yes" if fit.converged else "no"),
        ("iterations", str(fit.iterations)),
        ("gradient norm / n", f"{fit.gradient_norm:.1e}"),
        ("log-likelihood", f"{fit.log_likelihood:,.1f}"),
    ]


def _board(scored: pl.DataFrame) -> list[dict[str, Any]]:
    digits = digits_for(scored)
    return [
        {
            "rank": row["rank"],
            "arm": row["arm"],
            "score": number(row["score"], digits),
            "interval": span(row["low"], row["high"], digits),
            "ranks": ranks(row["rank_low"], row["rank_high"]),
            "comparisons": f"{row['comparisons']:,}",
        }
        for row in scored.iter_rows(named=True)
    ]


def _coefficients(fit: Any, level: float) -> list[dict[str, str]]:
    return [
        {"term": row["term"], "estimate": number(row["estimate"], 3), "interval": span(row["low"], row["high"], 3)}
        for row in fit.coefficients(level).iter_rows(named=True)
    ]


def _coverage(pairs: PairTable) -> str:
    """How much of all pairs was ever compared, in a sentence."""
    k = len(pairs.arms)
    used = pairs.rows > 0
    low, high = np.minimum(pairs.a, pairs.b)[used], np.maximum(pairs.a, pairs.b)[used]
    seen, group = np.unique(low.astype(np.int64) * k + high, return_inverse=True)
    if not len(seen):
        return "No pair was compared."
    typical = float(np.median(np.bincount(group, pairs.rows[used])))
    possible = k * (k - 1) // 2
    return (
        f"{len(seen):,} of {possible:,} pairs ({100 * len(seen) / possible:.3g}%) were compared at least once; "
        f"where compared, the median pair has {typical:g} comparison{'' if typical == 1 else 's'}."
    )
