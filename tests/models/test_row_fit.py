"""Fits with covariates: independent references on rows, real logs, known truth, and bad input."""

import dataclasses
import tempfile
from importlib.resources import files
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import statsmodels.api as sm
import steelyard as sy
from steelyard import blocks, passes, spill
from steelyard.models import row_problem
from steelyard.models.row_fit import fit_rows

from tests.reference.row_fit import RowFit

DATA = Path(__file__).parent.parent / "data"
MODELS = {
    "bradley-terry": {"ties": "half"},
    "davidson": {"ties": "davidson"},
    "rao-kupper": {"ties": "rao-kupper"},
    "probit": {"link": "probit"},
}


def llmfao():
    frame = pl.read_parquet(str(files("steelyard") / "data/llmfao.parquet"))
    frame = frame.filter(pl.col("judge") == "crowd")
    return frame.select(
        pl.col("left").alias("a"), pl.col("right").alias("b"), pl.col("judge_id").alias("cluster"),
        pl.col("winner").replace_strict({"left": 1.0, "right": 0.0}, default=0.5).alias("y"),
        ((pl.col("left_len") - pl.col("right_len")) / 1000).alias("length"),
    )  # fmt: skip


def mt_bench():
    frame = pl.read_parquet(DATA / "mt_bench_judgments.parquet").filter(pl.col("source") == "human")
    length = pl.col("len_a").log1p() - pl.col("len_b").log1p()
    return frame.select(
        pl.col("model_a").alias("a"), pl.col("model_b").alias("b"), pl.col("judge").alias("cluster"),
        pl.col("winner").replace_strict({"model_a": 1.0, "model_b": 0.0}, default=0.5).alias("y"),
        length.alias("length"),
    ).drop_nulls("length")  # fmt: skip


def simulated(seed, n=600, k=5, ties=0.2):
    rng = np.random.default_rng(seed)
    theta = rng.normal(0, 0.7, k)
    a = rng.integers(0, k, n)
    b = (a + rng.integers(1, k, n)) % k
    length = rng.normal(size=n) + 0.5 * (theta[a] - theta[b])
    y = (rng.random(n) < 1 / (1 + np.exp(-(theta[a] - theta[b] + 0.3 * length + 0.1)))).astype(float)
    y[rng.random(n) < ties] = 0.5
    return pl.DataFrame({"a": a, "b": b, "y": y, "length": length, "noise": rng.normal(size=n) * 100})


def scanned(frame, covariates=("length",), **roles):
    return sy.scan(frame, a="a", b="b", outcome="y", covariates={name: name for name in covariates}, **roles)


def reference(frame, model, first=None, covariates=("length",), **options):
    names = sorted(set(frame["a"]) | set(frame["b"]))
    codes = {name: i for i, name in enumerate(names)}
    a, b = (frame[side].replace_strict(codes, return_dtype=pl.Int64).to_numpy() for side in "ab")
    columns = frame.select(covariates).to_numpy().astype(float)
    return RowFit(a, b, frame["y"].to_numpy(), len(names), model, first=first, columns=columns, **options)


@pytest.mark.parametrize("model", list(MODELS))
@pytest.mark.parametrize(("source", "position"), [(llmfao, False), (mt_bench, True), (lambda: simulated(1), True)])
def test_equals_an_independent_fit_of_the_rows(source, position, model):
    frame = source()
    fit = sy.BradleyTerry(position=position, **MODELS[model]).fit(scanned(frame))
    row = reference(frame, model, np.ones(frame.height) if position else None)
    parameter = row.solve()
    np.testing.assert_allclose(fit.estimate.parameter, parameter, atol=1e-8)
    want = row.sandwich(parameter)
    np.testing.assert_allclose(fit.covariance, want, atol=1e-8 * np.abs(want).max())
    assert fit.gradient_norm <= 1e-10
    coefficients = fit.coefficients()
    assert coefficients["term"].to_list()[0] == "length"
    np.testing.assert_allclose(coefficients["se"], np.sqrt(np.diag(want)[row.k :]), rtol=1e-8)


