"""Frozen result types, and saving: one zip file of JSON and Arrow IPC, written whole or not at all."""

from __future__ import annotations

import io
import json
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from steelyard.errors import FormatError

VERSION = 1
LOADERS: dict[str, Callable[[dict[str, Any], dict[str, Any]], Any]] = {}


@dataclass(frozen=True)
class Contrast:
    """A difference of two arms' scores on the model's own scale; null with a reason where not identified."""

    estimate: float | None
    se: float | None
    low: float | None
    high: float | None
    p_value: float | None
    reason: str | None = None


@dataclass(frozen=True)
class DropAudit:
    """The fewest rows found whose removal turns a conclusion around, with both exact fits.

    rows: how many; share: of all rows; cells: whose rows (a, b, outcome, rows); before, after: the contrast.
    Null rows: no set of up to half of the rows was found.
    """

    rows: int | None
    share: float | None
    cells: pl.DataFrame
    before: float
    after: float | None


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary name beside path, renamed to it when the block ends well and removed when it does not."""
    target = Path(path)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=target.suffix, dir=target.parent)
    except OSError as error:
        advice = f"cannot write {target}: {error.strerror}; choose a folder that can be written to"
        raise type(error)(advice) from error
    os.close(handle)
    try:
        yield Path(name)
        Path(name).chmod(0o644)
        Path(name).replace(target)
    finally:
        Path(name).unlink(missing_ok=True)


def write_archive(path: str | os.PathLike[str], kind: str, facts: dict[str, Any], arrays: dict[str, Any]) -> None:
    """Saves facts (JSON) and arrays (NumPy or polars) under path, atomically."""
    shapes: dict[str, Any] = {}
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, values in arrays.items():
            if isinstance(values, pl.DataFrame):
                frame, shapes[name] = values, None
            else:
                frame, shapes[name] = pl.DataFrame({"value": np.ascontiguousarray(values).ravel()}), values.shape
            buffer = io.BytesIO()
            frame.write_ipc(buffer)
            archive.writestr(f"{name}.arrow", buffer.getvalue())
        header = {"steelyard": VERSION, "kind": kind, "facts": facts, "shapes": shapes}
        archive.writestr("result.json", json.dumps(header, indent=1))


def load(path: str | os.PathLike[str]) -> Any:
    """Loads a saved result; runs no code from the file.

    Raises FormatError for anything that is not a steelyard result of a known version.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            header = json.loads(archive.read("result.json"))
            if header.get("steelyard") != VERSION or header.get("kind") not in LOADERS:
                raise FormatError(
                    f"{path}: version {header.get('steelyard')!r} of kind {header.get('kind')!r}; "
                    f"this steelyard reads version {VERSION} of {sorted(LOADERS)}"
                )
            arrays: dict[str, Any] = {}
            for name, shape in header["shapes"].items():
                frame = pl.read_ipc(io.BytesIO(archive.read(f"{name}.arrow")))
                arrays[name] = frame if shape is None else frame["value"].to_numpy().reshape(shape)
    except (zipfile.BadZipFile, KeyError, json.JSONDecodeError, pl.exceptions.PolarsError) as error:
        raise FormatError(f"{path} is not a result saved by steelyard: {error}") from error
    return LOADERS[header["kind"]](header["facts"], arrays)
