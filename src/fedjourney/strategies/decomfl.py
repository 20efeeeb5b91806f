"""DeComFL: zeroth-order learning with seeds and scalars both ways.

Reference: Li et al. 2025, Achieving Dimension-Free Communication in Federated Learning via Zeroth-Order Optimization,
https://arxiv.org/abs/2405.15861, and the released code (central differences).

Per sampled client and round, K local steps, Q perturbations: up K Q floats; down K 64-bit seeds, and for each round
missed K seeds, K Q floats and a round number; P floats once (a late joiner: the history where it is less).
"""

from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Le, Lt

from fedjourney.seeds import seed_for
from fedjourney.strategies import Cohort, Setting
from fedjourney.strategies._evolution import Distribution, combine, direction, flatten, score, unflatten
from fedjourney.strategies._replay import Downlink, Replayed
from fedjourney.tensors import Tensors
from fedjourney.updates import Client, Reply


class DeComFL(Replayed):
    """DeComFL: clients send loss slopes along seeded directions, and replay the steps of the rounds they missed.

    Local step k: g_q = (f(x + μ z_q) - f(x - μ z_q)) / 2μ ("central"; "forward": (f(x + μ z_q) - f(x)) / μ), then
    v ← m v + (1 / Q) Σ_q g_q z_q and x ← x - η v; afterwards the client is back at where it was. The server makes
    the same K steps with the mean slopes. Without momentum that is the mean of the clients' own local models.

    Options: `clip` bounds each |g| (0: no bound), so that one client cannot move the model by much.
    """

    uses_update = False

    def __init__(
        self,
        setting: Setting,
        /,
        *,
        perturbations: Annotated[int, Ge(1), Le(100_000)] = 10,
        local_steps: Annotated[int, Ge(1), Le(100_000)] = 1,
        smoothing: Annotated[float, Gt(0)] = 1e-3,
        difference: Literal["central", "forward"] = "central",
        learning_rate: Annotated[float, Gt(0)] = 0.001,
        momentum: Annotated[float, Ge(0), Lt(1)] = 0.0,
        clip: Annotated[float, Ge(0)] = 0.0,
        noise: Distribution = "rademacher",
        downlink: Downlink = "fitness",
    ) -> None:
        super().__init__(setting, downlink)
        self.perturbations, self.local_steps, self.smoothing = perturbations, local_steps, smoothing
        self.difference, self.learning_rate, self.momentum = difference, learning_rate, momentum
        self.clip, self.noise = clip, noise

    def like(self, params: Tensors, work: str = "train") -> Tensors:
        """A reply is `slopes` [local steps, perturbations]."""
        return {"slopes": next(iter(params.values())).new_empty(self.local_steps, self.perturbations)}

    def begin(self, params: Tensors) -> Tensors:
        """Momentum starts at zero."""
        return {"velocity": torch.zeros_like(flatten(params))} if self.momentum else {}

    def sent(self, params: Tensors, extra: Tensors) -> tuple[Tensors, Tensors]:
        """Local steps need the velocity."""
        return params, extra

    def today(self, round: int) -> Tensors:
        """This round's seeds [local steps]."""
        seeds = [seed_for(self.setting.seed, "decomfl", round, k) for k in range(self.local_steps)]
        return {"seeds": torch.tensor(seeds)}

    def _directions(self, seed: int, flat: torch.Tensor) -> list[torch.Tensor]:
        return [direction(self.noise, seed_for(seed, "perturbation", q), flat) for q in range(self.perturbations)]

    def _move(
        self, flat: torch.Tensor, extra: Tensors, directions: list[torch.Tensor], slopes: torch.Tensor
    ) -> tuple[torch.Tensor, Tensors]:
        """One step: what a client does locally, the server does with the means, and who replays does."""
        move = combine(slopes / self.perturbations, directions, flat)
        if self.momentum:
            move = self.momentum * extra["velocity"] + move
        return flat + (-self.learning_rate * move), {"velocity": move} if self.momentum else {}

    def _slopes(self, client: Client, flat: torch.Tensor, directions: list[torch.Tensor], number: int) -> torch.Tensor:
        """Return the slopes [perturbations] of the loss on one minibatch."""
        count = self.perturbations
        ahead, behind = [flat + (self.smoothing * z) for z in directions], [flat]
        if self.difference == "central":
            behind = [flat - (self.smoothing * z) for z in directions]
        candidates = ahead + behind
        losses = -score(client, candidates.__getitem__, len(candidates), client.shared, number)
        width = 2 * self.smoothing if self.difference == "central" else self.smoothing
        slopes = (losses[:count] - losses[count:]) / width
        return slopes.clamp(-self.clip, self.clip) if self.clip else slopes

    def answer(self, client: Client, extra: Tensors) -> Reply:
        """Take the local steps; what they came to is forgotten, the slopes are sent."""
        flat, found = flatten(client.shared), []
        for number, seed in enumerate(client.row["seeds"].tolist()):
            directions = self._directions(seed, flat)
            found.append(self._slopes(client, flat, directions, number))
            flat, extra = self._move(flat, extra, directions, found[-1])
        return Reply({"slopes": torch.stack(found)}, {"slope": float(torch.stack(found).abs().mean())}, {})

    def news(self, round: int, cohort: Cohort) -> Tensors:
        """Seeds [local steps] and mean slopes [local steps, perturbations]."""
        assert cohort.tensors is not None
        return self.today(round) | cohort.tensors

    def step(self, round: int, params: Tensors, extra: Tensors, news: Tensors) -> tuple[Tensors, Tensors]:
        """Make the round's steps with the mean slopes."""
        flat = flatten(params)
        for seed, slopes in zip(news["seeds"].tolist(), news["slopes"], strict=True):
            flat, extra = self._move(flat, extra, self._directions(seed, flat), slopes)
        return unflatten(flat, params), extra
