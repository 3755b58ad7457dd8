"""Making weights: the target, the kind, the clip; then what they do to the log, and whether to refuse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial, reduce
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from steelyard._native.label_sums import label_sums, work_size
from steelyard._native.weight_sums import TOTALS, weight_sums
from steelyard.assignment.balancing import Balancing, balance
from steelyard.assignment.contexts import Contexts, target_log
from steelyard.assignment.models import PIECE, Classified
from steelyard.assignment.overlap import (
    BINS,
    OCTAVE,
    Overlap,
    fine_counts,
    fine_quantile,
    histogram_frame,
)
from steelyard.assignment.weights import Shares, Sums, Weights
from steelyard.blocks import Block, Encoder
from steelyard.errors import LogError, OverlapError, warn, within
from steelyard.log import needs_log
from steelyard.models.row_blocks import weights as sampling_weights
from steelyard.rows import read_rows
from steelyard.solve import one_blas_thread
from steelyard.spill import Blocks

if TYPE_CHECKING:
    from steelyard.assignment.propensity import Propensity
    from steelyard.log import PreferenceLog

_REACH = 0.5  # of a target's weight, below which a warning says so
_EXPECTED = 5.0  # rows that chance would have given a cell which holds none
_QUANTILES = (0.5, 0.9, 0.99, 0.999)
_CELLS = 1 << 17  # of a design and of probabilities that are made at a time, where these are few


def weigh(
    propensity: Propensity, log: PreferenceLog, target: Any, kind: str, clip: float | None, trim: float | None,
    floor: float, unsupported: float,
) -> Weights:  # fmt: skip
    """The weights of :meth:`Propensity.weights`, of rows that are read for them."""
    encoder = propensity.asked_of(Encoder(dict(needs_log(log).outcomes)), learn=True)
    rows = read_rows(log, encoder, unlabelled=True)
    if propensity.assigned.known:  # the table has sorted the arms; the propensity has its own order
        names = rows.pairs.arms.to_list()
        order = {name: code for code, name in enumerate(propensity.assigned.known)}
        code = np.array([order.get(name, -1) for name in names], np.int32)
        blocks = rows.blocks.map(lambda block: replace(block, a=code[block.a], b=code[block.b]))
    else:
        blocks = rows.blocks
    blocks = blocks.map(propensity.assigned.of)
    made = weigh_rows(propensity, log, blocks, target, kind, clip, trim, floor, unsupported)
    warn_of_reach(made)
    return made


@one_blas_thread()
def weigh_rows(
    propensity: Propensity, log: PreferenceLog, blocks: Blocks, target: Any, kind: str, clip: float | None,
    trim: float | None, floor: float, unsupported: float,
) -> Weights:  # fmt: skip
    """The weights of rows that know what was drawn; two passes over them, three where the largest are clipped."""
    if kind not in ("hajek", "stabilized", "overlap", "balance"):
        raise ValueError(f"kind must be 'hajek', 'stabilized', 'overlap' or 'balance', not {kind!r}")
    if isinstance(target, str) and target not in ("uniform", "log"):
        raise ValueError(f"target must be 'uniform', 'log', a frame or margins, not {target!r}")
    if clip is not None and not within("clip", clip, 0.0) > 0.0:
        raise ValueError(f"clip must be a positive number, not {clip!r}")
    if trim is not None and not 0.0 < within("trim", trim, 0.0, 1.0) < 1.0:
        raise ValueError(f"trim must lie between 0 and 1, not {trim!r}")
    within("floor", floor, 0.0, 1.0)
    within("unsupported", unsupported, 0.0, 1.0)
    if trim is not None and kind == "balance":
        raise ValueError('trim= leaves out rows that kind="balance" has balanced with: use one of them')
    _refuse_unknown(blocks)
    if propensity.misfit is not None:
        propensity.misfit.warn()
    words, by_label = _population(propensity, target, kind), sum(blocks.each(propensity.assigned.by_label))
    made = Weights(propensity, log, words, kind, trim=trim, by_label=by_label)
    if kind == "stabilized" or (isinstance(target, str) and target == "log"):
        made = replace(made, share=_shares(propensity, blocks))
    if not isinstance(target, str):
        contexts = _needs_contexts(propensity, "a target frame, or margins,")
        made = replace(made, toward=toward(contexts, log, blocks, target))
    if kind == "balance":
        made = replace(made, balancing=_balanced(made, blocks))
    if clip is None:  # one pass, in units of what the first rows tell of the mean
        made = replace(made, mean=_mean(made, replace(blocks, parts=blocks.parts[:1])))
        sums = _summed(made, blocks)
        ratio = sums.weight_sum / sums.sampled
        made, sums = replace(made, mean=made.mean * ratio), sums.over(ratio)
    else:
        made = _clipped(made, blocks, clip)
        sums = _summed(made, blocks)
    facts = _overlap(made, sums)
    _refuse(made, facts, floor, unsupported)
    return replace(made, sums=sums, facts=facts)


def warn_of_reach(made: Weights) -> None:
    """Warns where weights 1 / P of pairs add up to little of what they should over all that chance could have shown.

    An effective size does not see it: where contexts tell the pair of every row all weights are alike.
    """
    assigned = made.propensity.assigned
    reach = made.mean / assigned.every
    if made.kind == "hajek" and made.share is None and assigned.kind == "pair" and reach < _REACH:
        warn(
            f"the weights of the pairs that were shown add up to {100 * reach:.0f} % of what they would over all pairs "
            "in all contexts: for the rest this log has no row. Either contexts nearly tell which pair was shown, or "
            "many pairs had hardly a chance. Use coarser contexts, leave out those that follow from the pair, or ask "
            "for what the log has (target='log', pairs='log')."
        )


def _refuse_unknown(blocks: Blocks) -> None:
    """Raises OverlapError where a row was assigned what the propensity does not know."""
    unknown = 0
    first: list[int] = []
    for rows in blocks.each(lambda block: block.numbers(np.flatnonzero(np.min(block.drawn, axis=0) < 0))):
        unknown += len(rows)
        first += rows[: 10 - len(first)].tolist()
    if unknown:
        raise OverlapError(
            f"{unknown} rows have an arm, pair or group that the propensity was not fitted to (first rows {first}): "
            "fit it on this log, or leave them out."
        )


def _population(propensity: Propensity, target: Any, kind: str) -> str:
    what = {"pair": "pair", "group": "group", "label": "row"}[propensity.assigned.kind]
    if kind == "overlap":
        return f"the contexts in which every {what} was likely (overlap population)"
    if propensity.assigned.kind == "label":
        often = "all rows that were shown, labelled or not"
    elif kind == "stabilized" or (isinstance(target, str) and target == "log"):
        often = f"every {what} as often as in the log, in every context alike"
    else:
        often = f"every {what} equally often, in every context alike"
    if isinstance(target, str):
        return often
    return f"{often}; contexts as in the {'margins' if isinstance(target, Mapping) else 'target frame'}"


def _shares(propensity: Propensity, blocks: Blocks) -> Shares:
    k, two = propensity.assigned.classes, propensity.assigned.kind == "pair" and propensity.assigned.pairs is None
    shape = (k, k) if two else (k,)

    def one(block: Block) -> Any:
        place = np.ravel_multi_index(block.drawn, shape)
        return np.bincount(place, sampling_weights(block), int(np.prod(shape))).reshape(shape)

    counts = np.sum(list(blocks.each(one)), axis=0)
    return Shares((counts + counts.T if two else counts) / counts.sum(), float(counts.sum()))


def _needs_contexts(propensity: Propensity, what: str) -> Contexts:
    if propensity.contexts is None:
        raise ValueError(f"{what} needs a propensity with contexts; {propensity.spec} has none")
    return propensity.contexts


def _all(block: Block) -> Any:
    return np.zeros((1, block.n), np.int64)


def toward(contexts: Contexts, log: PreferenceLog, blocks: Blocks, target: Any) -> Balancing:
    """Weights of contexts that give the log the means of a frame of target rows, or the margins."""
    n = sum(blocks.each(lambda block: float(sampling_weights(block).sum())))
    if isinstance(target, Mapping):
        kept, means = _margins(contexts, target)
    else:
        kept, means = np.arange(len(contexts.mean)), _means(contexts, log, target)
    kept, means, absent = _without_absent(contexts, kept, means)
    goal = n * np.concatenate([[1.0], (means - contexts.mean[kept]) / contexts.scale[kept]])[None]
    places = np.concatenate([[0], 1 + kept])
    design, base = partial(_rows_of, contexts, places), partial(_present, absent)
    return balance(blocks, _all, design, base, goal, ("the target's contexts",))


def _present(absent: list[Any], block: Block) -> Any:
    """(n,) 0 for rows with a value that the target does not have, else 1. absent: codes, by column of text."""
    asked = [~np.isin(codes, none) for codes, none in zip(block.levels, absent, strict=True) if len(none)]
    return np.ones(block.n) * np.logical_and.reduce(asked) if asked else np.ones(block.n)


def _rows_of(contexts: Contexts, places: Any, block: Block) -> Any:
    """Some rows of a block's design."""
    matrix = contexts.matrix(block)
    return matrix if len(places) == len(matrix) else matrix[places]


