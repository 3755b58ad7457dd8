"""Scores and standard errors against an independent row likelihood, on real logs and in closed form."""

import copy
import pickle
import warnings
from importlib.resources import files

import choix
import evalica
import numpy as np
import polars as pl
import pytest
import steelyard as sy
from steelyard.models.row_fit import fit_rows

from tests.reference.row_fit import RowFit

MODELS = {
    "bradley-terry": {},
    "davidson": {"ties": "davidson"},
    "rao-kupper": {"ties": "rao-kupper"},
    "probit": {"link": "probit"},
}


def logs(data):
    """The real logs: frame with a, b, y, times; and the steelyard log of the same file."""
    fao = pl.read_parquet(str(files("steelyard") / "data/llmfao.parquet"))
    yield (
        "llmfao",
        sy.scan(fao, a="left", b="right", outcome="winner"),
        fao.select(
            a="left", b="right", y=pl.col("winner").replace_strict({"left": 1.0, "right": 0.0, "tie": 0.5}), times=1.0
        ),
    )
    arena = pl.read_parquet(data / "chatbot_arena_pairs_20240814.parquet")
    tie = pl.col("n_tie") + pl.col("n_tie_bothbad")
    parts = [
        arena.select(a="model_a", b="model_b", y=pl.lit(y), times=count.cast(pl.Float64))
        for y, count in ((1.0, pl.col("n_a_wins")), (0.0, pl.col("n_b_wins")), (0.5, tie))
    ]
    yield "arena", sy.scan(arena, format="pairs"), pl.concat(parts).filter(pl.col("times") > 0)


def coded(rows, arms):
    place = {name: i for i, name in enumerate(arms)}
    return (np.array([place[x] for x in rows[c]]) for c in ("a", "b"))


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_real_logs_agree_with_scipy_on_rows(data, model):
    for name, log, rows in logs(data):
        fit = sy.BradleyTerry(**MODELS[model]).fit(log)
        assert fit.main.all(), name
        a, b = coded(rows, fit.arms)
        row = RowFit(a, b, rows["y"].to_numpy(), len(fit.arms), model, rows["times"].to_numpy())
        parameter = row.solve()
        assert np.abs(fit.estimate.parameter - parameter).max() < 1e-8, name
        se, expected = np.sqrt(np.diag(fit.covariance)), np.sqrt(np.diag(row.sandwich(parameter)))
        assert np.abs(se / expected - 1).max() < 1e-8, name


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_home_advantage_is_the_position_effect(data, model):
    frame = pl.read_parquet(data / "football.parquet")
    played = pl.concat([frame["home_team"], frame["away_team"]]).value_counts(name="n").sort("n", descending=True)
    teams = played["home_team"].head(60)
    frame = frame.filter(pl.col("home_team").is_in(teams.to_list()) & pl.col("away_team").is_in(teams.to_list()))
    log = sy.scan(frame, a="home_team", b="away_team", outcome="outcome", position=~pl.col("neutral"))
    fit = sy.BradleyTerry(position=True, **MODELS[model]).fit(log)
    rows = frame.select(
        a="home_team", b="away_team", y=pl.col("outcome").replace_strict({"home": 1.0, "away": 0.0, "tie": 0.5})
    )
    a, b = coded(rows, fit.arms)
    first = 1.0 - frame["neutral"].to_numpy()
    row = RowFit(a, b, rows["y"].to_numpy(), len(fit.arms), model, first=first)
    parameter = row.solve()
    assert np.abs(fit.estimate.parameter - parameter).max() < 1e-8
    covariance = row.sandwich(parameter)
    assert np.allclose(np.sqrt(np.diag(fit.covariance)), np.sqrt(np.diag(covariance)), rtol=1e-8)
    position = fit.coefficients().filter(pl.col("term") == "position").row(0, named=True)
    assert position["low"] > 0.2  # playing at home helps


