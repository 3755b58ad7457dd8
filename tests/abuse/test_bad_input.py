"""Arguments and columns that are wrong in one way each: refused in words, with what is wrong and where."""

from __future__ import annotations

import json
import os
import re
import zipfile

import numpy as np
import polars as pl
import pytest
import steelyard as sy
from sklearn.dummy import DummyClassifier

from tests.abuse.contract import judge, judge_error

ROLES = {"a": "l", "b": "r", "outcome": "w"}
LOOSE = {"floor": 0.0, "unsupported": 1.0}


def frame(n=200, k=4):
    rng = np.random.default_rng(0)
    a = rng.integers(0, k, n)
    b = (a + rng.integers(1, k, n)) % k
    arms, kinds = np.array(list("abcd")), np.array(["p", "q"])
    return pl.DataFrame(
        {"l": arms[a], "r": arms[b], "w": rng.integers(0, 2, n) * 1.0, "kind": kinds[rng.integers(0, 2, n)],
         "x": rng.normal(size=n), "who": rng.integers(0, 20, n), "fa": rng.normal(size=(n, 2)).tolist(),
         "fb": rng.normal(size=(n, 2)).tolist()}
    )  # fmt: skip


FRAME = frame()


def scanned(**more):
    columns = more.pop("columns", {})
    return sy.scan(FRAME.with_columns(**columns), **(ROLES | more))


def fitted(**more):
    return sy.BradleyTerry().fit(scanned(**more))


def shown():
    return sy.PairPropensity().fit(scanned(context="kind"))


def propensity():
    return shown().weights(scanned(context="kind"), **LOOSE)


REFUSED = {
    "an arm of lists": (lambda: scanned(a=pl.col("fa")).check(), "role 'a' holds List"),
    "an outcome of durations": (lambda: scanned(outcome=pl.duration(days=1)).check(), "holds Duration"),
    "a position of structs": (lambda: scanned(position=pl.struct("x")).check(), "holds Struct"),
    "a number for a column": (lambda: scanned(a=5), "a takes a column's name"),
    "a number for clusters": (lambda: scanned(cluster=5), "cluster takes names"),
    "text for covariates": (lambda: scanned(covariates="x"), "covariates takes {name"),
    "every column as context": (lambda: scanned(context=pl.all()), "not one column"),
    "a context that is not there": (lambda: sy.DoublyRobust().fit(scanned(context=pl.col("no"))), "cannot be read"),
    "columns of one name": (lambda: sy.scan(FRAME.to_arrow().rename_columns(["l"] * 8), **ROLES), "cannot be made"),
    "a list of frames": (lambda: sy.scan([FRAME], **ROLES), "polars.concat"),
    "empty lists of features": (
        lambda: sy.RewardModel().fit(scanned(columns={"fa": pl.lit([]), "fb": pl.lit([])}, features=("fa", "fb"))),
        "empty list",
    ),
    "huge features": (lambda: sy.latent_overlap(scanned(features=(["x", pl.col("x") * 1e200], ["who"] * 2))), "beyond"),
    "huge weights": (lambda: fitted(weight=pl.lit(1e160)), "beyond 1e-50 to 1e50"),
    "tiny weights": (lambda: fitted(weight=pl.lit(1e-300)), "beyond 1e-50 to 1e50"),
    "only ties, dropped": (
        lambda: sy.BradleyTerry(ties="drop", ridge=1.0).fit(scanned(outcome=pl.lit(0.5))),
        "leaves no comparison",
    ),
    "a null in the first of two clusters": (
        lambda: sy.DoublyRobust(**LOOSE).fit(
            scanned(context="kind", cluster=[pl.when(pl.col("who") > 3).then("who").alias("who"), "kind"])
        ),
        "null cluster",
    ),
    "a frame for a log": (lambda: sy.BradleyTerry().fit(FRAME), "made by steelyard.scan"),
    "a frame to predict": (lambda: fitted().predict(FRAME), "made by steelyard.scan"),
    "a frame to weigh": (lambda: shown().weights(FRAME), "made by steelyard.scan"),
    "a frame of propensities": (lambda: shown().probability(FRAME), "made by steelyard.scan"),
    "a frame of weights": (lambda: propensity().frame(FRAME), "made by steelyard.scan"),
    "a frame of features": (lambda: sy.latent_overlap(FRAME), "made by steelyard.scan"),
    "a level of one": (lambda: fitted().table(1 - 1e-16), "level must be"),
    "text for a level": (lambda: fitted().table("0.95"), "level must be"),
    "no replicates": (lambda: fitted().bootstrap(0), "at least 2"),
    "a negative seed": (lambda: fitted().bootstrap(seed=-1), "at least 0"),
    "a negative seed of folds": (lambda: sy.DoublyRobust(seed=-1), "at least 0"),
    "true for folds": (lambda: sy.DoublyRobust(folds=True), "from 1 to 100"),
    "a level of replicates": (lambda: fitted().bootstrap(50).table(-1), "level must be"),
    "a position of text": (lambda: sy.BradleyTerry(position="x"), "True or False"),
    "a ridge of text": (lambda: sy.PairPropensity(ridge="x"), "finite number"),
    "no floor at all": (lambda: propensity().propensity.weights(scanned(context="kind"), floor=float("nan")), "floor"),
    "Elo of no step": (lambda: sy.rank(scanned(), "elo", step=float("nan")), "step must be"),
    "a damping below 0": (lambda: sy.rank(scanned(), "pagerank", damping=-1), "damping must be"),
    "an option that is not there": (lambda: sy.rank(scanned(), foo=1), "takes no options"),
    "weights of pairs as text": (
        lambda: sy.DoublyRobust(pairs={"a": ["a"], "b": ["b"], "weight": ["x"]}, **LOOSE).fit(scanned(context="kind")),
        "no frame with arms",
    ),
    "a policy of nothing": (lambda: sy.PolicyValue({"a": None}, **LOOSE).fit(scanned(context="kind")), "probability"),
    "one column for two": (lambda: sy.Responses(("x",), ("x", "x"), ("x", "x"), ("fa", "fb")), "two columns"),
    "an expression for a propensity's context": (lambda: sy.PairPropensity(context=pl.col("kind")), "given by name"),
    "the class of a classifier": (lambda: sy.PairPropensity(classifier=DummyClassifier), "DummyClassifier(...)"),
    "the class of an outcome model": (lambda: sy.DoublyRobust(outcome=DummyClassifier), "not its class"),
    "attributes without a name": (lambda: sy.effects(scanned(), attributes=["x"]), "name the attributes"),
    "one side of features": (lambda: scanned(features="fa"), "takes two sides"),
    "weights to a text file": (lambda: propensity().sink(scanned(context="kind"), "w.txt"), "the ending must"),
    "a plan of far too much": (lambda: sy.plan(fitted(), 10**18), "from 1 to"),
}  # fmt: skip