def _without_absent(contexts: Contexts, kept: Any, means: Any) -> tuple[Any, Any, list[Any]]:
    """The columns and means that are left where the target lacks some values, and those values' codes by column."""
    at, use, absent = len(contexts.numeric), np.ones(len(kept), bool), []
    for _, values in contexts.levels:
        mine = np.flatnonzero((kept >= at) & (kept < at + len(values) - 1))
        at += len(values) - 1
        share = np.concatenate([[1.0 - means[mine].sum()], means[mine]]) if len(mine) else np.ones(len(values))
        none = np.flatnonzero(share < 1e-9)
        use[mine[none[none > 0] - 1]] = False
        if len(none) and none[0] == 0:  # the reference is absent: the others' indicators add to 1
            use[mine[np.flatnonzero(share >= 1e-9)[-1] - 1]] = False
        absent.append(none)
    return kept[use], means[use], absent


def _margins(contexts: Contexts, margins: Mapping[str, Mapping[Any, float]]) -> tuple[Any, Any]:
    """Places of the indicator columns that margins speak of, and the shares they shall have."""
    known, terms = dict(contexts.levels), contexts.terms
    if not margins or not all(isinstance(wanted, Mapping) for wanted in margins.values()):
        raise ValueError(f"margins are {{context: {{value: share}}}}, of one context or more, not {margins!r}")
    places: list[int] = []
    shares: list[float] = []
    for name, wanted in margins.items():
        if name not in known:
            raise LogError(f"margins of {name!r}: the contexts with values are {list(known)}; cast numbers to text")
        given = {str(value): float(share) for value, share in wanted.items()}
        if set(given) != set(known[name]) or not np.isclose(sum(given.values()), 1.0) or min(given.values()) < 0:
            raise LogError(
                f"margins of {name!r} must give each of {list(known[name])} a share, 1 in all; got {dict(wanted)}"
            )
        places += [terms.index(f"{name}={value}") for value in known[name][1:]]
        shares += [given[value] for value in known[name][1:]]
    return np.array(places), np.array(shares)


