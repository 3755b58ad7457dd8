"""Likelihoods of the paired-comparison models: twins, derivatives, accuracy, limits."""

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from steelyard._native import pair_likelihood as native

from tests.native import frozen
from tests.reference import pair_likelihood as twin

MODELS = list(native.MODELS)
TIED = ("davidson", "rao-kupper")
SCALES = np.geomspace(1e-4, 200.0, 10)
seeds = st.integers(0, 2**32 - 1)


def problem(rng, n, k, scale, ties=True):
    """Read-only a, b, first, outcomes, theta."""
    a = rng.integers(0, k, n, np.int32)
    b = ((a + rng.integers(1, k, n)) % k).astype(np.int32)
    outcomes = rng.integers(0, 6, (n, 3)) * rng.choice([1.0, 0.3], (n, 1))
    outcomes[:, 1] *= ties
    return frozen(a, b, rng.integers(0, 2, n).astype(np.float64), outcomes, scale * rng.uniform(-1, 1, k))


def likelihood(model, columns, kappa, tie, module=native):
    out = np.full((6, len(columns[0])), 7.0)  # rows that a model does not have stay as they were
    module.pair_likelihood(native.MODELS[model], *columns, kappa, tie, out)
    return out


def one_cell(model, eta, outcomes, tie=0.0):
    """The six numbers of cells with linear predictors eta (n,) and outcomes (n, 3), one cell each."""
    n = len(eta)
    codes = np.arange(n, dtype=np.int32)
    columns = frozen(codes, codes + np.int32(n), np.zeros(n), outcomes, np.concatenate([eta, np.zeros(n)]))
    return likelihood(model, columns, 0.0, tie)


def exact(model):
    """log P(win), log P(tie), log P(loss) as mpmath functions of eta and tie; half-win ties where ties have none."""

    def log_s(x):
        return -mpmath.log1p(mpmath.exp(-x)) if x > 0 else x - mpmath.log1p(mpmath.exp(x))

    def log_phi(x):
        return mpmath.log(mpmath.erfc(-x / mpmath.sqrt(2)) / 2)

    def davidson(eta, tie):
        total = mpmath.log(mpmath.exp(eta / 2) + mpmath.exp(tie) + mpmath.exp(-eta / 2))
        return eta / 2 - total, tie - total, -eta / 2 - total

    def rao_kupper(eta, tie):
        gap = mpmath.log(-mpmath.expm1(-2 * tie))
        return log_s(eta - tie), log_s(tie - eta) + log_s(tie + eta) + gap, log_s(-eta - tie)

    def halved(log_p):
        return lambda eta, tie: (log_p(eta), (log_p(eta) + log_p(-eta)) / 2, log_p(-eta))

    return {
        "bradley-terry": halved(log_s), "davidson": davidson, "rao-kupper": rao_kupper, "probit": halved(log_phi),
    }[model]  # fmt: skip


def test_models_are_numbered_alike():
    assert native.MODELS == twin.MODELS


@settings(max_examples=120, deadline=None)
@given(
    model=st.sampled_from(MODELS),
    n=st.integers(0, 30) | st.sampled_from([255, 256, 257, 600]),
    k=st.integers(2, 8),
    scale=st.sampled_from([0.0, 1e-3, 1.0, 5.0, 30.0, 300.0]),
    kappa=st.floats(-3, 3),
    tie=st.floats(0.01, 5),
    seed=seeds,
)
def test_likelihood_equals_twin(model, n, k, scale, kappa, tie, seed):
    rng = np.random.default_rng(seed)
    columns = problem(rng, n, k, scale)
    tie = tie * rng.choice([-1, 1]) if model == "davidson" else tie
    got, want = likelihood(model, columns, kappa, tie), likelihood(model, columns, kappa, tie, twin)
    if model == "probit" and scale == 300.0:  # the twin loses Mills' ratio minus its argument there
        got[3] = want[3] = 0.0
    size = 1.0 + columns[3].sum(axis=1) * (1.0 + 2.0 * scale)
    np.testing.assert_allclose(got / size, want / size, rtol=1e-9, atol=1e-11)


