"""Worlds of the coverage study: logs of three kinds whose truth is exact, and every interval that is asked of them.

The truth is a population value by enumeration of pairs and topics, not a large simulation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl
import steelyard as sy
from scipy.special import expit

KINDS = ("balanced", "adaptive", "confounded")
K, ARMS = 5, list("abcde")
SCORE = np.array([0.8, 0.4, 0.0, -0.4, -0.8])
TOPIC = 0.6 * np.array([1.0, -1.0, 1.0, -1.0, 0.0])  # what a topic adds, times +1 or -1
SHOWN = 0.7 * np.array([1.0, 1.0, -1.0, -1.0, 0.0])  # how a topic moves who is shown, where assignment is confounded
PAIRS = np.array(list(combinations(range(K), 2)))
Hits = Iterator[tuple[str, float, Any]]  # interval, nominal level, whether each of them held


# --- worlds --------------------------------------------------------------------------------------
def drawn(rng: Any, kind: str, n: int, win: Callable[..., Any], shown: Any = SHOWN) -> tuple[Any, Any, Any, Any]:
    """a, b, topic (n,) and outcomes, drawn by win(a, b, topic, rows): rows are the places that it is asked for."""
    topic = np.where(rng.random(n) < 0.5, 1.0, -1.0)
    if kind != "adaptive":
        logit = (kind == "confounded") * topic[:, None] * shown
        order = np.argsort(-logit - rng.gumbel(size=(n, K)), axis=1)[:, :2]
        a, b = np.where(rng.random((n, 1)) < 0.5, order, order[:, ::-1]).T
        return a, b, topic, win(a, b, topic, slice(n))
    a, b, y = np.empty(n, int), np.empty(n, int), np.empty(n)
    won, played = np.ones(K), np.full(K, 2.0)
    for start in range(0, n, 200):  # as in live arenas: close pairs are shown more, by the answers so far
        rate = won / played
        near = np.exp(-6.0 * np.abs(rate[PAIRS[:, 0]] - rate[PAIRS[:, 1]])) + 0.1
        rows = slice(start, min(start + 200, n))
        pair = PAIRS[rng.choice(len(PAIRS), rows.stop - start, p=near / near.sum())]
        flip = rng.random(len(pair)) < 0.5
        a[rows], b[rows] = np.where(flip, pair[:, 1], pair[:, 0]), np.where(flip, pair[:, 0], pair[:, 1])
        y[rows] = win(a[rows], b[rows], topic[rows], rows)
        np.add.at(won, a[rows], y[rows])
        np.add.at(won, b[rows], 1.0 - y[rows])
        np.add.at(played, np.concatenate([a[rows], b[rows]]), 1.0)
    return a, b, topic, y


def projection(win: Any, weight: Any) -> Any:
    """(K,) Bradley-Terry scores nearest to win chances (K, K), pairs weighted by weight (K, K); mean 0."""
    theta = np.zeros(K)
    for _ in range(200):
        p = expit(theta[:, None] - theta[None, :])
        curve = weight * p * (1.0 - p)
        theta = theta + np.linalg.pinv(np.diag(curve.sum(1)) - curve) @ (weight * (win - p)).sum(1)
    return theta - theta.mean()


def chances(kind: str) -> dict[float, Any]:
    """(K, K) chance of each pair, by topic, where it does not hang on the answers."""
    found = {}
    for topic in (1.0, -1.0):
        q = np.exp((kind == "confounded") * topic * SHOWN)
        q /= q.sum()
        found[topic] = q[:, None] * q[None, :] * (1 / (1 - q[:, None]) + 1 / (1 - q[None, :])) * (1 - np.eye(K))
    return found


def wins(gamma: float, lean: float = 0.0) -> dict[float, Any]:
    """(K, K) chance that the row's arm wins, by topic; lean: standard deviation of raters' own taste for an arm."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    found = {}
    for topic in (1.0, -1.0):
        theta = SCORE + gamma * topic * TOPIC
        gap = (theta[:, None] - theta[None, :])[..., None] + lean * np.sqrt(2.0) * nodes
        found[topic] = expit(gap) @ weights / weights.sum()
    return found


