"""Neuroevolution: a population of models over generations.

References: Such et al. 2017, Deep Neuroevolution: Genetic Algorithms Are a Competitive Alternative,
https://arxiv.org/abs/1712.06567, Algorithm 1 (truncation, elitism, individuals as seeds); Bäck and Schwefel 1993, An
Overview of Evolutionary Algorithms for Parameter Optimization, for self-adaptation with τ and τ'.

Per sampled client and round, P parameters, M individuals: up M floats. Down M P floats with `downlink = "model"`;
with `downlink = "fitness"` M floats and a round number for each generation missed, and P floats once: parents, masks
and mutations are drawn from (seed, generation, child), so the list of fitness says which seeds make up an individual,
and the lists of seeds of Such et al. (8 bytes a generation and individual) need not be sent.
"""

from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt, Le

from fedjourney.errors import ConfigError
from fedjourney.seeds import seed_for, uniforms
from fedjourney.strategies import Cohort, Setting
from fedjourney.strategies._evolution import (
    direction,
    flatten,
    minibatch_seed,
    no_worse_than_finite,
    per_parameter,
    places,
    unflatten,
)
from fedjourney.strategies._replay import Downlink, Replayed, group, prefixed
from fedjourney.tensors import Tensors
from fedjourney.updates import Client, Reply


