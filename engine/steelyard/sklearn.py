"""Rewards as a scikit-learn estimator, for its pipelines and searches. Needs the extra ``sklearn``."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import polars as pl
import scipy  # its parts load when first used
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from steelyard.log import scan
from steelyard.models.reward import RewardModel


class RewardClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Which of two responses is preferred, by a reward linear in their features: :class:`steelyard.RewardModel`.

    X (n, d) holds the features of response a less those of response b, float32 or float64; y (n,) two labels, of which
    the one that sorts last says that a was preferred.

    Parameters
    ----------
    ridge : r in r/2 ||beta||^2 on the summed log-likelihood; 1 / C of scikit-learn
    link : "logistic" or "probit"
    position : whether being shown first, as a was in every row, has an effect of its own: the intercept

    Attributes
    ----------
    classes_ : (2,) labels
    coef_ : (1, d) rewards of the features
    intercept_ : (1,) effect of being shown first, 0 without one
    n_iter_ : steps of the solver
    reward_ : the fit, with sandwich errors, contrasts and intervals: ``reward_.coefficients()``

    Examples
    --------
    >>> import numpy as np
    >>> from steelyard.sklearn import RewardClassifier
    >>> x = np.array([[2.0, 0.0], [1.0, 1.0], [-1.0, 1.0], [-2.0, 0.0]])
    >>> fit = RewardClassifier(ridge=0.5).fit(x, ["won", "won", "lost", "lost"])
    >>> fit.predict(-x).tolist()  # the two sides swapped
    ['lost', 'lost', 'won', 'won']
    """

    def __init__(
        self, ridge: float = 1.0, link: Literal["logistic", "probit"] = "logistic", position: bool = False
    ) -> None:
        self.ridge = ridge
        self.link = link
        self.position = position

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> RewardClassifier:
        """The rewards. sample_weight: (n,) what each comparison counts; default 1.

        Raises ValueError for values that are not finite and for other than two labels; NotIdentifiedError where
        ridge=0 and features tell every outcome.
        """
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32], order="C")
        check_classification_targets(y)
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64)
        self.classes_, won = np.unique(y, return_inverse=True)
        counted = len(np.unique(won[weight != 0]))
        if len(self.classes_) != 2 or counted != 2:
            raise ValueError(
                f"Only binary classification is supported: y has {len(self.classes_)} class(es), {counted} of them "
                "with non-zero sample weights; it needs 2"
            )
        columns = {"won": won.astype(np.float64), "delta": pl.Series(X), "weight": weight}
        none = pl.lit(pl.Series(np.zeros_like(X[:1]))).first()
        weighted = None if sample_weight is None else "weight"
        log = scan(columns, outcome="won", features=("delta", none), weight=weighted)
        self.reward_ = RewardModel(ridge=self.ridge, link=self.link, position=self.position).fit(log)
        d, known = X.shape[1], self.reward_.coefficient
        self.coef_, self.intercept_ = known[None, :d], known[d:] if self.position else np.zeros(1)
        self.n_iter_ = self.reward_.iterations
        return self

    def decision_function(self, X: Any) -> Any:
        """(n,) margins: how much better a's reward is than b's."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        return X @ self.coef_[0] + self.intercept_[0]

    def predict_proba(self, X: Any) -> Any:
        """(n, 2) chance of each label."""
        margin = self.decision_function(X)
        chance = scipy.special.expit if self.link == "logistic" else scipy.special.ndtr
        return np.stack([chance(-margin), chance(margin)], axis=1)

    def predict(self, X: Any) -> Any:
        """(n,) the likelier label."""
        likely = self.decision_function(X) > 0
        return self.classes_[likely.astype(np.intp)]