def small(seed, n=400, k=6, ties=0.2):
    rng = np.random.default_rng(seed)
    theta = rng.normal(0, 0.7, k)
    a = rng.integers(0, k, n)
    b = (a + rng.integers(1, k, n)) % k
    y = (rng.random(n) < 1 / (1 + np.exp(theta[b] - theta[a]))).astype(float)
    y[rng.random(n) < ties] = 0.5
    return rng, a, b, y


def scanned(a, b, y, **columns):
    roles = {role: role for role in columns if role != "cluster"}
    frame = {"a": a, "b": b, "y": y, **columns}
    return sy.scan(frame, a="a", b="b", outcome="y", cluster=["cluster"] if "cluster" in columns else (), **roles)


@pytest.mark.parametrize("model", MODELS)
def test_position_weights_and_sandwich_equal_brute_force(model):
    rng, a, b, y = small(1)
    weight = rng.exponential(size=len(y))
    first = rng.random(len(y)) < 0.7
    log = scanned(a, b, y, weight=weight, position=first)
    fit = sy.BradleyTerry(position=True, **MODELS[model]).fit(log)
    row = RowFit(a, b, y, 6, model, weight=weight, first=first.astype(float))
    parameter = row.solve()
    assert np.abs(fit.estimate.parameter - parameter).max() < 1e-8
    assert np.allclose(fit.covariance, row.sandwich(parameter), atol=1e-8 * np.abs(fit.covariance).max())


@pytest.mark.parametrize("model", MODELS)
def test_clustered_errors_equal_the_written_out_sums(model):
    rng, a, b, y = small(2)
    cluster = rng.integers(0, 40, len(y))
    fit = sy.BradleyTerry(**MODELS[model]).fit(scanned(a, b, y, cluster=cluster))
    row = RowFit(a, b, y, 6, model)
    parameter = row.solve()
    assert fit.kind == "cluster"
    assert np.allclose(fit.covariance, row.sandwich(parameter, cluster), atol=1e-8 * np.abs(fit.covariance).max())


def test_two_way_clusters_by_inclusion_and_exclusion():
    rng, a, b, y = small(3, n=1500)
    one, two = rng.integers(0, 30, len(y)), rng.integers(0, 25, len(y))
    log = sy.scan({"a": a, "b": b, "y": y, "one": one, "two": two}, a="a", b="b", outcome="y", cluster=["one", "two"])
    fit = sy.BradleyTerry().fit(log)
    row = RowFit(a, b, y, 6)
    parameter = row.solve()
    both = row.sandwich(parameter, one) + row.sandwich(parameter, two) - row.sandwich(parameter, one * 1000 + two)
    assert fit.psi.clipped == 0.0
    assert np.allclose(fit.covariance, both, atol=1e-8 * np.abs(both).max())


def test_clustered_errors_equal_statsmodels():
    import statsmodels.api as sm

    rng, a, b, y = small(4, ties=0.0)
    cluster = rng.integers(0, 40, len(y))
    fit = sy.BradleyTerry().fit(scanned(a, b, y, cluster=cluster))
    design = np.eye(6)[a] - np.eye(6)[b]
    model = sm.Logit(y, design[:, 1:])
    peer = model.fit(disp=0, tol=1e-14, cov_type="cluster", cov_kwds={"groups": cluster, "use_correction": False})
    contrast = fit.contrast("3", "0")
    assert contrast.estimate == pytest.approx(peer.params[2], abs=1e-8)
    assert contrast.se == pytest.approx(peer.bse[2] * np.sqrt(40 / 39), rel=1e-7)


def test_agrees_with_choix_and_evalica():
    _, a, b, y = small(5, n=3000, ties=0.0)
    fit = sy.BradleyTerry().fit(scanned(a, b, y))
    pairs = [(i, j) if w else (j, i) for i, j, w in zip(a, b, y, strict=True)]
    peer = choix.opt_pairwise(6, pairs, tol=1e-12)
    assert np.abs(fit.score - (peer - peer.mean())).max() < 1e-5
    winners = [evalica.Winner.X if w else evalica.Winner.Y for w in y]
    result = evalica.bradley_terry([str(i) for i in a], [str(j) for j in b], winners, tolerance=1e-12, limit=10000)
    peer = np.log(result.scores.sort_index().to_numpy())
    assert np.abs(fit.score - (peer - peer.mean())).max() < 1e-6