def test_equals_statsmodels_clustered_and_not():
    frame = llmfao().filter(pl.col("y") != 0.5)
    names = sorted(set(frame["a"]) | set(frame["b"]))
    design = np.stack([(frame["a"] == name).to_numpy() * 1.0 - (frame["b"] == name).to_numpy() for name in names[1:]]
                      + [frame["length"].to_numpy()], axis=1)  # fmt: skip
    group = frame["cluster"].rank("dense").to_numpy().astype(int)
    model = sm.GLM(frame["y"].to_numpy(), design, family=sm.families.Binomial())
    plain = model.fit(tol=1e-14, maxiter=100, cov_type="HC0")
    clustered = model.fit(tol=1e-14, maxiter=100, cov_type="cluster",
                          cov_kwds={"groups": group, "use_correction": False})  # fmt: skip
    groups = len(set(group.tolist()))
    fit = sy.BradleyTerry().fit(scanned(frame))
    assert fit.coefficients()["estimate"][0] == pytest.approx(plain.params[-1], abs=1e-8)
    assert fit.coefficients()["se"][0] == pytest.approx(plain.bse[-1], rel=1e-7)
    contrast = fit.contrast(names[3], names[0])
    assert contrast.estimate == pytest.approx(plain.params[2], abs=1e-8)
    assert contrast.se == pytest.approx(plain.bse[2], rel=1e-7)
    by_cluster = sy.BradleyTerry().fit(scanned(frame, cluster="cluster"))
    assert by_cluster.kind == "cluster"
    factor = np.sqrt(groups / (groups - 1))
    assert by_cluster.coefficients()["se"][0] == pytest.approx(clustered.bse[-1] * factor, rel=1e-7)
    assert by_cluster.contrast(names[3], names[0]).se == pytest.approx(clustered.bse[2] * factor, rel=1e-7)


@pytest.mark.parametrize("model", list(MODELS))
@pytest.mark.parametrize("kind", ["sandwich", "model", "cluster"])
def test_equals_the_compressed_fit_where_both_apply(model, kind):
    frame = simulated(2, ties=0.0 if MODELS[model].get("ties", "half") == "half" else 0.2).with_columns(
        w=pl.Series(np.random.default_rng(0).uniform(0.5, 2.0, 600)),
        c=pl.Series(np.random.default_rng(1).integers(1, 4, 600)),
        cluster=pl.Series(np.arange(600) % 50),
    )
    roles = {"weight": "w", "count": "c", "cluster": "cluster"}
    spec = sy.BradleyTerry(position=True, covariance=kind, **MODELS[model])
    if kind == "model":
        with pytest.raises(ValueError, match="would take a sampling weight for so many comparisons"):
            spec.fit(scanned(frame, (), **roles))
        del roles["weight"]
    log = scanned(frame, (), **roles)
    table, rows = spec.fit(log), fit_rows(spec, log, (), kind, None)
    np.testing.assert_allclose(rows.estimate.parameter, table.estimate.parameter, atol=1e-9)
    np.testing.assert_allclose(rows.covariance, table.covariance, atol=1e-9 * np.abs(table.covariance).max())
    assert rows.log_likelihood == pytest.approx(table.log_likelihood, rel=1e-12)
    assert rows.n == table.n
    for column in ("rank", "rank_low", "rank_high", "comparisons"):
        assert rows.table()[column].equals(table.table()[column])


def test_ridge_soft_labels_and_dropped_ties():
    frame = simulated(3)
    soft = frame.with_columns(y=pl.Series(np.random.default_rng(0).random(600)))
    log = scanned(soft, ())
    spec = sy.BradleyTerry(ridge=2.0)
    np.testing.assert_allclose(
        fit_rows(spec, log, (), "sandwich", None).covariance, spec.fit(log).covariance, rtol=1e-8
    )
    dropped = sy.BradleyTerry(ties="drop").fit(scanned(frame))
    hard = sy.BradleyTerry().fit(scanned(frame.filter(pl.col("y") != 0.5)))
    np.testing.assert_allclose(dropped.score, hard.score, atol=1e-10)
    assert dropped.dropped == {"tie, or comparison with an arm outside the main group": 600 - hard.n}


def test_units_of_a_covariate_only_change_its_coefficient():
    frame = simulated(4)
    one = sy.BradleyTerry().fit(scanned(frame))
    big = sy.BradleyTerry().fit(scanned(frame.with_columns(pl.col("length") * 1e8)))
    np.testing.assert_allclose(big.score, one.score, atol=1e-9)
    assert big.coefficients()["p_value"][0] == pytest.approx(one.coefficients()["p_value"][0], rel=1e-6)


