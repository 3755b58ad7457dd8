"""Closed-form linear erasure of a concept from features (LEACE; Belrose et al. 2023, arXiv 2306.03819).

After it no linear map of the features is correlated with the concept, and of all affine maps of which that is true it
moves the features least.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from steelyard.errors import LogError
from steelyard.solve import one_blas_thread

_RANK = 1e-10  # share of the largest singular value below which a direction holds nothing


@dataclass(frozen=True)
class Erasure:
    """x -> x - lam * projection (x - mean). variance_removed: the share of the features' variance that goes with it."""

    mean: Any
    projection: Any
    lam: float
    variance_removed: float

    def __call__(self, features: Any) -> Any:
        """(n, d) of (n, d)."""
        return features - self.lam * (features - self.mean) @ self.projection.T


@one_blas_thread()
def erasure(features: Any, concept: Any, lam: float = 1.0) -> Erasure:
    """The map that takes a concept out of levels of features.

    Parameters
    ----------
    features : (n, d), of single responses, not of differences
    concept : (n,) whole numbers, or (n, c) numbers
    lam : 1: all of it, 0: nothing, between: that part

    Raises
    ------
    LogError
        Rows that do not match, a concept that is the same in every row, lam outside [0, 1].

    Examples
    --------
    >>> import numpy as np
    >>> from steelyard.objectives.erasure import erasure
    >>> x = np.random.default_rng(0).normal(size=(100, 3))
    >>> concept = (x[:, 0] > 0) * 1
    >>> erased = erasure(x, concept)(x)
    >>> bool(np.abs(np.cov(erased.T, concept)[:3, 3]).max() < 1e-12)
    True
    """
    x, told = np.asarray(features, np.float64), np.asarray(concept)
    if x.ndim != 2 or len(x) != len(told) or not 0.0 <= lam <= 1.0:
        raise LogError(f"features {x.shape}, concept {told.shape}, lam {lam}: one row each, lam within [0, 1]")
    if not np.isfinite(x).all() or (told.dtype.kind == "f" and not np.isfinite(told).all()):
        raise LogError("features and concept must be finite in every row")
    if told.ndim == 1:
        if told.dtype.kind == "f" and (told != np.round(told)).any():
            raise LogError("a concept of one column is classes, as whole numbers; give numbers as (n, 1)")
        told = told[:, None] == np.unique(told)
    mean, z = x.mean(axis=0), told - told.mean(axis=0)
    if not np.abs(z).max(initial=0.0) > 0:
        raise LogError("the concept is the same in every row: there is nothing to erase")
    unit, spread = x.std(axis=0), z.std(axis=0)
    unit = np.where(unit > 0, unit, 1.0)  # of any unit alike: erasure does not hang on it
    centred = (x - mean) / unit
    across = centred.T @ (z / np.where(spread > 0, spread, 1.0)) / len(x)
    root = np.linalg.qr(centred, mode="r") / np.sqrt(len(x))  # not the covariance: its squares hide small directions
    _, values, vectors = np.linalg.svd(root, full_matrices=False)
    held = values > _RANK * values[0]
    values, vectors = values[held], vectors[held].T
    whiten, back = vectors / values @ vectors.T, vectors * values @ vectors.T
    covariance = root.T @ root
    left, size, _ = np.linalg.svd(whiten @ across, full_matrices=False)
    left = left[:, size > _RANK * max(float(size[0]), _RANK)]
    own = back @ left @ left.T @ whiten
    moved = lam * own
    after = covariance - moved @ covariance - covariance @ moved.T + moved @ covariance @ moved.T
    held_back = float((np.diag(after) * unit**2).sum() / (np.diag(covariance) * unit**2).sum())
    return Erasure(mean, own * unit[:, None] / unit[None, :], lam, 1.0 - held_back)
