"""A likelihood of one's own: the logistic written by hand is the built-in one; wrong functions are refused."""

import copy
import math
import pickle

import numpy as np
import polars as pl
import pytest
import statsmodels.api as sm
import steelyard as sy


def value(eta, y):
    return y * eta - max(eta, 0.0) - math.log1p(math.exp(-abs(eta)))


def first(eta, y):
    return y - 1.0 / (1.0 + math.exp(-eta))


def second(eta, y):
    e = math.exp(-abs(eta))
    return -e / ((1.0 + e) * (1.0 + e))


def cloglog(eta, y):
    return y * math.log(-math.expm1(-math.exp(eta))) - (1.0 - y) * math.exp(eta)


def cloglog_first(eta, y):
    h = math.exp(eta)
    return y * h / math.expm1(h) - (1.0 - y) * h


def cloglog_second(eta, y):
    h = math.exp(eta)
    g = math.expm1(h)
    return y * h * (g - h * math.exp(h)) / (g * g) - (1.0 - y) * h


@pytest.fixture(scope="module")
def logistic():
    return sy.Likelihood(value, first, second)


def frame(seed, n=3000):
    rng = np.random.default_rng(seed)
    a = rng.integers(0, 5, n)
    columns = {"a": a, "b": (a + rng.integers(1, 5, n)) % 5, "y": rng.choice([0.0, 0.5, 1.0, 0.3], n)}
    return pl.DataFrame({**columns, "z": rng.normal(size=n), "w": rng.uniform(0.5, 2, n), "g": np.arange(n) % 60})


@pytest.mark.parametrize("roles", [{}, {"weight": "w"}, {"weight": "w", "cluster": "g", "covariates": {"z": "z"}}])
def test_the_logistic_by_hand_is_the_built_in_one(logistic, roles):
    log = sy.scan(frame(1), a="a", b="b", outcome="y", **roles)
    want = sy.BradleyTerry(position=True).fit(log)
    fit = sy.BradleyTerry(position=True, link=logistic).fit(log)
    np.testing.assert_allclose(fit.estimate.parameter, want.estimate.parameter, atol=1e-12)
    np.testing.assert_allclose(fit.covariance, want.covariance, rtol=1e-9, atol=1e-15)
    assert fit.log_likelihood == pytest.approx(want.log_likelihood, rel=1e-12)
    assert fit.win_probability("0", "1") == pytest.approx(want.win_probability("0", "1"), abs=1e-12)
    scored, wanted = (x.predict(log).collect().to_numpy() for x in (fit, want))
    np.testing.assert_allclose(scored, wanted, atol=1e-11)
    assert "Likelihood(value, first, second)" in fit.estimand


def test_rewards_and_another_likelihood(logistic):
    data = frame(2).with_columns(pl.col("y").round(), x=-pl.col("z"))
    log = sy.scan(data, outcome="y", features=(["z"], ["x"]))
    assert sy.RewardModel(link=logistic).fit(log).coefficient == pytest.approx(
        sy.RewardModel().fit(log).coefficient, abs=1e-12
    )
    family = sm.families.Binomial(sm.families.links.CLogLog())
    peer = sm.GLM(data["y"].to_numpy(), 2 * data["z"].to_numpy()[:, None], family=family).fit(tol=1e-14)
    fit = sy.RewardModel(link=sy.Likelihood(cloglog, cloglog_first, cloglog_second)).fit(log)
    assert fit.coefficient[0] == pytest.approx(peer.params[0], abs=1e-8)


def test_it_is_compiled_anew_where_a_copy_arrives(logistic):
    fit = sy.BradleyTerry(link=logistic).fit(sy.scan(frame(3), a="a", b="b", outcome="y"))
    for copied in (pickle.loads(pickle.dumps(fit)), copy.deepcopy(fit)):
        assert copied.table().equals(fit.table())
        assert np.array_equal(copied.spec.link.at([0.5], [1.0]), logistic.at([0.5], [1.0]))


def test_what_it_refuses(logistic, tmp_path):
    with pytest.raises(TypeError, match=r"the log-likelihood is a function of \(eta, y\), not 1"):
        sy.Likelihood(1, first, second)
    with pytest.raises(ValueError, match=r"first derivative 'second' is .* differences of 'value' give"):
        sy.Likelihood(value, second, second)
    with pytest.raises(ValueError, match="second derivative 'first'"):
        sy.Likelihood(value, first, first)
    with pytest.raises(ValueError, match="log-likelihood 'nowhere' is nan at eta"):
        sy.Likelihood(nowhere, first, second)
    with pytest.raises(ValueError, match="log-likelihood 'strange' does not compile"):
        sy.Likelihood(strange, first, second)
    with pytest.raises(ValueError, match="takes ties='half' or 'drop'"):
        sy.BradleyTerry(link=logistic, ties="davidson")
    with pytest.raises(ValueError, match="link must be one of"):
        sy.BradleyTerry(link="cauchit")
    fit = sy.BradleyTerry(link=logistic).fit(sy.scan(frame(3), a="a", b="b", outcome="y"))
    with pytest.raises(ValueError, match="is code, and files hold none"):
        fit.save(tmp_path / "fit.sy")


def nowhere(eta, y):
    return math.sqrt(eta - 9.0) * y


def strange(eta, y):
    return open(str(eta))  # noqa: PTH123