def test_one_thread_and_two_give_the_same_bits(monkeypatch):
    frame = simulated(5, n=300_000, k=8)
    two = sy.BradleyTerry().fit(scanned(frame))
    monkeypatch.setattr(passes, "cores", lambda: 1)
    one = sy.BradleyTerry().fit(scanned(frame), threads=1)
    assert (one.estimate.parameter == two.estimate.parameter).all()
    assert (one.covariance == two.covariance).all()


@pytest.mark.slow
def test_a_style_effect_comes_back_and_scores_cover():
    theta, k = np.array([0.9, 0.5, 0.2, -0.2, -0.5, -0.9]), 6
    effects, inside = [], []
    for seed in range(500):
        rng = np.random.default_rng(seed)
        a = rng.integers(0, k, 2000)
        b = (a + rng.integers(1, k, 2000)) % k
        length = rng.normal(size=2000) + theta[a] - theta[b]  # good arms write long answers
        y = (rng.random(2000) < 1 / (1 + np.exp(-(theta[a] - theta[b] + 0.3 * length)))).astype(float)
        fit = sy.BradleyTerry().fit(scanned(pl.DataFrame({"a": a, "b": b, "y": y, "length": length})))
        effects.append(fit.coefficients()["estimate"][0])
        table = fit.table().sort("arm")
        inside.append((table["low"].to_numpy() <= theta) & (table["high"].to_numpy() >= theta))
    assert abs(np.mean(effects) - 0.3) < 0.01
    assert 0.93 <= np.mean(inside) <= 0.97


def test_collinear_and_empty_columns_are_null_with_a_reason():
    frame = simulated(6).with_columns(
        twice=pl.col("length") * 2, nothing=pl.lit(0.0), by_arm=pl.col("a").cast(pl.Float64) - pl.col("b"),
        mixed=pl.col("noise") - pl.col("length"),
    )  # fmt: skip
    fit = sy.BradleyTerry().fit(scanned(frame, ("length", "twice", "nothing", "noise", "by_arm", "mixed")))
    rows = {row["term"]: row for row in fit.coefficients().iter_rows(named=True)}
    assert rows["twice"]["reason"] == "collinear with length: its effect cannot be told from theirs"
    assert "cancels out" in rows["nothing"]["reason"]
    assert "collinear with the arms" in rows["by_arm"]["reason"]
    assert "collinear with length and noise" in rows["mixed"]["reason"]
    for name in ("twice", "nothing", "by_arm", "mixed"):
        assert [rows[name][column] for column in ("estimate", "se", "low", "high", "p_value")] == [None] * 5
    plain = sy.BradleyTerry().fit(scanned(frame, ("length", "noise")))
    np.testing.assert_allclose(fit.score, plain.score, atol=1e-10)
    assert rows["length"]["se"] == pytest.approx(plain.coefficients()["se"][0])


def test_bad_covariates_are_named_counted_or_dropped():
    frame = simulated(7).with_row_index("row").with_columns(
        length=pl.when(pl.col("row") == 3).then(None).when(pl.col("row") == 9).then(np.inf).otherwise("length"),
        text=pl.lit("x"),
    )  # fmt: skip
    with pytest.raises(sy.LogError, match=r"2 rows: null or infinite covariate 'length' \(first rows \[3, 9\]\)"):
        sy.BradleyTerry().fit(scanned(frame))
    kept = sy.BradleyTerry().fit(scanned(frame, on_bad="drop"))
    clean = sy.BradleyTerry().fit(scanned(frame.filter(~pl.col("row").is_in([3, 9]))))
    np.testing.assert_allclose(kept.score, clean.score, atol=1e-12)
    assert kept.dropped == {"null or infinite covariate 'length'": 2}
    with pytest.raises(sy.LogError, match="covariate 'text' holds String"):
        sy.BradleyTerry().fit(scanned(frame, ("text",)))
    with pytest.raises(sy.LogError, match="no covariate 'style'"):
        sy.BradleyTerry(covariates=["style"]).fit(scanned(frame, on_bad="drop"))
    assert isinstance(sy.BradleyTerry(covariates=()).fit(scanned(frame)), sy.PairFit)


def test_a_covariate_that_tells_every_outcome_is_refused():
    frame = simulated(8, ties=0.0).with_columns(length=pl.col("y") - 0.5)
    with pytest.raises(sy.NotIdentifiedError, match=r"no finite maximum.* What grows without end: length\. "):
        sy.BradleyTerry().fit(scanned(frame))


