"""A local method first, a global one after.

Reference: Hou et al. 2022, FedChain: Chained Algorithms for Near-Optimal Communication Cost in Federated Learning,
https://arxiv.org/abs/2108.06869, Algorithm 1 with FedAvg and then SGD (FedAvg → SGD) or its accelerated form.

Per sampled client and round P floats up, P floats down; once, for the selection, 2 P floats down and 2 up.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Le, Lt

from fedjourney.strategies import Ask, Cohort, Rounds, Setting, update_of
from fedjourney.strategies._adaptive import adam
from fedjourney.strategies._evolution import flatten, score
from fedjourney.strategies._local import group, shard_gradient, under
from fedjourney.tasks import Task
from fedjourney.tensors import Tensors, add_scaled
from fedjourney.updates import Client, LocalUpdate, Reply, Work


class FedChain(Rounds):
    """FedAvg up to a round, then FedSGD from the better of what it found and the start, by a sample of clients.

    Local steps are quick while far away and stall where clients disagree; gradients of everybody's mean loss do not.
    After the first round from `switch` on that counts, its cohort scores the first model and the averaged one on
    `selection_batches` minibatches each; the better by the mean fitness is gone on with, the first one in a tie.

    Args:
        setting: not needed.
        switch: rounds of FedAvg.
        server_learning_rate: FedAvg's.
        learning_rate: of the gradient rounds.
        optimizer: of the gradient rounds; accelerated is Nesterov's momentum.
        momentum: of accelerated.
        selection_batches: minibatches of a client's shard that the selection looks at.
    """

    def __init__(
        self,
        setting: Setting,
        /,
        *,
        switch: Annotated[int, Ge(1), Le(1_000_000_000)] = 20,
        server_learning_rate: Annotated[float, Gt(0)] = 1.0,
        learning_rate: Annotated[float, Gt(0)] = 0.1,
        optimizer: Literal["sgd", "accelerated", "adam"] = "sgd",
        momentum: Annotated[float, Ge(0), Lt(1)] = 0.9,
        selection_batches: Annotated[int, Ge(1), Le(10_000)] = 4,
    ) -> None:
        super().__init__()
        self.switch, self.server_learning_rate = switch, server_learning_rate
        self.learning_rate, self.optimizer, self.momentum = learning_rate, optimizer, momentum
        self.selection_batches = selection_batches
        self._averaged: Tensors = {}  # while it is being scored

    def halves(self, task: Task, update: LocalUpdate | None) -> dict[str, LocalUpdate | Work]:
        """Clients run `[update]`, or score two models, or answer minus the gradient of their shard's mean loss."""
        assert update is not None
        return {"train": update, "select": self._score, "gradient": shard_gradient(task)}

    def ask(self, round: int, params: Tensors, clients: Sequence[int]) -> Ask:
        """Ask for local training until the selection was made, then for gradients."""
        if "selected" in self.state:
            return Ask(params, clients, work="gradient")
        if not group("first", self.state):
            self.state = self.state | under("first", params)
        return Ask(params, clients)

    def like(self, params: Tensors, work: str = "train") -> Tensors:
        """An update per parameter, or `fitness` [2]."""
        if work == "select":
            return {"fitness": next(iter(params.values())).new_empty(2)}
        return super().like(params)

    def _score(self, client: Client) -> Reply:
        """Return the mean fitness of the first model and of the averaged one."""
        first, averaged = group("first", client.shared), group("averaged", client.shared)
        both, total = (flatten(first), flatten(averaged)), torch.zeros(2, dtype=torch.float64)
        for number in range(self.selection_batches):
            total = total + score(client, both.__getitem__, 2, first, number) / self.selection_batches
        return Reply({"fitness": total.to(both[0].dtype)}, {"fitness": float(total[1])}, {})

    def tell(self, round: int, params: Tensors, cohort: Cohort) -> Tensors | Ask:
        """Average, at the switch select, then step downhill."""
        assert cohort.tensors is not None
        if cohort.work == "select":
            start = group("first", self.state)
            first, averaged = cohort.tensors["fitness"].tolist()
            self.state = {"selected": torch.ones((), dtype=torch.int64)}
            return self._averaged if averaged > first else {name: start[name] for name in params}
        moved = update_of(cohort.tensors)
        if cohort.work == "gradient":
            return add_scaled(params, self._direction(moved), self.learning_rate)
        stepped = add_scaled(params, moved, self.server_learning_rate)
        if round < self.switch:
            return stepped
        self._averaged = stepped
        return Ask(
            under("first", group("first", self.state)) | under("averaged", stepped), cohort.clients, None, "select"
        )

    def _direction(self, downhill: Tensors) -> Tensors:
        if self.optimizer == "sgd":
            return downhill
        if self.optimizer == "adam":
            mine, kept = {n: t for n, t in self.state.items() if n != "selected"}, self.state["selected"]
            found, mine = adam(mine, downhill)
            self.state = mine | {"selected": kept}
            return found
        speed = {n: g + self.momentum * self.state.get(f"speed/{n}", torch.zeros_like(g)) for n, g in downhill.items()}
        self.state = self.state | under("speed", speed)
        return {name: g + self.momentum * speed[name] for name, g in downhill.items()}
