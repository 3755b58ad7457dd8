"""Outcomes that name the winner where sides are asked for, also among arms that are called as sides are."""

import numpy as np
import polars as pl
import pytest
import steelyard as sy


def votes(arms=("A", "B"), n=400):
    rng = np.random.default_rng(0)
    first = rng.random(n) < 0.5
    return pl.DataFrame(
        {
            "a": np.where(first, *arms), "b": np.where(first, *arms[::-1]),
            "winner": np.where(rng.random(n) < 0.8, *arms),
        }
    )  # fmt: skip


def scanned(frame, **more):
    return sy.scan(frame, **({"a": "a", "b": "b", "outcome": "winner"} | more))


FITS = [
    lambda log: sy.BradleyTerry().fit(log),
    lambda log: log.check(),
    lambda log: sy.rank(log, method="elo"),
    lambda log: sy.PairPropensity(method="pairs", context=[]).fit(log),
]


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("arms", [("A", "B"), ("model_b", "model_a"), ("left", "right"), ("1", "other")])
def test_names_of_arms_that_are_names_of_sides(fit, arms):
    frame = votes(arms)
    if "other" in arms:  # rows that nothing reads are not what hides the others
        frame = frame.filter(pl.col("winner") != "other")
    wrong = frame.filter(pl.col("winner") != pl.col("a" if arms[0] in ("A", "left", "1") else "b"))
    assert len(wrong) > 50
    with pytest.raises(sy.LogError, match=r"\d+ rows \(column winner; .*names? the arm of the other side") as told:
        fit(scanned(frame))
    assert "give outcome=pl.when(pl.col('winner') == pl.col('a')).then(1.0)" in str(told.value)


def test_the_expression_it_gives_is_the_right_one():
    frame = votes()
    with pytest.raises(sy.LogError) as told:
        sy.BradleyTerry().fit(scanned(frame))
    typed = str(told.value).split("give outcome=")[1].split("; where")[0]
    by_name = sy.BradleyTerry().fit(scanned(frame, outcome=eval(typed, {"pl": pl})))
    share = (frame["winner"] == "A").mean()
    assert by_name.contrast("A", "B").estimate == pytest.approx(np.log(share / (1 - share)), abs=1e-6)


def among(arms, labels, n=600, seed=1):
    """Sides by label, among many arms of which some have a label's name."""
    rng = np.random.default_rng(seed)
    a = rng.integers(0, len(arms), n)
    b = (a + rng.integers(1, len(arms), n)) % len(arms)
    names, told = pl.Series(arms), pl.Series(labels)
    return pl.DataFrame({"a": names[a], "b": names[b], "winner": told[rng.integers(0, len(labels), n)]})


def test_roles_that_are_expressions_are_called_by_their_role():
    frame = votes().with_columns(winner=" " + pl.col("winner"))
    with pytest.raises(sy.LogError, match=r"outcome=pl.when\(outcome == pl.col\('a'\)\).then\(1.0\)"):
        sy.BradleyTerry().fit(scanned(frame, outcome=pl.col("winner").str.strip_chars()))


def test_sides_that_are_meant_are_taken():
    frame = votes()
    for log in (
        scanned(among([*range(10)], ["1", "0", "tie"])),
        scanned(among([*"ABCDEFGHIJ"], ["A", "B"])),
        scanned(among([f"arm {i}" for i in range(40)] + ["a"], ["a", "b", "tie"])),
        scanned(frame, outcomes={"A": 1, "B": 0}),
        scanned(frame.filter(pl.col("a") == "A")),  # the name and the side are one
        scanned(frame.with_columns(pl.col("a", "b").replace({"A": "x", "B": "y"}))),
    ):
        assert sy.BradleyTerry(ridge=1.0).fit(log).n > 100


def test_other_names_are_unknown_outcomes_with_the_same_way_out():
    frame = votes(("gpt", "claude"))
    frame = frame.with_columns(winner=pl.when(pl.int_range(pl.len()) < 9).then(pl.lit("tie")).otherwise("winner"))
    with pytest.raises(sy.LogError, match="unknown outcome") as told:
        sy.BradleyTerry().fit(scanned(frame))
    typed = str(told.value).split("give outcome=")[1].split(" where the")[0]
    fit = sy.BradleyTerry().fit(scanned(frame, outcome=eval(typed, {"pl": pl})))
    assert fit.n == len(frame)
    assert fit.pairs.sums[:, 1].sum() == 9
    with pytest.raises(sy.LogError, match="name all of them with outcomes="):
        sy.BradleyTerry().fit(scanned(frame.with_columns(winner=pl.lit("whatever"))))
