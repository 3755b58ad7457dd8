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


def opened(source: Any, text: Sequence[str] = ()) -> tuple[pl.LazyFrame, str, tuple[str, ...]]:
    """The frame, what to call it in messages, and the local files that it is read from.

    text: columns that a file of text has as they stand: names of versions, 4.1 and 4.10, are no numbers.
    """
    if isinstance(source, pl.LazyFrame):
        return source, "the lazy frame", ()
    if isinstance(source, pl.DataFrame):
        return source.lazy(), "the frame", ()
    if isinstance(source, str | Path) or (isinstance(source, Sequence) and source):
        return _open_files(source, text)
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
    except (pl.exceptions.PolarsError, TypeError, ValueError, NotImplementedError) as error:
        raise LogError(f"{name} cannot be made a frame: {error}") from error


def _open_files(source: Any, text: Sequence[str]) -> tuple[pl.LazyFrame, str, tuple[str, ...]]:
    listed = [source] if isinstance(source, str | Path) else list(source)
    if not all(isinstance(path, str | Path) for path in listed):
        raise LogError("a list is one of paths or globs: put frames together with polars.concat first")
    paths = [str(path) for path in listed]
    name = paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
    if any("://" in path for path in paths):  # polars finds those
        return _scanned(paths, text), name, ()
    files = [str(file) for path in paths for file in matching(path)]
    return reader(files, text), name, tuple(files)


def matching(path: str) -> list[Path]:
    """The files that a path, a folder or a glob stands for, in order, each once.

    Empty files, and names that begin with a dot, are left out unless spelled out. LogError where there are none, or
    several kinds.
    """
    if not path:
        raise LogError("the path of the log is empty")
    if Path(path).is_file():
        return [Path(path)]
    folder = Path(path).is_dir()
    pattern = f"{glob.escape(path)}/**/*" if folder else path
    once: dict[Path, Path] = {}  # whatever links lead to it
    for file in map(Path, sorted(glob.glob(pattern, recursive=True))):  # noqa: PTH207 (absolute ones too)
        if file.is_file() and file.stat().st_size and (not folder or _ending(file) in READERS):
            once.setdefault(file.resolve(), file)
    found = list(once.values())
    if not found:
        why = (
            "no Parquet, CSV, NDJSON or Arrow IPC file in this folder" if folder else "no such file, or only empty ones"
        )
        raise LogError(f"{path}: {why}")
    if len({READERS.get(_ending(file)) for file in found}) > 1:
        endings = ", ".join(sorted({file.suffix for file in found}))
        raise LogError(f"{path}: files of several kinds, {endings}: name those of one kind, as in {path}/**/*.parquet")
    return found


def _ending(path: str | Path) -> str:
    """What tells the kind of a file; text may be compressed beside."""
    suffixes = [suffix.lower() for suffix in Path(path).suffixes]
    return suffixes[-2] if len(suffixes) > 1 and suffixes[-1] in (".gz", ".zst") else (suffixes or [""])[-1]


def reader(files: Sequence[str], text: Sequence[str] = ()) -> pl.LazyFrame:
    """Local files of one kind, by name; folders named column=value become columns. text: as in :func:`opened`."""
    endings = sorted({_ending(file) for file in files})
    if len({READERS.get(ending) for ending in endings}) > 1:
        raise LogError(f"{files[0]} and {len(files) - 1} more end in {', '.join(endings)}: give files of one kind")
    if len(files) > 1 and READERS.get(endings[0]) is pl.scan_ndjson:  # where what is lacking would be null
        _refuse_lacking(files)
    return _scanned([glob.escape(file) for file in files], text)


def _refuse_lacking(files: Sequence[str]) -> None:
    """Raises LogError where a file lacks a column that the first has."""
    first = reader(files[:1]).collect_schema().names()
    for file in files[1:]:
        lacking = sorted(set(first) - set(reader([file]).collect_schema().names()))
        if lacking:
            raise LogError(
                f"{file} lacks the columns {lacking[:5]}, which {files[0]} has: the files must have the same"
            )


def _scanned(paths: list[str], text: Sequence[str]) -> pl.LazyFrame:
    suffix = _ending(paths[0])
    if suffix not in READERS:
        raise LogError(f"{paths[0]}: unknown kind of file; known endings are {', '.join(READERS)}")
    options: dict[str, Any] = {}
    if suffix in (".parquet", ".pq") and any(c in path for path in paths for c in "*="):
        options["hive_partitioning"] = True
    if suffix == ".csv":
        options["schema_overrides"] = dict.fromkeys(text, pl.String)
    frame: pl.LazyFrame = READERS[suffix](paths, **options)
    return frame


def broken(files: Sequence[str]) -> str | None:
    """The first of several files that cannot be opened by itself, if there is one."""
    for file in files:
        try:
            reader([file]).collect_schema()
        except (pl.exceptions.PolarsError, OSError):
            return file
    return None
