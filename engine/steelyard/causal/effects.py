"""What one feature of a response does to its chance of being preferred (docs/estimators.md, 7).

Two roads to the average marginal component effect: through the coefficients of a reward model, or, where the attributes
of both responses were drawn at random, through the mean outcomes themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import scipy  # its parts load when first used

from steelyard.blocks import Block, Encoder
from steelyard.columns import Column
from steelyard.dictionary import Dictionary, alike, is_label
from steelyard.errors import LogError, check_level
from steelyard.inference import Influence
from steelyard.inference.bands import p_value, quantile
from steelyard.inference.clusters import cluster_names, clustered_meat
from steelyard.inference.influence import FLAT, warn_of_few
from steelyard.log import PreferenceLog
from steelyard.models.reward_fit import RewardFit
from steelyard.models.row_blocks import weights
from steelyard.passes import placed
from steelyard.rows import read_rows
from steelyard.solve import one_blas_thread
from steelyard.spill import Blocks

_MOST = 200  # levels of an attribute
_DEPENDENT = 1e-10  # share of a column's variance that must be left beside the columns before it
_TOLD = "other levels and attributes tell it: no effect of its own"

Attributes = Mapping[str, tuple[Column, Column]]


def effects(
    source: RewardFit | PreferenceLog,
    log: PreferenceLog | None = None,
    *,
    attributes: Attributes | None = None,
    baselines: Mapping[str, str] | None = None,
    together: bool = True,
    level: float = 0.95,
    threads: int | None = None,
) -> pl.DataFrame:
    """Average marginal component effects: of the features of a reward model, or of randomised attributes.

    Of a fit: the mean over contexts of s(beta_k + interactions), the chance that a response with one unit more of
    feature k is preferred to the same response without (Kobalczyk and van der Schaar 2025, appendix C.1); 0.5 is no
    effect. Of a log whose attributes were drawn at random: how much more often a response is preferred with a level
    than with the baseline, averaged over all other attributes and opponents (Hainmueller, Hopkins and Yamamoto 2014),
    by least squares on both responses of every comparison. The comparison is the unit, or what the log's clusters say.

    Parameters
    ----------
    source : of :class:`RewardModel`, with a logistic or probit link; or a log
    log : with a fit that has interactions: whose contexts the effect is averaged over, taken as known
    attributes : with a log: {name: (column of a, column of b)}, or expressions
    baselines : {name: level, as text} that the others are held against; default the first in order
    together : all attributes in one regression, or each by itself (differences of means; False)
    level : of the intervals
    threads : that passes have, by default one a core

    Returns
    -------
    Of a fit: term effect se low high p_value (of no effect) reason. Of a log: attribute level effect se low high
    p_value mean responses reason; mean: of the outcome of responses with this level, of which there are `responses`.

    Raises
    ------
    LogError
        Attributes with nulls, one value, or too many; a baseline that does not occur.
    ValueError
        A fit with ties of its own, a log without attributes, a fit with interactions without a log.

    Examples
    --------
    >>> import numpy as np, polars as pl, steelyard as sy
    >>> rng = np.random.default_rng(0)
    >>> warm = rng.random((2, 500)) < 0.5
    >>> tone = np.where(warm, "warm", "dry")
    >>> won = rng.random(500) < 0.5 + 0.2 * warm[0] - 0.2 * warm[1]
    >>> frame = pl.DataFrame({"tone_a": tone[0], "tone_b": tone[1], "won": won * 1})
    >>> log = sy.scan(frame, a=pl.lit("first"), b=pl.lit("second"), outcome="won")
    >>> sy.effects(log, attributes={"tone": ("tone_a", "tone_b")})["level"].to_list()
    ['dry', 'warm']
    """
    check_level(level)
    if isinstance(source, RewardFit):
        if attributes is not None or baselines is not None:
            raise ValueError("attributes= and baselines= go with a log, not with a fit")
        with placed(threads):
            return _of_fit(source, log, level)
    if not isinstance(source, PreferenceLog):
        raise TypeError(f"effects() takes a fit of RewardModel or a log, not {type(source).__name__}")
    if log is not None:
        raise ValueError("a second log goes with a fit that has interactions")
    if not isinstance(attributes, Mapping) or not attributes:
        raise ValueError("name the attributes of a log: attributes={name: (column of a, column of b)}")
    strange = sorted(set(baselines or {}) - set(attributes))
    if strange:
        raise LogError(f"baselines= names {strange}, which are no attributes: {list(attributes)}")
    with placed(threads):
        return _of_log(source, attributes, dict(baselines or {}), together, level)


# --- of a reward model ---------------------------------------------------------------------------
def _of_fit(fit: RewardFit, log: PreferenceLog | None, level: float) -> pl.DataFrame:
    if fit.spec.ties not in ("half", "drop") or fit.own is not None:
        raise ValueError("effects() reads a fit with ties='half' or 'drop' and a logistic or probit link")
    crossed = fit.design.interactions
    if crossed and log is None:
        raise ValueError("the fit has interactions: effects(fit, log) needs a log whose contexts to average over")
    beside, weight = _contexts(fit, log) if crossed and log is not None else ({}, np.ones(1))
    places = {name: (at, why) for name, at, why in fit.terms}
    z, rows = quantile(level), list[tuple[Any, ...]]()
    for feature in fit.design.features:
        for group in fit.design.groups or ("",):
            tail = f" [{group}]" if group else ""
            parts = [(f"{feature}{tail}", np.ones(len(weight)))]
            parts += [(f"{f}:{c}{tail}", beside[c]) for f, c in crossed if f == feature]
            why = next((places[name][1] for name, _ in parts if places[name][0] is None), None)
            if why is not None:
                rows.append((f"{feature}{tail}", *(None,) * 5, why))
                continue
            told = [(place, values) for name, values in parts for place in places[name][0] or ()]
            p, slope = _link(fit, sum(fit.estimate.parameter[place] * values for place, values in told))
            effect, gradient = float(weight @ p), np.zeros(len(fit.estimate.parameter))
            for place, values in told:
                gradient[place] += (weight * slope) @ values
            why = fit._unknown(gradient)
            se = 0.0 if why else float(np.sqrt(max(fit._variance(gradient), 0.0)))
            if not se > 0.0:
                rows.append((f"{feature}{tail}", effect, *(None,) * 4, why or FLAT))
                continue
            rows.append((f"{feature}{tail}", effect, se, effect - z * se, effect + z * se,
                         p_value((effect - 0.5) / se), None))  # fmt: skip
    names = ["term", "effect", "se", "low", "high", "p_value", "reason"]
    types = [pl.String, *[pl.Float64] * 5, pl.String]
    return pl.DataFrame(rows, schema=dict(zip(names, types, strict=True)), orient="row")


def _contexts(fit: RewardFit, log: PreferenceLog) -> tuple[dict[str, Any], Any]:
    """(m,) each context column, over the distinct contexts of a log's good rows, answered or not; and their shares."""
    design = fit.design

    def one(block: Block) -> tuple[Any, Any]:
        return np.stack([*design.beside(block).values()]), weights(block)

    parts = read_rows(log, design.asked_of(log), unlabelled=True).blocks.each(one)
    contexts, weight = (np.concatenate(part, axis=-1) for part in zip(*parts, strict=True))
    if not weight.sum() > 0:
        raise LogError(f"{log.name} has no row whose contexts could be averaged over")
    strange = int((~np.isfinite(contexts).all(axis=0)).sum())
    if strange:
        raise LogError(f"{strange} rows of {log.name} have context values that the fit does not know: leave them out")
    found, place = np.unique(contexts, axis=1, return_inverse=True)
    names = [*design.contexts, *(f"{name}={value}" for name, values in design.levels for value in values[1:])]
    return dict(zip(names, found, strict=True)), np.bincount(place, weight) / weight.sum()