def test_rarely_shown_arm_keeps_its_standard_error():
    # 9.7 million votes among three arms, 300 of them on a fourth: its variance is that of 300 fair votes.
    count = np.array([1_616_617.0] * 6 + [150.0, 150.0])
    a = np.array([0, 0, 1, 0, 0, 1, 3, 3])
    b = np.array([1, 2, 2, 1, 2, 2, 0, 0])
    y = np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0])
    contrast = sy.BradleyTerry().fit(scanned(a, b, y, count=count)).contrast("3", "0")
    assert contrast.se == pytest.approx(np.sqrt(1 / (300 * 0.25)), rel=1e-6)


def test_two_arms_in_closed_form():
    fit = sy.BradleyTerry().fit(scanned(["x"] * 10, ["y"] * 10, [1.0] * 7 + [0.0] * 3))
    assert fit.contrast("x", "y").estimate == pytest.approx(np.log(7 / 3), abs=1e-10)
    assert fit.contrast("x", "y").se == pytest.approx(np.sqrt(1 / 7 + 1 / 3), rel=1e-9)
    assert fit.win_probability("x", "y") == pytest.approx(0.7, abs=1e-10)
    assert fit.gradient_norm <= 1e-10


def test_separated_arms_get_null_and_a_reason():
    frame = {
        "a": ["x", "y", "x", "w", "u", "l"],
        "b": ["y", "x", "l", "x", "v", "x"],
        "y": [1.0, 1.0, 1.0, 1.0, 0.5, 0.0],
    }
    log = sy.scan(frame, a="a", b="b", outcome="y")
    table = sy.BradleyTerry().fit(log).table()
    why = dict(zip(table["arm"], table["reason"], strict=True))
    assert why["l"] == "lost all of its 2 comparisons"
    assert why["w"] == "won all of its 1 comparison"
    assert why["u"] == why["v"] == "never compared with the main group, directly or through others"
    assert table.filter(pl.col("reason").is_not_null())["score"].null_count() == 4
    contrast = sy.BradleyTerry().fit(log).contrast("x", "u")
    assert contrast.estimate is None
    assert "never compared" in contrast.reason
    with pytest.raises(sy.NotIdentifiedError, match="no finite score"):
        sy.BradleyTerry(separation="raise").fit(log)
    ridged = sy.BradleyTerry(ridge=1.0).fit(log)
    assert ridged.main.all()
    assert "ridge" in ridged.estimand


@pytest.mark.parametrize("more", [{}, {"ridge": 1.0}, {"ties": "davidson"}])
def test_a_log_in_which_nothing_is_shown_first_has_no_position_effect(more):
    frame = pl.DataFrame({"model_a": ["x", "y", "z"], "model_b": ["y", "z", "x"], "n_a_wins": [4, 5, 3],
                          "n_b_wins": [2, 6, 7], "n_tie": [1, 2, 1], "n_tie_bothbad": [0, 0, 0]})  # fmt: skip
    with pytest.raises(sy.NotIdentifiedError, match="no comparison of the log says that being shown first counted"):
        sy.BradleyTerry(position=True, **more).fit(sy.scan(frame, format="pairs"))


def test_what_errors_are_read_from_is_not_written_to():
    frame = pl.DataFrame({"a": list("xyzxzy"), "b": list("yzxzyx"), "y": [1.0, 0.0, 1.0, 0.5, 1.0, 0.0]})
    fit = sy.BradleyTerry().fit(sy.scan(frame, a="a", b="b", outcome="y"))
    elo = fit.covariance * 173.7**2
    assert elo[0, 0] > fit.covariance[0, 0]
    for each in (fit, copy.deepcopy(fit), pickle.loads(pickle.dumps(fit))):
        with pytest.raises(ValueError, match="read-only"):
            each.covariance[0, 0] = 1.0


