"""Frozen result types, and saving: one zip file of JSON and NumPy arrays, written whole or not at all."""

from __future__ import annotations

import errno
import io
import json
import math
import os
import shutil
import tempfile
import time
import zipfile
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.lib import format as npy

from steelyard.errors import FormatError, SteelyardError, said

VERSION = 3
DTYPES = ("<f8", "<i8", "<i4", "|b1")
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


@dataclass(frozen=True, eq=False)
class DropAudit:
    """The fewest rows found whose removal turns a conclusion around, with both exact fits.

    rows: how many; share: of all rows; cells: whose rows (a, b, outcome, rows), of rewards which (row, outcome, rows);
    before, after: the contrast.
    Null rows: no set of up to half of the rows was found, or taking the most telling ones leaves no finite fit.
    """

    rows: int | None
    share: float | None
    cells: pl.DataFrame
    before: float
    after: float | None


def free_name(name: str, taken: Container[str]) -> str:
    """The name of a column beside columns named after arms, with a _ before it where one is called so."""
    return free_name(f"_{name}", taken) if name in taken else name


@contextmanager
def replacing(path: str | os.PathLike[str], suffix: str | None = None) -> Iterator[Path]:
    """A name in a temporary folder beside path, moved to it when the block ends well and removed when it does not.

    suffix: of that name, by default path's own, by which some writers go; of a file in a folder that others
    read as a whole, another, so that they never read it by that name.
    """
    target = Path(path)
    try:
        if target.exists() and not target.is_file():
            raise OSError(errno.EEXIST, "it is there, and is not a file")
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        advice = f"cannot write {target}: {error.strerror}; choose another name, in a folder that can be written to"
        raise type(error)(advice) from error
    _unfinished.add(folder)
    try:
        temporary = folder / f"{target.stem}{suffix or target.suffix}"
        yield temporary
        temporary.replace(target)
    except pl.exceptions.PolarsError as error:
        raise SteelyardError(f"{target} was not written: {said(error)}") from error
    finally:
        _remove(folder)
        _unfinished.discard(folder)


_unfinished: set[Path] = set()


def discard_unfinished() -> None:
    """Takes away what outputs that are being written have so far."""
    for folder in list(_unfinished):
        _remove(folder)


def _remove(folder: Path) -> None:
    """Takes a folder away, and whatever a writer that failed in another thread still puts there."""
    for _ in range(100):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.01)


def write_archive(path: str | os.PathLike[str], kind: str, facts: dict[str, Any], arrays: dict[str, Any]) -> None:
    """Saves facts (JSON) and arrays (NumPy's .npy) under path, atomically."""
    header = {"steelyard": VERSION, "kind": kind, "facts": facts, "arrays": list(arrays)}
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("result.json", json.dumps(header, indent=1))
        for name, values in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                npy.write_array(member, np.ascontiguousarray(values), allow_pickle=False)


def load(path: str | os.PathLike[str]) -> Any:
    """Loads a saved result. Runs no code from the file, and takes no more memory than the file is long.

    Raises FormatError for anything that is not a whole steelyard result of a known version.
    """
    with Path(path).open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                header = _header(archive, os.fstat(file.fileno()).st_size)
                arrays = {name: _array(archive.read(f"{name}.npy")) for name in header["arrays"]}
            return LOADERS[header["kind"]](header["facts"], arrays)
        except Exception as error:  # a damaged file can fail anywhere in here, in any way
            raise FormatError(f"{path} is not a result saved by this steelyard, or not a whole one: {error}") from error


def _header(archive: zipfile.ZipFile, size: int) -> dict[str, Any]:
    """What result.json says, once nothing in the archive can grow when it is read."""
    members = archive.infolist()
    if any(m.compress_type != zipfile.ZIP_STORED for m in members) or sum(m.file_size for m in members) > size:
        raise FormatError("it holds compressed parts, and a result has none")
    header: dict[str, Any] = json.loads(archive.read("result.json"))
    version, kind = header["steelyard"], header["kind"]
    if version != VERSION or kind not in LOADERS:
        raise FormatError(f"version {version!r} of kind {kind!r}, where version {VERSION} of {sorted(LOADERS)} is read")
    return header


def _array(data: bytes) -> Any:
    """The array of an .npy file of numbers whose header tells the truth about its length."""
    file = io.BytesIO(data)
    if npy.read_magic(file) != (1, 0):
        raise FormatError("an array in it is of an unknown version")
    shape, fortran, dtype = npy.read_array_header_1_0(file)
    start = file.tell()
    if dtype.str not in DTYPES or fortran or start % 64 or len(data) - start != dtype.itemsize * math.prod(shape):
        raise FormatError("an array in it does not have the length that its header tells, or is not where it should be")
    return np.frombuffer(data, dtype, offset=start).reshape(shape)


def require(arrays: dict[str, Any], dtype: str = "<f8", **shapes: tuple[int, ...]) -> None:
    """Refuses a loaded file whose arrays do not go together."""
    for name, shape in shapes.items():
        if arrays[name].shape != shape or arrays[name].dtype.str != dtype:
            told = f"{arrays[name].dtype.str} {arrays[name].shape}"
            raise FormatError(f"array {name!r} holds {told} where {dtype} {shape} is due")
