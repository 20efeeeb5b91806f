"""Evolutionary stochastic gradient descent over clients.

Reference: Cui et al. 2018, Evolutionary Stochastic Gradient Descent for Optimization of Deep Neural Networks,
https://arxiv.org/abs/1810.06773, Algorithm 1 (back-off, (μ/ρ + λ) evolution, m-elitism).

P parameters, M individuals, λ offspring, G generations. Per client of the cohort and round P floats down and up (one
individual each). Per client of the panel 2 M P floats down and 2 M up for the back-off, then per generation M P
floats, λ seeds and λ ρ numbers of parents down, M + λ floats up: offspring are made again from their seeds.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le

from fedjourney.errors import ConfigError
from fedjourney.seeds import permutation, seed_for, shuffled, uniforms
from fedjourney.strategies import Ask, Cohort, Rounds, Setting, update_of
from fedjourney.strategies._evolution import direction, flatten, no_worse_than_finite, places, unflatten
from fedjourney.strategies._replay import group, prefixed
from fedjourney.tasks import Task
from fedjourney.tensors import Tensors, add_scaled
from fedjourney.updates import Client, LocalUpdate, Reply, Work


class ESGD(Rounds):
    """Hybrid: a population that clients train, with back-off, and that evolves; its best fitness never gets worse.

    A round: every client of the cohort trains one individual; each individual steps along the mean of its updates and
    goes back where that made it worse; then `generations` of recombination (the mean of `parents` individuals),
    normal mutation and selection: the `elite` best of parents and offspring, the rest drawn from the others.

    Fitness is that of a fixed panel of `panel` clients on one fixed minibatch each, or nothing would be monotone (with
    the panel complete: a scorer that fails changes the measure, never who is compared with whom).
    """

    evolution = True

    fold = None  # individuals are averaged apart

    def __init__(
        self,
        setting: Setting,
        /,
        *,
        population: Annotated[int, Ge(1), Le(10_000)] = 4,
        offspring: Annotated[int, Ge(1), Le(10_000)] = 8,
        parents: Annotated[int, Ge(1), Le(10_000)] = 2,
        elite: Annotated[int, Ge(1), Le(10_000)] = 2,
        generations: Annotated[int, Ge(0), Le(10_000)] = 1,
        sigma: Annotated[float, Gt(0)] = 0.01,
        panel: Annotated[int, Ge(1), Le(1_000_000)] = 4,
    ) -> None:
        super().__init__()
        for option, value, most, what in (
            ("elite", elite, population, "population"),
            ("parents", parents, population, "population"),
            ("panel", panel, setting.clients, "clients of [partition]"),
            ("population", population, setting.cohort, "clients of a cohort"),
        ):
            if value > most:
                raise ConfigError(
                    f"[strategy] {option}: expected {option} <= {most} ({what}), got {value}. Lower {option}."
                )
        self.setting, self.population, self.offspring, self.parents = setting, population, offspring, parents
        self.elite, self.generations, self.sigma = elite, generations, sigma
        self.panel = sorted(islice(shuffled(seed_for(setting.seed, "fitness panel"), setting.clients), panel))
        self._matrix = torch.empty(0)  # [M, P], the population as the round goes on
        self._trained = torch.empty(0)
        self._generation = 0

    def halves(self, task: Task, update: LocalUpdate | None) -> dict[str, LocalUpdate | Work]:
        """Clients train the individual in their row, or score."""
        assert update is not None

        def train(client: Client) -> Reply:
            return replace(client, shared=client.row, row={}).train(update)

        return {"train": train, "score": self._score}

    def like(self, params: Tensors, work: str = "train") -> Tensors:
        """An update per parameter, or `fitness` of everyone scored."""
        if work == "train":
            return super().like(params)
        count = self.population + (self.offspring if self._generation else self.population)
        return {"fitness": next(iter(params.values())).new_empty(count)}

    def ask(self, round: int, params: Tensors, clients: Sequence[int]) -> Ask:
        """Give each client of the cohort one individual to train, by turns."""
        flat = flatten(params)
        if stored := group(self.state, "population/"):
            self._matrix = torch.cat([tensor.reshape(self.population, -1) for tensor in stored.values()], 1)
        else:
            first = [self._mutated(flat, seed_for(self.setting.seed, "individual", j)) for j in range(self.population)]
            self._matrix = torch.stack([flat, *first[1:]])
        self._generation = 0
        rows = [unflatten(self._matrix[self._turn(round, place)], params) for place in range(len(clients))]
        return Ask({}, clients, rows)

    def _turn(self, round: int, place: int) -> int:
        """Return which individual the client at a place of the cohort trains."""
        return (round + place) % self.population

    def _mutated(self, flat: torch.Tensor, seed: int) -> torch.Tensor:
        return flat + (self.sigma * direction("gaussian", seed, flat))

    def _bred(self, matrix: torch.Tensor, parents: torch.Tensor, seed: int) -> torch.Tensor:
        """Return one child [P]: the mean of its parents, mutated. Server and scorers make the same."""
        total = matrix[int(parents[0])]
        for parent in parents[1:].tolist():
            total = total + matrix[parent]
        return self._mutated(total / len(parents), seed)

    def _score(self, client: Client) -> Reply:
        """Return the fitness of individuals and of their offspring on this client's fixed minibatch.

        One at a time: in lanes the same model's loss may differ in its last bit from one place to another.
        """
        named = group(client.shared, "individuals/")
        like = {name: tensor[0] for name, tensor in named.items()}
        matrix = torch.cat([tensor.reshape(len(tensor), -1) for tensor in named.values()], 1)
        everyone = list(matrix)
        if "seeds" in client.shared:
            pairs = zip(client.shared["parents"], client.shared["seeds"].tolist(), strict=True)
            everyone += [self._bred(matrix, parents, seed) for parents, seed in pairs]
        seed = seed_for(client.seed, "fitness", client.index)
        fitness = torch.cat(
            [client.task.fitness(unflatten(one.unsqueeze(0), like), client.shard, seed) for one in everyone]
        )
        fitness = no_worse_than_finite(fitness)
        return Reply({"fitness": fitness}, {"fitness": float(fitness.max())}, {})

    def tell(self, round: int, params: Tensors, cohort: Cohort) -> Tensors | Ask:
        """Training, then the back-off, then the generations, each scored by an exchange with the panel."""
        if cohort.work == "train":
            self._trained = self._step(round, params, cohort)
            return Ask(_stacked(torch.cat([self._matrix, self._trained]), params), self.panel, work="score")
        weights = cohort.metrics["num-examples"]
        total = torch.zeros(len(cohort.rows[0]["fitness"]), dtype=torch.float64)
        for weight, row in zip(weights, cohort.rows, strict=True):
            total = total + (weight / sum(weights)) * row["fitness"].double()
        fitness = self._back_off(total) if self._generation == 0 else self._select(round, total)
        if self._generation < self.generations:
            self._generation += 1
            shared = _stacked(self._matrix, params) | self._offspring(round)
            return Ask(shared, self.panel, work="score")
        best = int(places(fitness).argmax())
        self.state = prefixed("population/", unflatten(self._matrix, params)) | {"fitness": fitness}
        return unflatten(self._matrix[best], params)

    def _step(self, round: int, params: Tensors, cohort: Cohort) -> torch.Tensor:
        """Return every individual after the mean update of those who trained it [M, P]."""
        places_ = {client: place for place, client in enumerate(cohort.asked)}
        weights, trained = cohort.metrics["num-examples"], []
        for individual in range(self.population):
            mine = [
                (weight, row)
                for client, weight, row in zip(cohort.clients, weights, cohort.rows, strict=True)
                if self._turn(round, places_[client]) == individual
            ]
            model = unflatten(self._matrix[individual], params)
            for weight, row in mine:
                model = add_scaled(model, update_of(row), weight / sum(w for w, _ in mine))
            trained.append(flatten(model))
        return torch.stack(trained)

    def _back_off(self, fitness: torch.Tensor) -> torch.Tensor:
        """Keep a trained individual only where it is better; return the fitness of those kept [M]."""
        before, after = fitness[: self.population], fitness[self.population :]
        better = after > before
        self._matrix = torch.where(better.unsqueeze(1), self._trained, self._matrix)
        return torch.where(better, after, before)

    def _offspring(self, round: int) -> Tensors:
        """Return the parents [λ, ρ] and seeds [λ] of this generation's offspring."""
        seed = self.setting.seed
        seeds = [seed_for(seed, "offspring", round, self._generation, child) for child in range(self.offspring)]
        draws = [uniforms(seed_for(one, "parents"), self.parents) for one in seeds]
        parents = [[int(u * self.population) for u in row] for row in draws]
        return {"parents": torch.tensor(parents, dtype=torch.int32), "seeds": torch.tensor(seeds)}

    def _select(self, round: int, fitness: torch.Tensor) -> torch.Tensor:
        """Keep the elite of parents and offspring, and others drawn from the rest; return their fitness [M]."""
        plan = self._offspring(round)
        bred = [self._bred(self._matrix, p, s) for p, s in zip(plan["parents"], plan["seeds"].tolist(), strict=True)]
        everyone = torch.cat([self._matrix, torch.stack(bred)])
        ranked = torch.argsort(places(fitness), descending=True)
        rest = ranked[self.elite :]
        drawn = permutation(seed_for(self.setting.seed, "survivors", round, self._generation), len(rest))
        kept = torch.cat([ranked[: self.elite], rest[torch.from_numpy(drawn[: self.population - self.elite])]])
        self._matrix = everyone[kept]
        return fitness[kept]


def _stacked(matrix: torch.Tensor, params: Tensors) -> Tensors:
    return prefixed("individuals/", unflatten(matrix, params))
