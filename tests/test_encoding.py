"""Labels to codes while several threads read: one teaches, in row order, and the others look up what is known."""

from __future__ import annotations

import gc
import pickle
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import steelyard as sy
from steelyard import passes
from steelyard.blocks import ARRAYS, SEVERAL, Block, Encoder
from steelyard.dictionary import Dictionary, NewLabelError

ROWS = 97  # of a block, here


def log_of(kind: str, seed: int, folder: Path) -> sy.log.PreferenceLog:
    """A log whose labels turn up one after the other, some in the last rows only."""
    rng = np.random.default_rng(seed)
    n = 60 * ROWS + 5
    stretch = np.arange(n) // rng.integers(400, 800)  # within one, most blocks bring nothing new
    known = 5 + 5 * stretch
    a, rater = rng.integers(0, known), rng.integers(0, 1 + stretch)
    b = (a + rng.integers(1, known)) % known
    a, b = (pl.Series(codes) for codes in (a, b))
    if kind != "whole numbers":
        text = {"categories": pl.Categorical}.get(kind, pl.String)
        a, b = (("arm of more than twelve letters " + codes.cast(pl.String)).cast(text) for codes in (a, b))
    frame = pl.DataFrame({"a": a, "b": b, "y": rng.choice(["a", "b", "tie"], n), "rater": rater})
    source: pl.DataFrame | Path = frame
    if kind == "pages":
        source = folder / f"{seed}.parquet"
        frame.with_columns(pl.col("rater").cast(pl.String)).write_parquet(source, row_group_size=10 * ROWS + 3)
    return sy.scan(source, a="a", b="b", outcome="y", outcomes={"a": 1, "b": 0, "tie": 0.5}, cluster="rater")


@pytest.fixture(autouse=True)
def short_blocks(monkeypatch):
    monkeypatch.setattr(passes, "block_rows", lambda wide: ROWS)


@pytest.fixture
def late(monkeypatch):
    """Blocks are coded sooner or later, as it comes."""
    coded, wait = Encoder.coded, random.Random(0)

    def delayed(self, *asked, **how):
        time.sleep(wait.choice([0.0, 0.0, 0.001, 0.003]))
        return coded(self, *asked, **how)

    monkeypatch.setattr(Encoder, "coded", delayed)


def asked(log):
    return Encoder(dict(log.outcomes), clusters={"cluster_0": Dictionary()})


def codes_of(block):
    return [column.copy() for column in (block.a, block.b, block.label, *block.clusters)], block.start


@pytest.mark.parametrize("kind", ["text", "pages", "whole numbers", "categories"])
@pytest.mark.parametrize("threads", [1, 8])
@pytest.mark.usefixtures("late")
def test_codes_are_those_of_one_thread_that_reads_row_by_row(kind, threads, tmp_path):
    for seed in range(3):
        log = log_of(kind, seed, tmp_path)
        alone, together = asked(log), asked(log)
        expected = [codes_of(alone.block(batch)) for batch in passes.batches(log, alone)]
        found = []
        with passes.placed(threads):
            passes.run_pass(log, together, codes_of, found.append)
        assert len(found) == 61
        for (codes, start), (those, first) in zip(found, expected, strict=True):
            assert start == first
            assert all(np.array_equal(x, y) for x, y in zip(codes, those, strict=True))
        assert together.arms.labels() == alone.arms.labels()
        assert together.labels.labels() == alone.labels.labels()
        assert together.clusters["cluster_0"].labels() == alone.clusters["cluster_0"].labels()
        assert together.rows == alone.rows == log.count()


def test_a_label_that_is_new_is_told_and_not_learned():
    dictionary = Dictionary(["x"], learn=True)
    for column in (pl.Series(["x", None, "z"]), pl.Series([1, 2]), pl.Series(["x", "z"], dtype=pl.Categorical)):
        with pytest.raises(NewLabelError):
            dictionary.encode(column, teach=False)
    assert dictionary.labels() == ["x"]
    assert dictionary.encode(pl.Series(["x", None]), teach=False).tolist() == [0, -1]
    closed = Dictionary(["x"])  # that does not learn: there an unknown label is an answer
    assert closed.encode(pl.Series(["z", "x"]), teach=False).tolist() == [-2, 0]


def test_categories_whose_numbers_change_are_told_by_their_names():
    dictionary = Dictionary()

    def codes(names, kind=pl.Categorical):
        return dictionary.encode(pl.Series(names, dtype=kind)).tolist()

    assert codes([None, None]) == [-1, -1]
    assert codes(["x", None, "y", "x"]) == [0, -1, 1, 0]
    gc.collect()  # by now no column has these categories, and new ones would be numbered anew
    assert codes(["y", "z", "x"]) == [1, 2, 0]
    assert codes(["y", "x"], pl.Enum(["y", "x"])) == [1, 0]
    assert codes(["x", "y"], pl.Enum(["x", "y"])) == [0, 1]
    assert codes(["z", None]) == [2, -1]
    assert codes([], pl.Categorical) == []
    assert dictionary.labels() == ["x", "y", "z"]
    elsewhere = pickle.loads(pickle.dumps(dictionary))
    assert elsewhere.encode(pl.Series(["new", "y"], dtype=pl.Categorical)).tolist() == [3, 1]


def test_labels_are_found_while_others_are_learned_and_the_table_grows():
    dictionary, done = Dictionary(), threading.Event()
    labels = pl.Series([f"a label of some length {i}" for i in range(60_000)])
    dictionary.encode(labels.head(500))

    def look_up(step):
        looked = 0
        while not done.is_set():
            known = len(dictionary)
            places = np.arange(0, known, step)
            assert np.array_equal(dictionary.encode(labels.gather(places), teach=False), places)
            assert dictionary.series("label").len() >= known
            looked += 1
        return looked

    with ThreadPoolExecutor(3) as readers:
        waiting = [readers.submit(look_up, step) for step in (1, 7, 101)]
        try:
            for start in range(0, len(labels), 50):
                dictionary.encode(labels.slice(start, 50))
        finally:
            done.set()
        assert all(each.result() > 0 for each in waiting)
    assert dictionary.labels() == labels.to_list()


def test_every_field_of_a_block_is_cut_with_its_rows():
    of_the_whole = {"start", "n", "arms", "value", "squares"}
    known = {*ARRAYS, *SEVERAL, "label", "sides"}
    assert {field.name for field in fields(Block)} == of_the_whole | known
    n, places = 5, np.array([3, 1])
    arrays = {name: np.arange(2.0 * n).reshape(n, 2).T for name in ("columns", "design", "propensity")}
    arrays |= {name: np.arange(n) for name in {*ARRAYS, "label"} - {*arrays, "features"}}
    arrays["features"] = np.arange(2 * n).reshape(n, 2)
    whole = Block(start=0, n=n, arms=9, value=None, **arrays, **{name: (np.arange(n),) for name in SEVERAL})
    some = whole.where(places)
    assert some.n == 2
    for name, values in arrays.items():
        wanted = values[places] if name == "features" else values[..., places]
        np.testing.assert_array_equal(getattr(some, name), wanted)
    assert all(getattr(some, name)[0].tolist() == [3, 1] for name in SEVERAL)
