"""Tables, plots and the HTML report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from steelyard.report.plots import MOST_ARMS, coverage_plot, forest_plot
from steelyard.report.tables import text
from steelyard.result import replacing

if TYPE_CHECKING:
    import os

    from steelyard.models.pair_fit import PairFit
    from steelyard.models.row_fit import RowFit
    from steelyard.pairs import Check


def write_report(
    path: str | os.PathLike[str],
    fit: PairFit | RowFit,
    check: Check,
    title: str = "Leaderboard",
    level: float = 0.95,
    scale: str = "logit",
    simultaneous: bool = False,
) -> Path:
    """One self-contained HTML page: leaderboard, forest plot, pair coverage, what was left out and why.

    level, scale, simultaneous: as in :meth:`PairFit.table`.
    """
    from jinja2 import Environment, PackageLoader
    from markupsafe import Markup

    environment = Environment(loader=PackageLoader("steelyard", "report"), autoescape=True)
    environment.filters["text"] = text
    table = fit.table(level, scale, simultaneous)
    facts = [*check.frame().rows(), ("comparisons used", fit.n), ("covariance", fit.kind),
             ("converged", "yes" if fit.converged else "no"),
             ("Newton steps", fit.iterations), ("largest score entry, divided by n", f"{fit.gradient_norm:.1e}"),
             ("log-likelihood", f"{fit.log_likelihood:.3f}")]  # fmt: skip
    page = environment.get_template("report.html").render(
        title=title, estimand=fit.estimand, facts=facts, level=f"{100 * level:g}", scale=scale,
        simultaneous=simultaneous, rows=table.rows(named=True),
        capped=len(table) > MOST_ARMS, most=MOST_ARMS, forest=Markup(forest_plot(table)),
        coverage=Markup(coverage_plot(fit.pairs, table["arm"].to_list())), dropped=list(fit.dropped.items()),
        nulls=table.filter(table["se"].is_null()).rows(named=True),
        coefficients=fit.coefficients(level).rows(named=True),
    )  # fmt: skip
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return Path(path)
