"""Many threads, forked and spawned workers, a thousand fits: the same bits, and no growing memory."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import steelyard as sy


def frame(seed=0, n=4000):
    rng = np.random.default_rng(seed)
    a = rng.integers(0, 5, n)
    columns = {"l": a, "r": (a + rng.integers(1, 5, n)) % 5, "w": rng.integers(0, 2, n) * 1.0,
               "kind": rng.integers(0, 3, n), "x": rng.normal(size=n)}  # fmt: skip
    return pl.DataFrame(columns).with_columns(pl.col("l", "r", "kind").cast(pl.String))


def bits(seed=0):
    """Scores and covariances of several fits, to the last bit."""
    log = sy.scan(frame(seed), a="l", b="r", outcome="w", context="kind", covariates={"x": "x"})
    fits = (sy.BradleyTerry(covariates=()).fit(log), sy.BradleyTerry().fit(log), sy.DoublyRobust(folds=2).fit(log))
    return b"".join(np.asarray(part).tobytes() for fit in fits for part in (fit.score, fit.covariance))


def test_sixteen_threads_give_the_same_bits():
    seeds = [0, 1, 2, 3] * 8
    want = {seed: bits(seed) for seed in set(seeds)}
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(bits, seeds)) == [want[seed] for seed in seeds]


def test_one_log_and_one_fit_are_shared_by_threads():
    log = sy.scan(frame(), a="l", b="r", outcome="w")
    fit = sy.BradleyTerry().fit(log)
    want = fit.table(), fit.predict(log).collect()
    with ThreadPoolExecutor(16) as pool:
        made = list(pool.map(lambda _: (sy.BradleyTerry().fit(log).table(), fit.predict(log).collect()), range(64)))
    assert all(table.equals(want[0]) and scored.equals(want[1]) for table, scored in made)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_spawned_workers_give_the_same_bits(method):
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as pool:
        assert set(pool.map(bits, [0] * 4)) == {bits()}


FORK = """
import os, sys
sys.path.insert(0, {root!r})
import steelyard as sy
from tests.abuse.test_processes import bits
pids = []
for _ in range(2):  # forked before the parent's first query: polars holds no threads yet
    pid = os.fork()
    if not pid:
        sys.stdout.buffer.write(bits().hex().encode() + b"\\n")
        sys.stdout.flush()
        os._exit(0)
    pids.append(pid)
assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0]
"""


@pytest.mark.slow
def test_forked_workers_give_the_same_bits():
    root = str(Path(__file__).parents[2])
    run = subprocess.run([sys.executable, "-c", FORK.format(root=root)], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    assert set(run.stdout.split()) == {bits().hex()}


GROWTH = """
import gc, sys
sys.path.insert(0, {root!r})
import polars as pl, steelyard as sy
from tests.abuse.test_processes import frame
data = frame(n=400)
def resident():
    gc.collect()
    return int(open("/proc/self/statm").read().split()[1]) * 4096
def fit(i):
    log = sy.scan(data, a="l", b="r", outcome="w", context="kind", covariates={{"x": "x"}})
    sy.BradleyTerry(covariates=()).fit(log).table()
    sy.BradleyTerry().fit(log).table()
    if i % 10 == 0:
        sy.DoublyRobust(folds=2, floor=0.0).fit(log).table()
for i in range(100):
    fit(i)
before = resident()
for i in range(500):  # two fits each, a thousand in all
    fit(i)
print(resident() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_memory_does_not_grow_over_a_thousand_fits():
    root = str(Path(__file__).parents[2])
    run = subprocess.run([sys.executable, "-c", GROWTH.format(root=root)], capture_output=True, text=True, timeout=900)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) < 24 << 20  # a leak of one block of 400 rows a fit would be 30 MB; the allocator keeps some
