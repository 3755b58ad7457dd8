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
    """The frame, what to call it in messages, and the paths or globs that it was read from."""
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
    first = Path(paths[0])
    suffix = first.suffix.lower()
    if first.is_dir():
        found = next((p for p in sorted(first.rglob("*")) if p.suffix.lower() in READERS), None)
        if found is None:
            raise LogError(f"{first}: no Parquet, CSV, NDJSON or Arrow IPC file in this folder")
        suffix = found.suffix.lower()
        paths = [f"{path}/**/*{suffix}" for path in paths]
    elif not any(c in paths[0] for c in "*?[") and "://" not in paths[0] and not first.exists():
        raise LogError(f"{first}: no such file")
    if suffix not in READERS:
        raise LogError(f"{first}: unknown kind of file; known endings are {', '.join(READERS)}")
    name = paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
    return reader(paths), name, tuple(paths)


def matching(patterns: Sequence[str]) -> list[Path]:
    """The files of paths and globs, in order."""
    found = [sorted(glob.glob(pattern, recursive=True)) for pattern in patterns]  # noqa: PTH207 (absolute ones too)
    return [path for path in (Path(name) for names in found for name in names) if path.is_file()]


def reader(paths: list[str]) -> pl.LazyFrame:
    """Files of one kind; folders named column=value become columns."""
    suffix = Path(paths[0]).suffix.lower()
    hive = suffix in (".parquet", ".pq") and any(c in paths[0] for c in "*=")
    frame: pl.LazyFrame = READERS[suffix](paths, **({"hive_partitioning": True} if hive else {}))
    return frame
