"""Local updates: what one client does with its shard. One plug-in per file, `(task, /, *, options) -> LocalUpdate`."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import torch

from fedjourney.batching import Gradient, gradient
from fedjourney.data import Examples
from fedjourney.seeds import seed_for
from fedjourney.tally import Tally
from fedjourney.tasks import Task
from fedjourney.tensors import Tensors, subtract


class Reply(NamedTuple):
    """What a client answers.

    Attributes:
        tensors: `"update/…"` = local - shared (never parameters); other groups by name (`"control/…"`).
        metrics: numbers; the runner adds `"num-examples"`.
        state: kept at the client, committed only when the server says that the round counted.
    """

    tensors: Tensors
    metrics: dict[str, float]
    state: Tensors


class Carry(NamedTuple):
    """State of a local loop: what is trained, and whatever else a step needs, by name."""

    params: Tensors
    extra: Tensors


@dataclass(frozen=True)
class LocalUpdate:
    """One client's training as a loop of pure steps without a client axis, so that engines may vectorise it.

    Attributes:
        passes: local epochs.
        start: (shared, row, state) -> carry.
        step: (carry, batch, gradient) -> carry, fixed shapes.
        finish: (shared, carry) -> Reply.
        personal: (shared, state) -> the model this client would use; None: the shared one.
    """

    passes: int
    start: Callable[[Tensors, Tensors, Tensors], Carry]
    step: Callable[..., Carry]
    finish: Callable[[Tensors, Carry], Reply]
    personal: Callable[[Tensors, Tensors], Tensors] | None = None


@dataclass(frozen=True)
class Client:
    """One client in one round, as a `Work` sees it."""

    index: int
    round: int
    shared: Tensors
    row: Tensors
    state: Tensors
    shard: Examples
    task: Task
    seed: int
    tally: Tally = field(default_factory=Tally, compare=False)

    def train(self, update: LocalUpdate, gradient: Gradient = gradient) -> Reply:
        """Run a local update: `passes` times over the shard, one step a batch."""
        carry = update.start(self.shared, self.row, self.state)
        with self.tally.watching():
            for number in range(update.passes):
                seed = seed_for(self.seed, "batches", self.round, self.index, number)
                for batch in self.task.batches(carry.params, self.shard, seed):
                    carry = update.step(carry, batch, gradient)
        return update.finish(self.shared, carry)


class Work(Protocol):
    """A client half that is not a loop of steps."""

    def __call__(self, client: Client) -> Reply:
        """Answer one ask."""


def difference(shared: Tensors, params: Tensors) -> Tensors:
    """Return the `"update/…"` group: params - shared."""
    return {f"update/{name}": tensor for name, tensor in subtract(params, shared).items()}


def zeros(like: Tensors) -> Tensors:
    """Return zeros in the same shapes."""
    return {name: torch.zeros_like(tensor) for name, tensor in like.items()}
