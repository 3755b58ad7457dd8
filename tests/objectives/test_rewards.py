"""Reward models with objectives against scikit-learn, brute force and the algebra of erasure; what the dial does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy
from sklearn.linear_model import LogisticRegression
from steelyard import objectives, simulate
from steelyard.errors import LogError
from steelyard.objectives import Adversarial, Base, Linear, Multihead, ObjectiveFit, erasure


def small(rho: float = 0.7, n: int = 1200, seed: int = 1) -> simulate.Simulated:
    return simulate.confounded(n, rho, seed)


def fitted(model: Any, data: simulate.Simulated) -> ObjectiveFit:
    return model.fit(data.a, data.b, data.objective, data.label)


def independent(gap: Any, label: Any, ridge: float) -> Any:
    return LogisticRegression(C=1 / ridge, fit_intercept=False, tol=1e-10, max_iter=5000).fit(gap, label).coef_[0]


def test_linear_heads_equal_scikit_learn():
    data = small()
    gap = data.a - data.b
    base, heads = fitted(Base(ridge=2.0), data), fitted(Multihead(ridge=2.0), data)
    np.testing.assert_allclose(base.model.beta[0], independent(gap, data.label, 2.0), atol=1e-5)
    for c in (0, 1):
        own = data.objective == c
        np.testing.assert_allclose(heads.model.beta[c], independent(gap[own], data.label[own], 2.0), atol=1e-5)


def test_a_linear_base_ignores_the_objective():
    data = small()
    told = np.eye(2)[data.objective]  # appended to the features of both responses, as the paper does
    plain = fitted(Base(), data)
    with_it = Base().fit(np.hstack([data.a, told]), np.hstack([data.b, told]), data.objective, data.label)
    np.testing.assert_allclose(with_it.model.beta[:, :-2], plain.model.beta, rtol=1e-8)
    np.testing.assert_allclose(with_it.model.beta[:, -2:], 0.0, atol=1e-12)
    assert (plain.rewards(data.a, 0) == plain.rewards(data.a, 1)).all()
    heads = fitted(Multihead(), data)
    assert np.abs(heads.rewards(data.a, 0) - heads.rewards(data.a, 1)).max() > 0.1


def test_a_lower_rank_is_the_best_of_that_rank():
    data, ridge = small(n=600), 1.0
    gap, d = data.a - data.b, data.a.shape[1]

    def loss(flat: Any) -> tuple[float, Any]:
        heads, shared = flat[:2], flat[2:]
        eta = heads[data.objective] * (gap @ shared)
        off = 1 / (1 + np.exp(-eta)) - data.label
        value = np.logaddexp(0, eta).sum() - data.label @ eta + 0.5 * ridge * (flat @ flat)
        by_head = [float(off @ ((data.objective == c) * (gap @ shared))) for c in (0, 1)]
        return value, np.concatenate([by_head, (off * heads[data.objective]) @ gap]) + ridge * flat

    starts = np.random.default_rng(0).normal(size=(12, 2 + d))
    found = [scipy.optimize.minimize(loss, s, jac=True, method="L-BFGS-B", options={"maxiter": 4000}) for s in starts]
    best = min(found, key=lambda each: each.fun)
    mine = fitted(Multihead(rank=1, ridge=ridge), data).model.beta
    want = np.outer(best.x[:2], best.x[2:])
    np.testing.assert_allclose(mine, want, atol=1e-3)
    assert np.linalg.matrix_rank(mine, tol=1e-8) == 1
    free = fitted(Multihead(rank=2), data).model.beta
    np.testing.assert_allclose(free, fitted(Multihead(), data).model.beta)


@pytest.mark.parametrize("classes", [2, 4])
def test_erasure_leaves_no_linear_trace_and_moves_least(classes):
    rng = np.random.default_rng(0)
    concept = rng.integers(0, classes, 3000)
    x = rng.normal(size=(3000, 6)) @ rng.normal(size=(6, 6)) + rng.normal(size=(classes, 6))[concept]
    found = erasure(x, concept)
    z = np.eye(classes)[concept]
    erased = found(x)
    centred = erased - erased.mean(axis=0)
    np.testing.assert_allclose(centred.T @ (z - z.mean(axis=0)) / 3000, 0.0, atol=1e-12)
    # of all P with (I - P) Sigma_xz = 0 the one that moves least: P = S (S' Sigma^-1 S)^+ S' Sigma^-1
    covariance, across = np.cov(x.T, bias=True), ((x - x.mean(axis=0)).T @ (z - z.mean(axis=0))) / 3000
    across = across[:, 1:]
    inverse = np.linalg.inv(covariance)
    want = across @ np.linalg.inv(across.T @ inverse @ across) @ across.T @ inverse
    np.testing.assert_allclose(found.projection, want, atol=1e-9)
    lost = 1 - np.trace(np.cov(erased.T, bias=True)) / np.trace(covariance)
    assert found.variance_removed == pytest.approx(lost)
    np.testing.assert_allclose(found(erased), erased, atol=1e-10)  # nothing is left to erase
    half = erasure(x, concept, 0.5)
    np.testing.assert_allclose(half(x), (x + erased) / 2, atol=1e-10)
    assert 0 < half.variance_removed < found.variance_removed
    assert erasure(x, concept, 0.0).variance_removed == pytest.approx(0.0)
    told = LogisticRegression(C=1e6, max_iter=2000).fit(erased, concept)
    assert told.score(erased, concept) < 1.15 * np.bincount(concept).max() / 3000


def test_erasure_of_features_that_tell_each_other():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(500, 3))
    x = np.hstack([x, x[:, :1] + x[:, 1:2], np.ones((500, 1))])
    concept = (x[:, 0] > 0) * 1
    erased = erasure(x, concept)(x)
    assert np.abs(np.cov(erased.T, concept)[:-1, -1]).max() < 1e-12
    for scale in (1e-6, 1e6):  # the unit of a column is no matter
        unit = np.array([1.0, scale, scale, 1.0, 1.0])
        np.testing.assert_allclose(erasure(x * unit, concept)(x * unit), erased * unit, atol=1e-9 * max(scale, 1.0))
    for wrong in (
        lambda: erasure(x, np.zeros(500)),
        lambda: erasure(x, concept[:9]),
        lambda: erasure(x, concept, 2.0),
        lambda: erasure(x[:, 0], concept),
        lambda: erasure(x, x[:, 0]),
        lambda: erasure(np.where(x > 2, np.nan, x), concept),
    ):
        with pytest.raises(LogError):
            wrong()


@pytest.mark.parametrize("apart", [1.0, 1e-3, 1e-6])
def test_small_directions_and_large_concepts_are_erased_too(apart):
    rng = np.random.default_rng(2)
    x, group, time = rng.normal(size=(2000, 3)), rng.integers(0, 2, 2000), 1.7e15 + 1e12 * rng.normal(size=2000)
    x[:, 1] += group
    x = np.column_stack([x, x[:, 0] + apart * (group + rng.normal(size=2000))])
    erased = erasure(x, np.column_stack([group, time]))(x)
    for told in (erased[:, 1], (erased[:, 3] - erased[:, 0]) / apart):
        assert abs(np.corrcoef(told, group)[0, 1]) < 1e-6
        assert abs(np.corrcoef(told, time)[0, 1]) < 1e-6


def test_adversarial_is_heads_on_what_erasure_leaves():
    data = small()
    fit = fitted(Adversarial(lam=0.6), data)
    both, told = np.concatenate([data.a, data.b]), np.tile(data.objective, 2)
    erased = erasure(both, told, 0.6)
    heads = Multihead().fit(erased(data.a), erased(data.b), data.objective, data.label)
    np.testing.assert_allclose(fit.rewards(data.a, data.objective) - fit.rewards(data.b, data.objective),
                               heads.rewards(erased(data.a), data.objective)
                               - heads.rewards(erased(data.b), data.objective), atol=1e-8)  # fmt: skip
    assert fit.erased.variance_removed == erased.variance_removed > 0
    assert f"erasure took {100 * erased.variance_removed:.1f} % of their variance" in str(fit)
    assert "erasure" not in str(fitted(Base(), data))
    nothing = fitted(Adversarial(lam=0.0), data)
    np.testing.assert_allclose(nothing.model.beta, fitted(Multihead(), data).model.beta, rtol=1e-7)


def test_accuracy_of_parts():
    data = small()
    fit = ObjectiveFit("by hand", 2, data.a.shape[1], Linear(np.ones((2, data.a.shape[1]))))
    found = fit.accuracy(data)
    gap = (data.a - data.b).sum(axis=1)
    right = np.where(gap > 0, data.probability, 1 - data.probability)
    assert found["consistent"] == pytest.approx(right[data.consistent].mean())
    share = data.consistent.mean()
    assert found["all"] == pytest.approx(share * found["consistent"] + (1 - share) * found["inconsistent"])
    assert np.isnan(fit.accuracy(data.where(data.consistent))["inconsistent"])


def test_bad_input():
    data = small(n=50)
    parts = {"a": data.a, "b": data.b, "objective": data.objective, "label": data.label}
    broken = data.a.copy()
    broken[[3, 7], 0] = np.nan
    for wrong, words in (
        ({"b": data.b[:4]}, "one row a comparison"),
        ({"a": broken}, r"first rows \[3, 7\]"),
        ({"label": data.label + 1}, "within"),
        ({"objective": data.objective + 1}, "from 0"),
    ):
        with pytest.raises(LogError, match=words):
            Base().fit(**{**parts, **wrong})
    fit = fitted(Base(), data)
    for call, words in (
        (lambda: fit.rewards(data.a, 2), "from 0 to 1"),
        (lambda: fit.rewards(data.a[0], 0), "reads"),
        (lambda: fit.rewards(data.a[:, :1], 0), "reads"),
        (lambda: fit.rewards(broken, 0), r"first rows \[3, 7\]"),
    ):
        with pytest.raises(LogError, match=words):
            call()
    np.testing.assert_array_equal(fit.rewards(data.a[:2], [True, False]), fit.rewards(data.a[:2], [1, 0]))
    for wrong_spec in (
        lambda: Base(kind="neural"),
        lambda: Base(ridge=-1.0),
        lambda: Multihead(rank=0),
        lambda: Multihead(kind="network", rank=1),
        lambda: Adversarial(lam=1.5),
        lambda: Adversarial(kind="network", lam=float("nan")),
    ):
        with pytest.raises(ValueError, match="must be"):
            wrong_spec()
    pytest.importorskip("torch")
    with pytest.raises(LogError, match="too few"):
        fitted(Base(kind="network"), small(n=12))


@pytest.mark.slow
def test_what_the_dials_do_to_linear_models():
    """The shapes of both case studies, and where our own answer stands; five seeds."""
    from benchmarks import paper

    table = paper.summary(paper.measured(seeds=5, networks=False))

    def curve(case: int, world: str, model: str, part: str) -> Any:
        own = table.filter((table["case"] == case) & (table["world"] == world) & (table["model"] == model)
                           & (table["part"] == part)).sort("rho")  # fmt: skip
        return own["mean"].to_numpy()

    inside, outside = (curve(1, "simulated", "Base", part) for part in ("in", "out"))
    assert np.ptp(inside) < 4.0
    assert (np.diff(outside) < 0).all()
    assert (np.diff(inside - outside) > 0).all()
    for rho, found in zip(paper.RHO1, np.transpose([inside, outside]), strict=True):
        want = [100 * simulate.factors_accuracy(rho, rho), 100 * simulate.factors_accuracy(0.0, rho, True)]
        np.testing.assert_allclose(found, want, atol=0.8)
    base, heads, against, ours = (
        curve(2, "simulated", model, "inconsistent") for model in ("Base", "Multihead", "Adversarial", paper.OURS)
    )
    for falling in (base, heads, against):
        assert (np.diff(falling) < 0.5).all()
        assert falling[0] - falling[-1] > 10
    assert (heads[:-1] > base[:-1]).all()
    assert (against[2:5] > heads[2:5] + 1).all()  # the kinds of prompts differ along the rewards; if not:
    straight = [
        [model.fit(*simulate.confounded(3000, 0.9, s, aligned=False).parts)
         .accuracy(simulate.confounded(20_000, 0.5, 10**6, aligned=False))["inconsistent"]
         for s in range(5)]
        for model in (objectives.Multihead(), objectives.Adversarial())
    ]  # fmt: skip
    assert abs(np.mean(straight[0]) - np.mean(straight[1])) < 0.015
    assert abs(heads[-1] - 50) < 4  # collapsed
    assert (ours[1:5] > against[1:5]).all()
    assert np.isnan(ours[-1])  # refused
    told = table.filter((table["model"] == paper.OURS) & (table["rho"] == 1.0))
    assert told["seeds"].sum() == 0


def test_sides_are_alike_to_networks_where_there_are_ties():
    pytest.importorskip("torch")
    data = small(0.5, 600)
    label = np.where(np.arange(600) % 5 < 2, 0.5, data.label)
    for seed in range(3):
        one = Multihead(kind="network", seed=seed).fit(data.a, data.b, data.objective, label)
        other = Multihead(kind="network", seed=seed).fit(data.b, data.a, data.objective, 1.0 - label)
        assert (one.model.epoch, one.model.validation) == (other.model.epoch, other.model.validation)
        gaps = [fit.rewards(data.a, data.objective) - fit.rewards(data.b, data.objective) for fit in (one, other)]
        np.testing.assert_allclose(*gaps, atol=1e-3)


def test_networks_learn_and_repeat():
    pytest.importorskip("torch")
    data, test = small(0.5, 1500), simulate.confounded(4000, 0.5, seed=99)
    fits = [fitted(model(kind="network", seed=s), data) for model in (Base, Multihead, Adversarial) for s in (3, 3)]
    for first, second in zip(fits[::2], fits[1::2], strict=True):
        assert (first.rewards(test.a, test.objective) == second.rewards(test.a, test.objective)).all()
        assert first.accuracy(test)["all"] > 0.6
        held = np.random.default_rng(3).permutation(1500)[: 1500 * 15 // 100]
        own = data.where(held)
        gap = first.rewards(own.a, own.objective) - first.rewards(own.b, own.objective)
        assert first.model.validation == pytest.approx(((gap > 0) == (own.label > 0.5)).mean(), abs=1e-9)
    told = (
        fits[0].rewards(test.a, 0)
        - fits[0].rewards(test.b, 0)
        - fits[0].rewards(test.a, 1)
        + fits[0].rewards(test.b, 1)
    )
    assert np.abs(told).max() > 1e-3  # a network can use the objective
    for fit in fits[2::2]:
        assert fit.accuracy(test)["all"] > test.ceiling - 0.12
    blind = fitted(Adversarial(kind="network", seed=3, lam=0.0), data)  # the adversary learns, and changes nothing
    assert not np.array_equal(blind.rewards(test.a, 0), fits[4].rewards(test.a, 0))


def test_the_network_is_the_papers():
    torch = pytest.importorskip("torch")
    from steelyard.objectives import networks

    for kind, first in (("base", 7 + 2), ("multihead", 7), ("adversarial", 7)):
        network = networks.Network(kind, 7, 2, 1.0)
        sizes = [tuple(layer.weight.shape) for layer in network.map if hasattr(layer, "weight")]
        assert sizes == [(512, first), (512, 512), (1 if kind == "base" else 512, 512)]
        assert [type(layer).__name__ for layer in network.map][1::2] == ["GELU", "GELU"]
    shared = torch.ones(3, requires_grad=True)
    (networks._Reversed.apply(shared, 0.5) * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert shared.grad.tolist() == [-0.5, -1.0, -1.5]
    network, e, objective = networks.Network("adversarial", 7, 2, 1.0), torch.randn(20, 7), torch.arange(20) % 2
    torch.nn.functional.cross_entropy(network(e, objective)[1], objective).backward()
    up = [layer.weight.grad.clone() for layer in network.map if hasattr(layer, "weight")]
    network.zero_grad()
    torch.nn.functional.cross_entropy(network.adversary(network.map(e)), objective).backward()
    for mine, layer in zip(up, (layer for layer in network.map if hasattr(layer, "weight")), strict=True):
        torch.testing.assert_close(mine, -layer.weight.grad)  # the map goes the other way than its adversary


def test_without_pytorch_it_says_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "steelyard.objectives.networks", raising=False)
    with pytest.raises(ImportError, match=r"steelyard\[neural\]"):
        fitted(Base(kind="network"), small(n=60))
