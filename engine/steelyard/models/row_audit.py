"""The drop audit of fits that keep their rows: each is weighed, and what is left is maximised again."""

from __future__ import annotations

from typing import Any

import numpy as np

from steelyard.errors import LogError
from steelyard.inference.audit import fewest_rows
from steelyard.models.cells import Estimate
from steelyard.models.row_blocks import weights
from steelyard.models.row_maximum import maximise
from steelyard.models.row_problem import RowProblem

WON = {1.0: "a", 0.5: "tie", 0.0: "b"}  # outcomes in words
_ZERO = 1e-7  # of the weight: the score that rounding may leave where a fit has stopped, at 1e-10 of it


def fewest_of(
    problem: RowProblem, estimate: Estimate, along: Any, direction: Any, before: float
) -> tuple[int | None, Any, float | None]:
    """What :func:`fewest_rows` says of the contrast along' parameter; the rows taken as (n,). direction: A^+ along."""
    problem = _unchanged(problem, estimate)
    count = np.concatenate(list(problem.blocks.each(weights)))
    effect = problem.effects(estimate, direction) / count

    def refitted(left: Any) -> float:
        return float(along @ maximise(problem.weighted(left[:, 0]), estimate.parameter).estimate.parameter)

    rows, taken, after = fewest_rows(count[:, None], effect[:, None], before, refitted)
    return rows, taken[:, 0], after


def _unchanged(problem: RowProblem, estimate: Estimate) -> RowProblem:
    """The rows of a fit. LogError where they are not what was fitted: those of a frame stay where they lie in it."""
    scaled, slope = estimate.parameter * problem.scale, problem.slope(estimate.parameter)
    if float(np.abs(problem.penalised(scaled, *slope)[1]).max(initial=0.0)) > _ZERO * problem.totals.weight:
        raise LogError(
            "the covariates or features are not what they were when they were fitted, where they still lie: fit again, "
            "or scan a copy of what you go on to change"
        )
    return problem
