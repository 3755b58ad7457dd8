"""Saved results that were damaged or forged: FormatError, or a result whose tables are sound."""

from __future__ import annotations

import io
import json
import zipfile
from contextlib import suppress

import numpy as np
import polars as pl
import pytest
import steelyard as sy
from hypothesis import given
from hypothesis import strategies as st

from tests.abuse.contract import fuzzed, kept
from tests.abuse.test_bad_input import LOOSE, scanned

MODELS = {
    "pairs": lambda: sy.BradleyTerry(position=True).fit(scanned()),
    "rows": lambda: sy.BradleyTerry().fit(scanned(covariates={"x": "x"}, cluster="who")),
    "rewards": lambda: sy.RewardModel().fit(scanned(features=("fa", "fb"))),
    "soft": lambda: sy.BradleyTerry().fit(scanned(outcome=pl.lit(0.3) + 0.1 * pl.col("w"))),
    "robust": lambda: sy.DoublyRobust(**LOOSE).fit(scanned(context="kind")),
    "groups": lambda: sy.GroupRewards(folds=2, floor=0.0).fit(
        scanned(features=("fa", "fb"), context="x", group="kind")
    ),
    "policy": lambda: sy.PolicyValue("a", **LOOSE).fit(scanned(context="kind")),
}
VALUES = st.sampled_from([None, -1, 0, 1, 2, 10**9, 1.5, float("nan"), "x", "", [], {}, [1, 2], True, False])


@pytest.fixture(scope="module", params=MODELS)
def parts(request, tmp_path_factory):
    """The members of a saved file, and a place to forge another."""
    place = tmp_path_factory.mktemp("saved")
    MODELS[request.param]().save(place / "good.sy")
    with zipfile.ZipFile(place / "good.sy") as archive:
        return {name: archive.read(name) for name in archive.namelist()}, place


def written(members, path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def used(path):
    """Loads it, and asks for what a user would."""
    fit = sy.load(path)
    told = ("coefficients", "table", "win_matrix", "win_rates", "rewards", "compare")
    tables = [fit, *(getattr(fit, name)() for name in told if hasattr(fit, name))]
    if hasattr(fit, "arms"):
        tables.append(fit.contrast(fit.arms[0], fit.arms[-1]))
    if hasattr(fit, "test_equal"):
        tables += [fit.contrast(*fit.groups[:2], fit.rows[0].term), *fit.test_equal()]
    return tables


def frames(path):
    return [table for table in used(path) if isinstance(table, pl.DataFrame)]


@fuzzed(max_examples=150)
@given(chance=st.randoms(use_true_random=False))
def test_every_cut_and_flip_of_a_byte_is_seen(parts, chance):
    _, place = parts
    data, path = bytearray((place / "good.sy").read_bytes()), place / "bad.sy"
    if chance.random() < 0.3:
        del data[chance.randrange(len(data)) :]
    else:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)
    with suppress(sy.FormatError):
        assert all(map(pl.DataFrame.equals, frames(path), frames(place / "good.sy")))  # a byte that nothing reads


@fuzzed(max_examples=60)
@given(data=st.data())
def test_forged_facts_and_arrays(parts, data):
    members, place = dict(parts[0]), parts[1]
    header = json.loads(members["result.json"])
    if not header["arrays"] or data.draw(st.booleans()):
        inside = header["facts"]
        while True:
            key = data.draw(st.sampled_from(sorted(inside)))
            if not isinstance(inside[key], dict) or not inside[key] or data.draw(st.booleans()):
                inside[key] = data.draw(VALUES)
                break
            inside = inside[key]
        members["result.json"] = json.dumps(header).encode()
    else:
        name = f"{data.draw(st.sampled_from(header['arrays']))}.npy"
        array = np.load(io.BytesIO(members[name]))
        change = data.draw(st.sampled_from([
            lambda x: x[:-1], lambda x: x.T, lambda x: x.astype(np.int64), lambda x: -x.astype(float), lambda x: x * 0,
            lambda x: np.resize(x, (len(x) + 1, *x.shape[1:])), lambda x: np.full(x.shape, np.nan), lambda x: x.ravel(),
            lambda x: x.astype(object), lambda x: x + 1_000_000 if x.dtype.kind == "i" else x * 1e300,
        ]))  # fmt: skip
        buffer = io.BytesIO()
        with np.errstate(all="ignore"):
            np.save(buffer, change(array), allow_pickle=True)
        members[name] = buffer.getvalue()
    written(members, place / "forged.sy")
    kept(lambda: used(place / "forged.sy"))


@pytest.mark.parametrize(
    "forge",
    [
        lambda facts: facts["arms"].__setitem__(0, None),
        lambda facts: facts["spec"].update(position=True),
        lambda facts: facts.update(soft="x"),
    ],
)
def test_what_would_fail_only_when_it_is_asked_is_refused_at_once(tmp_path, forge):
    sy.BradleyTerry().fit(scanned()).save(tmp_path / "good.sy")
    with zipfile.ZipFile(tmp_path / "good.sy") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    header = json.loads(members["result.json"])
    forge(header["facts"])
    written(members | {"result.json": json.dumps(header).encode()}, tmp_path / "bad.sy")
    with pytest.raises(sy.FormatError):
        sy.load(tmp_path / "bad.sy")


def test_nothing_in_a_file_is_run(tmp_path):
    class Loud:
        def __reduce__(self):
            return (pytest.fail, ("code from a file was run",))

    sy.BradleyTerry().fit(scanned()).save(tmp_path / "good.sy")
    with zipfile.ZipFile(tmp_path / "good.sy") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    buffer = io.BytesIO()
    np.save(buffer, np.array([Loud()], dtype=object), allow_pickle=True)
    written(members | {"score.npy": buffer.getvalue()}, tmp_path / "bad.sy")
    with pytest.raises(sy.FormatError):
        sy.load(tmp_path / "bad.sy")


def test_other_files_are_named(tmp_path):
    pl.DataFrame({"x": [1]}).write_parquet(tmp_path / "x.parquet")
    (tmp_path / "empty.sy").touch()
    for name in ("x.parquet", "empty.sy"):
        with pytest.raises(sy.FormatError, match="not a result saved by"):
            sy.load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        sy.load(tmp_path / "none.sy")
