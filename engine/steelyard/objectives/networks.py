"""The paper's reward networks in PyTorch: three layers of 512 GELU units (Kobalczyk and van der Schaar 2025).

Adam at 1e-4, 10 epochs, the epoch of the best validation accuracy. The adversary is a network of the same kind that
reads the objective off the shared map of both responses, through a reversed gradient (Ganin et al. 2016).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from steelyard.errors import LogError

WIDTH, RATE, EPOCHS, BATCH = 512, 1e-4, 10, 64
LEAST = 20  # comparisons


class _Reversed(torch.autograd.Function):
    """The identity, whose gradient is times -lambda."""

    @staticmethod
    def forward(ctx: Any, x: Any, lam: float) -> Any:
        ctx.lam = lam
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        return -ctx.lam * gradient, None


def _layers(d: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(d, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, out))


class Network(nn.Module):
    """kind: "base", "multihead" or "adversarial". d: features; c: objectives."""

    def __init__(self, kind: str, d: int, c: int, lam: float) -> None:
        super().__init__()
        self.kind, self.c, self.lam = kind, c, lam
        self.map = _layers(d + c, 1) if kind == "base" else _layers(d, WIDTH)
        self.heads = nn.Linear(WIDTH, c)
        self.adversary = _layers(WIDTH, c)

    def forward(self, e: Any, objective: Any) -> tuple[Any, Any]:
        """(n,) rewards, and (n, C) logits of the objectives by the adversary, where there is one."""
        if self.kind == "base":
            return self.map(torch.cat([e, functional.one_hot(objective, self.c).to(e)], 1))[:, 0], None
        shared = self.map(e)
        reward = self.heads(shared).gather(1, objective[:, None])[:, 0]
        told = self.adversary(_Reversed.apply(shared, self.lam)) if self.kind == "adversarial" else None
        return reward, told


@dataclass(frozen=True)
class Trained:
    """A network with what standardises its features. epoch: the one that was kept; validation: its accuracy."""

    network: Network
    mean: Any
    scale: Any
    epoch: int
    validation: float

    def rewards(self, features: Any, objective: Any) -> Any:
        """(n,) by each row's objective."""
        with torch.no_grad():
            e = torch.as_tensor((features - self.mean) / self.scale, dtype=torch.float32)
            return self.network(e, torch.as_tensor(objective, dtype=torch.int64))[0].double().numpy()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Batches this small gain nothing from a second thread, lose much on a busy machine, and keep their bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@_one_thread()
def trained(kind: str, a: Any, b: Any, objective: Any, label: Any, c: int, lam: float, seed: int) -> Trained:
    """Trains on 85 % of the comparisons, keeps the epoch that is most accurate on the others."""
    if len(a) < LEAST:
        raise LogError(f"{len(a)} comparisons are too few for a network and its validation: {LEAST} or more")
    rng = np.random.default_rng(seed)
    both = np.concatenate([a, b])
    mean, scale = both.mean(axis=0), both.std(axis=0)
    scale = np.where(scale > 1e-6 * scale.max(), scale, 1.0)  # a constant column stays one
    x, y = (torch.as_tensor((side - mean) / scale, dtype=torch.float32) for side in (a, b))
    kind_of, won = torch.as_tensor(objective, dtype=torch.int64), torch.as_tensor(label, dtype=torch.float32)
    order = torch.as_tensor(rng.permutation(len(a)))
    held, used = order[: len(a) * 15 // 100], order[len(a) * 15 // 100 :]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = Network(kind, a.shape[1], c, lam)
        optimiser = torch.optim.Adam(network.parameters(), lr=RATE)
        best, kept, at = -1.0, network.state_dict(), 0
        for epoch in range(EPOCHS):
            for rows in used[torch.randperm(len(used))].split(BATCH):
                asked = kind_of[rows].repeat(2)
                reward, told = network(torch.cat([x[rows], y[rows]]), asked)
                gap = reward[: len(rows)] - reward[len(rows) :]
                loss = functional.binary_cross_entropy_with_logits(gap, won[rows])
                if told is not None:
                    loss = loss + functional.cross_entropy(told, asked)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
            with torch.no_grad():
                gap = network(x[held], kind_of[held])[0] - network(y[held], kind_of[held])[0]
            sure = torch.where(gap > 0, won[held], 1.0 - won[held])  # a tie is half of either answer
            right = float(torch.where(gap == 0, 0.5, sure).double().mean())
            if right > best:
                best, kept, at = right, copy.deepcopy(network.state_dict()), epoch
    network.load_state_dict(kept)
    return Trained(network, mean, scale, at, best)
