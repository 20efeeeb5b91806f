"""Sketched averaging: the control of every evolution strategy.

References: Rostami and Kia 2024, FedScalar, https://arxiv.org/abs/2410.02260; Zhao et al. 2023, CORE: Common Random
Reconstruction, https://arxiv.org/abs/2309.13307.

Per sampled client and round, P parameters, n directions: up n floats; down n floats and a round number for each round
missed, and P floats once, or P floats each round with `downlink = "model"`.
"""

from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le

from fedjourney.seeds import seed_for
from fedjourney.strategies import Cohort, Setting, update_of
from fedjourney.strategies._evolution import (
    Distribution,
    Optimizer,
    along,
    climb,
    combine,
    direction,
    flatten,
    unflatten,
)
from fedjourney.strategies._replay import Downlink, Replayed
from fedjourney.tensors import Tensors
from fedjourney.updates import Client, Reply


class Sketch(Replayed):
    """The control of evolution: inner products of the local update with shared noise directions, no fitness.

    Up s_j = ⟨z_j, Δ⟩; the server's estimate (1 / n) Σ_j mean(s_j) z_j has expectation mean Δ and variance
    ((P - 1) / n) ‖mean Δ‖² (z of ±1). One local step makes it sketched FedSGD, the twin of open_es and decomfl;
    several make it sketched FedAvg, the twin of evofed.
    """

    evolution = False  # the control of those that are

    def __init__(
        self,
        setting: Setting,
        /,
        *,
        directions: Annotated[int, Ge(1), Le(1_000_000)] = 64,
        learning_rate: Annotated[float, Gt(0)] = 0.02,
        optimizer: Optimizer = "adam",
        noise: Distribution = "rademacher",
        downlink: Downlink = "fitness",
    ) -> None:
        super().__init__(setting, downlink)
        self.directions, self.learning_rate = directions, learning_rate
        self.optimizer, self.noise = optimizer, noise

    def like(self, params: Tensors, work: str = "train") -> Tensors:
        """A reply is `products` [directions]."""
        return {"products": next(iter(params.values())).new_empty(self.directions)}

    def _direction(self, round: int, number: int, flat: torch.Tensor) -> torch.Tensor:
        return direction(self.noise, seed_for(self.setting.seed, "directions", round, number), flat)

    def answer(self, client: Client, extra: Tensors) -> Reply:
        """Train, then measure the update along each direction."""
        assert self.update is not None
        reply = client.train(self.update)
        moved = flatten(update_of(reply.tensors))
        products = along(moved, (self._direction(client.round, j, moved) for j in range(self.directions)))
        return Reply({"products": products}, reply.metrics, reply.state)

    def news(self, round: int, cohort: Cohort) -> Tensors:
        """The mean products [directions]."""
        assert cohort.tensors is not None
        return cohort.tensors

    def step(self, round: int, params: Tensors, extra: Tensors, news: Tensors) -> tuple[Tensors, Tensors]:
        """Rebuild the mean update, step along it."""
        flat = flatten(params)
        directions = (self._direction(round, j, flat) for j in range(self.directions))
        estimate = combine(news["products"] / self.directions, directions, flat)
        self.uphill = estimate
        moved, extra = climb(flat, estimate, extra, self.optimizer, self.learning_rate)
        return unflatten(moved, params), extra