def test_predict_sink_save_load_bootstrap_and_audit(tmp_path):
    frame = simulated(9)
    log = scanned(frame)
    fit = sy.BradleyTerry(position=True, ties="davidson").fit(log)
    scored = fit.predict(log).collect()
    beta, position = fit.coefficients()["estimate"].to_list()[:2]
    score = dict(zip(fit.arms, fit.score, strict=True))
    margin = [score[str(r["a"])] - score[str(r["b"])] + beta * r["length"] + position for r in frame.to_dicts()]
    np.testing.assert_allclose(scored["margin"], margin, atol=1e-12)
    assert scored["log_likelihood"].sum() == pytest.approx(fit.log_likelihood, rel=1e-10)
    fit.save(tmp_path / "board.sy")
    loaded = sy.load(tmp_path / "board.sy")
    assert loaded.table().equals(fit.table())
    assert loaded.coefficients().equals(fit.coefficients())
    assert loaded.predict(log).collect().equals(scored)
    fit.sink(log, tmp_path / "scored.parquet")
    assert pl.read_parquet(tmp_path / "scored.parquet").equals(scored)
    drawn = fit.bootstrap(4000, seed=1).table().sort("arm")
    np.testing.assert_allclose(drawn["se"], fit.table().sort("arm")["se"], rtol=0.05)
    with pytest.raises(ValueError, match="not of rows"):
        fit.bootstrap(10, method="multinomial")
    with pytest.raises(ValueError, match="needs the rows"):
        loaded.audit("0", over="1")


def test_audit_drops_rows_and_refits():
    frame = simulated(10)
    fit = sy.BradleyTerry().fit(scanned(frame))
    order = fit.table()["arm"].to_list()
    audit = fit.audit(order[0], over=order[1])
    assert audit.rows == audit.cells["rows"].sum()
    assert audit.before > 0 >= audit.after
    small = frame.with_columns(c=pl.lit(1))
    again = sy.BradleyTerry().fit(scanned(small, count="c")).audit(order[0], over=order[1])
    assert again.rows == audit.rows


@pytest.mark.parametrize("roles", [{}, {"cluster": "c", "weight": "w"}])
def test_rows_beyond_memory_give_the_same_bits_and_leave_no_file(monkeypatch, tmp_path, roles):
    frame = simulated(12, n=400_000).with_columns(c=pl.int_range(pl.len()) % 999, w=pl.int_range(pl.len()) % 3 + 0.5)
    log = scanned(frame, ("length", "noise"), **roles)
    want = sy.BradleyTerry(ties="davidson", position=True).fit(log)
    monkeypatch.setattr(spill, "MOST_IN_MEMORY", 1000)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seen: list[list[Path]] = []
    monkeypatch.setattr(spill.Spill, "_check_room", lambda self, needed: seen.append(list(tmp_path.iterdir())))
    fit = sy.BradleyTerry(ties="davidson", position=True).fit(log)
    assert not any(seen), seen  # nor a file that a killed fit would leave
    assert seen
    assert fit.problem.blocks.changes
    assert not list(tmp_path.iterdir())
    assert (fit.estimate.parameter == want.estimate.parameter).all()
    assert (fit.covariance == want.covariance).all()


def test_embeddings_beyond_memory(monkeypatch):
    frame = simulated(13, n=300)
    wide = frame.select("y", *(pl.Series(s, np.random.default_rng(i).normal(size=(300, 40)).astype(np.float32))
                               for i, s in enumerate(("p", "q"))))  # fmt: skip
    log = sy.scan(wide, outcome="y", features=("p", "q"))
    want = sy.RewardModel(ridge=1.0).fit(log)
    monkeypatch.setattr(spill, "MOST_IN_MEMORY", 0)
    fit = sy.RewardModel(ridge=1.0).fit(log)
    assert (fit.coefficient == want.coefficient).all()


def test_wide_features_are_cut_into_smaller_blocks(monkeypatch):
    assert [blocks.block_rows(m) for m in (0, 32, 33, 384, 1024, 10**8)] == [1 << 17, 1 << 17, 1 << 16, 8192, 4096, 1]
    rng = np.random.default_rng(3)
    wide = pl.DataFrame(
        {"y": rng.integers(0, 2, 5000) * 1.0, **{s: pl.Series(rng.normal(size=(5000, 40))) for s in "pq"}}
    )
    log = sy.scan(wide, outcome="y", features=("p", "q"))
    want = sy.RewardModel().fit(log)
    monkeypatch.setattr(blocks, "_BLOCK_CELLS", 40 * 512)
    fits = [sy.RewardModel().fit(log, threads=threads) for threads in (1, 2)]
    assert max(fit.iterations for fit in fits) < 12
    assert (fits[0].coefficient == fits[1].coefficient).all()
    assert (fits[0].covariance == fits[1].covariance).all()
    np.testing.assert_allclose(fits[0].coefficient, want.coefficient, atol=1e-9)


