"""The threads that passes over kept blocks share: forks, errors, passes left half way or within another."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import polars as pl
import pytest
import steelyard as sy
from steelyard import passes
from steelyard.passes import in_order


def square(x: int) -> int:
    return x * x


SQUARES = [square(x) for x in range(50)]


def test_results_come_in_order_from_many_callers_at_once():
    with ThreadPoolExecutor(8) as callers:
        assert list(callers.map(lambda _: list(in_order(square, range(50))), range(32))) == [SQUARES] * 32


def test_a_pass_within_a_pass_waits_for_no_thread():
    assert list(in_order(lambda n: sum(in_order(square, range(n))), range(9))) == [sum(SQUARES[:n]) for n in range(9)]


@pytest.mark.parametrize("fails", [True, False])
def test_nothing_runs_on_once_a_pass_has_ended(fails):
    done = []

    def slow(x: int) -> int:
        if fails and x == 2:
            raise ValueError("two")
        time.sleep(0.02)
        done.append(x)
        return x

    each = in_order(slow, range(50))
    if fails:
        with pytest.raises(ValueError, match="two"):
            list(each)
    else:
        next(each)
        each.close()
    count = len(done)
    time.sleep(0.2)
    assert len(done) == count < 20
    assert list(in_order(square, range(50))) == SQUARES


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores are not to be chosen here")
def test_fewer_cores_than_before_and_more_again():
    before = os.sched_getaffinity(0)
    try:
        for core in sorted(before)[:2]:
            os.sched_setaffinity(0, {core})
            assert list(in_order(square, range(50))) == SQUARES
            assert set(in_order(lambda _: frozenset(os.sched_getaffinity(0)), range(9))) == {frozenset({core})}
    finally:
        os.sched_setaffinity(0, before)
    assert list(in_order(square, range(50))) == SQUARES


COLLECTED = """
import faulthandler, gc, threading
from steelyard.passes import in_order
faulthandler.dump_traceback_later(60, exit=True)
class Cycle: pass
gone = threading.Event()
def left(x):
    if x == 1:
        gone.wait()
        gc.collect()  # on a thread of the pass that it lets go of
    return x
gc.disable()
cycle = Cycle()
cycle.own, cycle.each = cycle, in_order(left, range(100))
next(cycle.each)
del cycle
gone.set()
assert sum(in_order(abs, range(100))) == 4950
"""


def test_a_pass_that_its_own_thread_lets_go_of_ends():
    run = subprocess.run([sys.executable, "-c", COLLECTED], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr


FORK = """
import os, signal
from steelyard.passes import in_order
assert sum(in_order(abs, range(50))) == 1225  # there are threads now, which a fork does not take along
pid = os.fork()
if not pid:
    signal.alarm(60)
    os._exit(sum(in_order(abs, range(50))) != 1225)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_has_threads_of_its_own():
    run = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr


def drawn(n=4000):
    rng = np.random.default_rng(6)
    a = rng.integers(0, 4, n)
    frame = pl.DataFrame({"l": a, "r": (a + rng.integers(1, 4, n)) % 4, "y": rng.random(n).round(),
                          "x": rng.normal(size=n), "rater": rng.integers(0, 60, n)})  # fmt: skip
    return sy.scan(frame, a="l", b="r", outcome="y", context="x", covariates={"z": pl.col("x") * 2}, cluster="rater")


@pytest.mark.parametrize("spec", [sy.BradleyTerry(), sy.DoublyRobust(folds=3), sy.PairPropensity()])
def test_a_fit_has_as_many_threads_as_it_is_given_and_the_same_bits(monkeypatch, spec):
    monkeypatch.setattr(passes, "block_rows", lambda wide: 500)
    monkeypatch.setattr("steelyard.spill._FEW", 0)
    met, plain, alike = set(), ThreadPoolExecutor.submit, []

    def noted(pool, *work):
        met.add(pool._max_workers)
        return plain(pool, *work)

    for threads in (1, 2, 5):
        met.clear()
        monkeypatch.setattr(ThreadPoolExecutor, "submit", noted)
        fit = spec.fit(drawn(), threads=threads)
        monkeypatch.setattr(ThreadPoolExecutor, "submit", plain)
        assert max(met) == threads
        alike.append(fit.model.gamma if isinstance(spec, sy.PairPropensity) else fit.covariance)
    assert np.array_equal(alike[0], alike[1])
    assert np.array_equal(alike[0], alike[2])


@pytest.mark.parametrize("threads", [0, -1, 1.5, "2", True])
def test_a_number_of_threads_that_is_none(threads):
    with pytest.raises(ValueError, match="threads must be a whole number of at least 1"):
        sy.BradleyTerry().fit(drawn(100), threads=threads)
