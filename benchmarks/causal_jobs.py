"""Jobs of the side by side: who was shown what, weights, doubly robust estimates and what comes after them."""

from __future__ import annotations

from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl
import steelyard as sy
from scipy.special import expit
from steelyard._native.all_pairs import ROWS, all_pairs

from benchmarks import peers
from benchmarks.contend import Contender, Job, apart, beside, treated


def grouped(x: Any, group: Any) -> sy.PreferenceLog:
    """A log whose groups and contexts alone count; answered are the rows of group 1."""
    n, names = len(x), [f"x{j}" for j in range(x.shape[1])]
    columns = {"c": group.astype(str), "y": np.where(group == 1, 1.0, np.nan), "l": ["l"] * n, "r": ["r"] * n}
    frame = pl.DataFrame({**columns, **dict(zip(names, x.T, strict=True))}, nan_to_null=True)
    return sy.scan(frame, a="l", b="r", outcome="y", context=names, group="c")


def told(found: Any) -> str:
    return f"mean log-probability {np.log(found).mean():.7f}"


def answered(scale: float) -> list[Contender]:
    n, d = int(1_000_000 * scale), 20
    x, one, _ = treated(n, d, 2)
    log = grouped(x, one)

    def ours() -> Any:
        return sy.LabelPropensity(ridge=1.0).fit(log).probability(log).to_numpy()

    return [
        Contender("steelyard", ours, told),
        Contender("scikit-learn lbfgs", lambda: peers.sklearn_groups(x, one), told),
        Contender("scikit-learn newton-cholesky", lambda: peers.sklearn_groups(x, one, "newton-cholesky"), told),
    ]


def shown(scale: float) -> list[Contender]:
    n, d, k = int(250_000 * scale), 20, 10
    x, arm, _ = treated(n, d, k)
    log = grouped(x, arm)

    def ours() -> Any:
        return sy.GroupPropensity(ridge=1.0).fit(log).probability(log).to_numpy()

    return [
        Contender("steelyard", ours, told),
        Contender("scikit-learn lbfgs", lambda: peers.sklearn_groups(x, arm), told),
    ]


def two_shown(n: int, k: int, d: int) -> tuple[Any, Any, Any, sy.PreferenceLog]:
    """Contexts, the two arms that a softmax of them showed, and the log with answers that hang on them too."""
    rng = np.random.default_rng(5)
    x, shown, liked = rng.normal(size=(n, d)), *0.3 * rng.normal(size=(2, d, k))
    a, b = np.argpartition(-(x @ shown + rng.gumbel(size=(n, k))), 1, axis=1)[:, :2].T
    won, names = rng.random(n) < expit(((liked[:, a] - liked[:, b]) * x.T).sum(axis=0)), [f"x{j}" for j in range(d)]
    frame = pl.DataFrame({"a": a, "b": b, "y": won * 1.0, **dict(zip(names, x.T, strict=True))})
    return x, a, b, sy.scan(frame, a="a", b="b", outcome="y", context=names)


def pairs_shown(scale: float) -> list[Contender]:
    n, k, d = int(200_000 * scale), 20, 5
    x, a, b, log = two_shown(n, k, d)

    return [
        Contender("steelyard", lambda: sy.PairPropensity(ridge=1.0).fit(log).probability(log).to_numpy(), told),
        Contender("SciPy L-BFGS and NumPy, by hand", lambda: peers.scipy_two_draws(x, a, b, k), told),
    ]


def balanced(scale: float) -> list[Contender]:
    n, d, k = int(200_000 * scale), 10, 3
    x, arm, _ = treated(n, d, k)
    log = grouped(x, arm)

    def ours() -> Any:
        return sy.GroupPropensity().fit(log).weights(log, kind="balance").frame()["weight"].to_numpy()

    def far(found: Any) -> str:
        """How far weighted means of a group are from those of all rows, in standard deviations, at most."""
        means = [np.average(x[arm == g], axis=0, weights=found[arm == g]) for g in range(k)]
        return f"{np.abs((np.array(means) - x.mean(axis=0)) / x.std(axis=0)).max():.0e} sd off balance"

    return [
        Contender("steelyard, and the propensity", ours, far),
        Contender("SciPy and NumPy, by hand", lambda: peers.scipy_balance(x, arm), far),
    ]