def _means(contexts: Contexts, log: PreferenceLog, target: Any) -> Any:
    """(d,) means of the context columns of a target's rows."""
    if contexts.arms:
        raise ValueError("rows of a target show no arms: LabelPropensity(arms=True) takes margins, or no target")
    source = target_log(log, target)
    columns = source.schema()
    used = {root: name for name, column in zip(log.context_names(), log.context, strict=True) if name in contexts.names
            for root in (column.meta.root_names() if isinstance(column, pl.Expr) else [column])}  # fmt: skip
    lacking = [root for root in used if root not in columns]
    if lacking:
        raise LogError(f"the target frame lacks the columns {lacking} of the contexts; it has {columns.names()}")
    rows = read_rows(source, contexts.asked_of(Encoder({})), unlabelled=True)

    total = np.sum(list(rows.blocks.each(lambda block: contexts.matrix(block) @ sampling_weights(block))), axis=0)
    return contexts.mean + contexts.scale * total[1:] / total[0]


def _balanced(made: Weights, blocks: Blocks) -> Balancing:
    """Entropy balancing of every arm, group, or the labelled rows, to the target's context means."""
    propensity = made.propensity
    contexts, assigned = _needs_contexts(propensity, 'kind="balance"'), propensity.assigned
    n = sum(blocks.each(lambda block: float(sampling_weights(block).sum())))
    m, d = len(assigned.labels), 1 + len(contexts.mean)
    if assigned.kind == "label":
        labels: tuple[str, ...] = ("labelled rows",)
        totals, members = np.array([n]), _all
    elif assigned.kind == "group":
        labels, members = assigned.labels, lambda block: np.stack(block.drawn)
        totals = n * made.share.share if made.share is not None else np.full(m, n / m)
    else:
        labels, members = assigned.labels, assigned.arms
        totals = made.by_label if made.share is not None else np.full(m, 2.0 * n / m)
    means = np.append(1.0, np.zeros(d - 1)) if made.toward is None else _tilted_means(contexts, made.toward, blocks)
    drift = _mean_drift(contexts, means) if made.toward is None else _tilted_drift(contexts, means, made.toward, blocks)
    counted = made.share is not None and assigned.kind != "label"

    def base(block: Block) -> Any:
        return block.drawn[0] * 1.0 if assigned.kind == "label" else np.ones(block.n)

    goal, pairs = np.outer(totals, means), assigned.kind == "pair"
    kept = np.arange(d)
    if len(contexts.arms) and propensity.spec.ridge:  # all have an indicator there, one more than can be told apart
        kept = np.delete(kept, d - len(contexts.arms))
    return balance(blocks, members, partial(_rows_of, contexts, kept), base, goal[:, kept], labels, counted,
                   lambda block: drift(block)[:, kept], pairs)  # fmt: skip