@settings(max_examples=60, deadline=None)
@given(
    model=st.sampled_from(MODELS),
    eta=st.lists(st.floats(-700, 700) | st.floats(-3, 3), max_size=20),
    tie=st.floats(0.001, 20),
)
def test_outcomes_equal_twin(model, eta, tie):
    (eta,) = frozen(np.array(eta, np.float64))
    p_a, p_tie, want_a, want_tie = np.zeros((4, len(eta)))
    native.pair_outcomes(native.MODELS[model], eta, tie, p_a, p_tie)
    twin.pair_outcomes(native.MODELS[model], eta, tie, want_a, want_tie)
    np.testing.assert_allclose(p_a, want_a, rtol=1e-12 if model != "davidson" else 1e-11, atol=1e-307)
    np.testing.assert_allclose(p_tie, want_tie, rtol=1e-11, atol=1e-307)
    assert ((p_a >= 0) & (p_tie >= 0) & (p_a + p_tie <= 1 + 1e-15)).all()


@settings(max_examples=80, deadline=None)
@given(n=st.integers(0, 60), k=st.integers(2, 6), position=st.booleans(), tie=st.booleans(), seed=seeds)
def test_accumulate_equals_twin(n, k, position, tie, seed):
    rng = np.random.default_rng(seed)
    a, b, first, _, _ = problem(rng, n, k, 1.0)
    (derivatives,) = frozen(rng.normal(size=(6, n)))
    p = k + position + tie
    start = rng.normal(size=(p, p))
    got = [np.ones(p), start + start.T]
    want = [array.copy() for array in got]
    for module, (score, hessian) in ((native, got), (twin, want)):
        module.pair_score(k, position, tie, a, b, first, derivatives, score)
        module.pair_hessian(k, position, tie, a, b, first, derivatives, hessian)
    for mine, twins in zip(got, want, strict=True):
        np.testing.assert_allclose(mine, twins, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(got[1], got[1].T)


@settings(max_examples=120, deadline=None)
@given(
    model=st.sampled_from(MODELS),
    n=st.integers(0, 30) | st.sampled_from([255, 256, 257, 600]),
    k=st.integers(2, 8),
    position=st.booleans(),
    seed=seeds,
)
def test_sums_equal_twin(model, n, k, position, seed):
    rng = np.random.default_rng(seed)
    columns, q = problem(rng, n, k, 2.0), position + (model in TIED)
    start = [rng.normal(size=size) for size in (k + q, k, (k, q), (q, q), n)]
    got, want = ([array.copy() for array in start] for _ in range(2))
    values = [
        module.pair_sums(native.MODELS[model], position, *columns, 0.3, 0.7, *parts)
        for module, parts in ((native, got), (twin, want))
    ]
    np.testing.assert_allclose(*values, rtol=1e-11, atol=1e-11)
    for mine, twins in zip(got, want, strict=True):
        np.testing.assert_allclose(mine, twins, rtol=1e-11, atol=1e-11 * (1 + n))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("model", MODELS)
def test_cell_derivatives_at_ten_scales(model, scale):
    """Value, first and second derivatives of a cell of each kind against 280-digit differences."""
    rng = np.random.default_rng(int(1e6 * scale))
    eta = (
        scale * np.array([1.0, -1.0, *rng.uniform(-1, 1, 2)]) if scale < 30 or model != "probit" else scale * np.ones(2)
    )
    kinds = np.array([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0], [3.0, 1.0, 2.0]])
    tie = float(rng.uniform(0.05, 1.0)) if model in TIED else 0.0
    tie = -tie if model == "davidson" else tie
    cells = np.repeat(eta, 4), np.tile(kinds, (len(eta), 1))
    got = one_cell(model, *cells, tie)
    log_p, orders = exact(model), {0: (0, 0), 1: (1, 0), 2: (0, 1), 3: (2, 0), 4: (1, 1), 5: (0, 2)}
    with mpmath.workdps(280):
        for row in range(6) if model in TIED else (0, 1, 3):
            by_kind = {}
            for x in eta:
                step = mpmath.mpf(10) ** -50
                grid = {
                    (i, j): log_p(mpmath.mpf(x) + i * step, mpmath.mpf(tie) + j * step)
                    for i in (-1, 0, 1) for j in (-1, 0, 1) if (i == j == 0) or orders[row] != (0, 0)
                }  # fmt: skip
                by_kind[x] = [_difference({at: v[o] for at, v in grid.items()}, orders[row], step) for o in range(3)]
            want, size = np.empty(len(cells[0])), np.empty(len(cells[0]))
            for c, (x, outcomes) in enumerate(zip(*cells, strict=True)):
                terms = [w * v for w, v in zip(outcomes.tolist(), by_kind[x], strict=True)]
                want[c] = float(sum(terms))
                # a tie is computed from a win and a loss, so it carries their rounding
                size[c] = outcomes.sum() * float(sum(abs(v) for v in by_kind[x]))
            sign = -1.0 if row >= 3 else 1.0
            # what a difference of probabilities, of logarithms (Davidson), of exponents x^2 / 2 (probit) loses
            rounding = {
                "bradley-terry": 0.0,
                "davidson": 1e-15 * (1 + scale) if row == 0 else 1e-16,
                "rao-kupper": 0.0,
                "probit": 1e-15 * (1 + scale**3),
            }[model]
            error = np.abs(got[row] - sign * want)
            assert (error <= 1e-12 * np.abs(want) + 4e-15 * size + 4 * rounding).all(), (row, error, want)


