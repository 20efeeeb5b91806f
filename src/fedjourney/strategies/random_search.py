"""Random search over clients: the floor under every evolution strategy.

Reference: Rastrigin 1963; Matyas 1965, Random optimization (the variant that starts from the best so far).

Per sampled client and round, P parameters, M candidates: up M floats; down P floats (2P for `around = "start"`), or
with `downlink = "fitness"` one 64-bit number and a round number for each round missed, and P floats once.
"""

from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Le

from fedjourney.seeds import seed_for
from fedjourney.strategies import Cohort, Setting
from fedjourney.strategies._evolution import Distribution, direction, flatten, places, score, unflatten
from fedjourney.strategies._replay import Downlink, Replayed
from fedjourney.tensors import Tensors
from fedjourney.updates import Client, Reply


class RandomSearch(Replayed):
    """Random search, the floor of evolution: the best of M - 1 random candidates and the incumbent.

    The incumbent is scored again beside the candidates, on the round's minibatches. Candidates are θ + σ z around the
    incumbent ("best"), or around the first model ("start").
    """

    uses_update = False
    evolution = False  # the control of those that are

    def __init__(
        self,
        setting: Setting,
        /,
        *,
        population: Annotated[int, Ge(2), Le(1_000_000)] = 64,
        sigma: Annotated[float, Gt(0)] = 0.05,
        around: Literal["best", "start"] = "best",
        noise: Distribution = "gaussian",
        downlink: Downlink = "model",
    ) -> None:
        super().__init__(setting, downlink)
        self.population, self.sigma, self.around, self.noise = population, sigma, around, noise

    def like(self, params: Tensors, work: str = "train") -> Tensors:
        """A reply is `fitness` [population], the incumbent's first."""
        return {"fitness": next(iter(params.values())).new_empty(self.population)}

    def begin(self, params: Tensors) -> Tensors:
        """Remember the first model where candidates lie around it."""
        return {"first": flatten(params)} if self.around == "start" else {}

    def sent(self, params: Tensors, extra: Tensors) -> tuple[Tensors, Tensors]:
        """Scoring needs both centres."""
        return params, extra

    def _candidate(self, round: int, number: int, flat: torch.Tensor, extra: Tensors) -> torch.Tensor:
        if number == 0:
            return flat
        seed = seed_for(self.setting.seed, "directions", round, number)
        return extra.get("first", flat) + (self.sigma * direction(self.noise, seed, flat))

    def answer(self, client: Client, extra: Tensors) -> Reply:
        """Score incumbent and candidates on one minibatch."""
        flat = flatten(client.shared)
        fitness = score(client, lambda j: self._candidate(client.round, j, flat, extra), self.population, client.shared)
        return Reply({"fitness": fitness}, {"fitness": float(fitness.max())}, {})

    def news(self, round: int, cohort: Cohort) -> Tensors:
        """The number of the best [1]; the incumbent wins ties."""
        assert cohort.tensors is not None
        latest_first = places(cohort.tensors["fitness"].flip(0)).flip(0)
        return {"winner": latest_first.argmax().reshape(1)}

    def step(self, round: int, params: Tensors, extra: Tensors, news: Tensors) -> tuple[Tensors, Tensors]:
        """Move to the best."""
        flat = flatten(params)
        return unflatten(self._candidate(round, int(news["winner"]), flat, extra), params), extra
