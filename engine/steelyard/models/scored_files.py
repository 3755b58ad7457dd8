"""Scores of a log's rows to Parquet, file by file: each whole or not at all, and going on where a run stopped."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from steelyard.result import replacing
from steelyard.sources import READERS

if TYPE_CHECKING:
    from steelyard.log import PreferenceLog
    from steelyard.models.score_fit import Fit

_MADE_OF = "steelyard.made_of"  # key of what a file of scores was made of


def sink(fit: Fit, log: PreferenceLog, target: Path, resume: bool) -> int:
    """See :meth:`steelyard.PairFit.sink`."""
    if target.suffix.lower() == ".parquet":
        if resume:
            raise ValueError(f"{target} is one file: resume goes with a folder, shard by shard")
        return _one(fit, log, target)
    if target.suffix.lower() in (*READERS, ".json", ".txt") and not target.is_dir():
        raise ValueError(f"{target} is neither a file ending in .parquet nor, without such an ending, a folder")
    unscored, shards = 0, [((target / name).with_suffix(".parquet"), shard) for name, shard in log.shards()]
    log.refuse_own(*(whole for whole, _ in shards))
    for whole, shard in shards:
        made_of = {_MADE_OF: _signature(fit, shard)}
        if resume and _holds(whole, made_of):
            unscored += _unscored(whole)
        else:
            whole.parent.mkdir(parents=True, exist_ok=True)
            unscored += _one(fit, shard, whole, made_of)
    return unscored


def _one(fit: Fit, log: PreferenceLog, path: Path, made_of: dict[str, str] | None = None) -> int:
    log.refuse_own(path)
    with replacing(path, ".part") as temporary:
        fit.predict(log).sink_parquet(temporary, metadata=made_of)
        return _unscored(temporary)


def _signature(fit: Fit, shard: PreferenceLog) -> str:
    """Of what scores are made of: the parameters, what is read for each role, and the file as it is now."""
    file = Path(shard.files[0]).stat()
    read = (shard.roles, shard.outcomes, shard.unanswered, shard.covariates, shard.features, shard.context, shard.group)
    told = (fit.spec.model, fit.spec.ties, fit.spec.link, fit.parameters_of, _spelled(read), file.st_size,
            file.st_mtime_ns)  # fmt: skip
    return sha256(str(told).encode() + fit.estimate.parameter.tobytes()).hexdigest()


def _spelled(read: Any) -> Any:
    """The same with expressions written out: their repr is cut short, and tells where they are in memory."""
    if isinstance(read, pl.Expr):
        return read.meta.serialize()
    if isinstance(read, Mapping):
        return [(name, _spelled(part)) for name, part in read.items()]
    return [_spelled(part) for part in read] if isinstance(read, list | tuple) else read


def _holds(path: Path, made_of: dict[str, str]) -> bool:
    """Whether a file is one of scores, whole, that were made of these."""
    try:
        return made_of.items() <= pl.read_parquet_metadata(path).items()
    except (OSError, pl.exceptions.PolarsError):  # there is none, or something else stands there
        return False


def _unscored(path: Path) -> int:
    return int(pl.scan_parquet(path, glob=False).select(pl.col("margin").null_count()).collect().item())