def _difference(f, order, h):
    """Central differences of f on the 3 x 3 grid of steps h."""
    match order:
        case (0, 0):
            return f[0, 0]
        case (1, 0):
            return (f[1, 0] - f[-1, 0]) / (2 * h)
        case (0, 1):
            return (f[0, 1] - f[0, -1]) / (2 * h)
        case (2, 0):
            return (f[1, 0] - 2 * f[0, 0] + f[-1, 0]) / h**2
        case (0, 2):
            return (f[0, 1] - 2 * f[0, 0] + f[0, -1]) / h**2
    return (f[1, 1] - f[1, -1] - f[-1, 1] + f[-1, -1]) / (4 * h**2)


@pytest.mark.parametrize("scale", np.geomspace(1e-3, 20.0, 10))
@pytest.mark.parametrize("model", MODELS)
def test_score_and_hessian_at_ten_scales(model, scale):
    """Score and Hessian of all parameters (arms, position, tie) against central differences."""
    rng, k = np.random.default_rng(8), 5
    a, b, first, outcomes, theta = problem(rng, 40, k, scale)
    has_tie = model in TIED
    at = np.concatenate([theta, [0.3], [0.7] * has_tie])

    def accumulated(x):
        out = likelihood(model, frozen(a, b, first, outcomes, x[:k]), x[k], x[-1] if has_tie else 0.0)
        score, hessian = np.zeros(len(x)), np.zeros((len(x), len(x)))
        native.pair_score(k, True, has_tie, a, b, first, out, score)
        native.pair_hessian(k, True, has_tie, a, b, first, out, hessian)
        return out[0].sum(), score, hessian

    value, score, hessian = accumulated(at)
    for j, step in enumerate(1e-5 * np.eye(len(at))):
        up, down = accumulated(at + step), accumulated(at - step)
        np.testing.assert_allclose((up[0] - down[0]) / 2e-5, score[j], rtol=1e-6, atol=1e-10 * (abs(value) + 100))
        np.testing.assert_allclose((down[1] - up[1]) / 2e-5, hessian[j], rtol=1e-6, atol=1e-6)


