"""The scikit-learn estimator: scikit-learn's own checks, and the fit that it wraps."""

import numpy as np
import polars as pl
import pytest
import steelyard as sy
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from steelyard.sklearn import RewardClassifier


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks([RewardClassifier(), RewardClassifier(ridge=0.1, link="probit", position=True)])
def test_checks_of_scikit_learn(estimator, check):
    check(estimator)


def comparisons(n=600, d=4, dtype=np.float64):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, d)).astype(dtype)
    return x, np.where(rng.random(n) < 1 / (1 + np.exp(-x @ [1.0, -0.5, 0.0, 0.3])), "won", "lost")


@pytest.mark.peers
@pytest.mark.parametrize("position", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_logistic_is_that_of_scikit_learn(position, dtype):
    x, y = comparisons(dtype=dtype)
    weight = np.arange(len(x)) % 3 + 0.5
    fit = RewardClassifier(ridge=2.0, position=position).fit(x, y, weight)
    peer = LogisticRegression(C=0.5, fit_intercept=position, tol=1e-12, max_iter=1000).fit(x.astype(float), y, weight)
    np.testing.assert_allclose(fit.coef_, peer.coef_, atol=1e-6)
    np.testing.assert_allclose(fit.intercept_, peer.intercept_, atol=1e-6)
    np.testing.assert_allclose(fit.predict_proba(x), peer.predict_proba(x.astype(float)), atol=1e-6)
    assert fit.score(x, y) == peer.score(x, y)


def test_it_is_the_reward_model():
    x, y = comparisons()
    fit = RewardClassifier(link="probit").fit(x, y)
    frame = pl.DataFrame({"y": y == "won", "a": pl.Series(x), "b": pl.Series(0 * x)}).cast({"y": pl.Int8})
    want = sy.RewardModel(ridge=1.0, link="probit").fit(sy.scan(frame, outcome="y", features=("a", "b")))
    np.testing.assert_allclose(fit.coef_[0], want.coefficients()["estimate"], rtol=1e-12)
    np.testing.assert_allclose(fit.reward_.coefficients()["se"], want.coefficients()["se"], rtol=1e-10)


def test_in_a_pipeline_and_a_search():
    x, y = comparisons()
    search = GridSearchCV(make_pipeline(StandardScaler(with_mean=False), RewardClassifier()),
                          {"rewardclassifier__ridge": [0.1, 1.0, 10.0, 1e5]}, scoring="neg_log_loss")  # fmt: skip
    assert search.fit(x, y).best_params_["rewardclassifier__ridge"] < 1e5
    assert search.score(x, y) > -0.65


def test_words_of_wrong_labels():
    x, y = comparisons()
    with pytest.raises(ValueError, match="y has 1 class"):
        RewardClassifier().fit(x, ["won"] * len(x))
    with pytest.raises(ValueError, match=r"y has 2 class.*, 1 of them with"):
        RewardClassifier().fit(x, y, (y == "won") * 1.0)
    with pytest.raises(sy.LogError, match="negative"):
        RewardClassifier().fit(x, y, np.where(y == "won", 1.0, -1.0))
    with pytest.raises(sy.SteelyardError, match="no finite maximum"):
        RewardClassifier(ridge=0.0).fit(x[:8], np.where(x[:8, 0] > 0, "won", "lost"))
    with pytest.raises(ValueError, match="link"):
        RewardClassifier(link="cauchit").fit(x, y)
