"""OpenAI's evolution strategy over clients (FedES).

References: Salimans et al. 2017, Evolution Strategies as a Scalable Alternative to Reinforcement Learning,
https://arxiv.org/abs/1703.03864, Algorithm 2, with the released code's centred ranks and no 1/σ; Lan 2023,
Communication-Efficient Federated Learning with Evolution Strategies, for sending fitness alone.

Per sampled client and round, 4 bytes a float32, P parameters, n = population / 2 pairs:

- up 2n floats with `shaping = "global"` (ranks need both sides of a pair), n with `shaping = "client"`;
- down P floats with `downlink = "model"`; n floats and a round number for each round missed with
  `downlink = "fitness"`, and P floats once (3P for a late joiner under Adam, or the history where it is less).
"""

from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt

from fedjourney.seeds import seed_for
from fedjourney.strategies import Cohort, Setting
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
from fedjourney.strategies._evolution import centred_ranks as centred_ranks
from fedjourney.strategies._replay import Downlink, Replayed
from fedjourney.tensors import Tensors
from fedjourney.updates import Client, Reply


class OpenES(Replayed):
    """OpenAI-ES over clients (FedES): fitness numbers alone go up; with replay they alone go down, too.

    All clients of a round score the same candidates θ ± σ z_j, z_j of ±1 (or normal) from shared seeds, each on one
    minibatch of its own. The step is along (1 / 2n) Σ_j (u_j⁺ - u_j⁻) z_j, divided by σ for `utility = "raw"`, which
    is then unbiased for the gradient of the fitness smoothed by σ z.

    Options: `shaping` "global" ranks the mean fitness (an exact step on the global objective, whatever the skew),
    "client" averages what each client shaped from its own (the mean of normalised client gradients); `utility` says
    how fitness is shaped; `downlink` what clients get ("fitness": shaped fitness, replayed).
    """

    uses_update = False

    def __init__(
        self,
        setting: Setting,
        /,
        *,
        population: Population = 64,
        sigma: Annotated[float, Gt(0)] = 0.05,
        learning_rate: Annotated[float, Gt(0)] = 0.05,
        optimizer: Optimizer = "adam",
        weight_decay: Annotated[float, Ge(0)] = 0.0,
        noise: Distribution = "rademacher",
        shaping: Literal["global", "client"] = "global",
        utility: Utility = "ranks",
        downlink: Downlink = "model",
    ) -> None:
        super().__init__(setting, downlink)
        self.sigma, self.learning_rate, self.weight_decay = sigma, learning_rate, weight_decay
        self.pairs, self.optimizer, self.noise = population // 2, optimizer, noise
        self.shaping, self.utility = shaping, utility

    def like(self, params: Tensors, work: str = "train") -> Tensors:
        """A reply is `fitness` [2, pairs], or `weights` [pairs] where clients shape."""
        one = next(iter(params.values()))
        if self.shaping == "client":
            return {"weights": one.new_empty(self.pairs)}
        return {"fitness": one.new_empty(2, self.pairs)}

    def _direction(self, round: int, pair: int, flat: torch.Tensor) -> torch.Tensor:
        return direction(self.noise, seed_for(self.setting.seed, "directions", round, pair), flat)

    def _weights(self, fitness: torch.Tensor) -> torch.Tensor:
        return pair_weights(fitness, self.utility, self.sigma)

    def answer(self, client: Client, extra: Tensors) -> Reply:
        """Score the candidates on one minibatch."""
        flat = flatten(client.shared)
        fitness = score_pairs(
            client, client.shared, lambda j: self.sigma * self._direction(client.round, j, flat), self.pairs
        )
        tensors = {"weights": self._weights(fitness)} if self.shaping == "client" else {"fitness": fitness}
        return Reply(tensors, {"fitness": float(fitness.mean())}, {})

    def news(self, round: int, cohort: Cohort) -> Tensors:
        """The weights [pairs] of the directions."""
        assert cohort.tensors is not None
        if self.shaping == "client":
            return cohort.tensors
        return {"weights": self._weights(cohort.tensors["fitness"])}

    def step(self, round: int, params: Tensors, extra: Tensors, news: Tensors) -> tuple[Tensors, Tensors]:
        """Combine the directions, step uphill."""
        flat = flatten(params)
        directions = (self._direction(round, pair, flat) for pair in range(self.pairs))
        estimate = combine(news["weights"], directions, flat)
        self.uphill = estimate
        moved, extra = climb(flat, estimate, extra, self.optimizer, self.learning_rate, self.weight_decay)
        return unflatten(moved, params), extra
