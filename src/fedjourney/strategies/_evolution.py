"""What the evolution strategies share: noise directions, scoring, shaping of fitness, the server's optimiser.

Everything works on flat vectors [P]: the parameters one after the other, in the order of their names on the wire.
"""

import math
from collections.abc import Callable, Iterable
from typing import Annotated, Literal, TypeAlias

import torch
from annotated_types import Ge, Le, MultipleOf

from fedjourney import noise
from fedjourney.memo import Memo
from fedjourney.seeds import seed_for
from fedjourney.tensors import Tensors
from fedjourney.updates import Client

Population: TypeAlias = Annotated[int, Ge(2), Le(1_000_000), MultipleOf(2)]
"""Candidates a round, in antithetic pairs."""
Distribution: TypeAlias = Literal["rademacher", "gaussian"]
Optimizer: TypeAlias = Literal["sgd", "adam"]
Utility: TypeAlias = Literal["ranks", "z_scores", "raw"]

CHUNK = 16  # candidates held at once
_drawn: Memo[torch.Tensor] = Memo(32 * 2**20, lambda drawn: drawn.nbytes)  # clients of a round share its directions


def flatten(tensors: Tensors) -> torch.Tensor:
    """Return one vector [P]."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors.values()])


def unflatten(flat: torch.Tensor, like: Tensors) -> Tensors:
    """Return tensors of their own memory, shaped like `like`; leading axes of `flat` [..., P] are kept."""
    found, start = {}, 0
    for name, tensor in like.items():
        part = flat[..., start : start + tensor.numel()]
        found[name] = part.reshape((*flat.shape[:-1], *tensor.shape)).clone()
        start += tensor.numel()
    return found


def per_parameter(levels: torch.Tensor, like: Tensors) -> torch.Tensor:
    """Return one number for each parameter [P] from one for each tensor [layers]."""
    return torch.cat([level.expand(tensor.numel()) for level, tensor in zip(levels, like.values(), strict=True)])


def direction(kind: Distribution, seed: int, flat: torch.Tensor) -> torch.Tensor:
    """Return shared noise [P]: ±1, or N(0, 1). Many ask for the same: it must not be changed in place."""
    draw = noise.rademacher if kind == "rademacher" else noise.gaussian
    key = (kind, seed, len(flat), flat.dtype, flat.device)
    return _drawn.get(key, lambda: draw(seed, {"": flat})[""])


def combine(weights: torch.Tensor, directions: Iterable[torch.Tensor], like: torch.Tensor) -> torch.Tensor:
    """Return Σ_j w_j z_j [P], added in order of j: the same bits wherever it is replayed."""
    total = torch.zeros_like(like)
    for weight, one in zip(weights.tolist(), directions, strict=True):
        total = total + (weight * one)
    return total


def centred_ranks(fitness: torch.Tensor) -> torch.Tensor:
    """Return ranks scaled to [-0.5, 0.5], ties by position; NaN counts as the worst. [M] -> [M].

    >>> centred_ranks(torch.tensor([3.0, 1.0, 2.0])).tolist()
    [0.5, -0.5, 0.0]
    """
    ranks = places(fitness).to(torch.float64)
    return ranks / max(len(fitness) - 1, 1) - 0.5


def places(fitness: torch.Tensor) -> torch.Tensor:
    """Return each candidate's place, 0 = the worst, ties by position; NaN counts as the worst. [M] -> [M] int64."""
    order = torch.argsort(torch.nan_to_num(fitness, nan=-torch.inf), stable=True)
    found = torch.empty(len(fitness), dtype=torch.int64)
    found[order] = torch.arange(len(fitness))
    return found


def z_scores(fitness: torch.Tensor) -> torch.Tensor:
    """Return (f - mean) / √(var + 1e-5), the population's variance. [M] -> [M] float64."""
    centred = fitness.double() - fitness.double().mean()
    return centred / ((centred * centred).mean() + 1e-5).sqrt()


def shaped(fitness: torch.Tensor, utility: Utility) -> torch.Tensor:
    """Return the fitness as the search sees it. [M] -> [M] float64."""
    if utility == "ranks":
        return centred_ranks(fitness)
    return z_scores(fitness) if utility == "z_scores" else fitness.double()