def test_exp_and_log1p_to_a_few_ulps():
    """The kernel's own exp and log1p, seen through a won Bradley-Terry cell and its probability."""
    rng = np.random.default_rng(4)
    x = np.concatenate([rng.uniform(0, 40, 1500), np.geomspace(1e-18, 708, 500), rng.uniform(0.85, 0.91, 500), [0.0]])
    value = one_cell("bradley-terry", x, np.tile([1.0, 0, 0], (len(x), 1)))[0]
    p, unused = np.zeros((2, len(x)))
    native.pair_outcomes(native.MODELS["bradley-terry"], -x, 0.0, p, unused)
    with mpmath.workdps(40):
        e = [mpmath.exp(-mpmath.mpf(v)) for v in x]
        value_error = [float(abs(got / -mpmath.log1p(t) - 1)) for got, t in zip(value, e, strict=True)]
        p_error = [float(abs(got / (t / (1 + t)) - 1)) for got, t in zip(p, e, strict=True)]
    assert max(value_error) <= 1e-15
    assert max(p_error) <= 1e-15


def test_far_tails_stay_finite_and_ordered():
    eta = np.array([-1e300, -1e5, -800.0, -708.0, 708.0, 800.0, 1e5, 1e300])
    for model in MODELS:
        p, p_tie = np.zeros((2, len(eta)))
        native.pair_outcomes(native.MODELS[model], eta, 0.5, p, p_tie)
        assert np.isfinite(p).all()
        assert (np.diff(p) >= 0).all()
        for outcomes in np.eye(3):
            near = np.clip(eta, -1e100, 1e100) if model == "probit" else eta  # log Phi(-1e200) has no double
            out = one_cell(model, near, np.tile(outcomes, (len(eta), 1)), 0.5)
            assert np.isfinite(out).all(), (model, outcomes)
            assert (out[[0]] <= 0).all()
            assert (out[[3]] >= 0).all()


def test_nan_is_never_laundered():
    for model in MODELS:
        out = one_cell(model, np.array([np.nan, 1.0]), np.ones((2, 3)), 0.5)
        rows = range(6) if model in TIED else (0, 1, 3)
        assert np.isnan(out[list(rows), 0]).all(), model
        assert np.isfinite(out[:, 1]).all()
        p, p_tie = np.zeros((2, 1))
        native.pair_outcomes(native.MODELS[model], np.array([np.nan]), 0.5, p, p_tie)
        assert np.isnan(p).all()


@settings(max_examples=60, deadline=None)
@given(model=st.sampled_from(["davidson", "rao-kupper"]), scale=st.sampled_from([0.1, 1.0, 10.0]), seed=seeds)
def test_without_ties_the_limit_is_bradley_terry(model, scale, seed):
    """Davidson as nu -> 0 and Rao-Kupper as tau -> 0."""
    columns = problem(np.random.default_rng(seed), 50, 5, scale, ties=False)
    want = likelihood("bradley-terry", columns, 0.4, 0.0)
    eta = np.ascontiguousarray(columns[4][columns[0]] - columns[4][columns[1]])
    p_want, none = np.zeros((2, len(eta)))
    native.pair_outcomes(native.MODELS["bradley-terry"], eta, 0.0, p_want, none)
    for tie in (-800.0, -np.inf) if model == "davidson" else (0.0, 1e-300):
        got = likelihood(model, columns, 0.4, tie)
        np.testing.assert_allclose(got[[0, 1, 3]], want[[0, 1, 3]], rtol=1e-10, atol=1e-13 * (1 + scale))
        if model == "davidson":
            np.testing.assert_array_equal(np.abs(got[[2, 4, 5]]), 0.0)
        p, p_tie = np.zeros((2, len(eta)))
        native.pair_outcomes(native.MODELS[model], eta, tie, p, p_tie)
        np.testing.assert_allclose(p, p_want, rtol=1e-13)
        np.testing.assert_allclose(p_tie, 0.0, atol=1e-299)


