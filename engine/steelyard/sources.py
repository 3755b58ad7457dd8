"""From a path, a frame or anything Arrow to a lazy frame, unread: where every log comes from."""

from __future__ import annotations

import glob
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
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

_TOLD_BY = 2000  # rows that tell what the columns of a CSV file hold: a log may begin with rows without an answer

Labels = Sequence[tuple[str, ...]]
Opened = tuple[pl.LazyFrame, str, tuple[str, ...]]


def opened(source: Any, labels: Labels = (), roles: Sequence[str] = ()) -> Opened:
    """The frame, what to call it in messages, and the local files that it is read from.

    labels: columns of labels, those that are read alike together; CSV and folders' names give them as they are written:
    4.1 and 4.10 are two versions, 1 and 01 two codes. roles: columns that are read, and that no file may lack.
    """
    if isinstance(source, pl.LazyFrame):
        return source, "the lazy frame", ()
    if isinstance(source, pl.DataFrame):
        return source.lazy(), "the frame", ()
    if isinstance(source, str | Path) or (isinstance(source, Sequence) and source):
        return _open_files(source, labels, roles)
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


def _frame(source: Any, name: str) -> Opened:
    try:
        return pl.DataFrame(source).lazy(), name, ()
    except MemoryError:
        raise
    except (Exception, pl.exceptions.PanicException) as error:  # whatever the object, or who owns it, raises
        raise LogError(f"{name} cannot be made a frame: {error}") from error


def _open_files(source: Any, labels: Labels, roles: Sequence[str]) -> Opened:
    listed = [source] if isinstance(source, str | Path) else list(source)
    if not all(isinstance(path, str | Path) for path in listed):
        raise LogError("a list is one of paths or globs: put frames together with polars.concat first")
    paths = [str(path) for path in listed]
    name = paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
    if any("://" in path for path in paths):  # polars finds those
        return _scanned(paths, labels), name, ()
    once: dict[Path, str] = {}  # whatever links and patterns lead to it
    for file in (file for path in paths for file in matching(path)):
        once.setdefault(file.resolve(), str(file))
    files = [*once.values()]
    frame = reader(files, labels)
    if len(files) > 1 and READERS[_ending(files[0])] is pl.scan_ndjson:  # where what is lacking would be null
        with suppress(pl.exceptions.PolarsError, OSError):  # of a broken file it is told when that is read
            _refuse_lacking(files, roles)
    return frame, name, tuple(files)


def matching(path: str) -> list[Path]:
    """The files that a path, a folder or a glob stands for, in order.

    Left out are empty files, names that begin with a dot, and of a folder those that begin with _, which writers of
    many files keep for their own. LogError where there are none, and for a Delta table, whose log tells which count.
    """
    if not path:
        raise LogError("the path of the log is empty")
    if Path(path).is_file():
        return [Path(path)]
    folder = Path(path).is_dir()
    pattern = f"{glob.escape(path)}/**/*" if folder else path
    names = [Path(name) for name in sorted(glob.glob(pattern, recursive=True))]  # noqa: PTH207 (absolute ones too)
    found = [
        file for file in names if file.is_file() and file.stat().st_size
        and (not folder or (_ending(file) in READERS and not _kept_back(file.relative_to(path))))
    ]  # fmt: skip
    tables = [at for at in {at for file in found for at in file.parents} if (at / "_delta_log").is_dir()]
    if tables:
        table = str(tables[0])
        raise LogError(f"{table} is a Delta table: some of its files may not count. Scan polars.scan_delta({table!r})")
    if not found:
        why = "no such file, or only empty ones"
        if folder:
            why = "no Parquet, CSV, NDJSON or Arrow IPC file in this folder whose name does not begin with _ or a dot"
        elif path == "-" or Path(path).exists():
            why = "a log is a file, which may be read more than once: write what comes through a pipe to one first"
        raise LogError(f"{path}: {why}")
    return found


def _kept_back(file: Path) -> bool:
    return any(part.startswith("_") and "=" not in part for part in file.parts)


def _ending(path: str | Path) -> str:
    """What tells the kind of a file; text may be compressed beside."""
    suffixes = [suffix.lower() for suffix in Path(path).suffixes]
    return suffixes[-2] if len(suffixes) > 1 and suffixes[-1] in (".gz", ".zst") else (suffixes or [""])[-1]