def test_a_feature_that_every_16th_row_lacks(monkeypatch):
    """Long logs are first fitted to every 16th row; what is missing there must not matter."""
    monkeypatch.setattr(row_problem, "_LONG", 1 << 12)
    rng = np.random.default_rng(5)
    delta = rng.normal(size=(1 << 13, 40))
    delta[:, 0] *= np.arange(1 << 13) % 100 == 3  # rare
    delta[::16, [1, 2]] *= [0.0, 1e-7]
    delta[::16, 4] = delta[::16, 5]
    y = (rng.random(1 << 13) < 1 / (1 + np.exp(-delta @ rng.normal(size=40) / 6))) * 1.0
    frame = pl.DataFrame({"y": y, "p": pl.Series(delta), "q": pl.Series(0.0 * delta)})
    fit = sy.RewardModel().fit(sy.scan(frame, outcome="y", features=("p", "q")))
    want = sm.GLM(y, delta, family=sm.families.Binomial()).fit(tol=1e-14, cov_type="HC0")
    np.testing.assert_allclose(fit.coefficient, want.params, atol=1e-8)
    np.testing.assert_allclose(fit.coefficients()["se"], want.bse, rtol=1e-7)


def test_a_disk_too_small_is_told_and_left_clean(monkeypatch, tmp_path):
    monkeypatch.setattr(spill, "MOST_IN_MEMORY", 0)
    monkeypatch.setattr(spill, "_SPARE", 1 << 60)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(OSError, match=r"do not fit into .* 0 rows are written .* TMPDIR"):
        sy.BradleyTerry().fit(scanned(simulated(14)))
    assert not list(tmp_path.iterdir())


def test_audit_of_counted_rows_is_that_of_the_rows_spelled_out():
    frame = simulated(15, n=80, k=3, ties=0.0).with_columns(c=pl.Series(np.random.default_rng(0).integers(1, 11, 80)))
    spelled = frame.select(pl.all().repeat_by("c")).explode(pl.all())
    counted, rows = (sy.BradleyTerry().fit(scanned(f, **r)) for f, r in ((frame, {"count": "c"}), (spelled, {})))
    for x, y in (("0", "1"), ("1", "2"), ("0", "2")):
        one, other = counted.audit(x, over=y), rows.audit(x, over=y)
        assert one.rows == other.rows
        assert one.after == pytest.approx(other.after, abs=1e-9)


@pytest.mark.parametrize(("name", "spec"), [("position", {"position": True}), ("tie", {"ties": "davidson"})])
def test_a_covariate_named_as_another_term_is_refused(name, spec):
    log = scanned(simulated(16).rename({"length": name}), (name,))
    with pytest.raises(sy.LogError, match=f"two terms are named '{name}'"):
        sy.BradleyTerry(**spec).fit(log)
    assert sy.BradleyTerry().fit(log).coefficients()["term"].to_list() == [name]


def test_copies_among_many_features_leave_few():
    """36 features of which 6 are copies: rows are kept wide, and 30 columns are fitted."""
    rng = np.random.default_rng(5)
    a, b = rng.normal(size=(2, 400, 36))
    a[:, 30:], b[:, 30:] = a[:, :6], b[:, :6]
    y = (rng.random(400) < 1 / (1 + np.exp((b - a)[:, 0]))) * 1.0
    fits = [
        sy.RewardModel().fit(sy.scan({"y": y, "p": a[:, :m], "q": b[:, :m]}, outcome="y", features=("p", "q")))
        for m in (30, 36)
    ]
    np.testing.assert_allclose(fits[1].coefficient[:30], fits[0].coefficient, atol=1e-8)
    assert fits[1].coefficients()["reason"][30:].str.contains("collinear").all()


