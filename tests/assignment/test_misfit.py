"""Whether a softmax describes which pairs were shown: it warns where it does not, and not where it does."""

import numpy as np
import polars as pl
import pytest
import steelyard as sy
from steelyard.assignment import misfit

ROLES = {"a": "a", "b": "b", "outcome": "y", "context": "topic"}


def shown(a, b, topic, **columns):
    names = np.array([f"m{j}" for j in range(9)])
    frame = {
        "a": names[a],
        "b": names[b],
        "y": np.arange(len(a)) % 3 * 0.5,
        "topic": np.array(["prose", "code"])[topic],
    }
    return pl.DataFrame(frame | columns)


def drawn(seed, topic, k=6):
    """Two draws without replacement from a softmax that hangs on the topic (n,): what is fitted."""
    logits = np.where(topic[:, None] == 1, 1.0, -1.0) * np.linspace(-0.7, 0.7, k)
    noise = np.random.default_rng(seed).gumbel(size=(len(topic), k))
    return np.argsort(-(logits + noise), axis=1)[:, :2].T


def ring(seed, n):
    """Neighbours in a ring of five meet nine times as often as others in one topic, others as often in the other."""
    rng = np.random.default_rng(seed)
    pairs = np.array([(i, j) for i in range(5) for j in range(i + 1, 5)])
    near = np.where(np.isin(pairs[:, 1] - pairs[:, 0], (1, 4)), 0.8, -0.8)
    topic = rng.integers(0, 2, n)
    chance = (1.0 + np.where(topic == 1, 1.0, -1.0)[:, None] * near) / 10.0
    return *pairs[(rng.random((n, 1)) > chance.cumsum(axis=1)).sum(axis=1).clip(0, 9)].T, topic


def fitted(frame, **roles):
    return sy.PairPropensity().fit(sy.scan(frame, **ROLES, **roles)).misfit


def test_what_pooled_counts_hide_is_seen_within_contexts():
    found = fitted(shown(*ring(1, 6000)))
    assert not found.fits
    assert found.where in (" in rows with topic=prose", " in rows without topic=prose")
    assert found.where in str(found)
    assert 0.35 < found.excess < 0.45  # .4 by construction
    with pytest.warns(UserWarning, match="does not describe which pairs were shown in rows with"):
        sy.PairPropensity().fit(sy.scan(shown(*ring(1, 6000)), **ROLES)).weights(
            sy.scan(shown(*ring(1, 6000)), **ROLES)
        )


@pytest.mark.parametrize("rows", [3000, 6000, 9000])
def test_contexts_that_take_turns_are_no_misfit(rows):
    topic = np.arange(rows) % 2
    assert fitted(shown(*drawn(2, topic), topic)).fits


def test_a_pair_that_a_cluster_meets_again_counts_once():
    topic = np.random.default_rng(3).integers(0, 2, 300)
    prompt = np.repeat(np.arange(300), 20)
    frame = shown(*drawn(4, topic, 8)[:, prompt], topic[prompt], prompt=prompt)
    assert not fitted(frame).fits
    assert fitted(frame, cluster="prompt").fits
    assert fitted(frame.with_columns(w=pl.lit(2.5)), cluster="prompt", weight="w").fits


def test_clusters_that_meet_pairs_by_chance_hide_nothing(monkeypatch):
    a, b, topic = ring(5, 6000)
    rater = np.random.default_rng(6).integers(0, 60, 6000)
    frame = shown(a, b, topic, rater=rater)
    alone, by_rater = fitted(frame), fitted(frame, cluster="rater")
    assert by_rater.z == pytest.approx(alone.z, rel=0.15)
    monkeypatch.setattr(misfit, "_CLUSTERED", 2000)  # as of a long log: some of the clusters
    assert fitted(frame, cluster="rater").z == pytest.approx(alone.z, rel=0.25)


def test_of_how_many_rows_pairs_are_counted_changes_little(monkeypatch):
    frame = shown(*ring(7, 6000))
    whole = fitted(frame)
    monkeypatch.setattr(misfit, "_COUNTED", 6000)
    some = fitted(frame)
    assert not some.fits
    assert some.excess == pytest.approx(whole.excess, abs=0.05)
