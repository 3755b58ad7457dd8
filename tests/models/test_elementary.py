"""exp, expm1, log and log1p of likelihoods of one's own: against mpmath, at the ends, and that they are called."""

import math
from math import exp
from math import log1p as softly

import mpmath
import numba
import numpy as np
import pytest
import steelyard as sy
from steelyard.models import elementary


def called(name, x):
    """The compiled function of that name at x (n,)."""
    function = getattr(elementary, name)

    @numba.njit(error_model="numpy")
    def each(x, out):
        for i in range(len(x)):
            out[i] = function(x[i])

    out = np.empty(len(x))
    each(x, out)
    return out


def numbers(name):
    rng = np.random.default_rng(3)
    sizes, near = 10.0 ** rng.uniform(-300, 0, 500), rng.normal(size=500)
    if name in ("exp", "expm1"):
        return np.concatenate([rng.uniform(-690, 709.7, 1000), near, sizes, -sizes])
    huge = 10.0 ** rng.uniform(-323, 308, 1000)
    if name == "log":
        return np.concatenate([huge, rng.uniform(0.5, 2, 1000), 1 + 1e-8 * near])
    return np.concatenate([huge, -rng.random(500), 1e-9 * near, rng.uniform(-0.5, 2, 1000)])


@pytest.mark.parametrize("name", ["exp", "expm1", "log", "log1p"])
def test_within_a_few_ulps(name):
    x = numbers(name)
    with mpmath.workdps(40):
        true = [getattr(mpmath, name)(mpmath.mpf(float(v))) for v in x]
        error = [float(abs(got / t - 1)) for got, t in zip(called(name, x), true, strict=True) if abs(t) > 1e-300]
    assert max(error) <= 4e-16


@pytest.mark.parametrize("name", ["exp", "expm1", "log", "log1p"])
def test_the_ends_are_those_of_the_c_library(name):
    inf, nan = math.inf, math.nan
    ends = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        -2.0,
        inf,
        -inf,
        nan,
        709.78,
        709.9,
        1e3,
        -744.4,
        -746.0,
        -1e3,
        5e-324,
        1e-310,
        1.7e308,
    ]
    x = np.array([*ends, 2.0**-53 - 1.0, -1e300])
    with np.errstate(all="ignore"):
        want = getattr(np, name)(x)
    np.testing.assert_allclose(called(name, x), want, rtol=4e-16, atol=1e-323)


def test_names_are_swapped_wherever_they_come_from():
    def by_name(x, y):
        return exp(x) + softly(y) + math.sqrt(y)

    def by_module(x, y):
        return math.exp(x) + np.log1p(y) + np.sqrt(y)

    for function in (by_name, by_module):
        ours = elementary.with_ours(function)
        text = numba.njit("float64(float64, float64)", error_model="numpy")(ours).inspect_llvm()
        assert not any(
            f"@{name}(" in code or f"@llvm.{name}.f64" in code for code in text.values() for name in ("exp", "log1p")
        )
        assert ours is not function
        assert function(1.0, 2.0) == pytest.approx(math.e + math.log(3) + math.sqrt(2))


def test_functions_of_arrays_are_compiled_with_those_of_numba():
    def value(eta, y):
        return y * eta - np.log(np.sum(np.exp(np.array([0.0, eta]))))

    def first(eta, y):
        return y - 1.0 / (1.0 + math.exp(-eta))

    def second(eta, y):
        return -1.0 / ((1.0 + math.exp(-eta)) * (1.0 + math.exp(eta)))

    at = sy.Likelihood(value, first, second).at([0.3, -1.0], [1.0, 0.0])
    np.testing.assert_allclose(at[0], -np.log1p(np.exp([-0.3, -1.0])), rtol=1e-15)


def test_what_is_no_plain_function_is_left_alone():
    assert elementary.with_ours(math.exp) is math.exp
    unhashable = {"exp": math.exp}
    assert elementary.with_ours(lambda x, y: unhashable["exp"](x))(1.0, 0.0) == math.e