@settings(max_examples=40, deadline=None)
@given(model=st.sampled_from(MODELS), scale=st.sampled_from([0.1, 1.0, 10.0]), tie=st.floats(0.05, 3), seed=seeds)
def test_swapping_sides_and_scaling_sums(model, scale, tie, seed):
    """Showing the pair the other way round with its outcomes turned changes signs only; doubled sums double."""
    a, b, _, outcomes, theta = problem(np.random.default_rng(seed), 30, 4, scale)
    none = np.zeros(30)
    plain = likelihood(model, frozen(a, b, none, outcomes, theta), 0.0, tie)
    turned = likelihood(model, frozen(b, a, none, outcomes[:, ::-1], theta), 0.0, tie)
    doubled = likelihood(model, frozen(a, b, none, 2.0 * outcomes, theta), 0.0, tie)
    rows = list(range(6)) if model in TIED else [0, 1, 3]
    signs = np.array([1.0, -1.0, 1.0, 1.0, -1.0, 1.0])[:, None]
    np.testing.assert_allclose((signs * turned)[rows], plain[rows], rtol=1e-11, atol=1e-11)
    np.testing.assert_array_equal(doubled[rows], 2.0 * plain[rows])


def test_wrong_lengths():
    a, x, outcomes, theta = np.zeros(3, np.int32), np.zeros(3), np.zeros((3, 3)), np.zeros(2)
    out, score, hessian = np.zeros((6, 3)), np.zeros(4), np.zeros((4, 4))
    cells, sums = (a, a, x, outcomes, theta, 0.0, 0.0), (score, np.zeros(2), np.zeros((2, 2)), np.zeros((2, 2)), x)
    for function, arguments in [
        (native.pair_likelihood, (0, a, a[:2], x, outcomes, theta, 0.0, 0.0, out)),
        (native.pair_likelihood, (0, a, a, x[:2], outcomes, theta, 0.0, 0.0, out)),
        (native.pair_likelihood, (0, a, a, x, outcomes[:2], theta, 0.0, 0.0, out)),
        (native.pair_likelihood, (0, a, a, x, np.zeros((3, 2)), theta, 0.0, 0.0, out)),
        (native.pair_likelihood, (0, a, a, x, outcomes, theta, 0.0, 0.0, out[:5])),
        (native.pair_likelihood, (0, a, a, x, outcomes, theta, 0.0, 0.0, np.zeros((6, 2)))),
        (native.pair_sums, (1, True, a[:2], *cells[1:], *sums)),
        (native.pair_sums, (1, True, a, a[:2], *cells[2:], *sums)),
        (native.pair_sums, (1, True, a, a, x[:2], *cells[3:], *sums)),
        (native.pair_sums, (1, True, a, a, x, outcomes[:2], *cells[4:], *sums)),
        (native.pair_sums, (1, True, *cells, score[:3], *sums[1:])),
        (native.pair_sums, (1, True, *cells, score, x, *sums[2:])),
        (native.pair_sums, (1, False, *cells, score[:3], *sums[1:])),
        (native.pair_sums, (1, True, *cells, *sums[:3], np.zeros((2, 1)), x)),
        (native.pair_sums, (1, True, *cells, *sums[:4], x[:2])),
        (native.pair_outcomes, (0, x, 0.0, x[:2], x)),
        (native.pair_outcomes, (0, x, 0.0, x, x[:2])),
        (native.pair_hessian, (2, True, True, a, a[:2], x, out, hessian)),
        (native.pair_score, (2, True, True, a, a[:2], x, out, score)),
        (native.pair_hessian, (2, True, True, a, a, x[:2], out, hessian)),
        (native.pair_score, (2, True, True, a, a, x[:2], out, score)),
        (native.pair_hessian, (2, True, True, a, a, x, out[:5], hessian)),
        (native.pair_score, (2, True, True, a, a, x, out[:5], score)),
        (native.pair_hessian, (3, True, True, a, a, x, out, hessian)),
        (native.pair_score, (3, True, True, a, a, x, out, score)),
        (native.pair_hessian, (2, True, True, a, a, x, out, hessian[:3])),
    ]:
        with pytest.raises(ValueError, match="must"):
            function(*arguments)