def truths(kind: str, win: dict[float, Any]) -> tuple[Any, Any, Any]:
    """Scores of the log, scores where every pair meets on every topic alike, and mean win rates there (K,)."""
    even = 1.0 - np.eye(K)
    mean = (win[1.0] + win[-1.0]) / 2
    shown = chances(kind)
    weight = (shown[1.0] + shown[-1.0]) / 2
    logged = (shown[1.0] * win[1.0] + shown[-1.0] * win[-1.0]) / 2 / np.where(weight > 0, weight, 1.0)
    return projection(logged, weight), projection(mean, even), (mean * even).sum(1) / (K - 1)


def scanned(a: Any, b: Any, y: Any, **columns: Any) -> sy.PreferenceLog:
    names = np.array(ARMS)
    roles = {"context": "topic"} if "topic" in columns else {}
    roles |= {"cluster": [name for name in ("rater", "prompt") if name in columns]}
    roles |= {"covariates": {"length": "length"}} if "length" in columns else {}
    return sy.scan({"a": names[a], "b": names[b], "y": y, **columns}, a="a", b="b", outcome="y", **roles)


# --- intervals -----------------------------------------------------------------------------------
def within(frame: pl.DataFrame, truth: Any, key: str = "arm", keys: list[str] | None = None) -> Any:
    """Whether each interval of a table holds the truth, a value for each of keys."""
    rows = {row[key]: row for row in frame.iter_rows(named=True)}
    return np.array(
        [rows[name]["low"] <= value <= rows[name]["high"] for name, value in zip(keys or ARMS, truth, strict=True)]
    )


def ranked(frame: pl.DataFrame, truth: Any) -> Any:
    """Whether all rank sets hold the true ranks at once."""
    rows = {row["arm"]: row for row in frame.iter_rows(named=True)}
    true = {arm: 1 + int((truth > truth[j] + 1e-9).sum()) for j, arm in enumerate(ARMS)}
    return all(rows[arm]["rank_low"] <= true[arm] <= rows[arm]["rank_high"] for arm in ARMS)


def contrast(found: sy.Contrast, truth: float) -> bool:
    assert found.low is not None
    assert found.high is not None
    return found.low <= truth <= found.high


def votes(rng: Any, kind: str) -> Hits:
    """Plain votes: what a leaderboard prints, plain and doubly robust."""
    gamma = 0.0 if kind == "adaptive" else 1.0  # one score an arm must be true where the pairs hang on the answers
    win = wins(gamma)
    p = np.stack([win[-1.0], win[1.0]])
    a, b, topic, y = drawn(rng, kind, 3000, lambda a, b, t, rows: rng.random(len(a)) < p[(t > 0).astype(int), a, b])
    log = scanned(a, b, y * 1.0, topic=np.where(topic > 0, "code", "prose"))
    logged, even, rate = truths(kind, win)
    fit = sy.BradleyTerry().fit(log)
    model = sy.BradleyTerry(covariance="model").fit(log).table()
    yield "BradleyTerry.table, sandwich", 0.95, within(fit.table(), logged)
    yield "BradleyTerry.table, level=0.8", 0.80, within(fit.table(0.8), logged)
    yield "BradleyTerry.table, covariance='model'", 0.95, within(model, logged) if gamma == 0.0 else None
    yield "BradleyTerry.contrast", 0.95, [contrast(fit.contrast("a", "b"), logged[0] - logged[1])]
    yield "BradleyTerry.table, simultaneous (all at once)", 0.95, [within(fit.table(simultaneous=True), logged).all()]
    yield "BradleyTerry.table, rank sets (all at once)", 0.95, [ranked(fit.table(), logged)]
    yield "BradleyTerry.bootstrap, multinomial", 0.95, within(fit.bootstrap(400, seed=1).table(), logged)
    yield "BradleyTerry.bootstrap, multiplier", 0.95, within(fit.bootstrap(400, 1, "multiplier").table(), logged)
    yield "BradleyTerry.table, asked for every topic alike", 0.95, within(fit.table(), even)
    shown = sy.PairPropensity().fit(log)
    weights = shown.weights(log)
    weighted = sy.BradleyTerry(weights=weights).fit(log)
    yield "BradleyTerry(weights=...), stacked errors", 0.95, within(weighted.table(), even)
    robust = sy.DoublyRobust().fit(log)
    yield "DoublyRobust.table", 0.95, within(robust.table(), even)
    yield "DoublyRobust.contrast", 0.95, [contrast(robust.contrast("a", "b"), even[0] - even[1])]
    yield "DoublyRobust.table, simultaneous (all at once)", 0.95, [within(robust.table(simultaneous=True), even).all()]
    yield "DoublyRobust.table, rank sets (all at once)", 0.95, [ranked(robust.table(), even)]
    yield "DoublyRobust.win_rates", 0.95, within(robust.win_rates(), rate)
    yield "DoublyRobust.bootstrap", 0.95, within(robust.bootstrap(400, seed=1).table(), even)
    value = sy.PolicyValue(policy={"a": 0.5, "b": 0.5}, reference="e").fit(log).table().row(0, named=True)
    mean = (win[1.0] + win[-1.0]) / 2
    yield "PolicyValue", 0.95, [value["low"] <= (mean[0, 4] + mean[1, 4]) / 2 <= value["high"]]
    ends = sy.sensitivity(robust, "a", over="b", lambdas=[1.3]).bounds
    told = ends.filter(quantity="win rate of a").row(0, named=True)
    low, high = bounds(kind, win, 1.3)
    each = [told["low_limit"] <= low, told["high_limit"] >= high]
    yield "sensitivity, each end of a win rate", 0.975, None if kind == "adaptive" else each