def test_position_that_cannot_be_told_is_refused():
    with pytest.raises(sy.NotIdentifiedError, match="position"):
        sy.BradleyTerry(position=True).fit(scanned(list("xyz"), list("yzx"), [1.0, 1.0, 1.0]))
    with pytest.raises(sy.NotIdentifiedError, match="no ties"):
        sy.BradleyTerry(ties="davidson").fit(scanned(list("xy"), list("yx"), [1.0, 1.0]))


def test_model_covariance_needs_a_true_likelihood():
    _, a, b, y = small(6)
    with pytest.raises(ValueError, match="no true likelihood"):
        sy.BradleyTerry(covariance="model").fit(scanned(a, b, y))
    fit = sy.BradleyTerry(ties="davidson", covariance="model").fit(scanned(a, b, y))
    row = RowFit(a, b, y, 6, "davidson")
    expected = np.linalg.pinv(row.information(row.solve()), rcond=1e-9)
    assert np.allclose(fit.covariance, expected, atol=1e-8)


@pytest.mark.parametrize("ties", ["davidson", "rao-kupper"])
def test_model_covariance_under_a_ridge_is_the_inverse_of_the_penalised_information(monkeypatch, ties):
    """docs/estimators.md, 3: A^+, with the ridge in A. By table, by rows, and where no matrix is held."""
    _, a, b, y = small(6)
    spec, log = sy.BradleyTerry(ties=ties, ridge=3.0, covariance="model"), scanned(a, b, y)
    fit = spec.fit(log)
    row, k = RowFit(a, b, y, 6, ties), fit.estimate.k
    inverse = np.linalg.inv(row.information(fit.estimate.parameter) + np.diag([3.0] * k + [0.0]))
    centre = np.eye(k + 1)
    centre[:k, :k] -= 1.0 / k
    np.testing.assert_allclose(fit.covariance, centre @ inverse @ centre, atol=1e-8)
    np.testing.assert_allclose(fit_rows(spec, log, (), "model", None).covariance, fit.covariance, atol=1e-8)
    monkeypatch.setattr("steelyard.models.cells.WIDEST_DENSE", 3)
    without = spec.fit(log)
    assert without.psi is None
    assert without.contrast("1", "2").se == pytest.approx(fit.contrast("1", "2").se, rel=1e-8)
    np.testing.assert_allclose(without.table().sort("arm")["se"], fit.table().sort("arm")["se"], rtol=0.05)


@pytest.mark.parametrize("position", [False, True])
@pytest.mark.parametrize("ties", ["half", "davidson", "rao-kupper"])
@pytest.mark.parametrize(("ridge", "part"), [(0.0, 1 << 17), (1.0, 1 << 17), (0.0, 16), (1.0, 16)])
def test_sparse_and_dense_routes_agree(monkeypatch, position, ties, ridge, part):
    _, a, b, y = small(7, n=2000, k=30)
    spec = sy.BradleyTerry(ties=ties, position=position, ridge=ridge)
    dense = spec.fit(scanned(a, b, y))
    monkeypatch.setattr("steelyard.models.cells.WIDEST_DENSE", 10)
    monkeypatch.setattr("steelyard.models.cells._PART", part)  # of edges that are summed together
    sparse = spec.fit(scanned(a, b, y))
    assert np.abs(sparse.score - dense.score).max() < 1e-8
    assert sparse.contrast("1", "2").se == pytest.approx(dense.contrast("1", "2").se, rel=1e-7)
    got, want = (fit.coefficients().drop("term", "reason").to_numpy() for fit in (sparse, dense))
    assert np.abs(got - want).max(initial=0.0) < 1e-7


