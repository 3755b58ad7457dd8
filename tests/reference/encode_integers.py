"""Twin of bindings/encode_integers.pyx."""

import numpy as np
from numpy.typing import NDArray

UNSEEN = -3


def encode_integers(
    values: NDArray[np.int32] | NDArray[np.int64], table: NDArray[np.int32], codes: NDArray[np.int32]
) -> int:
    """Codes (n,) of values by position in table; returns n or the first row whose value is outside or unseen."""
    inside = (values >= 0) & (values < len(table))
    known = inside & (np.append(table, UNSEEN)[np.where(inside, values, -1)] != UNSEEN)
    done = len(values) if known.all() else int(np.argmin(known))
    codes[:done] = table[values[:done]]
    return done
