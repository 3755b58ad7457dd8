"""Propensities fitted to the rows outside each fold, with the same folds as the outcome model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from steelyard.assignment.fitting import fitted_model
from steelyard.assignment.models import Logged, SoftmaxModel
from steelyard.assignment.propensity import Propensity
from steelyard.blocks import Block
from steelyard.causal.contextual import ContextualProblem
from steelyard.causal.folds import fold_slices, refuse_lone
from steelyard.errors import NotIdentifiedError, OverlapError, SteelyardError
from steelyard.spill import changed, joined, settled


def held_out(propensity: Propensity, folds: int) -> list[Propensity]:
    """For each fold the propensity that its rows have no part in; the given one where there is one fold."""
    model = propensity.model
    if folds == 1 or isinstance(model, Logged):
        return [propensity] * folds
    if propensity.assigned.kind != "pair" or propensity.assigned.pairs is not None:
        _refuse_lone_classes(propensity, folds)
    try:
        if isinstance(model, SoftmaxModel) and len(model.free) == model.problem.k:
            gammas = model.problem.held_out(folds, model.gamma)
            models: list[Any] = [_at(model, gamma) for gamma in gammas]
        elif isinstance(model, SoftmaxModel):
            models = _of_two(model, folds)
        else:
            parts = propensity.blocks.split(folds)
            others = [joined([part for f, part in enumerate(parts) if f != fold]) for fold in range(folds)]
            models = [fitted_model(propensity.spec, propensity.assigned, propensity.contexts, rows) for rows in others]
    except SteelyardError as error:
        words = f"without some fold the propensity has no fit: {error} Or use fewer folds."
        raise NotIdentifiedError(words) from error
    return [replace(propensity, model=each) for each in models]


def _refuse_lone_classes(propensity: Propensity, folds: int) -> None:
    """Raises NotIdentifiedError where one fold holds every row of what has a probability of its own."""
    assigned = propensity.assigned

    def one(block: Block) -> Any:
        cell = np.asarray(block.fold).astype(np.int64) * assigned.classes + block.drawn[0]
        return np.bincount(cell, minlength=folds * assigned.classes)

    rows = np.sum([*propensity.blocks.each(one)], axis=0).reshape(folds, assigned.classes)
    what, out = {
        "pair": ("pairs", "use PairPropensity(method='softmax'), leave them out"),
        "group": ("groups", "join them with others, leave them out"),
        "label": ("kinds of rows", "leave the label propensity out"),
    }[assigned.kind]
    refuse_lone(rows, assigned.names(), what, out)


def _of_two(model: SoftmaxModel, folds: int) -> list[Any]:
    """Two classes: one logistic vector, the second class against the first."""

    def ready(block: Block) -> Block:
        y = block.drawn[0].astype(np.float64)
        none = np.empty((0, block.n))
        return replace(block, y=y, features=None, design=none, levels=(), clusters=(), propensity=None)

    parts = settled(model.problem.blocks).map(ready).split(folds, view=True)
    penalty = np.where(np.arange(model.problem.d) > 0, model.problem.ridge, 0.0)
    fit = ContextualProblem(parts, (), 0, model.problem.d, penalty, model.gamma[1] - model.gamma[0]).fit()
    return [_at(model, np.stack([np.zeros(model.problem.d), beta])) for beta in fit.held_beta]


def _at(model: SoftmaxModel, gamma: Any) -> SoftmaxModel:
    return replace(model, solved=model.solved._replace(gamma=gamma))


def shown(held: list[Propensity], block: Block) -> Any:
    """(n,) probability of what each row of a block was assigned, by the propensity that its fold had no part in.

    Raises OverlapError where that is 0 or not known: nothing can weigh such a row.
    """
    block, value = changed(block, held[0].read), np.empty(block.n)
    for f, at in fold_slices(block):
        value[at] = np.exp(held[f].log_probability(block.where(at, view=True)))
    bad = np.flatnonzero(~(value > 1e-300))
    if len(bad):
        what = {"pair": "pair", "group": "group", "label": "answer"}[held[0].assigned.kind]
        first = np.sort(block.numbers(bad))[:10].tolist()
        raise OverlapError(
            f"{len(bad)} rows (first rows {first}): their {what} has propensity 0 in their context, by the other "
            "folds. Use coarser contexts or strata, a ridge, fewer folds, or leave them out."
        )
    return value
