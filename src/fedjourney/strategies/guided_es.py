"""Guided evolution strategy over clients.

Reference: Maheswaranathan et al. 2019, Guided evolutionary strategies: augmenting random search with surrogate
gradients, https://arxiv.org/abs/1806.10230.

Per sampled client and round, P parameters, n = population / 2 pairs, k past updates: up n floats (pair differences);
down (1 + k) P floats, or with `downlink = "fitness"` n floats and a round number for each round missed: whoever
replays knows the past updates for nothing.
"""

from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le

from fedjourney.seeds import seed_for
from fedjourney.strategies import Cohort, Setting
from fedjourney.strategies._evolution import (
    Optimizer,
    Population,
    climb,
    combine,
    direction,
    flatten,
    score_pairs,
    unflatten,
)
from fedjourney.strategies._replay import Downlink, Replayed
from fedjourney.tensors import Tensors
from fedjourney.updates import Client, Reply


class GuidedES(Replayed):
    """Evolution guided by recent updates: part of the noise lies in the subspace that they span.

    ε = σ √(α / P) ξ + σ √((1 - α) / k) U η with ξ, η normal and U [P, k] an orthonormal basis of the last k updates
    (α = 1 until there is one); the estimate is the mean of (β / 2σ²)(f(θ + ε) - f(θ - ε)) ε, whose expectation is
    β (α/P I + (1 - α)/k U Uᵀ) ∇f: trace β, so that `learning_rate` is not comparable with that of open_es under "sgd".

    Options: `share` is α, `scale` is β, `subspace` is k.
    """

    uses_update = False

    def __init__(
        self,
        setting: Setting,
        /,
        *,
        population: Population = 64,
        sigma: Annotated[float, Gt(0)] = 0.1,
        share: Annotated[float, Gt(0), Le(1)] = 0.5,
        subspace: Annotated[int, Ge(1), Le(10_000)] = 4,
        scale: Annotated[float, Gt(0)] = 1.0,
        learning_rate: Annotated[float, Gt(0)] = 0.02,
        optimizer: Optimizer = "adam",
        downlink: Downlink = "model",
    ) -> None:
        super().__init__(setting, downlink)
        self.pairs, self.sigma, self.share, self.subspace = population // 2, sigma, share, subspace
        self.scale, self.learning_rate, self.optimizer = scale, learning_rate, optimizer

    def like(self, params: Tensors, work: str = "train") -> Tensors:
        """A reply is `differences` [pairs]."""
        return {"differences": next(iter(params.values())).new_empty(self.pairs)}

    def sent(self, params: Tensors, extra: Tensors) -> tuple[Tensors, Tensors]:
        """Scoring needs the past updates."""
        return params, {name: tensor for name, tensor in extra.items() if name == "past"}

    def _basis(self, extra: Tensors) -> list[torch.Tensor]:
        """Return orthonormal vectors [P] that span the past updates, by Gram and Schmidt, twice over, in float64."""
        found: list[torch.Tensor] = []
        for one in extra["past"].double() if "past" in extra else ():
            length = one.norm()
            for _ in range(2):
                for other in found:
                    one = one - (one * other).sum() * other
            if one.norm() > 1e-6 * length:
                found.append(one / one.norm())
        return found

    def _offset(self, round: int, pair: int, flat: torch.Tensor, basis: list[torch.Tensor]) -> torch.Tensor:
        """Return ε [P]."""
        share = self.share if basis else 1.0
        seed = seed_for(self.setting.seed, "directions", round, pair)
        offset = (share / len(flat)) ** 0.5 * direction("gaussian", seed, flat.double())
        if basis:
            inside = direction("gaussian", seed_for(self.setting.seed, "inside", round, pair), torch.zeros(len(basis)))
            offset = offset + combine(((1 - share) / len(basis)) ** 0.5 * inside.double(), basis, offset)
        return (self.sigma * offset).to(flat.dtype)

    def answer(self, client: Client, extra: Tensors) -> Reply:
        """Score the pairs on one minibatch."""
        flat, basis = flatten(client.shared), self._basis(extra)
        fitness = score_pairs(
            client, client.shared, lambda pair: self._offset(client.round, pair, flat, basis), self.pairs
        )
        return Reply({"differences": fitness[0] - fitness[1]}, {"fitness": float(fitness.mean())}, {})

    def news(self, round: int, cohort: Cohort) -> Tensors:
        """The weights [pairs] of the ε."""
        assert cohort.tensors is not None
        return {"weights": cohort.tensors["differences"] * (self.scale / (2 * self.sigma**2 * self.pairs))}

    def step(self, round: int, params: Tensors, extra: Tensors, news: Tensors) -> tuple[Tensors, Tensors]:
        """Combine the ε, step uphill, remember the move."""
        flat, basis = flatten(params), self._basis(extra)
        offsets = (self._offset(round, pair, flat, basis) for pair in range(self.pairs))
        estimate = combine(news["weights"], offsets, flat)
        self.uphill = estimate
        moved, kept = climb(flat, estimate, extra, self.optimizer, self.learning_rate)
        past = (moved - flat).unsqueeze(0)
        if "past" in extra:
            past = torch.cat([past, extra["past"]])[: self.subspace]
        return unflatten(moved, params), kept | {"past": past}