def _tilted_means(contexts: Contexts, toward: Balancing, blocks: Blocks) -> Any:
    """(1 + d,) means of the design under the weights toward a target."""

    def one(block: Block) -> Any:
        return contexts.matrix(block) @ (toward.weight(block) * sampling_weights(block))

    total = np.sum(list(blocks.each(one)), axis=0)
    return total / total[0]


def _mean_drift(contexts: Contexts, means: Any) -> Any:
    """What rows add to the error of the log's own means, as :class:`Balancing` has it."""
    return lambda block: contexts.matrix(block).T - means


def _tilted_drift(contexts: Contexts, means: Any, toward: Balancing, blocks: Blocks) -> Any:
    """The same of tilted means: those that the tilt was given do not err, and others by what these do not tell."""

    def one(block: Block) -> Any:
        tilt = toward.weight(block) * sampling_weights(block)
        return (contexts.matrix(block) * tilt) @ toward.design(block).T

    told = toward.solve(np.sum(list(blocks.each(one)), axis=0).T)

    def drift(block: Block) -> Any:
        scores = toward.rows(replace(block, weight=None, count=None))[1]
        return (contexts.matrix(block) * toward.weight(block)).T - means + scores @ told

    return drift


def _finite(made: Weights, block: Block) -> tuple[Any, Any, Any]:
    """What :meth:`Weights.raw` gives. Raises OverlapError for a row without a finite weight."""
    raw, logp, tilt = made.raw(block)
    bad = np.flatnonzero(~np.isfinite(raw))
    if len(bad):
        first = np.sort(block.numbers(bad))[:10].tolist()
        raise OverlapError(
            f"{len(bad)} rows have no finite weight (first rows {first}): what they were assigned has probability 0 in "
            "their context, or the context is not one that the propensity knows."
        )
    return raw, logp, tilt


def _mean(made: Weights, blocks: Blocks) -> float:
    """Of the raw weights of some rows, those of 0 left out; 1 where there are none."""

    def one(block: Block) -> Any:
        raw, sampling = _finite(made, block)[0], sampling_weights(block)
        return np.array([raw @ sampling, sampling[raw > 0].sum()])

    total, rows = np.sum([*blocks.each(one)], axis=0).tolist()
    return total / rows if rows > 0 else 1.0


