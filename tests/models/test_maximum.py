"""What is summed at the maximum of a fit on rows, when it is made, and how it is known that it is one."""

import copy
import dataclasses
import pickle
from functools import partial

import numpy as np
import polars as pl
import pytest
import steelyard as sy
from steelyard.errors import NotIdentifiedError
from steelyard.models import design, row_maximum, row_meat, row_problem

from tests.models import test_reward as rewards
from tests.models import test_row_fit as scores


@pytest.mark.parametrize("kind", ["sandwich", "model"])
def test_errors_of_many_columns_are_made_when_asked_for(monkeypatch, tmp_path, kind):
    """The same as at once; also pickled, saved, or asked for by two."""
    frame = rewards.simulated(43, n=6000)
    spec = sy.RewardModel(ridge=0.5, covariance=kind)
    want = spec.fit(rewards.scanned(frame))
    for room in (design, row_problem):
        monkeypatch.setattr(room, "NARROW", 0)
    monkeypatch.setattr(row_problem, "_LONG", 1 << 10)
    made: list[str] = []
    influence = row_meat.influence
    monkeypatch.setattr(row_meat, "influence", lambda *a: made.append(a[2]) or influence(*a))
    for use in (pickled, copy.deepcopy, partial(saved, folder=tmp_path), lambda fit: fit):
        fit = spec.fit(rewards.scanned(frame))
        np.testing.assert_allclose(fit.coefficient, want.coefficient, atol=1e-9)
        fit.predict(rewards.scanned(frame)).collect()
        assert not made
        np.testing.assert_allclose(use(fit).covariance, want.covariance, rtol=1e-7)
        assert fit.coefficients().equals(use(fit).coefficients())
        assert made == [kind]
        made.clear()
    with pytest.raises(NotIdentifiedError, match="has 1 group"):  # what would be refused is not put off
        sy.RewardModel().fit(rewards.scanned(frame.with_columns(one=pl.lit("x")), cluster="one"))


def test_some_rows_tell_whether_a_maximum_stands(monkeypatch):
    """Never where a step of all rows is longer than what may be left, and so at the maximum."""
    for room in (design, row_problem):
        monkeypatch.setattr(room, "NARROW", 0)
    monkeypatch.setattr(row_problem, "_LONG", 1 << 10)
    found = []
    stands = row_maximum._standing
    monkeypatch.setattr(row_maximum, "_standing", lambda *a: found.append(a) or stands(*a))
    sy.RewardModel().fit(rewards.scanned(rewards.simulated(44, n=6000)))
    ((problem, estimate),) = found
    norm = np.abs(problem.sums(estimate.parameter).score / problem.scale).max() / 6000
    assert stands(problem, estimate).gradient_norm == pytest.approx(norm)
    assert norm <= 1e-10
    for size in (1e-8, 1e-7, 1.1e-6, 1e-3, 10.0):
        away = dataclasses.replace(estimate, parameter=estimate.parameter + size / problem.scale)
        here = problem.sums(away.parameter)
        left = np.abs(np.linalg.solve(here.hessian, here.score) * problem.scale).max()
        assert left <= 1e-6 or stands(problem, away) is None
    assert left > 1.0
    monkeypatch.setattr(row_maximum, "_standing", lambda problem, at: None)
    again = sy.RewardModel().fit(rewards.scanned(rewards.simulated(44, n=6000)))  # by the Hessian of all rows then
    np.testing.assert_allclose(again.coefficient, estimate.parameter, atol=1e-9)


def pickled(fit):
    return pickle.loads(pickle.dumps(fit))


def saved(fit, folder):
    fit.save(folder / "fit.sy")
    return sy.load(folder / "fit.sy")


@pytest.mark.parametrize("model", scores.MODELS)
@pytest.mark.parametrize("long", [1 << 30, 1 << 10])
def test_what_comes_along_at_the_maximum_is_what_a_pass_of_its_own_tells(monkeypatch, model, long):
    monkeypatch.setattr(row_problem, "_LONG", long)
    asked = []
    sums = row_problem.RowProblem.sums

    def told(self, parameter, hessian=True, meat=False):
        asked.append((self.totals.rows, hessian, meat))
        return sums(self, parameter, hessian, meat)

    monkeypatch.setattr(row_problem.RowProblem, "sums", told)
    frame = scores.simulated(16, n=5000)
    fit = sy.BradleyTerry(**scores.MODELS[model], position=True).fit(scores.scanned(frame, ("length", "noise")))
    last = [kind for rows, *kind in asked if rows == 5000]
    assert last[-1] == [True, True]  # the last pass over the rows tells all
    assert last.count([True, True]) <= 2  # foreseen a step too early at most
    assert last[0] == [long > 5000, False]  # after some of the rows the first step asks no Hessian of all
    here = sums(fit.problem, fit.estimate.parameter, meat=True)
    np.testing.assert_allclose(fit.psi.meat, here.meat, rtol=1e-7)
    np.testing.assert_allclose(fit.psi.bread, row_maximum.bread_of(fit.problem, here.hessian), rtol=1e-8, atol=1e-14)