def test_columns_that_every_16th_row_cannot_tell_apart(monkeypatch):
    """What the first rows say of such a column is noise, of either sign: the fit is that of all rows all the same."""
    for seed in range(12):
        rng = np.random.default_rng(seed)
        x, r = rng.normal(size=(2, 8192))
        r[rng.random(8192) < 0.97] = 0.0
        r[::16] = 0.0
        columns = np.stack([x, 0.3 * x + r], axis=1)
        y = (rng.random(8192) < 1 / (1 + np.exp(-x))) * 1.0
        log = sy.scan({"y": y, "p": columns, "q": 0 * columns}, outcome="y", features=("p", "q"))
        monkeypatch.setattr(row_problem, "_LONG", 1 << 30)
        want = sy.RewardModel().fit(log)
        monkeypatch.setattr(row_problem, "_LONG", 1 << 12)
        fit = sy.RewardModel().fit(log)
        np.testing.assert_allclose(fit.coefficient, want.coefficient, atol=1e-8)
        np.testing.assert_allclose(fit.covariance, want.covariance, rtol=1e-6)


@pytest.mark.parametrize("spec", [{}, {"ties": "davidson", "position": True}, {"ties": "rao-kupper"}])
@pytest.mark.parametrize("long", [1 << 30, 1 << 9])
def test_a_fit_starts_from_the_one_before(monkeypatch, spec, long):
    monkeypatch.setattr(row_problem, "_LONG", long)
    frame = simulated(21, n=3000)
    before = sy.BradleyTerry(**spec).fit(scanned(frame.head(2800), ("length",)))
    log = scanned(frame, ("length", "noise"))  # a covariate more
    want = sy.BradleyTerry(**spec).fit(log)
    passes, whole = [], row_problem.RowProblem.sums

    def counted(self, *arguments, **more):
        passes.append(self.totals.rows > 2000)
        return whole(self, *arguments, **more)

    monkeypatch.setattr(row_problem.RowProblem, "sums", counted)
    sy.BradleyTerry(**spec).fit(log)
    cold = sum(passes)
    passes.clear()
    fit = sy.BradleyTerry(**spec).fit(log, start=before)
    assert sum(passes) < cold or long < 1 << 20  # a long log is near its maximum already after some of the rows
    np.testing.assert_allclose(fit.score, want.score, atol=1e-9)
    np.testing.assert_allclose(fit.covariance, want.covariance, rtol=1e-7, atol=1e-12)
    again = sy.BradleyTerry(**spec).fit(log, start=fit)
    assert again.iterations <= 1
    np.testing.assert_allclose(again.score, want.score, atol=1e-9)


def test_a_start_from_nowhere_near_does_no_harm():
    frame = simulated(22, n=1000)
    log = scanned(frame, ("length", "noise"))
    want = sy.BradleyTerry(position=True).fit(log)
    far = dataclasses.replace(want, score=1e3 * want.score, terms=[("length", (0,), None)])
    fit = sy.BradleyTerry(position=True).fit(log, start=far)
    np.testing.assert_allclose(fit.score, want.score, atol=1e-9)
    plain, pairs = sy.BradleyTerry().fit(log), sy.BradleyTerry().fit(scanned(frame))
    np.testing.assert_allclose(sy.BradleyTerry().fit(log, start=pairs).score, plain.score, atol=1e-9)
    with pytest.raises(TypeError, match="start takes a fit of scores, not RewardModel"):
        sy.BradleyTerry().fit(log, start=sy.RewardModel())


def test_a_start_with_another_model_of_ties():
    frame = simulated(23, n=1000, ties=0.02)
    log, other = scanned(frame, ("length",)), sy.BradleyTerry(ties="davidson")
    want = sy.BradleyTerry(ties="rao-kupper").fit(log)
    fit = sy.BradleyTerry(ties="rao-kupper").fit(log, start=other.fit(log))
    np.testing.assert_allclose(fit.estimate.parameter, want.estimate.parameter, atol=1e-9)


def left_out(kind):
    """A log with a covariate, and the same with an arm that no usable row shows, or with an island."""
    rng = np.random.default_rng(0)
    a = rng.integers(0, 6, 500)
    b = (a + rng.integers(1, 6, 500)) % 6
    x = rng.normal(size=500)
    y = (rng.random(500) < 1 / (1 + np.exp(-((b - a) * 0.3 + 0.8 * x)))) * 1.0
    good = pl.DataFrame({"a": a, "b": b, "x": x, "y": y}).cast({"a": pl.String, "b": pl.String})
    ghost = {"a": ["ghost"], "b": ["0"], "x": [0.3], "y": [None]}
    if kind == "island":
        ghost = {"a": ["p", "q", "p"], "b": ["q", "p", "q"], "x": [0.2, -0.5, 0.1], "y": [1.0, 1.0, 0.0]}
    return good, pl.concat([good, pl.DataFrame(ghost, schema=good.schema)])