def _link(fit: RewardFit, eta: Any) -> tuple[Any, Any]:
    """(m,) the chance of winning by eta, and its derivative."""
    if fit.spec.link == "probit":
        return fit._outcomes(eta)[0], np.exp(-0.5 * eta**2) / np.sqrt(2.0 * np.pi)
    p = fit._outcomes(eta)[0]
    return p, p * (1.0 - p)


# --- of randomised attributes --------------------------------------------------------------------
def _of_log(
    log: PreferenceLog, attributes: Attributes, baselines: dict[str, str], together: bool, level: float,
) -> pl.DataFrame:  # fmt: skip
    known, blocks, clusters = _encoded(log, attributes)
    keys = [(name, value) for name, values in known.items() for value in values]
    place = {key: 1 + j for j, key in enumerate(keys)}  # after the constant
    gram, moment, count = _sums(blocks, len(keys))
    used = [key for key in keys if gram[place[key], place[key]] > 0]
    first = {name: _baseline(name, baselines.get(name), [v for n, v in used if n == name]) for name in known}
    groups = [[place[key] for key in used if first[key[0]] != key[1]]]
    if not together:
        groups = [[place[key] for key in used if key[0] == name and first[name] != key[1]] for name in known]
    told: dict[int, tuple[float, float, str | None]] = {}
    for columns in groups:
        told |= _regression(blocks, clusters, gram, moment, columns, keys)
    z, rows = quantile(level), list[tuple[Any, ...]]()
    for name, value in sorted(keys, key=lambda key: (list(known).index(key[0]), key[1] != first[key[0]])):
        at = place[name, value]
        mean, size = (float(moment[at] / gram[at, at]) if gram[at, at] > 0 else None), round(float(count[at]))
        if at in told:
            effect, se, why = told[at]
            numbers = (se, effect - z * se, effect + z * se, p_value(effect / se)) if why is None else (None,) * 4
            rows.append((name, value, effect, *numbers, mean, size, why))
        elif first[name] == value:
            rows.append((name, value, 0.0, *(None,) * 4, mean, size, "baseline"))
        else:
            lost = "no answered response has it" if mean is None else _TOLD
            rows.append((name, value, *(None,) * 5, mean, size, lost))
    names = ["attribute", "level", "effect", "se", "low", "high", "p_value", "mean", "responses", "reason"]
    types = [pl.String, pl.String, *[pl.Float64] * 6, pl.Int64, pl.String]
    return pl.DataFrame(rows, schema=dict(zip(names, types, strict=True)), orient="row")


