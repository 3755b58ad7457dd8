"""Tables, plots and the HTML report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from steelyard.models.score_fit import ZERO
from steelyard.report.card import Card, card
from steelyard.report.plots import (
    MOST_ARMS,
    balance_plot,
    compare_plot,
    coverage_plot,
    forest_plot,
    propensity_plot,
)
from steelyard.report.tables import moved_most, text
from steelyard.result import replacing

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from steelyard.assignment.weights import Weights
    from steelyard.causal.doubly_robust_fit import DoublyRobustFit
    from steelyard.checks import Check
    from steelyard.models.pair_fit import PairFit
    from steelyard.models.row_fit import RowFit


def write_report(
    path: str | os.PathLike[str],
    fit: PairFit | RowFit,
    check: Check,
    title: str = "Leaderboard",
    level: float = 0.95,
    scale: str = "logit",
    simultaneous: bool = False,
    cautions: Sequence[str] = (),
) -> Path:
    """One self-contained HTML page: leaderboard, forest plot, pair coverage, what was left out and why.

    level, scale, simultaneous: as in :meth:`PairFit.table`. cautions: what was warned of.
    """
    from markupsafe import Markup

    table = fit.table(level, scale, simultaneous)
    facts = [*check.frame().rows(), ("comparisons used", fit.n), ("covariance", fit.kind),
             ("converged", "yes" if fit.converged else "no"),
             ("Newton steps", fit.iterations), ("largest score entry, divided by n", f"{fit.gradient_norm:.1e}"),
             ("log-likelihood", f"{fit.log_likelihood:.3f}")]  # fmt: skip
    return _page(
        path, "report.html", title=title, estimand=fit.estimand, facts=facts, level=f"{100 * level:g}", scale=scale,
        simultaneous=simultaneous, rows=table.rows(named=True),
        capped=len(table) > MOST_ARMS, most=MOST_ARMS, forest=Markup(forest_plot(table, ZERO[scale])),
        coverage=Markup(coverage_plot(fit.pairs, table["arm"].to_list())), dropped=list(fit.dropped.items()),
        nulls=table.filter(table["se"].is_null()).rows(named=True),
        coefficients=fit.coefficients(level).rows(named=True), cautions=cautions,
    )  # fmt: skip


def write_overlap(
    path: str | os.PathLike[str], weights: Weights, tests: list[str], title: str, cautions: Sequence[str] = ()
) -> Path:
    """One self-contained HTML page on weights: effective size, support, balance of contexts, propensities.

    tests: what the tests of dependence say. cautions: what was warned of.
    """
    from markupsafe import Markup

    facts, has = weights.overlap(), weights.propensity.contexts is not None
    return _page(
        path, "overlap.html", title=title, estimand=weights.estimand, tests=tests, facts=facts.frame().rows(),
        labels=facts.by_label.rows(named=True), balance=Markup(balance_plot(weights.balance())) if has else "",
        propensities=Markup(propensity_plot(facts.histogram)), cells=facts.empty_cells.head(100).rows(named=True),
        pairs=facts.unsupported_pairs.head(100).rows(), never=len(facts.unsupported_pairs), cautions=cautions,
    )  # fmt: skip


def write_debias(
    path: str | os.PathLike[str], fit: DoublyRobustFit, title: str, level: float = 0.95, told: Card | None = None,
    simultaneous: bool = False, cautions: Sequence[str] = (),
) -> Path:  # fmt: skip
    """One self-contained HTML page: naive against doubly robust, what moved and why, the card, overlap.

    level, simultaneous: as in :meth:`DoublyRobustFit.compare`. told: the card, where it is made already.
    cautions: what was warned of.
    """
    from markupsafe import Markup

    told = told or card(fit)  # refuses a loaded fit
    assert fit.overlap is not None
    facts, table = fit.overlap.overlap(), fit.table(level)
    compared = fit.compare(level, simultaneous)
    rates = fit.win_rates(level).select("arm", "win_rate")
    beside = compared.join(rates, on="arm", how="left", maintain_order="left")
    beside = beside.join(table.select("arm", "rank_low", "rank_high"), on="arm", how="left", maintain_order="left")
    never, has = fit.unsupported_pairs(), fit.overlap.propensity.contexts is not None
    return _page(
        path, "debias.html", title=title, estimand=fit.estimand, level=f"{100 * level:g}",
        simultaneous=simultaneous, compared=beside.rows(named=True),
        capped=len(compared) > MOST_ARMS, most=MOST_ARMS, compared_plot=Markup(compare_plot(compared)),
        moves=moved_most(fit).rows(named=True), card=told,
        numerics=[(name, f"{x:.1e}" if isinstance(x, float) else x) for name, x in told.numerics.items()],
        facts=facts.frame().rows(), balance=Markup(balance_plot(fit.overlap.balance())) if has else "",
        propensities=Markup(propensity_plot(facts.histogram)), dropped=list(fit.dropped.items()),
        nulls=table.filter(table["se"].is_null()).rows(named=True), pairs=never.head(30).rows(), never=len(never),
        cautions=cautions,
    )  # fmt: skip


def _page(path: str | os.PathLike[str], template: str, **values: Any) -> Path:
    from jinja2 import Environment, PackageLoader

    environment = Environment(loader=PackageLoader("steelyard", "report"), autoescape=True)
    environment.filters["text"] = text
    with replacing(path) as temporary:
        temporary.write_text(environment.get_template(template).render(**values), encoding="utf-8")
    return Path(path)