@pytest.mark.parametrize("case", [*REFUSED])
def test_refused_in_words(case):
    call, words = REFUSED[case][0], re.escape(REFUSED[case][1])
    with pytest.raises(Exception, match=words) as caught:
        call()
    judge_error(caught.value)


def test_a_nan_is_no_label():
    log = sy.scan({"l": [1.0, float("nan")], "r": [2.0, 1.0], "w": [1, 1]}, **ROLES)
    assert log.check().bad["null arm"][0] == 1
    with pytest.raises(sy.LogError, match="200 rows: null position, or one that is neither true nor false"):
        scanned(position=pl.lit(float("nan"))).pairs()


def test_an_arm_may_have_any_name():
    fit = sy.BradleyTerry().fit(sy.scan(FRAME.with_columns(l=pl.col("l").replace("a", "arm"),
                                                           r=pl.col("r").replace("a", "arm")), **ROLES))  # fmt: skip
    matrix = fit.win_matrix()
    assert matrix.columns[0] == "_arm"
    assert matrix["_arm"].to_list() == fit.arms


def test_what_cannot_be_scored_is_null():
    fit = fitted(covariates={"x": "x"})
    odd = fit.predict(scanned(covariates={"x": pl.lit(float("inf"))})).collect()
    assert odd.null_count().row(0) == (200,) * 5
    assert fit.predict(scanned(outcome=pl.lit(7.0), covariates={"x": "x"})).collect()["log_likelihood"].is_null().all()
    far = fit.predict(scanned(covariates={"x": pl.lit(1e9)})).collect()
    judge(far)
    assert far.select(pl.min_horizontal("p_a", "p_b").max()).item() < 1e-12


def test_nulls_have_reasons():
    weightless = ((pl.col("l") != "a") & (pl.col("r") != "a")).cast(pl.Float64)
    assert sy.rank(scanned(weight=weightless)).filter(arm="a").row(0)[1:3] == (None, None)
    held = sy.BradleyTerry(ridge=1e300).fit(scanned()).table()
    assert held["se"].is_null().all()
    assert held["reason"].str.contains("ridge").all()
    ties = sy.BradleyTerry(position=True, ridge=1.0).fit(scanned(outcome=pl.lit(0.5))).coefficients()
    assert ties["p_value"][0] is None
    assert "no spread" in ties["reason"][0]
    few = sy.BradleyTerry().fit(sy.scan(FRAME.head(12), **ROLES)).bootstrap(50).table()
    judge(few)
    assert few["reason"].is_not_null().any()


def test_far_contexts_have_no_weight():
    weights = sy.PairPropensity().fit(log := scanned(context=["kind", "x"])).weights(log, **LOOSE)
    far = weights.frame(scanned(context=["kind", pl.lit(1e49).alias("x")]))
    assert not far["weight"].is_infinite().any()


def test_saving_replaces_no_device(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="is not a file"):
        fitted().save(tmp_path / "pipe")
    with pytest.raises(OSError, match="is not a file"):
        fitted().save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_loading_takes_no_more_memory_than_the_file_is_long(tmp_path):
    path = tmp_path / "bomb.sy"
    header = {"steelyard": 2, "kind": "pair-fit", "facts": {}, "arrays": ["a"]}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("result.json", json.dumps(header))
        archive.writestr("a.npy", bytes(50_000_000))
    with pytest.raises(sy.FormatError, match="compressed"):
        sy.load(path)
