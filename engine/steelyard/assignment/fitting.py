"""Fitting models of assignment to encoded rows: softmax, shares within strata, a logged column, a classifier."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from steelyard.assignment.assigned import Assigned, pair_number
from steelyard.assignment.contexts import Contexts
from steelyard.assignment.models import Classified, Frequency, Logged, SoftmaxModel
from steelyard.assignment.softmax import PRECISION, SoftmaxProblem, Solved
from steelyard.blocks import Block, ones
from steelyard.errors import ConvergenceError, LogError, NotIdentifiedError, warn
from steelyard.models.row_blocks import Apart, weights
from steelyard.models.row_maximum import climb
from steelyard.models.row_problem import RowProblem
from steelyard.models.told_apart import identified
from steelyard.spill import Blocks, Later

_MOST_PAIRS = 2000  # classes of method="pairs"
_HUGE = 1e150  # of 1 / propensity, whose square is still a number
_STRATA_CELLS = 1 << 26  # cells of the table of shares


def pairs_shown(blocks: Blocks, k: int) -> Any:
    """(P, 2) the pairs that occur, codes of the lower arm first, sorted."""

    def one(block: Block) -> Any:
        return np.unique(pair_number(k, block.a, block.b))

    keys = np.unique(np.concatenate(list(blocks.each(one))))
    return np.stack([keys // k, keys % k], axis=1).astype(np.int32)


def fitted_model(
    spec: Any, assigned: Assigned, contexts: Contexts | None, blocks: Blocks
) -> SoftmaxModel | Frequency | Logged | Classified:
    """The model that a propensity's spec asks for, of rows that know what was drawn."""
    method = getattr(spec, "method", "softmax")
    if spec.classifier is not None:
        return classified(spec.classifier, assigned, contexts, blocks)
    if method == "logged":
        return logged(assigned, blocks)
    if method == "frequency":
        return shares(assigned, contexts, blocks)
    assert contexts is not None
    return softmax(spec, assigned, contexts, blocks)


def softmax(spec: Any, assigned: Assigned, contexts: Contexts, blocks: Blocks) -> SoftmaxModel:
    if assigned.pairs is not None and assigned.classes > _MOST_PAIRS:
        raise NotIdentifiedError(
            f"{assigned.classes} pairs: method='pairs' is for up to {_MOST_PAIRS}. Use method='softmax'."
        )
    d, k = 1 + len(contexts.mean), assigned.classes
    draws = 2 if assigned.kind == "pair" and assigned.pairs is None else 1
    if draws == 2:
        _refuse_ever_present(blocks, assigned)
    two = k == 2 and draws == 1
    designed = _designs_later(contexts, blocks) if two else blocks.map(partial(_designed, contexts))
    problem = SoftmaxProblem(designed, k, d, spec.ridge)
    told = [] if spec.ridge or two else problem.collinear()
    if told:
        names = [contexts.terms[j - 1] for j in told if j]
        raise NotIdentifiedError(f"the context columns {names} tell each other: leave some out, or shrink by ridge=")
    try:
        solved = _logistic(contexts, blocks, spec.ridge) if two else problem.maximise(_constants(designed, k, d))
    except (ConvergenceError, NotIdentifiedError) as error:
        if spec.ridge:
            raise
        raise NotIdentifiedError(_separated(assigned)) from error
    if two:
        solved = solved._replace(gamma=solved.gamma - solved.gamma[0])
    model = SoftmaxModel(contexts, problem, solved, np.array([1]) if two else np.arange(k), draws)
    if not spec.ridge and model.separated():
        raise NotIdentifiedError(_separated(assigned))
    return model


def _designs_later(contexts: Contexts, blocks: Blocks) -> Blocks:
    """Designs made whenever they are asked for: two classes are fitted without, and little else asks."""
    design, parts = partial(_designed, contexts), [part for part in blocks.parts if isinstance(part, Block)]
    if not blocks.in_memory or len(contexts.sums) != len(parts) or any(part.design is not None for part in parts):
        return blocks.map(design)
    return Blocks([Later(part, (partial(contexts.unchanged, i), design)) for i, part in enumerate(parts)])


def _designed(contexts: Contexts, block: Block) -> Block:
    return replace(block, columns=contexts.matrix(block), context=(), levels=(), design=None)


