"""The fastest documented path of each peer for each job, with the settings that reach the exact optimum.

Scores come back as log-odds with mean 0, in the order of the codes. Peers are imported where they are called: a job
runs without those that are not installed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

WINNER = np.array([2, 0, 1], np.uint8)  # evalica's codes of y = 0, 1/2, 1


def centred(score: Any) -> Any:
    return np.asarray(score, float) - np.mean(score)


def cells(a: Any, b: Any, y: Any, k: int) -> Any:
    """(k, k) wins, a tie half a win each way: what every table-based peer starts from."""
    at = a.astype(np.int64) * k + b
    return np.bincount(at, y, k * k).reshape(k, k) + np.bincount(at, 1.0 - y, k * k).reshape(k, k).T


# --- leaderboards --------------------------------------------------------------------------------
def evalica_file(path: Any) -> Any:
    """Parquet columns as dictionaries, pandas categories, index= and winners as bytes: its fastest way with strings."""
    import evalica
    import pandas as pd
    import pyarrow.parquet as pq

    columns = ["model_a", "model_b", "winner"]
    frame = pq.read_table(path, columns=columns, read_dictionary=columns).to_pandas()
    arms = sorted(set(frame.model_a.cat.categories) | set(frame.model_b.cat.categories))
    known = {"model_b": 2, "tie": 0, "model_a": 1}
    winner = np.array([known[label] for label in frame.winner.cat.categories], np.uint8)[frame.winner.cat.codes]
    made = evalica.bradley_terry(
        frame.model_a, frame.model_b, winner, index=pd.Index(arms), tolerance=1e-12, limit=10_000
    )
    return centred(np.log(made.scores.reindex(arms).to_numpy()))


def evalica_codes(a: Any, b: Any, y: Any, k: int) -> Any:
    """Integer arms with index=RangeIndex, so that nothing is hashed."""
    import evalica
    import pandas as pd

    winner = WINNER[(2 * y).astype(np.int8)]
    made = evalica.bradley_terry(a, b, winner, index=pd.RangeIndex(k), tolerance=1e-12, limit=10_000)
    return centred(np.log(made.scores.sort_index().to_numpy()))


def choix_dense(a: Any, b: Any, y: Any, k: int) -> Any:
    """ilsr_pairwise_dense on a matrix counted by hand (documented for dense data)."""
    import choix

    return choix.ilsr_pairwise_dense(cells(a, b, y, k), tol=1e-12)


def arenakit_codes(a: Any, b: Any, y: Any, k: int) -> Any:
    """fit_bt on counts made by hand, without its prior."""
    from arenakit import fit_bt
    from arenakit.schema import PairCounts

    at = a.astype(np.int64) * k + b
    wins, losses, ties = (np.bincount(at[y == v], minlength=k * k).reshape(k, k) * 1.0 for v in (1, 0, 0.5))
    return fit_bt(PairCounts(wf=wins, ws=losses, tt=ties), ties="half", prior=0.0).scores


def sklearn_cells(a: Any, b: Any, y: Any, k: int) -> Any:
    """LogisticRegression on one weighted sparse row a cell (the public arena notebooks), unpenalised."""
    import scipy.sparse as sp
    from sklearn.linear_model import LogisticRegression

    wins = cells(a, b, y, k)
    i, j = np.nonzero(wins)
    row = np.arange(len(i))
    at = (np.concatenate([row, row]), np.concatenate([np.minimum(i, j), np.maximum(i, j)]))
    x = sp.csr_array((np.repeat([1.0, -1.0], len(i)), at), shape=(len(i), k))[:, 1:]
    model = LogisticRegression(C=np.inf, fit_intercept=False, solver="newton-cg", tol=1e-10, max_iter=2000)
    return centred(np.concatenate([[0.0], model.fit(x, (i < j) * 1, sample_weight=wins[i, j]).coef_[0]]))


def arena_rank_codes(a: Any, b: Any, y: Any, k: int, intervals: bool = False) -> Any:
    """PairDataset's constructor on cells counted by hand; every fit compiles anew."""
    import jax
    import jax.numpy as jnp
    from arena_rank.models.bradley_terry import BradleyTerry
    from arena_rank.utils.data_utils import PairDataset

    counts = np.bincount((a.astype(np.int64) * k + b) * 3 + (2 * y).astype(np.int64), minlength=3 * k * k)
    at = np.flatnonzero(counts)
    n = jnp.array(counts[at].astype(float))
    data = PairDataset(
        competitors=list(range(k)), pairs=jnp.array(np.stack([at // 3 // k, at // 3 % k], 1), jnp.int32),
        outcomes=jnp.array(at % 3 / 2.0), counts=n, weights=jnp.ones(len(at)), opt_weights=n,
    )  # fmt: skip
    model = BradleyTerry(n_competitors=k, ftol=0.0, gtol=1e-11)
    if not intervals:
        return centred(np.asarray(jax.block_until_ready(model.fit(data).params["ratings"])))
    told = jax.block_until_ready(model.compute_ratings_and_cis(data))
    score = centred((np.asarray(told["ratings"]) - model.init_rating) / model.alpha)
    return score, np.sqrt(np.asarray(told["variances"])) / model.alpha


def evalica_bootstrap(a: Any, b: Any, y: Any, k: int, replicates: int) -> Any:
    """Multinomial weights= on cells, a fit a replicate (its own bootstrap of rows is slower); score, se."""
    import evalica
    import pandas as pd

    counts = np.bincount((a.astype(np.int64) * k + b) * 3 + (2 * y).astype(np.int64), minlength=3 * k * k)
    at, rng, index = np.flatnonzero(counts), np.random.default_rng(0), pd.RangeIndex(k)
    x, z, winner, share = at // 3 // k, at // 3 % k, WINNER[at % 3], counts[at] / len(y)
    draws = []
    for _ in range(replicates):
        drawn = rng.multinomial(len(y), share).astype(float)
        made = evalica.bradley_terry(x, z, winner, index=index, weights=drawn)
        draws.append(centred(np.log(made.scores.sort_index().to_numpy())))
    return evalica_codes(a, b, y, k), np.std(draws, axis=0, ddof=1)


def evalica_elo(a: Any, b: Any, y: Any, k: int) -> Any:
    import evalica
    import pandas as pd

    return evalica.elo(a, b, WINNER[(2 * y).astype(np.int8)], index=pd.RangeIndex(k), k=4.0).scores.sort_index()


# --- rows ----------------------------------------------------------------------------------------
def styled(a: Any, b: Any, k: int) -> Any:
    """Sparse rows of +1 and -1, the first arm left out."""
    import scipy.sparse as sp

    n = len(a)
    at = np.stack([a, b], 1).ravel().astype(np.int32)
    rows = sp.csr_array((np.tile([1.0, -1.0], n), at, np.arange(0, 2 * n + 1, 2, dtype=np.int32)), shape=(n, k))
    return rows[:, 1:]


def glum_style(a: Any, b: Any, z: Any, y: Any, k: int, robust: bool = False) -> Any:
    """tabmat's split matrix of a sparse and a dense block, irls-ls, no penalty; perhaps with robust errors."""
    import glum
    import tabmat

    arms = styled(a, b, k).tocsc()
    arms.indices, arms.indptr = arms.indices.astype(np.int32), arms.indptr.astype(np.int32)
    x = tabmat.SplitMatrix([tabmat.SparseMatrix(arms), tabmat.DenseMatrix(np.asfortranarray(z))])
    model = glum.GeneralizedLinearRegressor(
        family="binomial", alpha=0, fit_intercept=False, solver="irls-ls", gradient_tol=1e-10
    )
    model.fit(x, y)
    if robust:
        model.std_errors(X=x, y=y, robust=True)
    return model.coef_[k - 1 :]


def sklearn_style(a: Any, b: Any, z: Any, y: Any, k: int) -> Any:
    """Sparse rows with the covariates beside; no ties here, so that it needs no rows twice."""
    import scipy.sparse as sp
    from sklearn.linear_model import LogisticRegression

    x = sp.hstack([styled(a, b, k), sp.csr_array(z)], format="csr")
    model = LogisticRegression(C=np.inf, fit_intercept=False, solver="newton-cholesky", tol=1e-10, max_iter=2000)
    return model.fit(x, y.astype(int)).coef_[0][k - 1 :]


def arena_rank_style(a: Any, b: Any, z: Any, y: Any, k: int) -> Any:
    """ContextualBradleyTerry without its pair weights, z-scores and penalty, which are another estimand."""
    import jax
    import pandas as pd
    from arena_rank.models.contextual_bradley_terry import ContextualBradleyTerry
    from arena_rank.utils.data_utils import ContextualPairDataset

    names, columns = [f"{i:04d}" for i in range(k)], [f"z{j}" for j in range(z.shape[1])]
    frame = pd.DataFrame(z, columns=columns)
    frame["model_a"], frame["model_b"] = pd.Categorical.from_codes(a, names), pd.Categorical.from_codes(b, names)
    frame["winner"] = pd.Categorical.from_codes((2 * y).astype(np.int8), ["model_b", "tie", "model_a"])
    data = ContextualPairDataset.from_pandas(frame, columns, reweighted=False, normalize_features=False)
    model = ContextualBradleyTerry(k, z.shape[1], reg=0.0, ftol=0.0, gtol=1e-9)
    jax.block_until_ready(model.fit(data).params)
    return np.asarray(model.params["coeffs"])


def sklearn_reward(x: Any, y: Any, solver: str) -> Any:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=np.inf, fit_intercept=False, solver=solver, tol=1e-10, max_iter=2000)
    return model.fit(x, y).coef_[0]


def glum_reward(x: Any, y: Any) -> Any:
    """Columns in Fortran order, which spares it a copy."""
    import glum

    model = glum.GeneralizedLinearRegressor(
        family="binomial", alpha=0, fit_intercept=False, solver="irls-ls", gradient_tol=1e-10
    )
    return model.fit(x, y).coef_


def statsmodels_reward(x: Any, y: Any) -> Any:
    import statsmodels.api as sm

    return sm.Logit(y, x).fit(method="newton", disp=0).params


def sklearn_groups(x: Any, group: Any, solver: str = "lbfgs") -> Any:
    """Logistic propensities of standardised columns; (n,) of the group that was."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=1.0, solver=solver, tol=1e-8, max_iter=1000).fit(x, group)
    return model.predict_proba(x)[np.arange(len(x)), group]


def scipy_own(x: Any, y: Any) -> Any:
    """A likelihood of one's own with its score, in NumPy, by SciPy's BFGS."""
    from scipy.optimize import minimize
    from scipy.special import expit

    def one(beta: Any) -> Any:
        eta = x @ beta
        return np.mean(np.logaddexp(0.0, eta) - y * eta), x.T @ (expit(eta) - y) / len(y)

    return minimize(one, np.zeros(x.shape[1]), jac=True, method="BFGS", options={"gtol": 1e-10}).x


# --- assignment ----------------------------------------------------------------------------------
def scipy_two_draws(x: Any, a: Any, b: Any, k: int) -> Any:
    """(n,) probability of the pair, by two draws without replacement with softmax chances; L-BFGS, ridge 1."""
    from scipy.optimize import minimize
    from scipy.special import softmax

    n, at = len(a), np.arange(len(a))
    design = np.column_stack([np.ones(n), (x - x.mean(axis=0)) / x.std(axis=0)])

    def drawn(q: Any) -> tuple[Any, Any]:
        """(2, n) probability of either order."""
        pa, pb = q[at, a], q[at, b]
        return np.stack([pa * pb / (1.0 - pa), pa * pb / (1.0 - pb)])

    def one(flat: Any) -> Any:
        gamma = flat.reshape(k, -1)
        q = softmax(design @ gamma.T, axis=1)
        orders = drawn(q)
        total = orders.sum(axis=0)
        slope = -q
        for order, first in zip(orders, (a, b), strict=True):
            left = q * (order / total / (1.0 - q[at, first]))[:, None]
            left[at, first] = 0.0
            slope -= left
        slope[at, a] += 1.0
        slope[at, b] += 1.0
        shrunk = gamma * (np.arange(gamma.shape[1]) > 0)
        value = np.log(total).sum() - 0.5 * (shrunk**2).sum()
        return -value / n, -(slope.T @ design - shrunk).ravel() / n

    found = minimize(one, np.zeros(k * design.shape[1]), jac=True, method="L-BFGS-B", options={"ftol": 0, "gtol": 1e-8})
    return drawn(softmax(design @ found.x.reshape(k, -1).T, axis=1)).sum(axis=0)


def scipy_balance(x: Any, group: Any) -> Any:
    """(n,) flattest weights that give every group the means of all rows; the dual of each group by SciPy."""
    from scipy.optimize import minimize
    from scipy.special import logsumexp, softmax

    weight = np.empty(len(group))
    for g in range(int(group.max()) + 1):
        own = group == g
        away = x[own] - x.mean(axis=0)

        def curve(v: Any, away: Any = away) -> Any:
            p = softmax(away @ v)
            mean = p @ away
            return (away * p[:, None]).T @ away - np.outer(mean, mean)

        found = minimize(
            lambda v, away=away: logsumexp(away @ v), np.zeros(x.shape[1]), method="trust-exact", hess=curve,
            jac=lambda v, away=away: softmax(away @ v) @ away, options={"gtol": 1e-10},
        )  # fmt: skip
        weight[own] = softmax(away @ found.x)
    return weight


# --- treatments ----------------------------------------------------------------------------------
def _learner(solver: str = "newton-cholesky") -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=1.0, solver=solver, max_iter=1000)


def sklearn_aipw(x: Any, arm: Any, y: Any, folds: int = 5) -> Any:
    """Cross-fitted by hand: a multinomial propensity, an outcome model an arm; the last arm less the first, and se."""
    from sklearn.model_selection import KFold

    k = int(arm.max()) + 1
    psi = np.empty((len(y), k))
    for train, test in KFold(folds, shuffle=True, random_state=1).split(x):
        chance = _learner("newton-cholesky" if k == 2 else "lbfgs").fit(x[train], arm[train]).predict_proba(x[test])
        for j in range(k):
            own = train[arm[train] == j]
            mean = _learner().fit(x[own], y[own]).predict_proba(x[test])[:, 1]
            psi[test, j] = mean + (arm[test] == j) * (y[test] - mean) / chance[:, j]
    gap = psi[:, -1] - psi[:, 0]
    return gap.mean(), gap.std() / np.sqrt(len(y))


def doubleml_means(x: Any, arm: Any, y: Any, folds: int = 5) -> Any:
    """The interactive regression model of two arms; average potential outcomes of more."""
    import doubleml as dml

    data = dml.DoubleMLData.from_arrays(x, y, arm)
    if arm.max() == 1:
        model = dml.DoubleMLIRM(data, _learner(), _learner(), n_folds=folds)
        model.fit(store_predictions=False)
        return model.coef[0], model.se[0]
    model = dml.DoubleMLAPOS(data, _learner(), _learner(), treatment_levels=list(range(arm.max() + 1)), n_folds=folds)
    model.fit(store_predictions=False)
    told = model.causal_contrast(reference_levels=0)
    return told.thetas[-1], told.ses[-1]


def econml_means(x: Any, arm: Any, y: Any, folds: int = 5) -> Any:
    """LinearDRLearner with both nuisances given and contexts as W; its outcome model is one for all arms."""
    from econml.dr import LinearDRLearner

    propensity = _learner("newton-cholesky" if arm.max() == 1 else "lbfgs")
    model = LinearDRLearner(model_propensity=propensity, model_regression=_learner(), discrete_outcome=True, cv=folds)
    model.fit(y, arm, X=None, W=x)
    told = model.intercept__inference(T=int(arm.max()))
    return np.ravel(told.point_estimate)[0], np.ravel(told.stderr)[0]


# --- afterwards ----------------------------------------------------------------------------------
def statsmodels_effects(levels: Any, y: Any) -> Any:
    """OLS on both profiles of every comparison, clustered by comparison. levels: (2, n, m) codes; effects, se."""
    import statsmodels.api as sm

    profiles = levels.reshape(-1, levels.shape[2])
    dummies = [profiles[:, j] == v for j in range(profiles.shape[1]) for v in range(1, profiles[:, j].max() + 1)]
    x = sm.add_constant(np.column_stack(dummies).astype(float))
    groups = np.tile(np.arange(len(y)), 2)
    told = sm.OLS(np.concatenate([y, 1.0 - y]), x).fit(
        cov_type="cluster", cov_kwds={"groups": groups, "use_correction": False}
    )
    return told.params[1:], told.bse[1:]


def highs_bounds(pair: Any, topic: Any, y: Any, lam: float) -> Any:
    """(P, 2) least and largest mean outcome of each pair over all topics, weights off by lam; a linear program each."""
    from scipy.optimize import linprog

    pairs = int(pair.max()) + 1
    bounds = np.zeros((pairs, 2))
    for cell in np.unique(topic):
        for j in range(pairs):
            at = (pair == j) & (topic == cell)
            rows, off = (topic == cell).sum(), (topic == cell).sum() / at.sum() - 1.0
            for end, sign in enumerate((1.0, -1.0)):
                found = linprog(
                    sign * y[at], A_eq=np.ones((1, at.sum())), b_eq=[rows], bounds=(1.0 + off / lam, 1.0 + off * lam)
                )
                bounds[j, end] += found.x @ y[at] / len(y)
    return bounds


def slsqp_shares(have: Any, x: Any, unit: Any, n: float) -> Any:
    """(P,) shares of n comparisons with the least sum of variances. x: (P, K); unit: information of one."""
    from scipy.optimize import minimize

    def inverse(z: Any) -> Any:
        return np.linalg.pinv(have + (x.T * (n * z * unit)) @ x, hermitian=True)

    def slope(z: Any) -> Any:
        along = x @ inverse(z)
        return -1e3 * n * unit * (along * along).sum(axis=1)

    found = minimize(
        lambda z: 1e3 * np.trace(inverse(z)), np.full(len(x), 1.0 / len(x)), jac=slope, bounds=[(0, 1)] * len(x),
        method="SLSQP", constraints={"type": "eq", "fun": lambda z: z.sum() - 1.0},
        options={"ftol": 1e-9, "maxiter": 500},
    )  # fmt: skip
    return found.x


# --- floors --------------------------------------------------------------------------------------
def polars_reads(path: Any) -> Any:
    return pl.read_parquet(path, columns=["model_a", "model_b", "winner"])


def polars_writes(path: Any, floats: pl.DataFrame, out: Any) -> Any:
    """Reads the log, and writes as many columns of floats as a prediction has: the prediction itself."""
    polars_reads(path)
    floats.lazy().sink_parquet(out)
    return out