def _clipped(made: Weights, blocks: Blocks, clip: float) -> Weights:
    """The weights with mean 1 over the rows that have one, and the limit that clip asks for."""

    def one(block: Block) -> tuple[float, float, Any]:
        raw, sampling = _finite(made, block)[0], sampling_weights(block)
        return float(raw @ sampling), float(sampling[raw > 0].sum()), (fine_counts(raw, sampling) if clip < 1 else 0)

    total, rows, counts = (sum(part) for part in zip(*blocks.each(one), strict=True))
    mean = total / rows if rows else 1.0
    return replace(made, mean=mean, limit=clip if clip >= 1 or not rows else fine_quantile(counts, clip) / mean)


def _summed(made: Weights, blocks: Blocks) -> Sums:
    assigned, contexts = made.propensity.assigned, made.propensity.contexts
    labels = len(assigned.labels)

    def one(block: Block) -> Sums:
        raw, logp, tilt = _finite(made, block)
        limit = np.inf if made.limit is None else made.limit
        sampling = sampling_weights(block)
        members = assigned.arms(block) if assigned.kind == "pair" else np.stack(block.drawn)
        design = np.ones((1, block.n)) if contexts is None else contexts.matrix(block)
        w, totals, by_label, bins = np.empty(block.n), np.zeros(TOTALS), np.zeros((labels, 2)), np.zeros((labels, BINS))
        weight_sums(raw, logp, sampling, block.count, limit, members, w, totals, by_label, OCTAVE, bins)
        rows, sampled, clipped, cut, weight, squares, largest = totals.tolist()
        sums = np.zeros((labels, 2, len(design)))
        label_sums(design, np.stack([sampling, w]), members, np.empty(work_size(len(design))), sums)
        before, after = sums.swapaxes(0, 1)
        seen = np.zeros((labels, labels), bool)
        if assigned.kind == "pair":
            seen[members[0], members[1]] = True
            seen |= seen.T
        values = [] if contexts is None else [
            _by_value(codes, len(known), members, labels, sampling)
            for (_, known), codes in zip(contexts.levels, block.levels, strict=True)
        ]  # fmt: skip
        count = np.ones(block.n) if block.count is None else block.count
        trimmed = 0.0 if made.trim is None else float(count[logp < np.log(made.trim)].sum())
        return Sums(
            int(rows), sampled, int(clipped), int(trimmed), cut, weight, squares, largest, float(tilt @ sampling),
            by_label[:, 0], before[:, 0], after[:, 0], by_label[:, 1], before[:, 1:], after[:, 1:],
            design[1:] @ (tilt * sampling), bins, seen, fine_counts(np.minimum(raw, limit), sampling), values,
        )  # fmt: skip

    every = made.kind == "overlap" or isinstance(made.propensity.model, Classified)  # class's probability is made
    wide = 1 + (0 if contexts is None else len(contexts.mean)) + every * len(assigned.names())
    rows = max(PIECE, _CELLS // wide)

    def pieces(block: Block) -> Sums:
        return reduce(_plus, (one(part) for _, part in block.pieces(rows)))

    total = reduce(_plus, blocks.each(pieces))
    if not total.squares > 0:
        raise OverlapError(
            f"no row is left with a weight (trim={made.trim}), or one with a propensity of almost 0 leaves none to the "
            "others: support is empty"
        )
    return total


def _by_value(codes: Any, values: int, members: Any, labels: int, sampling: Any) -> Any:
    """(values, labels) weights of rows by their value of a context, which may be one that is not known, and label."""
    at = np.flatnonzero(codes >= 0)
    key, size = codes[at] * labels, values * labels
    return np.sum([np.bincount(key + who[at], sampling[at], size) for who in members], axis=0).reshape(values, labels)


def _plus(one: Sums, other: Sums) -> Sums:
    merged = {name: getattr(one, name) + getattr(other, name) for name in one.__dataclass_fields__
              if name not in ("values", "unit")}  # fmt: skip
    merged |= {"largest": max(one.largest, other.largest), "seen": one.seen | other.seen}
    return Sums(**merged, values=[x + y for x, y in zip(one.values, other.values, strict=True)])


def _overlap(made: Weights, s: Sums) -> Overlap:
    assigned = made.propensity.assigned
    with np.errstate(invalid="ignore", divide="ignore"):
        size = s.weight**2 / s.square
        share = size / s.comparisons
    by_label = pl.DataFrame(
        {"label": assigned.labels, "rows": s.comparisons, "effective_size": size, "effective_share": share}
    ).with_columns(pl.col(pl.Float64).fill_nan(None))
    effective = s.weight_sum**2 / s.squares
    empty, unsupported = _empty_cells(made, s)
    pairs = [(assigned.labels[i], assigned.labels[j]) for i, j in zip(*np.nonzero(np.triu(~s.seen, 1)), strict=True)]
    never = pairs if assigned.kind == "pair" else []
    return Overlap(
        s.rows, effective, effective / s.rows, s.largest / s.weight_sum, s.clipped, s.cut / (s.weight_sum + s.cut),
        made.limit, s.trimmed, unsupported, {f"{q:g}": fine_quantile(s.fine, q) / s.unit for q in _QUANTILES}, by_label,
        histogram_frame(assigned.labels, s.bins), pl.DataFrame(never, schema=["a", "b"], orient="row"), empty,
    )  # fmt: skip


def _empty_cells(made: Weights, s: Sums) -> tuple[pl.DataFrame, float]:
    """Context values with no row of a label though chance would have given 5; and the share of the target there.

    The target asks for every label in every context, and each group is asked about by itself: of groups the one that
    lacks most counts. Overlap weights ask for nothing where there is nothing.
    """
    assigned, contexts = made.propensity.assigned, made.propensity.contexts
    schema: dict[str, Any] = {"context": pl.String, "value": pl.String, "label": pl.String, "expected": pl.Float64}
    cells: list[tuple[Any, ...]] = []
    worst = 0.0
    asked = [1] if assigned.kind == "label" else np.flatnonzero(s.count > 0)
    for (name, known), table in zip(contexts.levels if contexts else (), s.values, strict=True):
        expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
        missing = np.zeros(table.shape, bool)
        missing[:, asked] = ((table == 0) & (expected >= _EXPECTED))[:, asked]
        cells += [
            (name, known[v], assigned.labels[j], expected[v, j]) for v, j in zip(*np.nonzero(missing), strict=True)
        ]
        lacking = (missing.T @ table.sum(axis=1))[asked] / table.sum()
        worst = max(worst, float(lacking.max() if assigned.kind == "group" else lacking.mean()))
    return pl.DataFrame(cells, schema=schema, orient="row"), 0.0 if made.kind == "overlap" else worst


def _refuse(made: Weights, facts: Overlap, floor: float, unsupported: float) -> None:
    """Raises OverlapError where the log can not stand for the target, with the figures and the ways out."""
    figures = (
        f"effective size {facts.effective_size:.1f} of {facts.rows} rows (share {facts.effective_share:.4f}), "
        f"largest share of the weight in one row {facts.largest_share:.2g}, share of the target without support "
        f"{facts.unsupported:.3f}"
    )
    ways = "Use coarser contexts, kind='overlap' (a question the log can answer), or trim="
    if made.propensity.model.separated():
        what = {"pair": "pair", "group": "group", "label": "answer"}[made.propensity.assigned.kind]
        raise OverlapError(
            f"the contexts tell the {what} of every row: no context was seen with another, so support is empty and the "
            "effective share is 0. Use coarser contexts, or collect rows in which it varies."
        )
    if facts.unsupported > unsupported:
        cells = ", ".join(f"{row['context']}={row['value']} has no {row['label']}"
                          for row in facts.empty_cells.head(3).iter_rows(named=True))  # fmt: skip
        raise OverlapError(
            f"{100 * facts.unsupported:.1f} % of the target has no support ({cells}); {figures}. {ways}, or put up "
            f"with more by unsupported={facts.unsupported + 0.01:.2f}."
        )
    if facts.effective_share < floor:
        raise OverlapError(f"too little overlap: {figures}; the floor is {floor}. {ways}, clip=, or a lower floor=.")
