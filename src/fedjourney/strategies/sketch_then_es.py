"""Sketched averaging first, an evolution strategy after: the naive hybrid of gradients and fitness at scalars' bytes.

References: Zhao et al. 2023, CORE, https://arxiv.org/abs/2309.13307, and Salimans et al. 2017,
https://arxiv.org/abs/1703.03864, for the two halves; gradients first, zeroth order after: Legate et al. 2026, ZOWarmUp.

Per sampled client and round, n directions: up n floats, down n floats and a round number for each round missed, in
both halves, and P floats once. Nothing is sent at the switch.
"""

from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le

from fedjourney.seeds import seed_for
from fedjourney.strategies import Cohort, Setting, update_of
from fedjourney.strategies._evolution import (
    Distribution,
    Optimizer,
    Utility,
    along,
    climb,
    combine,
    direction,
    flatten,
    pair_weights,
    score_pairs,
    unflatten,
)
from fedjourney.strategies._replay import Downlink, Replayed
from fedjourney.tensors import Tensors
from fedjourney.updates import Client, Reply


class SketchThenES(Replayed):
    """Hybrid: rounds of sketched averaging, then, from one round on, rounds of an evolution strategy.

    Up to round `switch` a round is that of `sketch`: clients run [update] and send their update along n shared
    directions. After it a round is that of `open_es` with `shaping = "client"`: clients send the fitness differences
    along n directions of one minibatch. Both send the same, so that clients replay both; the server's optimiser
    starts anew at the switch, since the two estimates have different scales.

    Options: `learning_rate` is the server's of the first half, `evolution_learning_rate` that of the second.
    """

    evolution = True

    def __init__(
        self,
        setting: Setting,
        /,
        *,
        switch: Annotated[int, Ge(0), Le(1_000_000_000)] = 20,
        directions: Annotated[int, Ge(1), Le(1_000_000)] = 64,
        learning_rate: Annotated[float, Gt(0)] = 0.02,
        evolution_learning_rate: Annotated[float, Gt(0)] = 0.02,
        sigma: Annotated[float, Gt(0)] = 0.05,
        utility: Utility = "raw",
        optimizer: Optimizer = "adam",
        noise: Distribution = "rademacher",
        downlink: Downlink = "fitness",
    ) -> None:
        super().__init__(setting, downlink)
        self.switch, self.directions, self.sigma, self.utility = switch, directions, sigma, utility
        self.learning_rate, self.evolution_learning_rate = learning_rate, evolution_learning_rate
        self.optimizer, self.noise = optimizer, noise

    def like(self, params: Tensors, work: str = "train") -> Tensors:
        """A reply is `weights` [directions]."""
        return {"weights": next(iter(params.values())).new_empty(self.directions)}

    def _direction(self, round: int, number: int, flat: torch.Tensor) -> torch.Tensor:
        return direction(self.noise, seed_for(self.setting.seed, "directions", round, number), flat)

    def answer(self, client: Client, extra: Tensors) -> Reply:
        """Train and measure the update, or score candidates."""
        if client.round > self.switch:
            flat = flatten(client.shared)
            fitness = score_pairs(
                client, client.shared, lambda j: self.sigma * self._direction(client.round, j, flat), self.directions
            )
            weights = pair_weights(fitness, self.utility, self.sigma)
            return Reply({"weights": weights}, {"fitness": float(fitness.mean())}, {})
        assert self.update is not None
        reply = client.train(self.update)
        moved = flatten(update_of(reply.tensors))
        products = along(moved, (self._direction(client.round, j, moved) for j in range(self.directions)))
        return Reply({"weights": products / self.directions}, reply.metrics, reply.state)

    def news(self, round: int, cohort: Cohort) -> Tensors:
        """The mean weights [directions]."""
        assert cohort.tensors is not None
        return cohort.tensors

    def step(self, round: int, params: Tensors, extra: Tensors, news: Tensors) -> tuple[Tensors, Tensors]:
        """Combine the directions, step."""
        flat, evolving = flatten(params), round > self.switch
        estimate = combine(news["weights"], (self._direction(round, j, flat) for j in range(self.directions)), flat)
        if evolving and "evolving" not in extra:  # the first such round that counts
            extra = {}
        rate = self.evolution_learning_rate if evolving else self.learning_rate
        self.uphill = estimate
        moved, extra = climb(flat, estimate, extra, self.optimizer, rate)
        return unflatten(moved, params), extra | ({"evolving": torch.zeros(1, dtype=torch.uint8)} if evolving else {})