def utilities(fitness: torch.Tensor) -> torch.Tensor:
    """Return natural evolution strategies' utilities, which sum to 0. [M] -> [M] float64.

    u of the i-th best = max(0, ln(M/2 + 1) - ln i) / Σ - 1/M (Wierstra et al. 2014, https://arxiv.org/abs/1106.4487).
    """
    count = len(fitness)
    ranks = torch.arange(count, 0, -1, dtype=torch.float64)  # the worst is M-th
    raw = (torch.log(torch.tensor(count / 2 + 1, dtype=torch.float64)) - torch.log(ranks)).clamp(min=0)
    return (raw / raw.sum() - 1 / count)[places(fitness)]


def pair_weights(fitness: torch.Tensor, utility: Utility, sigma: float) -> torch.Tensor:
    """Return (u⁺ - u⁻) / 2n of n pairs, over σ where the utility is raw. [2, n] -> [n]."""
    pairs = fitness.shape[1]
    up, down = shaped(fitness.flatten(), utility).view(2, pairs)
    return ((up - down) / (2 * pairs * (sigma if utility == "raw" else 1))).to(fitness.dtype)


def along(vector: torch.Tensor, directions: Iterable[torch.Tensor]) -> torch.Tensor:
    """Return ⟨z_j, vector⟩ for each direction [P], summed in float64. [P] -> [n]."""
    return torch.stack([(one.double() * vector.double()).sum() for one in directions]).to(vector.dtype)


def minibatch_seed(client: Client, number: int = 0) -> int:
    """Return the seed of a client's minibatch in this round: all candidates of one scoring share it."""
    return seed_for(client.seed, "batches", client.round, client.index, number)


def score(
    client: Client, candidate: Callable[[int], torch.Tensor], count: int, like: Tensors, number: int = 0
) -> torch.Tensor:
    """Return the fitness [count] of candidates [P] given one by one, a chunk of them at once in memory."""
    found, seed = [], minibatch_seed(client, number)
    for first in range(0, count, CHUNK):
        stacked = torch.stack([candidate(j) for j in range(first, min(first + CHUNK, count))])
        found.append(client.task.fitness(unflatten(stacked, like), client.shard, seed))
    return no_worse_than_finite(torch.cat(found)).cpu()


def no_worse_than_finite(fitness: torch.Tensor) -> torch.Tensor:
    """Return the fitness with what is not finite set just below the worst that is: a wild candidate costs no reply.

    Below it, for else a wild candidate beside a single sound one would be as good; and only just, for strategies
    that weigh by fitness would go by the difference.
    """
    if math.isfinite(float(fitness.sum())):  # then all are, as almost always
        return fitness
    finite = torch.isfinite(fitness)
    if not bool(finite.any()):
        return fitness
    worst = fitness[finite].min()
    below = (worst - 1e-5 * worst.abs().clamp(min=1.0)).clamp(min=torch.finfo(fitness.dtype).min)
    return torch.where(finite, fitness, below)


def score_pairs(
    client: Client, params: Tensors, offset: Callable[[int], torch.Tensor], pairs: int, number: int = 0
) -> torch.Tensor:
    """Return fitness [2, pairs]: row 0 for θ + offset, row 1 for θ - offset, on one common minibatch."""
    flat, found, seed = flatten(params), [], minibatch_seed(client, number)
    for first in range(0, pairs, CHUNK):
        offsets = torch.stack([offset(pair) for pair in range(first, min(first + CHUNK, pairs))])
        both = unflatten(torch.cat([flat + offsets, flat - offsets]), params)
        found.append(client.task.fitness(both, client.shard, seed).view(2, -1))
    return no_worse_than_finite(torch.cat(found, 1)).cpu()


def climb(
    flat: torch.Tensor,
    gradient: torch.Tensor,
    extra: Tensors,
    optimizer: Optimizer,
    learning_rate: float,
    weight_decay: float = 0.0,
) -> tuple[torch.Tensor, Tensors]:
    """Return parameters [P] one step uphill, and the optimiser's state.

    Adam is Kingma and Ba 2015, Algorithm 1, β = (0.9, 0.999), ε = 1e-8; `extra` holds `m`, `v` [P] and `step` [1].
    """
    if weight_decay:
        gradient = gradient + (-weight_decay * flat)
    if optimizer == "sgd":
        return flat + (learning_rate * gradient), {}
    step = extra.get("step", torch.zeros(1, dtype=torch.int64)) + 1
    count = int(step)
    m = 0.9 * extra.get("m", torch.zeros_like(flat)) + 0.1 * gradient
    v = 0.999 * extra.get("v", torch.zeros_like(flat)) + 0.001 * (gradient * gradient)
    move = (m / (1 - 0.9**count)) / ((v / (1 - 0.999**count)).sqrt() + 1e-8)
    return flat + (learning_rate * move), {"m": m, "v": v, "step": step}