def _robust(n: int, d: int, k: int) -> list[Contender]:
    x, arm, y = treated(n, d, k)
    names = [f"x{j}" for j in range(d)]
    labels = np.char.add("t", np.char.zfill(arm.astype(str), 2))
    columns = {"a": labels, "b": ["ref"] * n, "y": y, **dict(zip(names, x.T, strict=True))}
    log = sy.scan(pl.DataFrame(columns), a="a", b="b", outcome="y", context=names)
    pairs = pl.DataFrame({"a": ["ref"] * k, "b": sorted(set(labels.tolist())), "weight": [1.0] * k})
    spec = sy.DoublyRobust(propensity=sy.PairPropensity(method="pairs"), pairs=pairs, folds=5)

    def ours() -> Any:
        fit = spec.fit(log)
        along = np.zeros(k + 1)
        for arm, sign in ((f"t{k - 1:02d}", 1.0), ("t00", -1.0)):
            p = fit.win_probability(arm, "ref")
            slope = sign * p * (1.0 - p)  # of the win rate in the difference of scores
            along[fit.arms.index(arm)] += slope
            along[fit.arms.index("ref")] -= slope
        gap = fit.win_probability(f"t{k - 1:02d}", "ref") - fit.win_probability("t00", "ref")
        return gap, np.sqrt(along @ fit.covariance @ along)

    right = beside(cache(lambda: peers.sklearn_aipw(x, arm, y)))
    return [
        Contender("steelyard", ours, right),
        Contender("scikit-learn, by hand", lambda: peers.sklearn_aipw(x, arm, y), right),
        Contender("DoubleML", lambda: peers.doubleml_means(x, arm, y), right),
        Contender("EconML", lambda: peers.econml_means(x, arm, y), right),
    ]


def two_arms(scale: float) -> list[Contender]:
    return _robust(int(200_000 * scale), 20, 2)


def many_arms(scale: float) -> list[Contender]:
    return _robust(int(100_000 * scale), 10, 10)


def policies(scale: float) -> list[Contender]:
    n, k = int(200_000 * scale), 20
    rng = np.random.default_rng(7)
    score, chance = rng.normal(size=(n, k)), rng.random((n, k))
    chance /= chance.sum(axis=1, keepdims=True)
    a = rng.integers(0, k, n)
    b = (a + rng.integers(1, k, n)) % k
    at = np.arange(n)
    y = (rng.random(n) < expit(score[at, a] - score[at, b])) * 1.0
    names = [f"arm{j:02d}" for j in range(k)]
    frame = pl.DataFrame({"a": np.array(names)[a], "b": np.array(names)[b], "y": y,
                          "logged": np.full(n, 2.0 / (k * (k - 1))),
                          **{f"score {name}": score[:, j] for j, name in enumerate(names)},
                          **{f"chance {name}": chance[:, j] for j, name in enumerate(names)}})  # fmt: skip
    log = sy.scan(frame, a="a", b="b", outcome="y", propensity="logged")
    columns = {name: f"chance {name}" for name in names}
    spec = sy.PolicyValue(policy=columns, outcome={name: f"score {name}" for name in names}, folds=1,
                          propensity=sy.PairPropensity(method="logged"))  # fmt: skip

    def by_hand() -> Any:
        win = chance[at, a] / k + 0.0
        lose = chance[at, b] / k
        gap = expit(score[at, a] - score[at, b])
        model = sum((chance[:, [j]] * expit(score[:, [j]] - score)).sum(1) / k for j in range(k))
        psi = model + (win - lose) * k * (k - 1) / 2.0 * (y - gap)
        return psi.mean(), psi.std() / np.sqrt(n)

    def ours() -> Any:
        fit = spec.fit(log)
        return fit.value, fit.se

    return [Contender("steelyard", ours, beside(cache(by_hand))), Contender("NumPy, by hand", by_hand)]


