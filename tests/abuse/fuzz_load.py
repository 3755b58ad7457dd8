"""libFuzzer on sy.load, by atheris: whatever the bytes, FormatError or a result whose tables are sound.

Run by `make fuzz`. An input is either a file as it is, or the members of a saved result joined by MARK, which are put
into a sound zip file first: else the checksums of zip would keep the fuzzer at the door.
"""

from __future__ import annotations

import io
import sys
import tempfile
import warnings
import zipfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["steelyard"]):
    import numpy as np
    import polars as pl
    import steelyard as sy

from tests.abuse.contract import kept

MARK = b"\0member\0"
ROLES = {"a": "l", "b": "r", "outcome": "w"}
PLACE = Path(tempfile.mkdtemp())
NAMES: list[str] = []


def saved() -> list[bytes]:
    """Members of a small saved result of each kind; their names are those of the first."""
    rng = np.random.default_rng(0)
    a = rng.integers(0, 3, 90)
    frame = pl.DataFrame({"l": a, "r": (a + 1 + rng.integers(0, 2, 90)) % 3, "w": rng.integers(0, 2, 90) * 1.0,
                          "x": rng.normal(size=90), "y": rng.normal(size=90), "z": rng.normal(size=90)})  # fmt: skip
    frame = frame.with_columns(pl.col("l", "r").cast(pl.String))
    log = sy.scan(frame, **ROLES, covariates={"x": "x"}, features=(["y"], ["z"]))
    seeds = []
    robust = sy.DoublyRobust(folds=2, floor=0.0).fit(sy.scan(frame, **ROLES, context="x"))
    for fit in (
        robust,
        sy.BradleyTerry(covariates=()).fit(log),
        sy.BradleyTerry().fit(log),
        sy.RewardModel().fit(log),
    ):
        fit.save(PLACE / "seed.sy")
        with zipfile.ZipFile(PLACE / "seed.sy") as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        NAMES.extend(name for name in members if name not in NAMES)
        seeds += [(PLACE / "seed.sy").read_bytes(), MARK.join(members.get(name, b"") for name in NAMES)]
    return seeds


def used() -> list[object]:
    fit = sy.load(PLACE / "input.sy")
    asked = [name for name in ("coefficients", "table", "win_matrix", "win_rates") if hasattr(fit, name)]
    return [getattr(fit, name)() for name in asked]


def one(data: bytes) -> None:
    if MARK in data:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name, member in zip(NAMES, data.split(MARK), strict=False):
                archive.writestr(name, member)
        data = file.getvalue()
    (PLACE / "input.sy").write_bytes(data)
    kept(used)


def main() -> None:
    warnings.simplefilter("error", RuntimeWarning)
    (PLACE / "corpus").mkdir()
    for i, seed in enumerate(saved()):
        (PLACE / "corpus" / str(i)).write_bytes(seed)
    options = [*sys.argv, "-max_len=20000", "-rss_limit_mb=4096", f"-artifact_prefix={PLACE}/", str(PLACE / "corpus")]
    atheris.Setup(options, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
