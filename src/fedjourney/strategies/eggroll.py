"""EGGROLL: evolution with perturbations of low rank.

Reference: Sarkar et al. 2025, Evolution Strategies at the Hyperscale, https://arxiv.org/abs/2511.16652, and
the released code for its scale (σ in the step, no 1/σ; √N).

Per sampled client and round, P parameters, n = population / 2 pairs: up 2n floats (z-scores need both sides); down P
floats, or with `downlink = "fitness"` n floats and a round number for each round missed, and P floats once.
"""

import inspect
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le

from fedjourney.noise import gaussian
from fedjourney.seeds import seed_for
from fedjourney.strategies import Cohort, Setting
from fedjourney.strategies._evolution import (
    Optimizer,
    Population,
    Utility,
    climb,
    flatten,
    minibatch_seed,
    no_worse_than_finite,
    score_pairs,
    shaped,
    unflatten,
)
from fedjourney.strategies._low_rank import low_rank
from fedjourney.strategies._replay import Downlink, Replayed, group
from fedjourney.tensors import Tensors
from fedjourney.updates import Client, Reply


class EGGROLL(Replayed):
    """EGGROLL: evolution whose candidates differ from the model by matrices of rank r, never built in full.

    A matrix W [a, b] is perturbed by ± (σ / √r) A Bᵀ with A [a, r], B [b, r] normal (a convolution's filters count as
    rows); vectors get normal noise. Linear and convolution layers compute x Wᵀ ± (σ / √r)(x B) Aᵀ; the server adds
    all candidates' parts as one product of [a, n r] and [n r, b]. Fitness is z-scored over the population, with the
    mean over clients taken first; the step is √N mean_i(f_i (± σ / √r) A_i B_iᵀ) over N candidates, so that σ, √N and
    `learning_rate` are one knob under "sgd". Noise is new each round.

    Tasks whose `fitness` takes no `build` (see `tasks/_prediction.py`), and layers other than linear and ungrouped
    two-dimensional convolutions, get the full matrices, a chunk of candidates at a time.
    """

    uses_update = False

    def __init__(
        self,
        setting: Setting,
        /,
        *,
        population: Population = 64,
        sigma: Annotated[float, Gt(0)] = 0.05,
        rank: Annotated[int, Ge(1), Le(1_024)] = 1,
        learning_rate: Annotated[float, Gt(0)] = 0.05,
        optimizer: Optimizer = "adam",
        utility: Utility = "z_scores",
        downlink: Downlink = "model",
    ) -> None:
        super().__init__(setting, downlink)
        self.pairs, self.sigma, self.rank = population // 2, sigma, rank
        self.learning_rate, self.optimizer, self.utility = learning_rate, optimizer, utility

    def like(self, params: Tensors, work: str = "train") -> Tensors:
        """A reply is `fitness` [2, pairs]."""
        return {"fitness": next(iter(params.values())).new_empty(2, self.pairs)}

    def _factors(self, round: int, pair: int, params: Tensors) -> Tensors:
        """Return `left/…` [a, r] / √r and `right/…` [b, r] for matrices, `full/…` for vectors."""
        shapes = {}
        for name, tensor in params.items():
            if tensor.dim() < 2:
                shapes[f"full/{name}"] = tensor
            else:
                shapes[f"left/{name}"] = tensor.new_empty(len(tensor), self.rank)
                shapes[f"right/{name}"] = tensor.new_empty(tensor[0].numel(), self.rank)
        drawn = gaussian(seed_for(self.setting.seed, "directions", round, pair), shapes)
        return {name: t / self.rank**0.5 if name.startswith("left/") else t for name, t in drawn.items()}

    def _stacked(self, round: int, params: Tensors) -> Tensors:
        """Return the factors of all pairs [pairs, …]."""
        each = [self._factors(round, pair, params) for pair in range(self.pairs)]
        return {name: torch.stack([one[name] for one in each]) for name in each[0]}

    def _full(self, round: int, pair: int, params: Tensors) -> torch.Tensor:
        """Return one pair's direction [P], built."""
        factors = self._factors(round, pair, params)
        parts = [
            factors[f"full/{name}"] if tensor.dim() < 2 else factors[f"left/{name}"] @ factors[f"right/{name}"].mT
            for name, tensor in params.items()
        ]
        return torch.cat([part.reshape(-1) for part in parts])

    def answer(self, client: Client, extra: Tensors) -> Reply:
        """Score the candidates on one minibatch."""
        params = client.shared
        if "build" in inspect.signature(client.task.fitness).parameters:
            fitness = self._score(client)
        else:
            fitness = score_pairs(
                client, params, lambda pair: self.sigma * self._full(client.round, pair, params), self.pairs
            )
        return Reply({"fitness": fitness}, {"fitness": float(fitness.mean())}, {})

    def _score(self, client: Client) -> torch.Tensor:
        """Return fitness [2, pairs] without building a matrix."""
        params, factors = client.shared, self._stacked(client.round, client.shared)

        def build(candidate: Tensors) -> Tensors:
            return {
                name: tensor + candidate[f"full/{name}"]
                if tensor.dim() < 2
                else low_rank(tensor, candidate[f"left/{name}"], candidate[f"right/{name}"])
                for name, tensor in params.items()
            }

        sides = []
        for sign in (self.sigma, -self.sigma):
            candidates = {name: t if name.startswith("right/") else sign * t for name, t in factors.items()}
            scored = client.task.fitness(candidates, client.shard, minibatch_seed(client), build=build)  # type: ignore[call-arg]
            sides.append(scored)
        return no_worse_than_finite(torch.stack(sides))

    def news(self, round: int, cohort: Cohort) -> Tensors:
        """The weights [pairs] of the directions."""
        assert cohort.tensors is not None
        fitness = cohort.tensors["fitness"]
        up, down = shaped(fitness.flatten(), self.utility).view(2, self.pairs)
        return {"weights": ((up - down) * self.sigma / (2 * self.pairs) ** 0.5).to(fitness.dtype)}

    def step(self, round: int, params: Tensors, extra: Tensors, news: Tensors) -> tuple[Tensors, Tensors]:
        """Add up the directions, factor by factor, step uphill."""
        factors, weights, estimate = self._stacked(round, params), news["weights"], {}
        left, right, full = (group(factors, prefix) for prefix in ("left/", "right/", "full/"))
        for name, tensor in params.items():
            if tensor.dim() < 2:
                estimate[name] = (weights.reshape(-1, *[1] * tensor.dim()) * full[name]).sum(0)
            else:
                weighted = (weights[:, None, None] * left[name]).transpose(0, 1).flatten(1)  # [a, n r]
                estimate[name] = (weighted @ right[name].transpose(0, 1).flatten(1).mT).reshape(tensor.shape)
        self.uphill = flatten(estimate)
        moved, extra = climb(flatten(params), self.uphill, extra, self.optimizer, self.learning_rate)
        return unflatten(moved, params), extra