def against_one(scale: float) -> list[Contender]:
    n, k = int(200_000 * scale), 50
    rng = np.random.default_rng(7)
    score, chance, shown = rng.normal(size=(n, k)), rng.random((n, k)), rng.random((n, k))
    chance, shown = (values / values.sum(axis=1, keepdims=True) for values in (chance, shown))
    at, arm = np.arange(n), (shown.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    p, y = shown[at, arm], (rng.random(n) < expit(0.7 * score[at, arm])) * 1.0
    names = [f"arm{j:02d}" for j in range(k)]
    frame = pl.DataFrame({"a": np.array(names)[arm], "b": ["ref"] * n, "y": y, "logged": p, "score ref": np.zeros(n),
                          **{f"score {name}": score[:, j] for j, name in enumerate(names)},
                          **{f"chance {name}": chance[:, j] for j, name in enumerate(names)}})  # fmt: skip
    log = sy.scan(frame, a="a", b="b", outcome="y", propensity="logged")
    spec = sy.PolicyValue(policy={name: f"chance {name}" for name in names}, reference="ref", folds=1,
                          outcome={name: f"score {name}" for name in [*names, "ref"]},
                          propensity=sy.PairPropensity(method="logged"))  # fmt: skip

    def by_hand() -> Any:
        mean, w = expit(score), chance[at, arm] / p
        ratio = (w * (y - mean[at, arm])).sum() / w.sum()
        model = (chance * mean).sum(axis=1)
        psi = model - model.mean() + (w * (y - mean[at, arm]) - ratio * w) / w.mean()
        return model.mean() + ratio, psi.std() / np.sqrt(n)

    def ours() -> Any:
        fit = spec.fit(log)
        return fit.value, fit.se

    return [Contender("steelyard", ours, beside(cache(by_hand))), Contender("NumPy, by hand", by_hand)]


def pairs_of_arms(scale: float) -> list[Contender]:
    k, n = 100, max(ROWS, int(16_384 * scale) // ROWS * ROWS)
    score, omega = np.random.default_rng(0).normal(size=(k, n)), 1.0 - np.eye(k)
    sums, means, work, weight = np.empty((k, n)), np.zeros((k, k)), np.empty((2 * k + 1, ROWS)), np.ones(n)
    left, right, out = np.random.default_rng(0).random(8192), np.full(8192, 1.5), np.empty(8192)

    def divisions() -> None:
        for _ in range(n * (k * (k - 1) // 2) // 8192):
            np.divide(left, right, out=out)

    return [
        Contender("steelyard", lambda: all_pairs(score, omega, weight, work, sums, means)),
        Contender("floor: as many divisions in NumPy", divisions, floor=True),
    ]


def conjoint(scale: float) -> list[Contender]:
    n, m = int(100_000 * scale), 6
    rng = np.random.default_rng(8)
    levels = rng.integers(0, 4, (2, n, m))
    gap = (levels[0] - levels[1]) @ np.linspace(-0.03, 0.03, m)
    y = (rng.random(n) < 0.5 + gap) * 1.0
    columns = {f"{side}{j}": levels[i, :, j].astype(str) for i, side in enumerate("ab") for j in range(m)}
    log = sy.scan(pl.DataFrame({**columns, "y": y}), a=pl.lit("left"), b=pl.lit("right"), outcome="y")
    attributes = {f"attribute {j}": (f"a{j}", f"b{j}") for j in range(m)}

    def ours() -> Any:
        told = sy.effects(log, attributes=attributes).filter(pl.col("reason").is_null())
        return told["effect"].to_numpy(), told["se"].to_numpy()

    @cache
    def exact() -> Any:
        profiles = levels.reshape(-1, m)
        x = np.column_stack([np.ones(2 * n), *((profiles[:, j] == v) * 1.0 for j in range(m) for v in (1, 2, 3))])
        xx = x.T @ x
        beta = np.linalg.solve(xx, x.T @ np.concatenate([y, 1.0 - y]))
        score = x * (np.concatenate([y, 1.0 - y]) - x @ beta)[:, None]
        own = score[:n] + score[n:]
        return beta[1:], np.sqrt(np.diag(np.linalg.solve(xx, np.linalg.solve(xx, own.T @ own).T)))[1:]

    def far(found: Any) -> str:
        return " and ".join(f"{np.abs(one - two).max():.0e}" for one, two in zip(found, exact(), strict=True)) + " off"

    return [
        Contender("steelyard", ours, far),
        Contender("statsmodels OLS, clustered", lambda: peers.statsmodels_effects(levels, y), far),
    ]


def bounds(scale: float) -> list[Contender]:
    """A saturated design, of three arms and two topics, so that a linear program has the same answer."""
    from sklearn.tree import DecisionTreeClassifier

    n, lam, rng = int(20_000 * scale), 1.5, np.random.default_rng(9)
    topic, sides = rng.integers(0, 2, n), np.array([(0, 1), (0, 2), (1, 2)])
    pair = (rng.random(n)[:, None] > np.array([[0.5, 0.8], [0.2, 0.6]])[topic]).sum(axis=1)
    a, b = sides[pair].T
    y = (rng.random(n) < expit((b - a) * (0.9 * topic - 0.2))) * 1.0
    frame = pl.DataFrame({"a": a, "b": b, "y": y, "topic": np.array(["code", "prose"])[topic]})
    propensity = sy.PairPropensity(method="frequency", strata=("topic",))
    spec = sy.DoublyRobust(outcome=DecisionTreeClassifier(), propensity=propensity, folds=1)
    fit = spec.fit(sy.scan(frame, a="a", b="b", outcome="y", context="topic"))

    def ours() -> Any:
        told = sy.sensitivity(fit, "0", over="2", lambdas=[lam]).bounds
        return told.filter(pl.col("quantity") == "win rate of 0").select("low", "high").row(0)

    @cache
    def programs() -> Any:
        return peers.highs_bounds(pair, topic, y, lam)[:2].mean(axis=0)  # of 0 | 1 and 0 | 2

    return [
        Contender("steelyard, with intervals, what turns the order, matched pairs", ours, apart(programs)),
        Contender("HiGHS, linear programs (no intervals)", programs.__wrapped__, apart(programs)),
    ]


def planned(scale: float) -> list[Contender]:
    k, n, rng = 20, int(100_000 * scale), np.random.default_rng(10)
    sides = np.array(list(combinations(range(k), 2)))
    pair = rng.choice(len(sides), n, p=rng.dirichlet(np.full(len(sides), 0.5)))
    a, b = sides[pair].T
    score = rng.normal(size=k)
    y = (rng.random(n) < expit(score[a] - score[b])) * 1.0
    fit = sy.BradleyTerry(covariance="model").fit(sy.scan({"a": a, "b": b, "y": y}, a="a", b="b", outcome="y"))
    order = np.argsort(np.array(fit.arms).astype(int))
    theta, have = fit.score[order], np.linalg.pinv(fit.covariance[np.ix_(order, order)], hermitian=True)
    x = np.zeros((len(sides), k))
    x[np.arange(len(sides)), sides[:, 0]], x[np.arange(len(sides)), sides[:, 1]] = 1.0, -1.0
    p = expit(theta[sides[:, 0]] - theta[sides[:, 1]])

    def ours() -> Any:
        return (sy.plan(fit, n).forecast["se_plan"].to_numpy() ** 2).sum()

    def by_hand() -> Any:
        share = peers.slsqp_shares(have, x, p * (1.0 - p), n)
        return np.trace(np.linalg.pinv(have + (x.T * (n * share * p * (1.0 - p))) @ x, hermitian=True))

    def far(found: Any) -> str:
        return f"sum of variances {found:.6e}"

    return [Contender("steelyard", ours, far), Contender("SciPy SLSQP, by hand", by_hand, far)]


JOBS = [
    Job("Which rows were answered", answered, "1 million rows, 20 contexts: fitted, and told of each row."),
    Job("Who was shown what", shown, "250,000 rows, 20 contexts, 10 groups: fitted, and told of each row."),
    Job("Which pairs were shown", pairs_shown, "200,000 rows, 20 arms, 5 contexts: two draws, and told of each."),
    Job("Entropy balancing", balanced, "200,000 rows, 10 contexts, 3 groups: weights that give each the means of all."),
    Job("Two treatments, doubly robust", two_arms, "200,000 rows, 20 contexts, 5 folds; beside the estimate by hand."),
    Job("Ten treatments, doubly robust", many_arms, "100,000 rows, 10 contexts, 5 folds; the last less the first."),
    Job("The value of a policy", policies, "200,000 rows, 20 arms, scores and chances of each arm in every row."),
    Job("The value of a policy against one arm", against_one, "200,000 rows, 50 arms; else as above."),
    Job("Effects of randomised attributes", conjoint, "100,000 comparisons, 6 attributes of 4 levels; with errors."),
    Job("What hidden causes could do", bounds, "20,000 rows, 3 arms, 2 topics: bounds of a win rate at Lambda = 1.5."),
    Job("The next comparisons", planned, "20 arms, 190 pairs: the allocation with the least sum of variances."),
    Job("Every pair of 100 arms", pairs_of_arms, "16,384 rows: the inner loop of a doubly robust fit, on one core."),
]  # fmt: skip
