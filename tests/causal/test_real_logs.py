"""Doubly robust scores of real logs: sensible beside the plain ones."""

from importlib.resources import files
from pathlib import Path

import numpy as np
import polars as pl
import steelyard as sy

MT_BENCH = Path(__file__).parent.parent / "data" / "mt_bench_judgments.parquet"
OUTCOMES = {"model_a": 1, "model_b": 0, "tie": 0.5, "tie (inconsistent)": 0.5}


def mt_bench(source: str) -> sy.DoublyRobustFit:
    """Votes on 80 questions; ten in a row are of one category."""
    frame = pl.read_parquet(MT_BENCH).filter(source=source)
    frame = frame.with_columns(category=((pl.col("question_id") - 81) // 10).cast(pl.String))
    log = sy.scan(frame, format="arena", outcomes=OUTCOMES, context="category", cluster="question_id")
    return sy.DoublyRobust().fit(log)


def test_mt_bench_by_humans_and_by_gpt_4():
    for source in ("human", "gpt4_pair"):
        fit = mt_bench(source)
        told = fit.compare()
        assert fit.effective_share > 0.8  # pairs were shown almost evenly over categories: little to undo
        assert told["moved"].abs().max() < 0.15
        assert told["arm"].to_list()[0] == "gpt-4"
        assert told["arm"].to_list()[-1] == "llama-13b"
        assert told["rank"].to_list() == told["naive_rank"].to_list()


def test_llmfao_where_most_pairs_met_seldom():
    votes = pl.scan_parquet(str(files("steelyard") / "data/llmfao.parquet")).filter(pl.col("judge") == "crowd")
    log = sy.scan(votes, a="left", b="right", outcome="winner", context="prompt_type", cluster="judge_id")
    fit = sy.DoublyRobust().fit(log)
    told = fit.compare()
    assert told["arm"][0] == "GPT 4"
    assert np.corrcoef(told["naive"], told["score"])[0, 1] > 0.9
    assert len(fit.unsupported_pairs()) == fit.win_matrix()["extrapolated"].sum() / 2 > 700
    wide = told.select((pl.col("high") - pl.col("low")) / (pl.col("naive_high") - pl.col("naive_low"))).to_series()
    assert 0.5 < wide.median() < 2.0
