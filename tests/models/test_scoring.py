"""What a fit says of the rows of a log, one by one, whatever holds the outcomes."""

import numpy as np
import polars as pl
import pytest
import steelyard as sy
from steelyard.cli import app
from typer.testing import CliRunner

ROLES = {"a": "l", "b": "r", "outcome": "w"}


def frame(n=300):
    rng = np.random.default_rng(2)
    a = rng.integers(0, 3, n)
    return pl.DataFrame({"l": a, "r": (a + rng.integers(1, 3, n)) % 3, "w": rng.choice(["left", "right", "tie"], n)})


def test_tallies_have_one_row_each(tmp_path):
    tallies = pl.DataFrame({"model_a": ["x", "y", "z"], "model_b": ["y", "z", "new"], "n_a_wins": [3, 1, 2],
                            "n_b_wins": [1, 2, 1], "n_tie": [1, 0, 1]})  # fmt: skip
    log = sy.scan(tallies, format="pairs")
    fit = sy.BradleyTerry(ridge=1.0).fit(sy.scan(tallies.head(2), format="pairs"))
    told = fit.predict(log).collect()
    assert told.height == 3
    assert told["margin"].is_null().to_list() == [False, False, True]
    assert told["log_likelihood"].null_count() == 3
    for row, name in enumerate("xy"):
        assert told["p_a"][row] == pytest.approx(fit.win_probability(name, tallies["model_b"][row]))
    assert fit.sink(log, tmp_path / "scored.parquet") == 1
    assert pl.read_parquet(tmp_path / "scored.parquet").equals(told)
    assert tallies.lazy().sy.predict(fit, "pairs").collect().equals(tallies.with_columns(told))


def test_a_tie_has_no_likelihood_where_ties_were_left_out():
    log = sy.scan(frame(), **ROLES)
    fit = sy.BradleyTerry(ties="drop").fit(log)
    likelihood = fit.predict(log).collect()["log_likelihood"]
    assert (likelihood.is_null() == (frame()["w"] == "tie")).all()
    assert likelihood.sum() == pytest.approx(fit.log_likelihood, rel=1e-10)


@pytest.mark.parametrize("kind", [pl.String, pl.Categorical, pl.Int8])
def test_labels_that_say_what_null_says(kind, tmp_path):
    numbers = {"left": 1, "right": 2, "tie": 3, "NA": -1}
    given = frame().with_columns(w=pl.when(pl.int_range(pl.len()) % 5 == 0).then(pl.lit("NA")).otherwise("w"))
    nulls = given.with_columns(w=pl.col("w").replace({"NA": None}))
    names = {label: numbers[label] if kind == pl.Int8 else label for label in numbers}
    told = given.with_columns(w=pl.col("w").replace_strict(names).cast(kind))
    worth = {names["left"]: 1, names["right"]: 0, names["tie"]: 0.5, names["NA"]: None}
    log, want = sy.scan(told, **ROLES, outcomes=worth), sy.scan(nulls, **ROLES)
    assert log.check().nulls == want.check().nulls == 60
    fit = sy.BradleyTerry().fit(log)
    np.testing.assert_allclose(fit.score, sy.BradleyTerry().fit(want).score, atol=1e-10)
    assert fit.predict(log).collect().equals(fit.predict(want).collect())
    if kind == pl.String:
        given.write_csv(tmp_path / "log.csv")
        outcomes = ["--outcomes", "left=1", "--outcomes", "right=0", "--outcomes", "tie=0.5", "--outcomes", "NA=null"]
        asked = ["check", str(tmp_path / "log.csv"), "--a", "l", "--b", "r", "--outcome", "w", *outcomes]
        done = CliRunner().invoke(app, asked)
        assert done.exit_code == 0, done.output
        assert "60" in done.output
        with pytest.raises(sy.LogError, match=r"60 rows: unknown outcome .*\['NA'\].*None: not labelled"):
            sy.BradleyTerry().fit(sy.scan(tmp_path / "log.csv", **ROLES))


def test_the_card_of_a_loaded_weighted_fit_is_refused(tmp_path):
    given = frame().with_columns(topic=pl.Series(np.random.default_rng(1).choice(["x", "y"], 300)))
    log = sy.scan(given, **ROLES, context="topic")
    fit = sy.BradleyTerry(weights=sy.PairPropensity(method="pairs").fit(log).weights(log)).fit(log)
    fit.save(tmp_path / "fit.sy")
    assert "topic" in str(sy.card(fit))
    with pytest.raises(ValueError, match="has lost its weights"):
        sy.card(sy.load(tmp_path / "fit.sy"))


