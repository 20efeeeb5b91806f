"""Flower strategies as somebody else may write them, named in configs as `"flowers:Patient"` and so on."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg, FedAvgM


class Forgetful(FedAvg):
    """Says nothing about its memory."""

    def __init__(self, *, every: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.every, self.rounds = every, 0

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> Any:
        self.rounds += 1
        arrays, metrics = super().aggregate_train(server_round, replies)
        return (arrays if self.rounds % self.every == 0 else None), metrics


class Noisy(FedAvgM):
    """Draws from NumPy's global generator, remembers, and says what; steps every second round it is called in."""

    checkpointed = ("rounds", "seen")

    def __init__(self, scale: float, **kwargs: Any) -> None:
        super().__init__(server_momentum=0.5, **kwargs)
        self.scale, self.rounds, self.seen = scale, 0, {"errors": [], "norm": None}

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> Any:
        replies = list(replies)
        self.rounds += 1
        self.seen["errors"].append([m.metadata.src_node_id for m in replies if m.has_error()])
        arrays, metrics = super().aggregate_train(server_round, replies)
        moved = {
            k: a.numpy() + self.scale * self.rounds * np.random.standard_normal(a.shape) for k, a in arrays.items()
        }
        self.seen["norm"] = np.float64(sum((a**2).sum() for a in moved.values()))
        return ArrayRecord({k: type(arrays[k])(a.astype(np.float32)) for k, a in moved.items()}), metrics


class Half(FedAvg):
    """Asks half of the cohort."""

    checkpointed = ()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        messages = list(super().configure_train(server_round, arrays, config, grid))
        return messages[: len(messages) // 2]


class Teaching(FedAvg):
    """Tells clients what none of ours reads."""

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        config["lr"] = 0.1 / server_round
        return super().configure_train(server_round, arrays, config, grid)


class Waiting(FedAvg):
    """Looks for nodes until there are a hundred."""

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        while len(list(grid.get_node_ids())) < 100:
            pass
        return []


class Starting(FedAvg):
    """Has a loop of its own."""

    def start(self, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError
