"""Separable natural evolution strategy over clients.

References: Schaul, Glasmachers, Schmidhuber 2011, High Dimensions and Heavy Tails for Natural Evolution Strategies,
https://doi.org/10.1145/2001576.2001692 (SNES); Wierstra et al. 2014, Natural Evolution Strategies,
https://arxiv.org/abs/1106.4487 (utilities, learning rates).

Per sampled client and round, P parameters, n = population / 2 pairs: up 2n floats (noise levels adapt from both sides
of a pair); down P floats and P more for the levels (one per tensor with `granularity = "layer"`), or with
`downlink = "fitness"` 2n floats and a round number for each round missed, and P floats once.
"""

from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt

from fedjourney.seeds import seed_for
from fedjourney.strategies import Cohort, Setting
from fedjourney.strategies._evolution import (
    Population,
    combine,
    direction,
    flatten,
    per_parameter,
    score_pairs,
    unflatten,
    utilities,
)
from fedjourney.strategies._replay import Downlink, Replayed
from fedjourney.tensors import Tensors
from fedjourney.updates import Client, Reply


class SNES(Replayed):
    """Separable natural evolution: noise levels of their own for each parameter or layer, and they adapt.

    Candidates μ ± σ ⊙ z_j, z_j normal (of ±1 would say nothing about σ: z² = 1). With utilities u of the mean fitness,
    μ ← μ + η_μ σ ⊙ Σ_j (u_j⁺ - u_j⁻) z_j and σ ← σ ⊙ exp(½ η_σ Σ_j (u_j⁺ + u_j⁻)(z_j² - 1)): sums, not means. A
    layer's level takes the mean of z² - 1 over its parameters.

    Options: `population` wants at least 4 + 3 ln P; `sigma` is where all levels start; `sigma_learning_rate` 0 means
    (3 + ln G) / (5 √G) for G levels.
    """

    uses_update = False

    def __init__(
        self,
        setting: Setting,
        /,
        *,
        population: Population = 64,
        sigma: Annotated[float, Gt(0)] = 0.05,
        learning_rate: Annotated[float, Gt(0)] = 1.0,
        sigma_learning_rate: Annotated[float, Ge(0)] = 0.0,
        granularity: Literal["layer", "parameter"] = "parameter",
        downlink: Downlink = "model",
    ) -> None:
        super().__init__(setting, downlink)
        self.pairs, self.sigma, self.learning_rate = population // 2, sigma, learning_rate
        self.sigma_learning_rate, self.granularity = sigma_learning_rate, granularity

    def like(self, params: Tensors, work: str = "train") -> Tensors:
        """A reply is `fitness` [2, pairs]."""
        return {"fitness": next(iter(params.values())).new_empty(2, self.pairs)}

    def begin(self, params: Tensors) -> Tensors:
        """All noise levels [P] or [layers] start alike."""
        levels = len(params) if self.granularity == "layer" else sum(t.numel() for t in params.values())
        return {"sigma": next(iter(params.values())).new_full((levels,), self.sigma)}

    def sent(self, params: Tensors, extra: Tensors) -> tuple[Tensors, Tensors]:
        """Scoring needs the noise levels."""
        return params, extra

    def _levels(self, params: Tensors, extra: Tensors) -> torch.Tensor:
        """Return one level per parameter [P]."""
        if self.granularity == "parameter":
            return extra["sigma"]
        return per_parameter(extra["sigma"], params)

    def _direction(self, round: int, pair: int, flat: torch.Tensor) -> torch.Tensor:
        return direction("gaussian", seed_for(self.setting.seed, "directions", round, pair), flat)

    def answer(self, client: Client, extra: Tensors) -> Reply:
        """Score the candidates on one minibatch."""
        flat, levels = flatten(client.shared), self._levels(client.shared, extra)
        fitness = score_pairs(
            client, client.shared, lambda j: levels * self._direction(client.round, j, flat), self.pairs
        )
        return Reply({"fitness": fitness}, {"fitness": float(fitness.mean())}, {})

    def news(self, round: int, cohort: Cohort) -> Tensors:
        """The utilities [2, pairs]."""
        assert cohort.tensors is not None
        fitness = cohort.tensors["fitness"]
        return {"utilities": utilities(fitness.flatten()).view(2, self.pairs).to(fitness.dtype)}

    def step(self, round: int, params: Tensors, extra: Tensors, news: Tensors) -> tuple[Tensors, Tensors]:
        """Move the centre and the noise levels."""
        flat, (up, down) = flatten(params), news["utilities"]
        noise = [self._direction(round, pair, flat) for pair in range(self.pairs)]
        centre = combine(up - down, noise, flat)
        spread = combine(up + down, (z * z - 1 for z in noise), flat)
        if self.granularity == "layer":
            spread = torch.stack([part.mean() for part in unflatten(spread, params).values()])
        moved = flat + (self.learning_rate * (self._levels(params, extra) * centre))
        rate = self.sigma_learning_rate or float(
            (3 + torch.tensor(float(len(spread))).log()) / (5 * len(spread) ** 0.5)
        )
        return unflatten(moved, params), {"sigma": extra["sigma"] * torch.exp((0.5 * rate) * spread)}