def _baseline(name: str, wanted: str | None, used: list[str]) -> str:
    if len(used) < 2:
        raise LogError(f"attribute {name!r} has {len(used)} levels in answered rows: 2 to {_MOST} can be compared")
    if wanted is not None and wanted not in used:
        raise LogError(f"baseline {wanted!r} of {name!r} does not occur in answered rows: its levels are {used[:10]}")
    return used[0] if wanted is None else wanted


def _encoded(
    log: PreferenceLog, attributes: Attributes
) -> tuple[dict[str, list[str]], Blocks, list[tuple[int, str, int]]]:
    """Levels of each attribute, and rows whose columns are the indicators of a's levels, then those of b's."""
    known: dict[str, list[str]] = {}
    sides: dict[str, tuple[pl.Expr, ...]] = {}
    for name, pair in attributes.items():
        if isinstance(pair, str) or len(pair) != 2:
            raise LogError(f"attribute {name!r} is a pair of columns, that of a and that of b, not {pair!r}")
        sides[name] = tuple(log.expression(column, "attributes") for column in pair)
    for name, both in sides.items():
        types = log.source.select(*(side.alias(str(i)) for i, side in enumerate(both))).collect_schema().dtypes()
        strange = next((dtype for dtype in types if not is_label(dtype)), None)
        if strange is not None:
            raise LogError(f"attribute {name!r} holds {strange}: its levels are texts, numbers or booleans")
        if not alike(*types):
            raise LogError(
                f"attribute {name!r} holds {types[0]} of a and {types[1]} of b, so that one level would have two "
                "names: cast both to one type"
            )
        both = tuple(side.fill_nan(None) if dtype.is_float() else side for side, dtype in zip(both, types, strict=True))
        if types[0] != types[1] or isinstance(types[0], pl.Categorical):
            both = tuple(side.cast(pl.String) for side in both)
        sides[name] = both
    seen = [side.unique().implode().alias(f"{name} {i}") for name, both in sides.items() for i, side in enumerate(both)]
    told = log.source.select(seen).collect()
    for name in sides:
        values = pl.concat([told[f"{name} {i}"].explode() for i in (0, 1)])
        known[name] = values.unique().drop_nulls().sort().cast(pl.String).to_list()
        if not 2 <= len(known[name]) <= _MOST:
            raise LogError(f"attribute {name!r} has {len(known[name])} levels: 2 to {_MOST} can be compared")
    columns = {f"{name}={value} of {side}": (sides[name][i].cast(pl.String) == value).cast(pl.Float64)
               for i, side in enumerate("ab") for name, values in known.items() for value in values}  # fmt: skip
    names = cluster_names(len(log.cluster))
    asked = replace(log, covariates=columns)
    encoder = Encoder(dict(log.outcomes), clusters={name: Dictionary() for name in names}, covariates=tuple(columns))
    rows = read_rows(asked, encoder)
    clusters = [(i, log.cluster_label(name), len(rows.encoder.clusters[name])) for i, name in enumerate(names)]
    return known, rows.blocks, clusters


