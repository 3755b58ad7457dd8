"""Twins of bindings/pair_likelihood.pyx, from the probabilities of the outcomes and their derivatives.

A model gives log P(win, tie, loss) as a function of eta and the tie parameter. Here its first derivatives
are g (by eta) and t (by tie), its second derivatives gg, gt, tt; arrays (n, 3) each, 0 where it has none.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_expit, log_ndtr, ndtr

MODELS = {"bradley-terry": 0, "davidson": 1, "rao-kupper": 2, "probit": 3}

Array = NDArray[np.float64]


def _bradley_terry(eta: Array, tie: float) -> tuple[Array, ...]:
    """A tie is half a win and half a loss: its log-likelihood is the mean of theirs."""
    none, p, q = np.zeros((len(eta), 3)), expit(eta), expit(-eta)
    log_p = np.column_stack([log_expit(eta), 0.5 * (log_expit(eta) + log_expit(-eta)), log_expit(-eta)])
    return log_p, np.column_stack([q, 0.5 * (q - p), -p]), none, -np.column_stack([p * q] * 3), none, none


def _davidson(eta: Array, tie: float) -> tuple[Array, ...]:
    """Davidson (1970): shares e^{eta/2}, nu = e^{tie}, e^{-eta/2}; a multinomial logit with these slopes."""
    slope_eta, slope_tie = np.array([0.5, 0.0, -0.5]), np.array([0.0, 1.0, 0.0])
    logits = np.column_stack([0.5 * eta, np.full(len(eta), tie), -0.5 * eta])
    log_p = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    p = np.exp(log_p)
    mean_eta, mean_tie = (p @ slope_eta)[:, None], (p @ slope_tie)[:, None]
    g, t = slope_eta - mean_eta, slope_tie - mean_tie
    gg, gt, tt = ((p * left * right).sum(axis=1, keepdims=True) for left, right in ((g, g), (g, t), (t, t)))
    same = np.ones(3)
    return log_p, g, t, -gg * same, -gt * same, -tt * same


def _rao_kupper(eta: Array, tie: float) -> tuple[Array, ...]:
    """Rao and Kupper (1967): win s(eta - tau), loss s(-eta - tau), tie both complements (1 - e^{-2 tau})."""
    p_win, p_lose = expit(eta - tie), expit(-eta - tie)
    q_win, q_lose = expit(tie - eta), expit(tie + eta)
    with np.errstate(divide="ignore"):
        log_gap = np.log(-np.expm1(-2.0 * tie))
        slope, curve = 2.0 / np.expm1(2.0 * tie), -1.0 / np.square(np.sinh(tie))
    log_win, log_lose = log_expit(eta - tie), log_expit(-eta - tie)
    log_tie = log_expit(tie - eta) + log_expit(tie + eta) + log_gap
    v_win, v_lose = p_win * q_win, p_lose * q_lose
    return (
        np.column_stack([log_win, log_tie, log_lose]),
        np.column_stack([q_win, p_lose - p_win, -q_lose]),
        np.column_stack([-q_win, p_win + p_lose + slope, -q_lose]),
        -np.column_stack([v_win, v_win + v_lose, v_lose]),
        np.column_stack([v_win, v_win - v_lose, -v_lose]),
        np.column_stack([-v_win, curve - v_win - v_lose, -v_lose]),
    )


def _probit(eta: Array, tie: float) -> tuple[Array, ...]:
    """Thurstone (1927): P(win) = Phi(eta); a tie is half a win and half a loss."""
    none = np.zeros((len(eta), 3))
    log_p = np.column_stack([log_ndtr(eta), 0.5 * (log_ndtr(eta) + log_ndtr(-eta)), log_ndtr(-eta)])
    log_density = -0.5 * eta**2 - 0.5 * np.log(2.0 * np.pi)
    up, down = np.exp(log_density - log_p[:, 0]), np.exp(log_density - log_p[:, 2])
    curve_up, curve_down = -up * (up + eta), -down * (down - eta)
    return (
        log_p,
        np.column_stack([up, 0.5 * (up - down), -down]),
        none,
        np.column_stack([curve_up, 0.5 * (curve_up + curve_down), curve_down]),
        none,
        none,
    )


_LOG_OUTCOMES = (_bradley_terry, _davidson, _rao_kupper, _probit)


def pair_likelihood(
    model: int,
    a: NDArray[np.int32],
    b: NDArray[np.int32],
    first: Array,
    outcomes: Array,
    theta: Array,
    kappa: float,
    tie: float,
    out: Array,
) -> None:
    """Per cell, into out (6, n): log-likelihood, its derivatives by eta and tie, and minus the second ones.

    outcomes: (n, 3) sums of win, tie, loss; rows 2, 4 and 5 of out only for models with a tie parameter.
    """
    eta = theta[a] - theta[b] + kappa * first
    log_p, g, t, gg, gt, tt = _LOG_OUTCOMES[model](eta, tie)
    sums = [
        np.where(outcomes == 0.0, 0.0, outcomes * np.where(outcomes == 0.0, 0.0, x)).sum(axis=1)
        for x in (log_p, g, t, gg, gt, tt)
    ]
    rows = range(6) if model in (MODELS["davidson"], MODELS["rao-kupper"]) else (0, 1, 3)
    for row in rows:
        out[row] = sums[row] if row < 3 else -sums[row]


def pair_sums(
    model: int,
    has_position: bool,
    a: NDArray[np.int32],
    b: NDArray[np.int32],
    first: Array,
    outcomes: Array,
    theta: Array,
    kappa: float,
    tie: float,
    score: Array,
    diagonal: Array,
    border: Array,
    corner: Array,
    h_eta: Array,
) -> float:
    """The log-likelihood; adds to score (p,) and to the parts of the Hessian, writes h_eta (n,).

    diagonal: (k,) of the arms. border: (k, q) between arms and position or tie. corner: (q, q), upper triangle.
    """
    k, has_tie, out = len(theta), model in (MODELS["davidson"], MODELS["rao-kupper"]), np.zeros((6, len(a)))
    pair_likelihood(model, a, b, first, outcomes, theta, kappa, tie, out)
    pair_score(k, has_position, has_tie, a, b, first, out, score)
    hessian = np.zeros((len(score), len(score)))
    pair_hessian(k, has_position, has_tie, a, b, first, out, hessian)
    np.add.at(diagonal, a, out[3])
    np.add.at(diagonal, b, out[3])
    border += hessian[:k, k:]
    corner += np.triu(hessian[k:, k:])
    h_eta[:] = out[3]
    return float(out[0].sum())


def pair_outcomes(model: int, eta: Array, tie: float, p_a: Array, p_tie: Array) -> None:
    """P(a wins) and P(tie) at eta; all arrays (n,)."""
    p_tie[:] = 0.0
    if model == MODELS["bradley-terry"]:
        p_a[:] = expit(eta)
    elif model == MODELS["probit"]:
        p_a[:] = ndtr(eta)
    else:
        log_p = _LOG_OUTCOMES[model](eta, tie)[0]
        p_a[:], p_tie[:] = np.exp(log_p[:, 0]), np.exp(log_p[:, 1])


def pair_score(
    k: int,
    has_position: bool,
    has_tie: bool,
    a: NDArray[np.int32],
    b: NDArray[np.int32],
    first: Array,
    derivatives: Array,
    score: Array,
) -> None:
    """Add X'd to score (p,): parameters are k arms, then position, then tie."""
    by_eta, by_tie = _designs(k, has_position, has_tie, a, b, first)
    score += by_eta.T @ derivatives[1] + by_tie.T @ derivatives[2]