class Genetic(Replayed):
    """Neuroevolution: select, recombine, mutate a population of models that clients score on their shards.

    A round is a generation: the cohort's mean fitness decides; the best individual scored is the model.

    Options: `selection` of parents: "truncation" (uniformly from the best `share`), "tournament" (the best of
    `tournament` drawn), "fitness_weighted" (∝ fitness above the worst); `crossover` is the probability of two parents,
    `recombination` how they mix: "uniform" (each parameter), "layer" (each tensor), "intermediate" (their mean), or
    "none"; `sigma` scales normal mutation; `adaptation` lets each individual carry noise levels of its own, "global",
    per "layer" or per "parameter", which mutate first: σ' = σ exp(τ' N + τ N_j), τ' = 1 / √(2G), τ = 1 / √(2√G) for G
    levels (one level: σ exp(N / √P)); `elite` individuals pass unchanged.
    """

    uses_update = False

    def __init__(
        self,
        setting: Setting,
        /,
        *,
        population: Annotated[int, Ge(2), Le(100_000)] = 32,
        selection: Literal["truncation", "tournament", "fitness_weighted"] = "truncation",
        share: Annotated[float, Gt(0), Le(1)] = 0.25,
        tournament: Annotated[int, Ge(2), Le(100_000)] = 3,
        recombination: Literal["none", "uniform", "layer", "intermediate"] = "uniform",
        crossover: Annotated[float, Ge(0), Le(1)] = 0.75,
        sigma: Annotated[float, Gt(0)] = 0.02,
        adaptation: Literal["none", "global", "layer", "parameter"] = "none",
        elite: Annotated[int, Ge(0), Le(100_000)] = 1,
        downlink: Downlink = "fitness",
    ) -> None:
        super().__init__(setting, downlink)
        for option, low in (("elite", elite), ("tournament", tournament - 1)):
            if low >= population:
                said = f"{option} < population" if option == "elite" else f"{option} <= population"
                raise ConfigError(
                    f"[strategy] {option}: expected {said}, got {low + (option != 'elite')} and {population}. "
                    f"Lower {option}, or raise population."
                )
        if share * population < 1:
            raise ConfigError(
                f"[strategy] share: expected share * population >= 1, got {share} * {population}. "
                "Raise one of them: somebody must be a parent."
            )
        self.population, self.selection, self.parents = population, selection, int(share * population)
        self.tournament, self.recombination, self.crossover = tournament, recombination, crossover
        self.sigma, self.adaptation, self.elite = sigma, adaptation, elite

    def like(self, params: Tensors, work: str = "train") -> Tensors:
        """A reply is `fitness` [population]."""
        return {"fitness": next(iter(params.values())).new_empty(self.population)}

    def begin(self, params: Tensors) -> Tensors:
        """The first population: the first model, and mutations of it."""
        flat = flatten(params)
        first = [flat] + [
            flat + (self.sigma * self._normal(flat, 0, child, "mutation")) for child in range(1, self.population)
        ]
        levels = {"none": 0, "global": 1, "layer": len(params), "parameter": len(flat)}[self.adaptation]
        extra = prefixed("population/", unflatten(torch.stack(first), params))
        return extra | ({"sigma": flat.new_full((self.population, levels), self.sigma)} if levels else {})

    def sent(self, params: Tensors, extra: Tensors) -> tuple[Tensors, Tensors]:
        """Scoring needs the population alone."""
        return {}, {name: tensor for name, tensor in extra.items() if name != "sigma"}

    def answer(self, client: Client, extra: Tensors) -> Reply:
        """Score every individual on one minibatch."""
        fitness = client.task.fitness(group(extra, "population/"), client.shard, minibatch_seed(client))
        fitness = no_worse_than_finite(fitness)
        return Reply({"fitness": fitness}, {"fitness": float(fitness.max())}, {})

    def news(self, round: int, cohort: Cohort) -> Tensors:
        """The mean fitness [population]."""
        assert cohort.tensors is not None
        return cohort.tensors

    def step(self, round: int, params: Tensors, extra: Tensors, news: Tensors) -> tuple[Tensors, Tensors]:
        """Make the next generation; the best of this one is the model."""
        named, fitness = group(extra, "population/"), news["fitness"].double()
        matrix = torch.cat([tensor.reshape(self.population, -1) for tensor in named.values()], 1)
        ranked = torch.argsort(places(fitness), descending=True).tolist()
        children, levels = [], []
        for child in range(self.population):
            made, sigma = matrix[ranked[child % self.population]], extra.get("sigma")
            level = sigma[ranked[child]] if sigma is not None else None
            if child >= self.elite:
                made, level = self._child(round, child, params, matrix, sigma, fitness, ranked)
            children.append(made)
            levels.append(level)
        following = prefixed("population/", unflatten(torch.stack(children), params))
        if "sigma" in extra:
            following["sigma"] = torch.stack([level for level in levels if level is not None])
        return unflatten(matrix[ranked[0]], params), following

    def _child(
        self,
        round: int,
        child: int,
        params: Tensors,
        matrix: torch.Tensor,
        sigma: torch.Tensor | None,
        fitness: torch.Tensor,
        ranked: list[int],
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return one child [P] and its noise levels."""
        draws = uniforms(seed_for(self.setting.seed, "genetic", round, child, "parents"), 1 + 2 * self.tournament)
        first = self._parent(draws[1 : 1 + self.tournament], fitness, ranked)
        second = self._parent(draws[1 + self.tournament :], fitness, ranked)
        if self.recombination == "none" or draws[0] >= self.crossover:
            second = first
        made = self._mix(round, child, params, matrix[first], matrix[second])
        noise = self._normal(made, round, child, "mutation")
        if sigma is None:
            return made + (self.sigma * noise), None
        level = self._adapt(round, child, 0.5 * (sigma[first] + sigma[second]), len(made))
        wide = per_parameter(level, params) if self.adaptation == "layer" else level
        return made + (wide * noise), level

    def _parent(self, draws: np.ndarray, fitness: torch.Tensor, ranked: list[int]) -> int:
        """Return the index of a parent from uniform draws [tournament]."""
        if self.selection == "truncation":
            return ranked[int(draws[0] * self.parents)]
        if self.selection == "tournament":
            return ranked[min(int(u * self.population) for u in draws)]
        above = (fitness - fitness.min()).numpy()
        ends = np.cumsum(above if above.any() else np.ones_like(above))
        return int(min(np.searchsorted(ends, draws[0] * ends[-1], side="right"), self.population - 1))

    def _mix(self, round: int, child: int, params: Tensors, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Return the recombination [P] of two parents."""
        if self.recombination == "intermediate":
            return 0.5 * (first + second)
        seed = seed_for(self.setting.seed, "genetic", round, child, "mask")
        if self.recombination == "layer":
            bits = direction("rademacher", seed, torch.zeros(len(params)))
            mask = per_parameter(bits, params)
        else:
            mask = direction("rademacher", seed, first)
        return torch.where(mask > 0, first, second)

    def _adapt(self, round: int, child: int, level: torch.Tensor, count: int) -> torch.Tensor:
        """Return mutated noise levels [G]."""
        levels = len(level)
        noise = self._normal(level.new_zeros(levels + 1), round, child, "levels")
        if levels == 1:
            return level * torch.exp(noise[:1] / count**0.5)
        return level * torch.exp(noise[0] / (2 * levels) ** 0.5 + noise[1:] / (2 * levels**0.5) ** 0.5)

    def _normal(self, like: torch.Tensor, round: int, child: int, purpose: str) -> torch.Tensor:
        return direction("gaussian", seed_for(self.setting.seed, "genetic", round, child, purpose), like)