@pytest.mark.parametrize("ties", ["half", "davidson"])
def test_edges_in_parts_have_the_same_bits_on_any_number_of_cores(monkeypatch, ties):
    _, a, b, y = small(7, n=2000, k=30)
    monkeypatch.setattr("steelyard.models.cells.WIDEST_DENSE", 10)
    monkeypatch.setattr("steelyard.models.cells._PART", 16)
    found = []
    for cores in (1, 8):
        monkeypatch.setattr("steelyard.passes.cores", lambda cores=cores: cores)
        fit = sy.BradleyTerry(ties=ties, position=True).fit(scanned(a, b, y))
        found.append((fit.estimate.parameter, fit.contrast("1", "2").se))
    assert (found[0][0] == found[1][0]).all()
    assert found[0][1] == found[1][1]


@pytest.mark.parametrize("position", [False, True])
@pytest.mark.parametrize("shape", ["chain", "star", "tree"])
def test_sparse_and_dense_routes_agree_on_badly_connected_arms(monkeypatch, shape, position):
    """Pairs in a tree, of weights over many orders of magnitude: no step may stop short of the stiff ones."""
    for seed in range(3):
        rng, k = np.random.default_rng(seed), 200
        b = np.arange(1, k)
        a = {"chain": b - 1, "star": 0 * b, "tree": rng.integers(0, b)}[shape]
        a, b = np.concatenate([a, b, a]), np.concatenate([b, a, b])
        y, first = rng.choice([0.0, 1.0], len(a)), rng.random(len(a)) < 0.6
        y[: k - 1], y[k - 1 : 2 * (k - 1)] = 1.0, 1.0  # both have won
        frame = pl.DataFrame({"a": a, "b": b, "y": y, "w": np.exp(2.5 * rng.normal(size=len(a))), "first": first})
        log = sy.scan(frame, a="a", b="b", outcome="y", weight="w", position="first")
        spec = sy.BradleyTerry(position=position, ridge=1e-3)
        with monkeypatch.context() as narrower:
            dense = spec.fit(log)
            narrower.setattr("steelyard.models.cells.WIDEST_DENSE", 10)
            sparse = spec.fit(log)
        assert np.abs(sparse.score - dense.score).max() < 1e-8
        assert sparse.iterations <= dense.iterations + 2


@pytest.mark.parametrize("spec", [{}, {"covariance": "model"}, {"ties": "davidson", "position": True}])
def test_standard_errors_without_a_matrix_agree_with_the_exact_ones(monkeypatch, spec):
    _, a, b, y = small(7, n=900, k=120, ties=0.2 * ("ties" in spec))
    exact = sy.BradleyTerry(**spec).fit(scanned(a, b, y)).table().sort("arm")
    monkeypatch.setattr("steelyard.models.cells.WIDEST_DENSE", 10)
    fit = sy.BradleyTerry(**spec).fit(scanned(a, b, y))
    table = fit.table().sort("arm")
    ratio = (table["se"] / exact["se"]).drop_nulls().to_numpy()
    assert table["se"].is_null().equals(exact["se"].is_null())
    assert 0.0 < fit.spread_error < 0.02
    assert np.abs(ratio - 1).max() < 5 * fit.spread_error
    assert abs(ratio.mean() - 1) < fit.spread_error
    assert table["rank_low"].is_null().all()
    wide = fit.table(simultaneous=True).sort("arm")
    assert (wide["high"] > table["high"]).drop_nulls().all()


