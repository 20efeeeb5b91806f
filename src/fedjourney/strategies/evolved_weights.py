"""Aggregation weights found by CMA-ES.

References: Hansen and Ostermeier 2001, Completely Derandomized Self-Adaptation in Evolution Strategies; Hansen 2016,
The CMA Evolution Strategy: A Tutorial, https://arxiv.org/abs/1604.00772 (the package `cmaes` numbers its equations).

P parameters, m updates, λ candidates. Per client of the cohort and round P floats up and down, as FedAvg. Per member
of the committee and generation (1 + m) P + λ m floats down where m < λ, else λ P: members do not hold the others'
updates, and they see them, which ends secure aggregation; λ floats up.
"""

import importlib.util
from collections.abc import Sequence
from itertools import islice
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Gt, Le

from fedjourney.errors import ConfigError
from fedjourney.seeds import seed_for, shuffled
from fedjourney.strategies import Ask, Cohort, Rounds, Setting, update_of
from fedjourney.strategies._evolution import minibatch_seed, no_worse_than_finite
from fedjourney.strategies._replay import group, prefixed
from fedjourney.tasks import Task
from fedjourney.tensors import Tensors
from fedjourney.updates import Client, LocalUpdate, Reply, Work


class EvolvedWeights(Rounds):
    """Averaging whose weights on the simplex evolve (CMA-ES), scored by a rotating committee of clients.

    The round's model is x + Σ_i a_i Δ_i, a = softmax(α): α begins at ln(n_i / n) (FedAvg) plus what earlier rounds
    learned of client i, and evolves for `generations` of `population` candidates, one exchange with the committee
    each, by minus the loss on a minibatch of its training examples. The result is CMA-ES's mean. The committee are
    `committee` of those who answered, drawn anew each round. Needs the package `cmaes`: `pip install
    "fedjourney[evolution]"`.
    """

    evolution = True

    fold = None  # the search needs every update by itself

    def __init__(
        self,
        setting: Setting,
        /,
        *,
        population: Annotated[int, Ge(4), Le(10_000)] = 8,
        generations: Annotated[int, Ge(1), Le(10_000)] = 2,
        sigma: Annotated[float, Gt(0), Le(1000)] = 0.3,
        committee: Annotated[int, Ge(1), Le(1_000_000)] = 2,
    ) -> None:
        super().__init__()
        if importlib.util.find_spec("cmaes") is None:
            raise ConfigError(
                '[strategy] name: "evolved_weights" needs the package cmaes, which is not installed. '
                'Run `pip install "fedjourney[evolution]"`.'
            )
        if committee > setting.cohort:
            raise ConfigError(
                f"[strategy] committee: expected committee <= {setting.cohort} (clients of a cohort), got {committee}. "
                "Lower committee."
            )
        self.setting, self.population, self.generations = setting, population, generations
        self.sigma, self.committee = sigma, committee
        self._search: Any = None  # lives within a round: nothing of it is left when a round is committed
        self._updates: list[Tensors] = []
        self._clients: list[int] = []
        self._prior = np.zeros(0)
        self._asked = np.zeros((0, 0))
        self._left = 0

    def halves(self, task: Task, update: LocalUpdate | None) -> dict[str, LocalUpdate | Work]:
        """Clients run `[update]`; committees score candidates."""
        assert update is not None
        return {"train": update, "score": self._score}

    def like(self, params: Tensors, work: str = "train") -> Tensors:
        """An update per parameter, or `fitness` [population]."""
        if work == "train":
            return super().like(params)
        return {"fitness": next(iter(params.values())).new_empty(self.population)}

    def tell(self, round: int, params: Tensors, cohort: Cohort) -> Tensors | Ask:
        """After training, begin the search; after each scoring go on, until the generations are used up."""
        weights = np.array(cohort.metrics["num-examples"])
        if cohort.work == "train":
            self._updates, self._clients = [update_of(row) for row in cohort.rows], list(cohort.clients)
            if len(self._updates) == 1:
                return self._mixed(params, np.ones(1))
            learned = self.state.get("logits", torch.zeros(self.setting.clients, dtype=torch.float64))
            self._prior = np.log(np.maximum(weights, 1e-12) / max(weights.sum(), 1e-12))
            self._begin(round, self._prior + learned.numpy()[self._clients])
            return self._next(round, params)
        shares = weights / weights.sum()
        fitness = sum(s * row["fitness"].double().numpy() for s, row in zip(shares, cohort.rows, strict=True))
        self._search.tell([(one, -value) for one, value in zip(self._asked, fitness, strict=True)])
        if self._left:
            return self._next(round, params)
        logits = self.state.get("logits", torch.zeros(self.setting.clients, dtype=torch.float64)).clone()
        found = self._search.mean - self._prior
        logits[self._clients] = torch.from_numpy(found - found.mean())
        self.state = {"logits": logits}
        return self._mixed(params, _softmax(self._search.mean))

    def _begin(self, round: int, mean: np.ndarray) -> None:
        from cmaes import CMA

        seed = seed_for(self.setting.seed, "cmaes", round) % 2**32
        self._search = CMA(mean=mean, sigma=self.sigma, seed=seed, population_size=self.population)
        self._left = self.generations

    def _next(self, round: int, params: Tensors) -> Ask:
        """Return one generation's candidates, for the committee."""
        self._left -= 1
        self._asked = np.stack([self._search.ask() for _ in range(self.population)])
        weights = np.stack([_softmax(one) for one in self._asked])
        if len(self._updates) < self.population:
            stacked = {name: torch.stack([update[name] for update in self._updates]) for name in params}
            shared = params | prefixed("updates/", stacked) | {"weights": torch.from_numpy(weights)}
        else:
            models = [self._mixed(params, row) for row in weights]
            shared = prefixed("candidates/", {name: torch.stack([m[name] for m in models]) for name in params})
        order = shuffled(seed_for(self.setting.seed, "committee", round), self.setting.clients)
        answered = set(self._clients)
        members = sorted(islice((index for index in order if index in answered), self.committee))
        return Ask(shared, members, work="score")

    def _mixed(self, params: Tensors, weights: np.ndarray) -> Tensors:
        return _mixed(params, self._updates, weights.tolist())

    def _score(self, client: Client) -> Reply:
        """Return minus the loss of each candidate on one minibatch."""
        population = group(client.shared, "candidates/")
        if not population:
            stacked, weights = group(client.shared, "updates/"), client.shared["weights"].tolist()
            params = {name: client.shared[name] for name in stacked}
            updates = [{name: tensor[i] for name, tensor in stacked.items()} for i in range(len(weights[0]))]
            models = [_mixed(params, updates, row) for row in weights]
            population = {name: torch.stack([model[name] for model in models]) for name in params}
        fitness = no_worse_than_finite(client.task.fitness(population, client.shard, minibatch_seed(client)))
        return Reply({"fitness": fitness}, {"fitness": float(fitness.max())}, {})


def _softmax(logits: np.ndarray) -> np.ndarray:
    grown = np.exp(logits - logits.max())
    return grown / grown.sum()


def _mixed(params: Tensors, updates: Sequence[Tensors], weights: Sequence[float]) -> Tensors:
    """Return x + Σ a_i Δ_i, added in order of i."""
    mixed = dict(params)
    for weight, update in zip(weights, updates, strict=True):
        mixed = {name: tensor + (weight * update[name]) for name, tensor in mixed.items()}
    return mixed
