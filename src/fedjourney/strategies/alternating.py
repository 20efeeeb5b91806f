"""Gradient rounds and evolution rounds by turns.

References: McMahan et al. 2017 (the gradient rounds), Salimans et al. 2017 (the evolution rounds); first gradients,
then zeroth order: Legate et al. 2026, ZOWarmUp. Per sampled client P floats up and down in a gradient round,
`population` floats up and P floats down in an evolution round.
"""

from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le

from fedjourney.errors import ConfigError
from fedjourney.seeds import seed_for
from fedjourney.strategies import Ask, Cohort, Rounds, Setting, update_of
from fedjourney.strategies._evolution import (
    Distribution,
    Optimizer,
    Population,
    Utility,
    climb,
    combine,
    direction,
    flatten,
    pair_weights,
    score_pairs,
    unflatten,
)
from fedjourney.strategies._replay import noted
from fedjourney.tasks import Task
from fedjourney.tensors import Tensors, add_scaled
from fedjourney.updates import Client, LocalUpdate, Reply, Work


class Alternating(Rounds):
    """Hybrid: rounds of averaging and rounds of evolution by turns, on a schedule.

    After `warm_up` gradient rounds, `gradient_rounds` and `evolution_rounds` take turns. A gradient round is FedAvg's
    (`server_learning_rate`), an evolution round that of OpenAI's strategy, ranked over the mean fitness; the optimiser
    of the evolution rounds keeps its moments between them.
    """

    evolution = True

    def __init__(
        self,
        setting: Setting,
        /,
        *,
        warm_up: Annotated[int, Ge(0), Le(1_000_000_000)] = 0,
        gradient_rounds: Annotated[int, Ge(0), Le(1_000_000_000)] = 1,
        evolution_rounds: Annotated[int, Ge(0), Le(1_000_000_000)] = 1,
        server_learning_rate: Annotated[float, Gt(0)] = 1.0,
        population: Population = 64,
        sigma: Annotated[float, Gt(0)] = 0.05,
        learning_rate: Annotated[float, Gt(0)] = 0.02,
        optimizer: Optimizer = "adam",
        utility: Utility = "ranks",
        noise: Distribution = "rademacher",
    ) -> None:
        super().__init__()
        if gradient_rounds + evolution_rounds < 1:
            raise ConfigError(
                "[strategy] gradient_rounds: expected gradient_rounds + evolution_rounds >= 1, got 0 + 0. "
                "Raise one of them."
            )
        self.setting, self.warm_up = setting, warm_up
        self.gradient_rounds, self.evolution_rounds = gradient_rounds, evolution_rounds
        self.server_learning_rate, self.pairs, self.sigma = server_learning_rate, population // 2, sigma
        self.learning_rate, self.optimizer, self.utility, self.noise = learning_rate, optimizer, utility, noise

    def work(self, round: int) -> str:
        """Return "train" for a gradient round, "evolve" for an evolution round (rounds count from 1)."""
        if round <= self.warm_up:
            return "train"
        turn = (round - 1 - self.warm_up) % (self.gradient_rounds + self.evolution_rounds)
        return "train" if turn < self.gradient_rounds else "evolve"

    def halves(self, task: Task, update: LocalUpdate | None) -> dict[str, LocalUpdate | Work]:
        """Clients run `[update]`, or score candidates."""
        assert update is not None
        return {"train": update, "evolve": self._score}

    def ask(self, round: int, params: Tensors, clients: Sequence[int]) -> Ask:
        """Ask for what the schedule says."""
        return Ask(params, clients, work=self.work(round))

    def like(self, params: Tensors, work: str = "train") -> Tensors:
        """An update per parameter, or `fitness` [2, pairs]."""
        if work == "train":
            return super().like(params)
        return {"fitness": next(iter(params.values())).new_empty(2, self.pairs)}

    def _direction(self, round: int, pair: int, flat: torch.Tensor) -> torch.Tensor:
        return direction(self.noise, seed_for(self.setting.seed, "directions", round, pair), flat)

    def _score(self, client: Client) -> Reply:
        flat = flatten(client.shared)
        fitness = score_pairs(
            client, client.shared, lambda pair: self.sigma * self._direction(client.round, pair, flat), self.pairs
        )
        return Reply({"fitness": fitness}, {"fitness": float(fitness.mean())}, {})

    def tell(self, round: int, params: Tensors, cohort: Cohort) -> Tensors:
        """Step along the mean update, or up the estimate from ranks."""
        assert cohort.tensors is not None
        self.notes = {} if cohort.work == "train" else noted(cohort.tensors, {})
        if cohort.work == "train":
            return add_scaled(params, update_of(cohort.tensors), self.server_learning_rate)
        flat, weights = flatten(params), pair_weights(cohort.tensors["fitness"], self.utility, self.sigma)
        directions = (self._direction(round, pair, flat) for pair in range(self.pairs))
        estimate = combine(weights, directions, flat)
        self.uphill = estimate
        moved, self.state = climb(flat, estimate, self.state, self.optimizer, self.learning_rate)
        return unflatten(moved, params)
