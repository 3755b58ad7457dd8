"""Twin of bindings/clean_rows.pyx."""

import numpy as np
from numpy.typing import NDArray

STATUS = (
    "good", "unlabelled", "null arm", "unknown arm", "equal arms", "bad outcome", "bad weight", "bad count", "empty",
)  # fmt: skip


def clean_rows(
    a: NDArray[np.int32],
    b: NDArray[np.int32],
    label: NDArray[np.int32] | None,
    value: NDArray[np.float64] | None,
    outcome: NDArray[np.float64] | None,
    weight: NDArray[np.float64] | None,
    count: NDArray[np.float64] | None,
    y: NDArray[np.float64],
    status: NDArray[np.uint8],
) -> int:
    """Outcomes y (n,) and verdicts (n,), an index into STATUS; returns how many rows are not good."""
    if label is not None:
        assert value is not None
        known = (label >= 0) & (label < len(value))
        y[:] = np.nan
        y[known] = value[label[known]]
        labelled = label >= 0
    else:
        assert outcome is not None
        y[:] = outcome
        labelled = ~np.isnan(outcome)
    w = np.ones(len(a)) if weight is None else weight
    c = np.ones(len(a)) if count is None else count
    with np.errstate(invalid="ignore"):
        whole = np.isfinite(c) & (c >= 0) & (c <= 2.0**53) & (np.floor(c) == c)
        reasons = {
            "null arm": (a == -1) | (b == -1),
            "unknown arm": (a < 0) | (b < 0),
            "equal arms": a == b,
            "bad outcome": labelled & ~((y >= 0) & (y <= 1)),
            "bad weight": ~((w == 0) | ((w >= 1e-50) & (w <= 1e50))),
            "bad count": ~whole,
            "empty": (w == 0) | (c == 0),
            "unlabelled": ~labelled,
        }
    status[:] = np.select(list(reasons.values()), [STATUS.index(reason) for reason in reasons], 0)
    return int(np.count_nonzero(status))
