"""Averaging whose way down is sparse, too: the largest coordinates of each step, the rest waits at the server.

References: Tang et al. 2019, DoubleSqueeze: Parallel Stochastic Gradient Descent with Double-Pass Error-Compensated
Compression, https://arxiv.org/abs/1905.05957, Algorithm 1; Sattler et al. 2019, Robust and Communication-Efficient
Federated Learning from Non-IID Data, https://arxiv.org/abs/1903.02891, Algorithm 2 without its ternary coding, for
clients that bring themselves up to date. With the transform `topk` it is top-k with error feedback both ways.

Per sampled client and round, P parameters, k = share x P: up what the transforms make of P floats; down k floats, k
places (int32) and a round number for each round missed, and P floats once.
"""

from typing import Annotated

import torch
from annotated_types import Gt, Le

from fedjourney.strategies import Cohort, Setting, update_of
from fedjourney.strategies._evolution import Optimizer, climb, flatten, unflatten
from fedjourney.strategies._replay import Replayed
from fedjourney.tensors import Tensors
from fedjourney.updates import Client, Reply


class Sparse(Replayed):
    """Averaging that sends down the largest coordinates of each step; with [[transform]] topk, sparse both ways.

    The server steps by u = η mean(Δ) + e (or Adam's step on mean(Δ), + e), sends the k largest numbers of u and keeps
    the rest as its e: what is sent and e sum to all steps. Clients make the steps they missed. A local epoch or more
    makes it sparse FedAvg, `[task] steps = 1` sparse FedSGD. `share` = 1 is FedAvg.
    """

    evolution = False
    dense_down = False

    def __init__(
        self,
        setting: Setting,
        /,
        *,
        share: Annotated[float, Gt(0), Le(1)] = 0.01,
        error_feedback: bool = True,
        learning_rate: Annotated[float, Gt(0)] = 1.0,
        optimizer: Optimizer = "sgd",
    ) -> None:
        super().__init__(setting, "fitness")
        self.share, self.error_feedback = share, error_feedback
        self.learning_rate, self.optimizer = learning_rate, optimizer

    def like(self, params: Tensors, work: str = "train") -> Tensors:
        """An update per parameter, which transforms may encode."""
        return {f"update/{name}": tensor for name, tensor in params.items()}

    def answer(self, client: Client, extra: Tensors) -> Reply:
        """Train."""
        assert self.update is not None
        return client.train(self.update)

    def news(self, round: int, cohort: Cohort) -> Tensors:
        """The k largest numbers of the step: `values` and `places` [k], ties to the lowest place."""
        assert cohort.tensors is not None
        mean = flatten(update_of(cohort.tensors))
        mine = {name: tensor for name, tensor in self.state.items() if name.startswith("server/")}
        moments = {name.removeprefix("server/"): tensor for name, tensor in mine.items() if name != "server/error"}
        step, moments = climb(torch.zeros_like(mean), mean, moments, self.optimizer, self.learning_rate)
        if self.error_feedback and "server/error" in mine:
            step = step + mine["server/error"]
        k = max(1, int(self.share * step.numel() + 0.5))
        places = step.abs().argsort(descending=True, stable=True)[:k].sort().values
        mine = {f"server/{name}": tensor for name, tensor in moments.items()}
        if self.error_feedback:
            mine["server/error"] = step.index_fill(0, places, 0.0)
        self.state = self.state | mine
        return {"values": step[places], "places": places.to(torch.int32)}

    def step(self, round: int, params: Tensors, extra: Tensors, news: Tensors) -> tuple[Tensors, Tensors]:
        """Add the numbers where they belong."""
        flat = flatten(params)
        return unflatten(flat.index_add(0, news["places"].long(), news["values"]), params), {}
