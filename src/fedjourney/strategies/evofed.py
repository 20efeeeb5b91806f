"""EvoFed: local gradient descent, then the fitness of a shared population against the local result.

Reference: Rahimi et al. 2023, EvoFed: Leveraging Evolutionary Strategies for Communication-Efficient Federated
Learning, https://arxiv.org/abs/2311.07485 (population-based gradient encoding, with its partitions), and the released
code for the shape of the step.

Per sampled client and round, n = population / 2 pairs, B blocks: up nB floats (a pair's two numbers enter the step
only through their difference, so half of the paper's); down nB floats and a round number for each round missed, and
P floats once, or P floats each round with `downlink = "model"`.
"""

from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Le

from fedjourney.errors import ConfigError
from fedjourney.seeds import seed_for
from fedjourney.strategies import Cohort, Setting, update_of
from fedjourney.strategies._evolution import (
    Distribution,
    Optimizer,
    Population,
    Utility,
    climb,
    direction,
    flatten,
    shaped,
    unflatten,
)
from fedjourney.strategies._replay import Downlink, Replayed
from fedjourney.tasks import Task
from fedjourney.tensors import Tensors
from fedjourney.updates import Client, LocalUpdate, Reply, Work


class EvoFed(Replayed):
    """EvoFed: clients train, then send how near each of a shared-seed population lies to what they learned.

    With Δ the local update, f_j = -‖±σ z_j - Δ‖² ("squared"), or -‖±σ z_j - Δ‖ as published ("distance"); clients
    shape, the server averages: g = (1 / 2nσ) Σ_j (f_j⁺ - f_j⁻) z_j. For "squared" and "raw" that is
    (2 / n) Σ_j ⟨z_j, mean Δ⟩ z_j, a linear sketch with expectation 2 Δ: compare with the control `sketch` of n
    directions. With `blocks` the vector is cut into B equal parts, each with a fitness of its own.
    """

    def __init__(
        self,
        setting: Setting,
        /,
        *,
        population: Population = 128,
        sigma: Annotated[float, Gt(0)] = 0.01,
        blocks: Annotated[int, Ge(1), Le(100_000)] = 1,
        fitness: Literal["squared", "distance"] = "squared",
        utility: Utility = "raw",
        learning_rate: Annotated[float, Gt(0)] = 0.02,
        optimizer: Optimizer = "adam",
        weight_decay: Annotated[float, Ge(0)] = 0.0,
        noise: Distribution = "rademacher",
        downlink: Downlink = "fitness",
    ) -> None:
        super().__init__(setting, downlink)
        self.pairs, self.sigma, self.blocks, self.fitness = population // 2, sigma, blocks, fitness
        self.utility, self.learning_rate, self.optimizer = utility, learning_rate, optimizer
        self.weight_decay, self.noise = weight_decay, noise

    def halves(self, task: Task, update: LocalUpdate | None) -> dict[str, LocalUpdate | Work]:
        """Clients catch up, then train and compare.

        Raises:
            ConfigError: blocks would be empty.
        """
        count = sum(tensor.numel() for tensor in task.init(0).values())
        if self.blocks > count:
            raise ConfigError(
                f"[strategy] blocks: expected blocks <= {count} (parameters of the model), got {self.blocks}. "
                "Lower blocks."
            )
        return super().halves(task, update)

    def like(self, params: Tensors, work: str = "train") -> Tensors:
        """A reply is `weights` [blocks, pairs]."""
        return {"weights": next(iter(params.values())).new_empty(self.blocks, self.pairs)}

    def _direction(self, round: int, pair: int, flat: torch.Tensor) -> torch.Tensor:
        return direction(self.noise, seed_for(self.setting.seed, "directions", round, pair), flat)

    def _block(self, count: int) -> torch.Tensor:
        """Return which block each parameter is in [P]."""
        return torch.arange(count) * self.blocks // count

    def answer(self, client: Client, extra: Tensors) -> Reply:
        """Train, then say how near each candidate is, shaped."""
        assert self.update is not None
        reply = client.train(self.update)
        moved = flatten(update_of(reply.tensors)).cpu()  # where noise is made, and where there is float64
        wide, block = moved.double(), self._block(len(moved))
        distances = torch.zeros(2, self.blocks, self.pairs, dtype=torch.float64)  # squares cancel: in float64
        for pair in range(self.pairs):
            offset = self.sigma * self._direction(client.round, pair, moved).double()
            for side, one in enumerate((offset - wide, -offset - wide)):
                distances[side, :, pair] = torch.zeros(self.blocks, dtype=torch.float64).index_add(0, block, one * one)
        fitness = -(distances if self.fitness == "squared" else distances.sqrt())
        weights = []
        for sides in fitness.unbind(1):
            up, down = shaped(sides.flatten(), self.utility).view(2, self.pairs)
            weights.append((up - down) / (2 * self.pairs * self.sigma))
        return Reply({"weights": torch.stack(weights).to(moved.dtype)}, reply.metrics, reply.state)

    def news(self, round: int, cohort: Cohort) -> Tensors:
        """The mean weights [blocks, pairs]."""
        assert cohort.tensors is not None
        return cohort.tensors

    def step(self, round: int, params: Tensors, extra: Tensors, news: Tensors) -> tuple[Tensors, Tensors]:
        """Combine the directions, step towards what clients learned."""
        flat = flatten(params)
        estimate, block = torch.zeros_like(flat), self._block(len(flat))
        for pair in range(self.pairs):
            estimate = estimate + (news["weights"][:, pair][block] * self._direction(round, pair, flat))
        self.uphill = estimate
        moved, extra = climb(flat, estimate, extra, self.optimizer, self.learning_rate, self.weight_decay)
        return unflatten(moved, params), extra