def bounds(kind: str, win: dict[float, Any], lam: float) -> tuple[float, float]:
    """The least and the largest win rate of the first arm that odds of being shown off by lam leave room for."""
    ends = np.zeros(2)
    for topic, shown in chances(kind).items():
        p, off = win[topic][0, 1:], 1.0 / shown[0, 1:] - 1.0
        for end, chance in enumerate((1.0 - p, p)):  # the chance that is made as large as can be
            most = np.minimum(chance * (1.0 + off * lam), off + 1.0 - (1.0 - chance) * (1.0 + off / lam))
            ends[end] += (most * shown[0, 1:]).mean() / 2
    return 1.0 - ends[0], ends[1]


def responses(rng: Any, kind: str) -> Hits:
    """Responses out of eight candidates, drawn by one policy, with the chances of another and a wrong reward model."""
    if kind == "adaptive":
        return
    n, m = 2000, 8
    fixed = np.random.default_rng(0)
    quality, moved, lean = fixed.normal(size=(3, m))
    topic = rng.integers(0, 2, n)
    sign = np.array([[-1.0], [1.0]])
    quality = quality + 0.6 * sign * moved  # (2, m) by topic
    reference = np.exp((kind == "confounded") * 0.7 * sign * lean)
    policy = np.exp(0.8 * quality)
    reference, policy = (x / x.sum(axis=1, keepdims=True) for x in (reference, policy))
    a, b = ((rng.random((n, 1)) > reference.cumsum(axis=1)[topic]).sum(axis=1) for _ in range(2))
    y = (rng.random(n) < expit(quality[topic, a] - quality[topic, b])) * 1.0
    guess = 0.5 * quality + 0.3 * fixed.normal(size=(2, m))
    logs = {"policy": np.log(policy), "reference": np.log(reference), "score": guess}
    sides = {f"{what} {side}": x[topic, at] for side, at in (("a", a), ("b", b)) for what, x in logs.items()}
    more = {"scores": guess[topic], "chances": np.log(policy)[topic], "l": ["l"] * n, "r": ["r"] * n}
    told = sy.Responses(*((f"{what} a", f"{what} b") for what in logs), ("scores", "chances"))
    frame = pl.DataFrame({"y": y, **sides, **more})
    fit = sy.PolicyValue(told).fit(sy.scan(frame, a="l", b="r", outcome="y")).table().row(0, named=True)
    truth = np.mean([policy[t] @ expit(quality[t][:, None] - quality[t]) @ reference[t] for t in (0, 1)])
    yield "PolicyValue(Responses(...))", 0.95, [fit["low"] <= truth <= fit["high"]]


def davidson(rng: Any, eta: Any) -> Any:
    """Outcomes with ties, log nu -0.3."""
    shares = np.stack([np.exp(eta / 2), np.full(len(eta), np.exp(-0.3)), np.exp(-eta / 2)])
    shares = np.cumsum(shares / shares.sum(0), axis=0)
    return 1.0 - (rng.random(len(eta)) > shares[:2]).sum(0) / 2