def test_arms_that_are_called_otherwise_are_told_of():
    """pandas makes 1.0 of whole numbers beside a missing one."""
    log = frame()
    fit = sy.BradleyTerry().fit(sy.scan(log, **ROLES))
    floats = sy.scan(log.with_columns(pl.col("l", "r").cast(pl.Float64)), **ROLES)
    texts = sy.scan(log.with_columns(pl.col("l", "r").cast(pl.String)), **ROLES)
    for ask in (fit.predict, fit.update):
        with pytest.raises(sy.LogError, match=r"a holds Float64, .*\['0', '1', '2'\]: give it the type"):
            ask(floats)
    assert fit.predict(texts).collect().equals(fit.predict(sy.scan(log, **ROLES)).collect())
    assert fit.update(texts).arms == fit.arms
    other = sy.BradleyTerry().fit(floats)
    assert other.predict(floats).collect()["margin"].null_count() == 0
    with pytest.raises(sy.LogError, match=r"a holds Int64, .*1.0 is not 1"):
        other.predict(sy.scan(log, **ROLES))
    assert sy.BradleyTerry(ridge=1.0).fit(texts).predict(texts).collect().height == log.height


def test_numbers_that_are_labels_are_named():
    numbers = frame().with_columns(
        w=pl.col("w").replace_strict({"left": 1, "right": 2, "tie": 0}, return_dtype=pl.Int8)
    )
    log = sy.scan(numbers, **ROLES)
    with pytest.raises(sy.LogError, match=r"unknown outcome .*\[2\] \(numbers must lie in \[0, 1\]\).*outcomes="):
        sy.BradleyTerry().fit(log)
    assert log.check().strange == [2]
    assert "outcomes that are not known" in str(log.check())
    given = sy.scan(numbers, **ROLES, outcomes={0: 0.5, "one": 1, 1: 1})
    with pytest.raises(sy.LogError, match=r"\[2\] \(numbers that outcomes= does not name\)"):
        sy.BradleyTerry().fit(given)
    right = sy.BradleyTerry().fit(sy.scan(numbers, **ROLES, outcomes={0: 0.5, 1: 1, 2: 0}))
    np.testing.assert_allclose(right.score, sy.BradleyTerry().fit(sy.scan(frame(), **ROLES)).score, atol=1e-10)
    text = sy.scan(frame().with_columns(w=pl.col("w").replace({"tie": "draw?"})), **ROLES)
    assert text.check().strange == ["draw?"]


def test_results_are_equal_to_themselves_alone_and_may_be_keys():
    log = sy.scan(frame(), **ROLES)
    fit, other = sy.BradleyTerry().fit(log), sy.BradleyTerry().fit(log)
    assert fit == fit
    assert fit != other
    assert {fit: 1}[fit] == 1
    assert len({log, fit.audit("0", "1"), fit.bootstrap(10), sy.plan(fit, 5)}) == 4
    assert sy.BradleyTerry() == sy.BradleyTerry()


def test_tallies_have_no_label_that_says_null():
    tallies = pl.DataFrame({"model_a": ["x", "y"], "model_b": ["y", "x"], "n_a_wins": [3, 1], "n_b_wins": [1, 2]})
    log = sy.scan(tallies, format="pairs", outcomes={"a": 1, "NA": None})
    assert sy.BradleyTerry().fit(log).table().equals(sy.BradleyTerry().fit(sy.scan(tallies, format="pairs")).table())
    assert not sy.BradleyTerry().fit(sy.scan(tallies.with_columns(n_tie=0), format="pairs")).dropped


def test_arms_of_several_kinds_are_no_false_alarm():
    log = frame().with_columns(pl.col("l", "r").cast(pl.String).replace({"0": "4.1", "1": "gpt", "2": "7"}))
    fit = sy.BradleyTerry().fit(sy.scan(log, **ROLES))
    more = pl.DataFrame({"l": [4, 5], "r": [5, 4], "w": ["left", "left"]})
    assert fit.update(sy.scan(more, **ROLES)).arms == ["4", "4.1", "5", "7", "gpt"]
