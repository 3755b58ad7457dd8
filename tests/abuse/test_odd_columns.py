"""Columns that would give wrong numbers without a word: each is refused, or said, by name."""

import numpy as np
import polars as pl
import pytest
import steelyard as sy

N = 400


def votes():
    rng = np.random.default_rng(2)
    a = rng.integers(0, 4, N)
    b = (a + rng.integers(1, 4, N)) % 4
    frame = pl.DataFrame({"a": a, "b": b, "y": rng.choice(["a", "b", "tie"], N), "kind": rng.choice(["p", "q"], N),
                          "long": rng.integers(1, 90, N), "short": rng.integers(1, 90, N)})  # fmt: skip
    return frame.with_columns(pl.col("a", "b").cast(pl.String), text=pl.lit("x").repeat_by("long").list.join(""),
                              other=pl.lit("x").repeat_by("short").list.join(""))  # fmt: skip


def scanned(frame=None, **roles):
    return sy.scan(votes() if frame is None else frame, a="a", b="b", outcome="y", **roles)


UNSIGNED = votes().with_columns(pl.col("long", "short").cast(pl.UInt32))
DIFFERENCES = {
    "of columns": pl.col("long") - pl.col("short"),
    "over a number": (pl.col("long") - pl.col("short")) / 1000,
    "in SQL": pl.sql_expr("long - short"),
    "of lengths": pl.col("text").str.len_chars() - pl.col("other").str.len_chars(),
    "in a branch": pl.when(pl.col("kind") == "p").then(pl.col("long") - pl.col("short")).otherwise(0),
}


@pytest.mark.parametrize("name", DIFFERENCES)
def test_differences_that_wrap_below_0_are_refused(name):
    length = DIFFERENCES[name]
    adjusted, asked = (
        scanned(UNSIGNED, covariates={"length": length}),
        scanned(UNSIGNED, context=length.alias("length")),
    )
    for read in (adjusted.check, asked.check, lambda: sy.BradleyTerry().fit(adjusted)):
        with pytest.raises(sy.LogError, match=r"length has .*difference of UInt32 numbers.*cast"):
            read()


def test_differences_with_a_sign_are_read():
    cast = pl.col("long").cast(pl.Int64) - pl.col("short")
    doubles = pl.col("long") - pl.col("short") * 1.0
    lengths = ((UNSIGNED, cast), (votes(), DIFFERENCES["of columns"]), (UNSIGNED, doubles))
    fits = [sy.BradleyTerry().fit(scanned(frame, covariates={"length": length})) for frame, length in lengths]
    assert fits[0].coefficients().equals(fits[1].coefficients())
    assert fits[0].coefficients().equals(fits[2].coefficients())


def test_what_cannot_wrap_or_be_typed_alone_is_read():
    frame = UNSIGNED.with_columns(
        e=pl.concat_list(pl.col("long", "short").cast(pl.Float64)), s=pl.struct("long", "short")
    )
    fields = pl.field("long").cast(pl.Float64) - pl.field("short")
    many = pl.col("long").cast(pl.Float64)
    for _ in range(900):
        many = many + pl.col("short")
    for expression in (
        pl.col("e").list.eval(pl.element() - pl.element().mean()).list.first(), pl.col("long") - 1, many,
        pl.col("s").struct.with_fields(fields.alias("gap")).struct.field("gap"),
    ):  # fmt: skip
        assert scanned(frame, covariates={"length": expression.alias("length")}).check().bad == {}


@pytest.mark.parametrize("odd", [None, float("nan"), 0.5, -1.0])
def test_positions_that_say_neither_are_bad_rows(odd):
    at = pl.int_range(pl.len())
    frame = votes().with_columns(first=pl.when(at == 3).then(odd).otherwise((at % 2) * 1.0))
    with pytest.raises(sy.LogError, match=r"1 row: null position, or one .*\(column first; first rows \[3\]\)"):
        sy.BradleyTerry(position=True).fit(scanned(frame, position="first"))
    log = scanned(frame, position="first", on_bad="quarantine")
    fit = sy.BradleyTerry(position=True).fit(log)
    whole = sy.BradleyTerry(position=True).fit(scanned(frame.filter(at != 3), position=pl.col("first") == 1))
    assert fit.coefficients().equals(whole.coefficients())
    assert fit.table().equals(whole.table())
    assert log.quarantined()["row"].to_list() == [3]
    assert fit.predict(log).collect()["margin"].is_null().to_list() == [row == 3 for row in range(N)]


def test_levels_of_one_value_in_two_types_are_refused_and_a_nan_is_no_level():
    frame = votes().with_columns(x=pl.col("long") % 3, z=(pl.col("short") % 3).cast(pl.Float64))
    with pytest.raises(sy.LogError, match="Int64 of a and Float64 of b, so that one level would have two names"):
        sy.effects(scanned(frame), attributes={"l": ("x", "z")})
    holed = frame.with_columns(x=pl.when(pl.col("long") < 5).then(float("nan")).otherwise(pl.col("x") * 1.0))
    with pytest.raises(sy.LogError, match="null or infinite covariate 'l="):
        sy.effects(scanned(holed), attributes={"l": ("x", "z")})


def test_check_counts_ties_as_it_counts_comparisons():
    frame = votes().with_columns(w=100.0, c=3)
    ties = int((frame["y"] == "tie").sum())
    plain, weighed, counted = (scanned(frame, **roles).check() for roles in ({}, {"weight": "w"}, {"count": "c"}))
    assert (plain.usable, plain.ties) == (weighed.usable, weighed.ties) == (N, ties)
    assert (counted.usable, counted.ties) == (3 * N, 3 * ties)


def test_rows_of_lists_that_lack_much_are_told_of_once():
    frame = votes().with_columns(
        e=pl.Series(np.random.default_rng(0).normal(size=(N, 40))), f=pl.Series(np.zeros((N, 40)))
    )
    at = pl.int_range(pl.len())
    frame = frame.with_columns(e=pl.when(at == 5).then(pl.lit([np.nan] * 40, pl.Array(pl.Float64, 40))).otherwise("e"))
    with pytest.raises(sy.LogError, match=r"1 row: null or infinite feature 'e' \(first rows \[5\]\)") as caught:
        sy.RewardModel(ridge=1.0).fit(scanned(frame, features=("e", "f")))
    assert len(str(caught.value)) < 300
    left = sy.RewardModel(ridge=1.0).fit(scanned(frame, features=("e", "f"), on_bad="drop"))
    assert left.dropped == {"null or infinite feature 'e'": 1}


def test_a_propensity_whose_square_is_no_number_is_refused_in_words():
    frame = votes().with_columns(p=pl.when(pl.int_range(pl.len()) == 3).then(1e-160).otherwise(1 / 6))
    spec = sy.DoublyRobust(propensity=sy.PairPropensity(method="logged"))
    with pytest.raises(sy.OverlapError, match=r"too little overlap: effective size 0.0"):
        spec.fit(scanned(frame, context="kind", propensity="p"))


def test_a_policy_s_own_mistake_is_named_as_one():
    with pytest.raises(ValueError, match="policy of '0' must be"):
        sy.PolicyValue(policy={"0": float("nan"), "1": 0.5}).fit(scanned(context="kind"))