def rao_kupper(rng: Any, eta: Any) -> Any:
    """Outcomes with ties, tau 0.3: the logistic noise is not felt within it."""
    felt = eta + rng.logistic(size=len(eta))
    return (felt > 0.3) / 2 + (felt > -0.3) / 2


def ties(rng: Any, kind: str) -> Hits:
    """Ties and a position effect, as parameters; and links other than the logistic."""
    kappa = 0.25
    for model, drawn_by, tie in (("davidson", davidson, -0.3), ("rao-kupper", rao_kupper, 0.3)):

        def outcome(a: Any, b: Any, topic: Any, rows: Any, drawn_by: Any = drawn_by) -> Any:
            return drawn_by(rng, SCORE[a] - SCORE[b] + kappa)

        a, b, topic, y = drawn(rng, kind, 2000, outcome)
        log = scanned(a, b, y, topic=topic)
        for covariance in ("sandwich", "model"):
            fit = sy.BradleyTerry(ties=model, position=True, covariance=covariance).fit(log)
            yield f"{model} scores, {covariance}", 0.95, within(fit.table(), SCORE)
            told = within(fit.coefficients(), (kappa, tie), "term", ["position", "tie"])
            yield f"{model} position effect, {covariance}", 0.95, told[:1]
            yield f"{model} tie parameter, {covariance}", 0.95, told[1:]
    for name, link, noise in (("probit", "probit", rng.normal), ("likelihood of one's own", own(), rng.logistic)):

        def answer(a: Any, b: Any, topic: Any, rows: Any, noise: Any = noise) -> Any:
            return SCORE[a] - SCORE[b] + noise(size=len(a)) > 0

        a, b, topic, y = drawn(rng, kind, 2000, answer)
        fit = sy.BradleyTerry(link=link).fit(scanned(a, b, y * 1.0, topic=topic))
        yield f"{name}, scores", 0.95, within(fit.table(), SCORE)


@cache
def own() -> sy.Likelihood:
    """The logistic, in plain Python."""
    return sy.Likelihood(
        lambda eta, y: y * eta - (math.log1p(math.exp(-abs(eta))) + max(eta, 0.0)),
        lambda eta, y: y - 1.0 / (1.0 + math.exp(-eta)),
        lambda eta, y: -1.0 / ((1.0 + math.exp(-eta)) * (1.0 + math.exp(eta))),
    )