def _refuse_ever_present(blocks: Blocks, assigned: Assigned) -> None:
    """Raises NotIdentifiedError where one arm is in every row: no chance of being drawn explains that."""
    k = len(assigned.labels)
    counts = np.sum([*blocks.each(lambda block: np.bincount(np.concatenate(block.drawn), minlength=k))], axis=0)
    ever = np.flatnonzero(counts == counts.sum() // 2)
    if len(ever) and k > 2:
        raise NotIdentifiedError(
            f"every comparison has {assigned.labels[ever[0]]!r} as one of its arms: it was not drawn by chance, and no "
            "softmax of two draws fits. Use PairPropensity(method='pairs'), which asks which other arm was drawn."
        )


def _separated(assigned: Assigned) -> str:
    what = {"group": "the group", "label": "whether it was labelled", "pair": "the pair"}[assigned.kind]
    return (
        f"the contexts tell {what} of some or all rows completely, so that no finite coefficients are the best: the "
        "propensity goes to 0 or 1 there. Use coarser contexts, leave out the ones that decide it, or shrink by ridge=."
    )


def _constants(blocks: Blocks, k: int, d: int) -> Any:
    """(k, D) logits that fit the shares of what was drawn, whatever the context."""
    counts = sum(blocks.each(lambda block: np.bincount(np.concatenate(block.drawn), minlength=k)))
    start = np.zeros((k, d))
    start[:, 0] = np.log(np.maximum(counts, 0.5))
    return start - start.mean(axis=0)


def _logistic(contexts: Contexts, blocks: Blocks, ridge: float) -> Solved:
    """Two classes: the row likelihood without arms. Few columns are read as they lie, less their means."""
    names = ("intercept", *contexts.terms)
    rows = RowProblem(blocks, 0, names, "bradley-terry", np.append(0.0, np.full(len(names) - 1, ridge)))
    lying, unit = rows.narrow and not any(blocks.each(lambda block: block.design is not None)), np.ones(len(names))
    if lying:
        unit = np.append(1.0, contexts.scale)
        rows = replace(rows, penalty=rows.penalty * unit**2, apart=Apart(np.append(0.0, contexts.mean), unit))

    def row(block: Block) -> Block:
        columns = None if lying else contexts.matrix(block)
        context = (ones(block.n), *contexts.lying(block)) if lying else ()
        bare = replace(block, y=block.drawn[0].astype(np.float64), features=None, levels=(), design=None)
        return replace(bare, columns=columns, context=context)

    problem, start, place, _, information = identified(replace(rows, blocks=blocks.map(row)), 0.0)
    estimate = climb(problem, start, information, PRECISION)
    gamma = np.zeros((2, len(names)))
    gamma[1, list(place)] = estimate.parameter * unit[list(place)]
    return Solved(gamma, estimate.log_likelihood, estimate.iterations, estimate.gradient_norm)


def shares(assigned: Assigned, contexts: Contexts | None, blocks: Blocks) -> Frequency:
    assert contexts is not None
    strata, n = int(np.prod([len(values) for _, values in contexts.levels])), sum(blocks.each(lambda block: block.n))
    if strata > n:
        raise LogError(f"{strata} strata for {n} rows: strata must be fewer than rows; use coarser ones")
    if strata * assigned.classes > _STRATA_CELLS:
        raise LogError(f"{strata} strata of {assigned.classes} pairs are too many: use coarser strata")
    empty = Frequency(contexts, np.zeros((strata, assigned.classes)))

    def one(block: Block) -> Any:
        cell = empty.stratum(block) * assigned.classes + block.drawn[0]
        return np.bincount(cell, weights(block), empty.table.size)

    return replace(empty, table=sum(blocks.each(one)).reshape(empty.table.shape))


def logged(assigned: Assigned, blocks: Blocks) -> Logged:
    """Checks that 1 / propensity is near 1 on average over all rows, pair by pair."""

    def one(block: Block) -> tuple[int, Any]:
        with np.errstate(over="ignore"):
            inverse = np.minimum(1.0 / np.asarray(block.propensity), _HUGE)
        moments = [np.bincount(block.drawn[0], inverse**power, assigned.classes) for power in (1, 2)]
        return block.n, np.array(moments)

    rows, sums = (sum(part) for part in zip(*blocks.each(one), strict=True))
    mean = sums[0] / rows
    spread = np.sqrt(np.maximum(sums[1] / rows - mean**2, 0.0) / rows)
    off = np.flatnonzero(np.abs(mean - 1.0) > 4.0 * spread + 1e-9)
    if len(off):
        names = assigned.names()
        shown = ", ".join(f"{names[j]} {mean[j]:.3f}" for j in off[np.argsort(-np.abs(mean[off] - 1))][:5])
        warn(
            f"the mean of 1 / propensity over all rows should be 1 for every pair; for {len(off)} of {len(mean)} it "
            f"is further off than chance explains ({shown}): were these the probabilities of the pair, in every row?",
        )
    return Logged()


def classified(classifier: Any, assigned: Assigned, contexts: Contexts | None, blocks: Blocks) -> Classified:
    """A copy of the classifier, fitted to all rows in memory."""
    assert contexts is not None
    parts = list(blocks.each(lambda block: (contexts.matrix(block)[1:].T, block.drawn[0], weights(block))))
    x, y, w = (np.concatenate(part) for part in zip(*parts, strict=True))
    fitted = copy.deepcopy(classifier)
    fitted.fit(x, y) if (w == 1.0).all() else fitted.fit(x, y, sample_weight=w)
    return Classified(contexts, fitted, np.asarray(fitted.classes_), assigned.classes)
