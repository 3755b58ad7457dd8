"""Latent overlap: whether the features of the two responses vary apart from each other (paper, 3.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from steelyard.blocks import Block, Encoder
from steelyard.errors import LogError, warn
from steelyard.log import needs_log
from steelyard.models.row_blocks import weights
from steelyard.rows import read_rows

if TYPE_CHECKING:
    from steelyard.log import PreferenceLog

INFLATED = 10.0  # variance inflation from which a feature is warned of


@dataclass(frozen=True, eq=False)
class LatentOverlap:
    """How far the features' differences vary apart. names: m features. correlation: (m, m), inflation: (m,).

    Correlations are about 0, not about the mean: which response comes first is no matter. Inflation is that of a
    coefficient's variance by the other features, 1 / (1 - R^2); infinite where they tell the feature.
    """

    names: tuple[str, ...]
    correlation: Any
    inflation: Any

    def frame(self) -> pl.DataFrame:
        """One row a feature: feature inflation closest correlation informative.

        closest: the feature it is most correlated with; informative: share of the comparisons in which these two
        pull in different directions, 1/2 - arcsin(r)/pi for a correlation of r or -r, were they normal.
        """
        size = np.abs(self.correlation)
        np.fill_diagonal(size, -1.0)
        closest = size.argmax(axis=1)
        rho = self.correlation[np.arange(len(closest)), closest]
        return pl.DataFrame(
            {
                "feature": self.names, "inflation": self.inflation,
                "closest": [self.names[j] for j in closest], "correlation": rho,
                "informative": 0.5 - np.arcsin(np.minimum(np.abs(rho), 1.0)) / np.pi,
            }
        )  # fmt: skip

    def __str__(self) -> str:
        return str(self.frame())


def latent_overlap(log: PreferenceLog) -> LatentOverlap:
    """Correlations and variance inflation of the differences of the features; two passes.

    Warns of features whose variance inflation is above 10: their effects can hardly be told apart.

    Raises
    ------
    LogError
        A log with fewer than two features, or bad rows.

    Examples
    --------
    >>> import polars as pl, steelyard as sy
    >>> frame = pl.DataFrame({"w": [1, 0, 1], "la": [3.0, 1.0, 2.0], "lb": [1.0, 2.0, 4.0],
    ...                       "na": [1.0, 5.0, 2.0], "nb": [2.0, 1.0, 7.0]})
    >>> log = sy.scan(frame, outcome="w", features=(["la", "na"], ["lb", "nb"]))
    >>> sy.latent_overlap(log).frame()["feature"].to_list()
    ['la', 'na']
    """
    names = tuple(needs_log(log).feature_names())
    if len(names) < 2:
        raise LogError(f"{log.name} has one feature, {names[0]!r}: overlap is between two or more")
    rows = read_rows(log, Encoder(dict(log.outcomes), covariates=(), features=names), unlabelled=True)

    def one(block: Block) -> Any:
        delta = np.asarray(block.features, np.float64)
        return (delta * weights(block)[:, None]).T @ delta

    gram = np.sum(list(rows.blocks.each(one)), axis=0)
    scale = np.sqrt(np.diag(gram))
    if not scale.all():
        flat = [name for name, s in zip(names, scale, strict=True) if not s]
        raise LogError(f"features {flat[:5]} are the same on both sides in every row: they can tell nothing")
    correlation = gram / np.outer(scale, scale)
    with np.errstate(divide="ignore"):
        inflation = np.where(collinear(correlation), np.inf, np.diag(np.linalg.pinv(correlation, hermitian=True)))
    inflated = [name for name, value in zip(names, inflation, strict=True) if value > INFLATED]
    if inflated:
        warn(
            f"{len(inflated)} of {len(names)} features ({', '.join(inflated[:5])}) have a variance inflation above "
            f"{INFLATED:g}: the comparisons hardly show one without the others, so that their effects are thinly "
            "supported. Leave some out, or collect comparisons in which they differ.",
        )
    return LatentOverlap(names, correlation, inflation)


def collinear(correlation: Any) -> Any:
    """(m,) bool: whether the other features tell this one."""
    return (null_space(correlation) ** 2).sum(axis=1) > 1e-8


def null_space(correlation: Any) -> Any:
    """(m, q) directions in which features with this correlation do not vary."""
    values, vectors = np.linalg.eigh(correlation)
    return vectors[:, values < 1e-10 * len(values)]
