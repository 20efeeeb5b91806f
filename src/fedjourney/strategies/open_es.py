"""OpenAI's evolution strategy over clients.

Reference: Salimans et al. 2017, Evolution Strategies as a Scalable Alternative to Reinforcement Learning,
https://arxiv.org/abs/1703.03864, Algorithm 2, with the released code's centred ranks and no 1/σ.
Per sampled client and round P floats down, `population` floats up: fitness numbers only.
"""

from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, MultipleOf

from fedjourney.noise import rademacher
from fedjourney.seeds import seed_for
from fedjourney.strategies import Cohort, Rounds, Setting
from fedjourney.tasks import Task
from fedjourney.tensors import Tensors, add_scaled
from fedjourney.updates import Client, LocalUpdate, Reply, Work, zeros

CHUNK = 16  # pairs of candidates held at once


def centred_ranks(fitness: torch.Tensor) -> torch.Tensor:
    """Return ranks scaled to [-0.5, 0.5], ties by position; NaN counts as the worst. [M] -> [M].

    >>> centred_ranks(torch.tensor([3.0, 1.0, 2.0])).tolist()
    [0.5, -0.5, 0.0]
    """
    order = torch.argsort(torch.nan_to_num(fitness, nan=-torch.inf), stable=True)
    ranks = torch.empty(len(fitness), dtype=torch.float64)
    ranks[order] = torch.arange(len(fitness), dtype=torch.float64)
    return ranks / max(len(fitness) - 1, 1) - 0.5


class OpenES(Rounds):
    """OpenAI-ES over clients: antithetic pairs, rank-shaped; up the wire go fitness numbers only.

    All clients of a round score the same candidates θ ± σ z_j, z_j of ±1 from shared seeds, each on one minibatch
    of its own; the server ranks the mean fitness (an exact step on the global objective, whatever the skew).
    """

    uses_update = False

    def __init__(
        self,
        setting: Setting,
        /,
        *,
        population: Annotated[int, Ge(2), MultipleOf(2)] = 64,
        sigma: Annotated[float, Gt(0)] = 0.05,
        learning_rate: Annotated[float, Gt(0)] = 0.05,
        optimizer: Literal["sgd", "adam"] = "adam",
        weight_decay: Annotated[float, Ge(0)] = 0.0,
    ) -> None:
        super().__init__()
        self.setting, self.sigma, self.learning_rate = setting, sigma, learning_rate
        self.pairs, self.optimizer, self.weight_decay = population // 2, optimizer, weight_decay

    def halves(self, task: Task, update: LocalUpdate | None) -> dict[str, LocalUpdate | Work]:
        """Clients score candidates."""
        return {"train": self._score}

    def like(self, params: Tensors, work: str = "train") -> Tensors:
        """A reply is `fitness` [2, pairs]."""
        return {"fitness": torch.empty(2, self.pairs)}

    def _noise(self, round: int, pair: int, like: Tensors) -> Tensors:
        return rademacher(seed_for(self.setting.seed, "directions", round, pair), like)

    def _score(self, client: Client) -> Reply:
        """Return `fitness` [2, pairs]: row 0 for θ + σ z, row 1 for θ - σ z, on one common minibatch."""
        seed = seed_for(client.seed, "batches", client.round, client.index, 0)
        fitness = torch.empty(2, self.pairs)
        for first in range(0, self.pairs, CHUNK):
            pairs = range(first, min(first + CHUNK, self.pairs))
            noises = [self._noise(client.round, pair, client.shared) for pair in pairs]
            stacked = {name: torch.stack([noise[name] for noise in noises]) for name in client.shared}
            for row, sign in enumerate((self.sigma, -self.sigma)):
                population = add_scaled(client.shared, stacked, sign)
                fitness[row, first : first + len(pairs)] = client.task.fitness(population, client.shard, seed)
        return Reply({"fitness": fitness}, {"fitness": float(fitness.mean())}, {})

    def tell(self, round: int, params: Tensors, cohort: Cohort) -> Tensors:
        """Rank the mean fitness, combine the directions, step uphill."""
        assert cohort.tensors is not None
        ranks = centred_ranks(cohort.tensors["fitness"].flatten()).view(2, self.pairs)
        weights = (ranks[0] - ranks[1]) / (2 * self.pairs)
        estimate = zeros(params)
        for pair, weight in enumerate(weights.tolist()):
            estimate = add_scaled(estimate, self._noise(round, pair, params), weight)
        if self.weight_decay:
            estimate = add_scaled(estimate, params, -self.weight_decay)
        if self.optimizer == "adam":
            estimate = self._adam(estimate)
        return add_scaled(params, estimate, self.learning_rate)

    def _adam(self, gradient: Tensors, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8) -> Tensors:
        """Return Adam's direction (Kingma and Ba 2015, Algorithm 1)."""
        step = self.state.get("step", torch.zeros((), dtype=torch.int64)) + 1
        self.state["step"], count, direction = step, int(step), {}
        for name, g in gradient.items():
            m = beta1 * self.state.get(f"m/{name}", torch.zeros_like(g)) + (1 - beta1) * g
            v = beta2 * self.state.get(f"v/{name}", torch.zeros_like(g)) + (1 - beta2) * (g * g)
            self.state[f"m/{name}"], self.state[f"v/{name}"] = m, v
            direction[name] = (m / (1 - beta1**count)) / ((v / (1 - beta2**count)).sqrt() + epsilon)
        return direction
