"""Effects of features that change with the context, of numbers or of text."""

import numpy as np
import polars as pl
import pytest
import steelyard as sy

from tests.models.test_reward import scanned, simulated

TOPICS = ("code", "maths", "prose")


def with_topics(seed, n=900):
    topic = np.random.default_rng(seed).integers(0, 3, n)
    return simulated(seed, n).with_columns(topic=pl.Series(np.array(TOPICS)[topic]))


def by_hand(frame):
    """The same with an indicator of each value but the first."""
    return frame.with_columns((pl.col("topic") == value).cast(pl.Float64).alias(f"topic={value}") for value in TOPICS)


@pytest.mark.parametrize("heads", ["shared", "per-group"])
def test_values_of_text_are_indicators(heads):
    frame = with_topics(1)
    text = scanned(frame, context=["topic", "prompt"], group="who", cluster="rater")
    numbers = scanned(by_hand(frame), context=["topic=maths", "topic=prose", "prompt"], group="who", cluster="rater")
    fit = sy.RewardModel(context=["topic", "prompt"], heads=heads).fit(text)
    want = sy.RewardModel(interactions="all", heads=heads).fit(numbers)
    columns = ["term", "estimate", "se"]
    told, other = (each.coefficients().select(columns).sort("term") for each in (fit, want))
    assert told["term"].to_list() == other["term"].to_list()
    np.testing.assert_allclose(told.drop("term"), other.drop("term"), atol=1e-9)
    np.testing.assert_allclose(fit.predict(text).collect()["margin"], want.predict(numbers).collect()["margin"])
    assert sy.RewardModel(interactions=[("x_a", "topic")], context="prompt").fit(text).coefficients().height > 0
    effects = sy.effects(fit, text), sy.effects(want, numbers)
    np.testing.assert_allclose(effects[0]["se"], effects[1]["se"], rtol=1e-9)


def test_a_saved_fit_reads_the_same_values(tmp_path):
    log = scanned(with_topics(2), context="topic")
    fit = sy.RewardModel(context="topic").fit(log)
    fit.save(tmp_path / "reward.sy")
    back = sy.load(tmp_path / "reward.sy")
    assert back.predict(log).collect().equals(fit.predict(log).collect())
    assert back.coefficients().equals(fit.coefficients())


def test_values_that_are_new_have_no_margin():
    frame = with_topics(3)
    fit = sy.RewardModel(context="topic").fit(scanned(frame, context="topic"))
    new = scanned(frame.head(4).with_columns(topic=pl.Series(["prose", "law", None, "code"])), context="topic")
    assert fit.predict(new).collect()["margin"].is_null().to_list() == [False, True, True, False]
    with pytest.raises(sy.LogError, match=r"1 rows of .* have context values that the fit does not know"):
        sy.effects(fit, scanned(frame.head(2).with_columns(topic=pl.Series(["prose", "law"])), context="topic"))


def test_weights_of_the_same_context_keep_their_own_codes():
    """Both read the column; the weights' values have places of their own."""
    frame = with_topics(4).with_columns(arm=pl.Series(np.random.default_rng(0).permutation(["m", "k"] * 450)))
    roles = {"a": "arm", "b": pl.when(pl.col("arm") == "m").then(pl.lit("j")).otherwise(pl.lit("m"))}
    log = scanned(frame, context=["prompt", "topic"], **roles)
    numbers = scanned(by_hand(frame), context=["prompt", "topic", "topic=maths", "topic=prose"], **roles)
    weights = [
        sy.PairPropensity(method="pairs", context=["prompt", "topic"]).fit(each).weights(each)
        for each in (log, numbers)
    ]
    fit = sy.RewardModel(context="topic", weights=weights[0]).fit(log)
    pairs = [(f"{name}_a", f"topic={value}") for name in "xyz" for value in TOPICS[1:]]
    want = sy.RewardModel(interactions=pairs, weights=weights[1]).fit(numbers)
    told, other = (each.coefficients().select("term", "estimate", "se").sort("term") for each in (fit, want))
    np.testing.assert_allclose(told.drop("term"), other.drop("term"), atol=1e-7)


def test_wrong_contexts():
    frame = with_topics(5)
    with pytest.raises(sy.LogError, match="nothing"):
        sy.RewardModel(context="nothing").fit(scanned(frame, context="topic"))
    flat = scanned(frame.with_columns(topic=pl.lit("code")), context="topic")
    with pytest.raises(sy.LogError, match="context 'topic' is the same in every row"):
        sy.RewardModel(context="topic").fit(flat)
    with pytest.raises(TypeError, match="context"):
        sy.RewardModel(context=3)  # type: ignore[arg-type]


def test_covariates_too_large_for_single_precision_are_named():
    rng = np.random.default_rng(0)
    frame = pl.DataFrame({
        "y": rng.integers(0, 2, 300), "z": rng.normal(size=300) * 1e39,
        "emb_a": pl.Series(rng.normal(size=(300, 40)).astype(np.float32)),
        "emb_b": pl.Series(rng.normal(size=(300, 40)).astype(np.float32)),
    })  # fmt: skip
    log = sy.scan(frame, outcome="y", features=("emb_a", "emb_b"), covariates={"z": "z"})
    with pytest.raises(sy.LogError, match=r"beyond 3\.4e38"):
        sy.RewardModel(ridge=1.0).fit(log)


def test_every_pair_and_contexts_by_name_are_checked_alike():
    log = scanned(with_topics(6), context=["topic", "prompt"])
    every = sy.RewardModel(interactions="all").fit(log).coefficients()["term"].to_list()
    assert every == sy.RewardModel(context=["topic", "prompt"]).fit(log).coefficients()["term"].to_list()
    with pytest.raises(sy.LogError, match="context 'nope': the log's context columns are"):
        sy.RewardModel(interactions="all", context="nope").fit(log)
    many = scanned(with_topics(7).with_columns(topic=pl.int_range(pl.len()).cast(pl.String)), context="topic")
    with pytest.raises(sy.LogError, match="900 values, each of which would be a column"):
        sy.RewardModel(context="topic").fit(many)


@pytest.mark.parametrize("wrong", ["topic", ("x_a", "topic"), [("x_a",)], [("x_a", 3)]])
def test_interactions_that_are_no_pairs(wrong):
    with pytest.raises(TypeError, match=r"interactions takes pairs \(feature, context\) of names"):
        sy.RewardModel(interactions=wrong)
    with pytest.raises(TypeError, match="context takes names"):
        sy.RewardModel(context=pl.col("topic"))  # type: ignore[arg-type]
    assert sy.RewardModel(interactions=None) == sy.RewardModel()  # type: ignore[arg-type]


def test_new_values_beside_wide_features_in_single_precision_have_no_margin():
    rng = np.random.default_rng(0)
    sides = {f"emb_{side}": pl.Series(rng.normal(size=(300, 40)).astype(np.float32)) for side in "ab"}
    frame = pl.DataFrame({"y": rng.integers(0, 2, 300), "t": ["p", "q", "r"] * 100, **sides})
    roles = {"outcome": "y", "features": ("emb_a", "emb_b"), "context": "t"}
    fit = sy.RewardModel(ridge=1.0, context="t").fit(sy.scan(frame, **roles))
    new = frame.head(2).with_columns(t=pl.Series(["q", "new"]))
    assert fit.predict(sy.scan(new, **roles)).collect()["margin"].is_null().to_list() == [False, True]
