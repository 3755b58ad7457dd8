"""Tests of the compiled modules: against their NumPy twins, then for what must hold whatever the twin says."""

from typing import Any

import numpy as np


def frozen(*arrays: Any) -> list[Any]:
    """Read-only copies; None stays None."""
    copies = [None if array is None else np.array(array, order="C") for array in arrays]
    for copy in copies:
        if copy is not None:
            copy.flags.writeable = False
    return copies
