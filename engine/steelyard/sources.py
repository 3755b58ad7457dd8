"""From a path, a frame or anything Arrow to a lazy frame, unread: where every log comes from."""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from steelyard.errors import LogError

READERS: dict[str, Any] = {
    ".parquet": pl.scan_parquet,
    ".pq": pl.scan_parquet,
    ".csv": pl.scan_csv,
    ".ndjson": pl.scan_ndjson,
    ".jsonl": pl.scan_ndjson,
    ".arrow": pl.scan_ipc,
    ".ipc": pl.scan_ipc,
    ".feather": pl.scan_ipc,
}


def opened(source: Any) -> tuple[pl.LazyFrame, str, tuple[str, ...]]:
    """The frame, what to call it in messages, and the local files that it is read from."""
    if isinstance(source, pl.LazyFrame):
        return source, "the lazy frame", ()
    if isinstance(source, pl.DataFrame):
        return source.lazy(), "the frame", ()
    if isinstance(source, str | Path) or (isinstance(source, Sequence) and source):
        return _open_files(source)
    if isinstance(source, Mapping):
        lengths = {name: len(column) if hasattr(column, "__len__") else 1 for name, column in source.items()}
        if len(set(lengths.values())) > 1:
            raise LogError(f"columns of different lengths: {lengths}; every column needs one entry a row")
        return _frame(source, "the columns")
    if hasattr(source, "__arrow_c_stream__"):
        return _frame(source, f"the {type(source).__name__}")
    raise LogError(
        f"cannot read a log from {type(source).__name__}: give a path, a glob, a polars frame, "
        "a mapping of columns, or anything with __arrow_c_stream__"
    )


def _frame(source: Any, name: str) -> tuple[pl.LazyFrame, str, tuple[str, ...]]:
    try:
        return pl.DataFrame(source).lazy(), name, ()
    except (pl.exceptions.PolarsError, TypeError, ValueError) as error:
        raise LogError(f"{name} cannot be made a frame: {error}") from error


def _open_files(source: Any) -> tuple[pl.LazyFrame, str, tuple[str, ...]]:
    listed = [source] if isinstance(source, str | Path) else list(source)
    if not all(isinstance(path, str | Path) for path in listed):
        raise LogError("a list is one of paths or globs: put frames together with polars.concat first")
    paths = [str(path) for path in listed]
    name = paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
    if any("://" in path for path in paths):  # polars finds those
        return _scanned(paths), name, ()
    files = [str(file) for path in paths for file in matching(path)]
    return reader(files), name, tuple(files)


def matching(path: str) -> list[Path]:
    """The files that a path, a folder or a glob stands for, in order; of a folder those of the first known kind.

    Empty files, and names that begin with a dot, are left out unless spelled out. LogError where there are none.
    """
    if Path(path).is_file():
        return [Path(path)]
    folder = Path(path).is_dir()
    pattern = f"{glob.escape(path)}/**/*" if folder else path
    found = [Path(name) for name in sorted(glob.glob(pattern, recursive=True))]  # noqa: PTH207 (absolute ones too)
    found = [file for file in found if file.is_file() and file.stat().st_size]
    if folder:
        known = [file for file in found if file.suffix.lower() in READERS]
        found = [file for file in known if READERS[file.suffix.lower()] is READERS[known[0].suffix.lower()]]
    if not found:
        why = (
            "no Parquet, CSV, NDJSON or Arrow IPC file in this folder" if folder else "no such file, or only empty ones"
        )
        raise LogError(f"{path}: {why}")
    return found


def reader(files: Sequence[str]) -> pl.LazyFrame:
    """Local files of one kind, by their names; folders named column=value become columns."""
    endings = sorted({Path(file).suffix.lower() for file in files})
    if len({READERS.get(ending) for ending in endings}) > 1:
        raise LogError(f"{files[0]} and {len(files) - 1} more end in {', '.join(endings)}: give files of one kind")
    return _scanned([glob.escape(file) for file in files])


def _scanned(paths: list[str]) -> pl.LazyFrame:
    suffix = Path(paths[0]).suffix.lower()
    if suffix not in READERS:
        raise LogError(f"{paths[0]}: unknown kind of file; known endings are {', '.join(READERS)}")
    hive = suffix in (".parquet", ".pq") and any(c in path for path in paths for c in "*=")
    frame: pl.LazyFrame = READERS[suffix](paths, **({"hive_partitioning": True} if hive else {}))
    return frame


def broken(files: Sequence[str]) -> str | None:
    """The first of several files that cannot be opened by itself, if there is one."""
    for file in files:
        try:
            reader([file]).collect_schema()
        except (pl.exceptions.PolarsError, OSError):
            return file
    return None