def pair_hessian(
    k: int,
    has_position: bool,
    has_tie: bool,
    a: NDArray[np.int32],
    b: NDArray[np.int32],
    first: Array,
    derivatives: Array,
    hessian: Array,
) -> None:
    """Add X'HX to hessian (p, p)."""
    by_eta, by_tie = _designs(k, has_position, has_tie, a, b, first)
    h_eta, h_cross, h_tie = derivatives[3:, :, None]
    cross = by_eta.T @ (h_cross * by_tie)
    hessian += by_eta.T @ (h_eta * by_eta) + cross + cross.T + by_tie.T @ (h_tie * by_tie)


def _designs(
    k: int, has_position: bool, has_tie: bool, a: NDArray[np.int32], b: NDArray[np.int32], first: Array
) -> tuple[Array, Array]:
    """(n, p) derivatives of eta and of the tie parameter by the parameters."""
    n = len(a)
    by_eta, by_tie = (np.zeros((n, k + has_position + has_tie)) for _ in range(2))
    np.add.at(by_eta, (np.arange(n), a), 1.0)
    np.add.at(by_eta, (np.arange(n), b), -1.0)
    if has_position:
        by_eta[:, k] = first
    if has_tie:
        by_tie[:, -1] = 1.0
    return by_eta, by_tie