def raters(rng: Any, kind: str) -> Hits:
    """Raters who answer 15 times each, by their own taste: clustered errors, and what rows alone would say."""
    if kind == "adaptive":
        return
    n, lean = 3000, 0.7
    rater = np.arange(n) // 15
    taste = lean * rng.normal(size=(n // 15, K))

    def outcome(a: Any, b: Any, topic: Any, rows: Any) -> Any:
        row = np.arange(len(a))
        score = SCORE + topic[:, None] * TOPIC + taste[rater[rows]]
        return rng.random(len(a)) < expit(score[row, a] - score[row, b])

    a, b, topic, y = drawn(rng, kind, n, outcome)
    log = scanned(a, b, y * 1.0, topic=np.where(topic > 0, "code", "prose"), rater=rater)
    logged, even, rate = truths(kind, wins(1.0, lean))
    yield "BradleyTerry.table, clustered", 0.95, within(sy.BradleyTerry().fit(log).table(), logged)
    rows = sy.BradleyTerry(covariance="sandwich").fit(log)
    yield "BradleyTerry.table, clusters ignored", 0.95, within(rows.table(), logged)
    fit = sy.DoublyRobust().fit(log)
    yield "DoublyRobust.table, clustered", 0.95, within(fit.table(), even)
    yield "DoublyRobust.win_rates, clustered", 0.95, within(fit.win_rates(), rate)


def crossed(rng: Any, kind: str) -> Hits:
    """Raters and prompts, each with a taste of its own: clusters two ways."""
    if kind == "adaptive":
        return
    n, groups, lean = 3000, 100, 0.5
    rater, prompt = np.arange(n) % groups, (np.arange(n) // groups + 7 * np.arange(n)) % groups
    taste = lean * rng.normal(size=(2, groups, K))

    def outcome(a: Any, b: Any, topic: Any, rows: Any) -> Any:
        row, felt = np.arange(len(a)), taste[0, rater[rows]] + taste[1, prompt[rows]]
        score = SCORE + topic[:, None] * TOPIC + felt
        return rng.random(len(a)) < expit(score[row, a] - score[row, b])

    a, b, _, y = drawn(rng, kind, n, outcome)
    logged, _, _ = truths(kind, wins(1.0, lean * np.sqrt(2.0)))
    fit = sy.BradleyTerry().fit(scanned(a, b, y * 1.0, rater=rater, prompt=prompt))
    yield "BradleyTerry.table, clustered two ways", 0.95, within(fit.table(), logged)


def style(rng: Any, kind: str) -> Hits:
    """Length counts: covariates, and rewards of features."""
    n, gain, slope = 2500, 0.5, np.array([0.6, -0.3])
    length = rng.normal(size=n)

    def outcome(a: Any, b: Any, topic: Any, rows: Any) -> Any:
        if kind == "confounded":
            length[rows] += 0.8 * (SCORE[a] - SCORE[b])  # good arms write more
        return rng.random(len(a)) < expit(SCORE[a] - SCORE[b] + gain * length[rows])

    a, b, topic, y = drawn(rng, kind, n, outcome)
    fit = sy.BradleyTerry().fit(scanned(a, b, y * 1.0, topic=topic, length=length))
    yield "BradleyTerry(covariates=...).table", 0.95, within(fit.table(), SCORE)
    yield "BradleyTerry.coefficients", 0.95, within(fit.coefficients(), (gain,), "term", ["length"])
    first, second = rng.normal(size=(n, 2)), rng.normal(size=(n, 2))
    if kind == "confounded":
        second[:, 1] += first[:, 0]  # correlated features
    if kind == "adaptive":  # of three candidates the closest by a guess of the rewards is shown
        others = rng.normal(size=(3, n, 2))
        gap = np.abs((first - others) @ np.array([0.4, 0.0]))
        second = others[gap.argmin(0), np.arange(n)]
    answer = rng.random(n) < expit((first - second) @ slope)
    columns = {"o": answer * 1.0, "f": first[:, 0], "g": first[:, 1], "h": second[:, 0], "i": second[:, 1]}
    reward = sy.RewardModel().fit(sy.scan(columns, outcome="o", features=(["f", "g"], ["h", "i"])))
    yield "RewardModel.coefficients", 0.95, within(reward.coefficients(), slope, "term", ["f", "g"])
    yield "effects(fit)", 0.95, within(sy.effects(reward), expit(slope), "term", ["f", "g"])
    useful = rng.random(n) < 0.5
    answer = rng.random(n) < expit((first - second) @ slope * np.where(useful, 1.0, -0.5))
    columns |= {"o": answer * 1.0, "who": np.where(useful, "useful", "safe")}
    heads = sy.RewardModel(heads="per-group").fit(
        sy.scan(columns, outcome="o", features=(["f", "g"], ["h", "i"]), group="who")
    )
    truth = np.concatenate([slope, -0.5 * slope])
    terms = [f"{name} [{who}]" for who in ("useful", "safe") for name in "fg"]
    yield "RewardModel(heads='per-group').coefficients", 0.95, within(heads.coefficients(), truth, "term", terms)


def group_truth(slope: dict[str, Any]) -> dict[str, Any]:
    """Each group's rewards over everyone's prompts: the logistic model nearest to answers that hang on the prompt."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    grid = np.stack(np.meshgrid(nodes, nodes), -1).reshape(-1, 2)
    mass = np.outer(weights, weights).ravel() / weights.sum() ** 2
    found = {}
    for name, own in slope.items():
        beta = np.zeros(2)
        for _ in range(50):
            score, curve = np.zeros(2), np.zeros((2, 2))
            for gain, spread in PROMPTS.values():
                delta = grid * spread
                p = expit(delta @ beta)
                score += delta.T @ (mass * (expit(gain * (delta @ own)) - p))
                curve += (delta * (mass * p * (1.0 - p))[:, None]).T @ delta
            beta = beta + np.linalg.solve(curve, score)
        found[name] = beta
    return found


PROMPTS = {"p": (1.4, 1.0), "q": (0.4, 0.8)}  # how strongly rewards count on a prompt, and how far responses differ


def groups(rng: Any, kind: str) -> Hits:
    """Two groups that want different things, each with prompts of its own: the paper's confounding by objectives."""
    if kind == "adaptive":
        return
    n, slope = 4000, {"safe": np.array([0.8, 0.0]), "useful": np.array([0.0, 0.8])}
    agreement = 0.75 if kind == "confounded" else 0.5
    prompt = np.where(rng.random(n) < 0.5, "p", "q")
    group = np.where((rng.random(n) < agreement) == (prompt == "p"), "safe", "useful")
    gain, spread = (np.where(prompt == "p", *(PROMPTS[name][i] for name in "pq")) for i in (0, 1))
    delta = rng.normal(size=(n, 2)) * spread[:, None]
    gap = gain * np.where(group == "safe", delta @ slope["safe"], delta @ slope["useful"])
    y = (rng.random(n) < expit(gap)) * 1.0
    zero = np.zeros(n)
    columns = {"o": y, "f": delta[:, 0], "g": delta[:, 1], "h": zero, "i": zero, "who": group, "prompt": prompt}
    log = sy.scan(columns, outcome="o", features=(["f", "g"], ["h", "i"]), group="who", context="prompt")
    fit, truth = sy.GroupRewards().fit(log), group_truth(slope)
    told = fit.coefficients()
    held = [within(told.filter(group=name), truth[name], "term", ["f", "g"]) for name in slope]
    yield "GroupRewards.coefficients", 0.95, np.concatenate(held)
    yield "GroupRewards.rewards", 0.95, within(fit.rewards(), (0.5, 0.5), "group", ["safe", "useful"])
    gap = truth["safe"][0] - truth["useful"][0]
    yield "GroupRewards.contrast", 0.95, [contrast(fit.contrast("safe", "useful", "f"), gap)]


def judged(rng: Any, kind: str) -> Hits:
    """Answers to some 40 % of the comparisons, more on one topic than the other, and a judge mostly right."""
    if kind == "adaptive":
        return
    win = wins(1.0)
    p = np.stack([win[-1.0], win[1.0]])
    a, b, topic, y = drawn(rng, kind, 4000, lambda a, b, t, rows: rng.random(len(a)) < p[(t > 0).astype(int), a, b])
    guess = np.where(rng.random(len(y)) < 0.8, y, ~y) * 0.6 + 0.2
    answer = np.where(rng.random(len(y)) < np.where(topic > 0, 0.55, 0.25), y * 1.0, np.nan)
    names = np.array(ARMS)
    columns = {"a": names[a], "b": names[b], "judge": guess, "topic": np.where(topic > 0, "code", "prose")}
    frame = pl.DataFrame(columns).with_columns(y=pl.Series(answer).fill_nan(None))
    log = sy.scan(frame, a="a", b="b", outcome="y", context="topic")
    fit = sy.DoublyRobust(labelled=sy.LabelPropensity(), judge="judge").fit(log)
    _, even, _ = truths(kind, win)
    yield "DoublyRobust(labelled=..., judge=...)", 0.95, within(fit.table(), even)


def conjoint(rng: Any, kind: str) -> Hits:
    """Randomised attributes of two profiles: linear effects."""
    if kind != "balanced":
        return
    n = 1500
    names, effect = np.array(["none", "some", "much"]), np.array([0.0, 0.08, 0.2])
    left, right = rng.integers(0, 3, n), rng.integers(0, 3, n)
    y = (rng.random(n) < 0.5 + (effect[left] - effect[right])) * 1.0
    log = sy.scan(
        {"t": names[left], "u": names[right], "o": y, "l": ["l"] * n, "r": ["r"] * n}, a="l", b="r", outcome="o"
    )
    told = sy.effects(log, attributes={"tax": ("t", "u")}, baselines={"tax": "none"})
    yield "effects(log, attributes=...)", 0.95, within(told, effect[1:], "level", ["some", "much"])


WORLDS = (votes, responses, ties, raters, crossed, style, groups, judged, conjoint)