def reader(files: Sequence[str], labels: Labels = (), kinds: Mapping[str, Any] | None = None) -> pl.LazyFrame:
    """Local files of one kind, by name; folders named column=value become columns.

    labels: as in :func:`opened`. kinds: types of columns, as all files of a log tell them, where these are some.
    """
    endings = sorted({_ending(file) for file in files})
    if len({READERS.get(ending) for ending in endings}) > 1:
        raise LogError(f"files of several kinds, {', '.join(endings)}, {files[0]} the first: name those of one kind")
    return _scanned([glob.escape(file) for file in files], labels, kinds)


def _refuse_lacking(files: Sequence[str], roles: Sequence[str]) -> None:
    """Raises LogError where an NDJSON file lacks a column that is read and that the first has."""
    wanted = set(roles) & set(reader(files[:1]).collect_schema().names())
    for file in files[1:]:
        if wanted <= set(reader([file]).collect_schema().names()):  # by its first rows
            continue
        whole = pl.scan_ndjson(glob.escape(file), infer_schema_length=None).collect_schema().names()
        lacking = sorted(wanted - set(whole))
        if lacking:
            raise LogError(f"{file} lacks the columns {lacking[:5]}, which {files[0]} has: rename or add them")


def _scanned(paths: list[str], labels: Labels, kinds: Mapping[str, Any] | None = None) -> pl.LazyFrame:
    suffix = _ending(paths[0])
    if suffix not in READERS:
        raise LogError(f"{paths[0]}: unknown kind of file; known endings are {', '.join(READERS)}")
    hive = suffix in (".parquet", ".pq") and any(c in path for path in paths for c in "*=")
    options: dict[str, Any] = {"hive_partitioning": True} if hive else {}
    if suffix == ".csv":
        options["infer_schema_length"] = _TOLD_BY
    frame: pl.LazyFrame = READERS[suffix](paths, **options)
    if not options or not (labels or kinds):
        return frame
    try:
        told = frame.collect_schema()
    except (pl.exceptions.PolarsError, OSError):  # told when it is read
        return frame
    keys = [name for name in _keys(paths[0]) if name in told] if hive else []
    wanted = _text(labels, told, keys) if kinds is None else kinds
    other = {name: kind for name, kind in wanted.items() if name in (keys if hive else told) and told[name] != kind
             and (hive or kind == pl.String)}  # fmt: skip
    if not other:
        return frame
    if hive:
        return pl.scan_parquet(paths, hive_schema={key: other.get(key, told[key]) for key in keys}, **options)
    return pl.scan_csv(paths, schema_overrides=other, **options)


def _keys(path: str) -> list[str]:
    """The columns that a file's folders name."""
    return [part.partition("=")[0] for part in Path(path).parts[:-1] if "=" in part]


def _text(labels: Labels, told: pl.Schema, keys: Sequence[str]) -> dict[str, Any]:
    """Which columns of labels are text: all, or those of folders beside which the files hold text, if anything."""
    inside = {
        name for name, kind in told.items() if name not in keys and kind not in (pl.String, pl.Categorical, pl.Enum)
    }
    beside = {name for together in labels if keys and inside & {*together} for name in together}
    return {name: pl.String for together in labels for name in together if name not in beside}


def scanned_by(query: pl.LazyFrame, named: Sequence[Path]) -> set[Path]:
    """Files that a query scans, as its plan tells; of a list that it cuts short also those named below its folders."""
    found = set()
    for told in re.findall(r"SCAN \[(.*?)\]\n", f"{query.explain(optimized=False)}\n"):
        listed, _, others = told.partition(", ... ")
        scanned = {Path(name).resolve() for name in listed.split(", ")}
        folders = {path.parent for path in scanned}
        found |= scanned | {path for path in named if others and any(one in path.parents for one in folders)}
    return found


def broken(files: Sequence[str]) -> str | None:
    """The first of several files that cannot be opened by itself, if there is one."""
    for file in files:
        try:
            reader([file]).collect_schema()
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError):
            return file
    return None


def unlike(files: Sequence[str]) -> str | None:
    """In words, the first of several files with other columns than the first has, if there is one."""
    first, *rest = ({name: kind for name, kind in reader([file]).collect_schema().items() if name not in _keys(file)}
                    for file in files)  # fmt: skip
    for file, other in zip(files[1:], rest, strict=True):
        if [*other.items()] == [*first.items()]:
            continue
        alone = sorted({*other} ^ {*first})
        kinds = [
            f"{name} is {other[name]}, not {first[name]}" for name in {*other} & {*first} if other[name] != first[name]
        ]
        parts = [f"the columns {alone[:5]} are in one of the two alone"] if alone else sorted(kinds)[:3]
        return f"{file} is not as {files[0]}: {', '.join(parts) or 'its columns stand in another order'}"
    return None