def _sides(block: Block) -> tuple[Any, Any, Any, Any]:
    """Design (1 + d, n) and outcome (n,) of a, then of b."""
    columns, y = np.asarray(block.columns), np.asarray(block.y)
    d, one = len(columns) // 2, np.ones((1, block.n))
    return np.concatenate([one, columns[:d]]), y, np.concatenate([one, columns[d:]]), 1.0 - y


def _sums(blocks: Blocks, d: int) -> tuple[Any, Any, Any]:
    """X'WX (1 + d, 1 + d), X'Wy and the responses with each column, over both responses of all rows."""

    def one(block: Block) -> tuple[Any, Any, Any]:
        xa, ya, xb, yb = _sides(block)
        w, count = weights(block), np.ones(block.n) if block.count is None else block.count
        return (xa * w) @ xa.T + (xb * w) @ xb.T, xa @ (w * ya) + xb @ (w * yb), (xa + xb) @ count

    with one_blas_thread():
        gram, moment, count = (sum(part) for part in zip(*blocks.each(one), strict=True))
    return gram, moment, count


def _regression(
    blocks: Blocks, clusters: list[tuple[int, str, int]], gram: Any, moment: Any, columns: list[int],
    keys: list[tuple[str, str]],
) -> dict[int, tuple[float, float, str | None]]:  # fmt: skip
    """Coefficient, error, and why it has none, of each column that the constant and the ones before do not tell.

    keys: attribute and level of each column after the constant.
    """
    kept = _independent(gram, [0, *columns])
    bread = np.linalg.inv(gram[np.ix_(kept, kept)])
    beta = bread @ moment[kept]

    def scores(block: Block) -> Any:
        xa, ya, xb, yb = _sides(block)
        w = weights(replace(block, count=None))
        xa, xb = xa[kept], xb[kept]
        return (xa * (w * (ya - beta @ xa)) + xb * (w * (yb - beta @ xb))).T

    def counted(block: Block) -> Any:
        return scores(block) * (1.0 if block.count is None else block.count[:, None])

    with one_blas_thread():
        if clusters:
            psi = Influence(bread, *clustered_meat(blocks, clusters, len(kept), counted))
            names = ["=".join(keys[at - 1]) for at in kept[1:]]
            warn_of_few(names, psi.told[1:], min(codes for *_, codes in clusters))
        else:
            psi = Influence(bread, sum(blocks.each(lambda block: scores(block).T @ counted(block))))
        spread = np.sqrt(np.clip(np.diag(psi.covariance), 0.0, None))
    found = zip(kept, beta.tolist(), spread.tolist(), psi.why, strict=True)
    return {at: (b, s, why or (None if s > 0.0 else FLAT)) for at, b, s, why in found if at}


def _independent(gram: Any, columns: list[int]) -> list[int]:
    """The columns that those before them leave some variance, by a Cholesky root that grows with them."""
    kept: list[int] = []
    root = np.zeros((len(columns), len(columns)))
    for at in columns:
        m = len(kept)
        across = scipy.linalg.solve_triangular(root[:m, :m], gram[kept, at], lower=True) if m else np.empty(0)
        left = gram[at, at] - across @ across
        if left > _DEPENDENT * gram[at, at]:
            root[m, :m], root[m, m] = across, np.sqrt(left)
            kept.append(at)
    return kept