@pytest.mark.parametrize("position", [False, True])
@pytest.mark.parametrize("kind", ["ghost", "island"])
def test_a_ridge_keeps_covariates_beside_arms_that_nothing_joins(kind, position):
    _, more = left_out(kind)
    roles = {"a": "a", "b": "b", "outcome": "y", "covariates": {"x": "x"}}
    fit = sy.BradleyTerry(ridge=1.0, position=position).fit(sy.scan(more, **roles))
    used = more.drop_nulls()
    names = sorted({*used["a"], *used["b"]})
    place = {name: j for j, name in enumerate(names)}
    design = np.zeros((len(used), len(names) + 1 + position))
    rows = np.arange(len(used))
    design[rows, [place[v] for v in used["a"]]] += 1.0
    design[rows, [place[v] for v in used["b"]]] -= 1.0
    design[:, len(names)] = used["x"]
    design[:, len(names) + 1 :] = 1.0
    beta, penalty = np.zeros(design.shape[1]), np.append(np.ones(len(names)), np.zeros(1 + position))
    for _ in range(30):
        p = 1 / (1 + np.exp(-design @ beta))
        hessian = design.T @ (design * (p * (1 - p))[:, None]) + np.diag(penalty)
        beta += np.linalg.solve(hessian, design.T @ (used["y"].to_numpy() - p) - penalty * beta)
    np.testing.assert_allclose(fit.coefficients()["estimate"], beta[len(names) :], atol=1e-8)
    table = fit.table().drop_nulls("score").sort("arm")
    assert table["arm"].to_list() == names
    np.testing.assert_allclose(table["score"], beta[: len(names)], atol=1e-8)
    assert fit.table().filter(arm="ghost")["reason"].to_list() == ["no usable comparison"] * (kind == "ghost")
    plain = sy.BradleyTerry(ridge=1.0).fit(sy.scan(more, a="a", b="b", outcome="y"))
    assert plain.table()["score"].null_count() == (kind == "ghost")


@pytest.mark.parametrize("method", ["win-rate", "elo", "eigenvector", "pagerank", "newman"])
def test_simple_ranks_leave_arms_out_that_no_usable_row_shows(method):
    good, more = left_out("ghost")
    clean, found = (sy.rank(sy.scan(rows, a="a", b="b", outcome="y"), method) for rows in (good, more))
    assert found.head(len(clean)).equals(clean)
    assert found.row(-1) == ("ghost", None, None, 0)


@pytest.mark.parametrize("ridge", [1e-2, 1e-4, 1e-7])
@pytest.mark.parametrize("covariates", [(), ("length",)])
def test_a_small_ridge_leaves_errors_as_they_are_without(covariates, ridge):
    """Also of two islands of arms, which nothing but the ridge holds: as of each by itself."""
    frame = simulated(50, n=20_000)
    other = simulated(51, n=10_000).with_columns(pl.col("a") + 5, pl.col("b") + 5)
    parts = [frame, other] if not covariates else [frame]  # which have one coefficient together
    want = pl.concat([sy.BradleyTerry().fit(scanned(part, covariates)).table() for part in parts]).sort("arm")
    for kind in ("sandwich", "cluster"):
        whole = pl.concat(parts).with_columns(row=pl.int_range(pl.len()))
        fit = sy.BradleyTerry(ridge=ridge, covariance=kind).fit(scanned(whole, covariates, cluster="row"))
        np.testing.assert_allclose(fit.table().sort("arm")["se"], want["se"], rtol=1e-3 if ridge > 1e-4 else 1e-4)


def test_errors_by_two_cluster_columns_know_no_units():
    frame = simulated(52, n=3000).with_columns(p=pl.int_range(pl.len()) % 50, r=pl.int_range(pl.len()) // 70)
    tables = []
    for unit in (1.0, 1e8):
        own = frame.with_columns(pl.col("length") * unit)
        fit = sy.BradleyTerry().fit(scanned(own, cluster=["p", "r"]))
        tables.append((fit.table()["se"].to_numpy(), fit.coefficients()["se"].to_numpy() * unit))
    for one, other in zip(*tables, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9)
