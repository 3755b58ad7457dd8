"""Twin of bindings/weight_sums.pyx."""

import numpy as np
from numpy.typing import NDArray

TOTALS = 7


def weight_sums(
    raw: NDArray[np.float64],
    log_propensity: NDArray[np.float64],
    sampling: NDArray[np.float64] | None,
    count: NDArray[np.float64] | None,
    limit: float,
    codes: NDArray[np.int32],
    weight: NDArray[np.float64],
    totals: NDArray[np.float64],
    by_label: NDArray[np.float64],
    per_octave: float,
    histogram: NDArray[np.float64],
) -> None:
    """Writes weight (n,), adds to totals (7,), by_label (labels, 2) and histogram (labels, bins)."""
    n = len(raw)
    s, c = (np.ones(n) if some is None else some for some in (sampling, count))
    weight[:] = np.minimum(raw, limit) * s
    each, over = weight / c, raw > limit
    totals[:6] += [c[raw > 0].sum(), s[raw > 0].sum(), c[over].sum(), ((raw - limit) * s)[over].sum(), weight.sum(),
                   weight @ each]  # fmt: skip
    totals[6] = max(totals[6], each.max(initial=0.0))
    bins = histogram.shape[1]
    place = np.clip(-log_propensity / np.log(2.0) * per_octave, 0, bins - 1).astype(int)
    for own in codes:
        np.add.at(by_label, own, np.stack([c, weight * each], axis=1))
        np.add.at(histogram, (own, place), c)


def log_counts(
    values: NDArray[np.float64],
    count: NDArray[np.float64] | None,
    per_octave: float,
    low: float,
    counts: NDArray[np.float64],
) -> None:
    """Adds to counts (bins,) how often positive values lie in each bin of their logarithm."""
    place = np.clip((np.log2(values[values > 0]) - low) * per_octave, 0, len(counts) - 1).astype(int)
    np.add.at(counts, place, 1.0 if count is None else count[values > 0])