@pytest.mark.parametrize(
    ("shape", "spread", "spec"),
    [("random", 0.0, {"position": True}), ("random", 0.0, {"position": True, "ties": "davidson"}), ("star", 0.0, {}),
     ("star", 3.0, {}), ("tree", 1.0, {"position": True})],
)  # fmt: skip
def test_standard_errors_without_a_matrix_where_pairs_have_both_orders(monkeypatch, shape, spread, spec):
    rng, k = np.random.default_rng(11), 120
    b = np.arange(1, k) if shape != "random" else rng.integers(0, k, 4 * k)
    a = {"star": 0 * b, "tree": rng.integers(0, np.maximum(b, 1)), "random": (b + rng.integers(1, k, len(b))) % k}[
        shape
    ]
    a, b = np.concatenate([a, b, a, b, a]), np.concatenate([b, a, b, a, b])
    y = np.repeat([1.0, 1.0, 0.5, 0.5, 0.0], len(a) // 5)
    weight = np.exp(spread * rng.normal(size=len(a)))
    log = scanned(a, b, y, weight=weight, position=rng.random(len(a)) < 0.6)
    exact = sy.BradleyTerry(**spec).fit(log).table().sort("arm")
    monkeypatch.setattr("steelyard.models.cells.WIDEST_DENSE", 10)
    fit = sy.BradleyTerry(**spec).fit(log)
    ratio = (fit.table().sort("arm")["se"] / exact["se"]).to_numpy()
    assert np.quantile(np.abs(ratio - 1), 0.9) < 2.5 * fit.spread_error
    assert np.abs(ratio - 1).max() < max(5 * fit.spread_error, 0.15)  # all within 5 %: three of those


def test_a_standard_error_that_did_not_settle_is_null_with_a_reason(monkeypatch):
    _, a, b, y = small(7)
    monkeypatch.setattr("steelyard.models.cells.WIDEST_DENSE", 1)
    monkeypatch.setattr("steelyard.models.cells.Cells.spread", lambda *_: (np.array([np.nan, *[0.1] * 5]), 0.5))
    row = sy.BradleyTerry().fit(scanned(a, b, y)).table().filter(pl.col("se").is_null())
    assert row["arm"].to_list() == ["0"]
    assert row["low"].to_list() == [None]
    assert "did not settle" in row["reason"][0]


def test_save_load_predict_and_update(tmp_path):
    _, a, b, y = small(8)
    log = scanned(a, b, y)
    fit = sy.BradleyTerry(ties="davidson").fit(log)
    fit.save(tmp_path / "board.sy")
    loaded = sy.load(tmp_path / "board.sy")
    assert loaded.table().equals(fit.table())
    assert loaded.contrast("1", "2") == fit.contrast("1", "2")
    scored = fit.predict(log).collect()
    assert scored.height == len(y)
    assert scored["log_likelihood"].sum() == pytest.approx(fit.log_likelihood, rel=1e-10)
    fit.sink(log, tmp_path / "scored.parquet")
    assert pl.read_parquet(tmp_path / "scored.parquet").equals(scored)
    unknown = fit.predict(scanned(["0", "new"], ["1", "0"], [1.0, 1.0])).collect()
    assert unknown["margin"].is_null().to_list() == [False, True]
    halves = [scanned(a[s], b[s], y[s]) for s in (slice(0, 150), slice(150, None))]
    updated = sy.BradleyTerry(ties="davidson").fit(halves[0]).update(halves[1])
    assert np.abs(updated.score - fit.score).max() < 1e-9
    with pytest.raises(sy.FormatError):
        sy.load(tmp_path / "scored.parquet")


def test_wmt_order_and_clustered_errors(data):
    frame = pl.read_parquet(data / "wmt_pairs.parquet")
    roles = {"a": "system_a", "b": "system_b", "outcome": "winner"}
    known = {"a": 1.0, "b": 0.0, "tie": 0.5, "system_a": 1.0, "system_b": 0.0}
    plain = sy.BradleyTerry().fit(sy.scan(frame, **roles, outcomes=known))
    clustered = sy.BradleyTerry().fit(sy.scan(frame, **roles, outcomes=known, cluster="ranking_id"))
    ratio = np.sqrt(np.diag(clustered.covariance) / np.diag(plain.covariance))
    assert np.median(ratio) > 1.05
    y = frame["winner"].cast(pl.String).replace_strict(known, default=None)
    share = (
        pl.concat(
            [
                frame.select(s=pl.col("system_a").cast(pl.String), y=y),
                frame.select(s=pl.col("system_b").cast(pl.String), y=1 - y),
            ]
        )
        .group_by("s")
        .agg(pl.col("y").mean(), n=pl.len())
        .filter(pl.col("n") > 100)
        .sort("y", descending=True)
    )
    order = [arm for arm in plain.table()["arm"] if arm in share["s"].to_list()]
    ranks = {arm: i for i, arm in enumerate(share["s"])}
    place = np.array([ranks[arm] for arm in order])
    assert np.corrcoef(place, np.arange(len(place)))[0, 1] > 0.95


def test_what_was_left_out_is_told_by_reason():
    frame = {"a": ["x", "x", "x", "x"], "b": ["y", "y", "y", "z"], "y": [1.0, 0.0, 0.5, 1.0]}
    fit = sy.BradleyTerry(ties="drop").fit(sy.scan(frame, a="a", b="b", outcome="y"))
    assert fit.dropped == {"tie": 1, "comparison with an arm outside the main group": 1}
    assert fit.n == 2


@pytest.mark.parametrize("ties", ["davidson", "rao-kupper"])
def test_a_ridge_does_not_hide_that_position_and_ties_are_not_identified(ties):
    rng = np.random.default_rng(0)
    a = rng.integers(0, 4, 400)
    b = (a + rng.integers(1, 4, 400)) % 4
    y = np.where(rng.random(400) < 0.6, 1.0, 0.5)  # the arm shown first never loses
    for ridge in (0.0, 1.0):
        with pytest.raises(sy.NotIdentifiedError, match="position or tie effect"):
            sy.BradleyTerry(ties=ties, position=True, ridge=ridge).fit(scanned(a, b, y))
    y[:5] = 0.0
    assert np.isfinite(sy.BradleyTerry(ties=ties, position=True, ridge=1.0).fit(scanned(a, b, y)).covariance).all()


def test_one_cluster_among_the_usable_rows_is_refused():
    _, a, b, y = small(14)
    group = np.zeros(len(a), int)
    b[3], group[3] = a[3], 1  # the other cluster has only a row that is dropped
    log = sy.scan({"a": a, "b": b, "y": y, "g": group, "z": y * 0 + np.arange(len(a))}, a="a", b="b", outcome="y",
                  cluster="g", covariates={"z": "z"}, on_bad="drop")  # fmt: skip
    for covariates in ((), ("z",)):
        with pytest.raises(sy.NotIdentifiedError, match="cluster column 'g' has 1 group"):
            sy.BradleyTerry(covariates=covariates).fit(log)


@pytest.mark.parametrize("far", [0, -50, 1 << 40])
def test_clusters_and_groups_of_whole_numbers_are_those_of_their_text(far):
    rng = np.random.default_rng(4)
    frame = pl.DataFrame({"a": rng.choice(list("xyz"), 400), "b": rng.choice(list("uvw"), 400),
                          "y": rng.integers(0, 2, 400), "c": rng.integers(0, 90, 400) + far,
                          "f": rng.normal(size=400), "g": rng.normal(size=400)})  # fmt: skip
    text = frame.with_columns(pl.col("c").cast(pl.String))
    one, other = (
        sy.BradleyTerry().fit(sy.scan(rows, a="a", b="b", outcome="y", cluster="c")).table() for rows in (frame, text)
    )
    assert one["arm"].equals(other["arm"])
    np.testing.assert_allclose(one["se"], other["se"], rtol=1e-12)
    few = pl.col("c") % 3
    heads = [
        sy.RewardModel(heads="per-group", ridge=1.0)
        .fit(sy.scan(frame, outcome="y", features=(["f"], ["g"]), group=group))
        .coefficients()
        for group in (few, few.cast(pl.String))
    ]
    assert heads[0]["term"].equals(heads[1]["term"])
    np.testing.assert_allclose(heads[0]["estimate"], heads[1]["estimate"], rtol=1e-9)


def test_few_clusters_are_warned_of():
    _, a, b, y = small(14)
    for groups, many in ((5, False), (20, True)):
        log = sy.scan({"a": a, "b": b, "y": y, "g": np.arange(len(a)) % groups}, a="a", b="b", outcome="y", cluster="g")
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            sy.BradleyTerry().fit(log)
        assert [("cluster column 'g' has 5 groups" in str(one.message)) for one in told] == [True] * (not many)
