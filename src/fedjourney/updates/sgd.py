"""Stochastic gradient descent."""

from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le, Lt

from fedjourney.batching import Batch, Gradient
from fedjourney.tasks import Task
from fedjourney.tensors import Tensors, add_scaled
from fedjourney.updates import Carry, LocalUpdate, Reply, difference

_VELOCITY = "velocity/"


def sgd(
    task: Task,
    /,
    *,
    learning_rate: Annotated[float, Gt(0)] = 0.1,
    epochs: Annotated[int, Ge(1), Le(100_000)] = 1,
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.0,
    weight_decay: Annotated[float, Ge(0)] = 0.0,
) -> LocalUpdate:
    """Plain SGD from the shared parameters; momentum starts at zero each round.

    Args:
        task: supplies loss and batches.
        learning_rate: step size.
        epochs: passes over the shard (McMahan's E).
        momentum: heavy-ball factor, v <- momentum v + g (as `torch.optim.SGD`).
        weight_decay: g <- g + weight_decay p.
    """

    def start(shared: Tensors, row: Tensors, state: Tensors) -> Carry:
        one = next(iter(shared.values()))
        extra = {"loss": one.new_zeros(()), "steps": one.new_zeros(())}
        if momentum:
            extra |= {_VELOCITY + name: torch.zeros_like(tensor) for name, tensor in shared.items()}
        return Carry(dict(shared), extra)

    def step(carry: Carry, batch: Batch, gradient: Gradient) -> Carry:
        move, loss = gradient(task.loss, carry.params, batch)
        extra = {"loss": carry.extra["loss"] + loss, "steps": carry.extra["steps"] + 1}
        if weight_decay:
            move = add_scaled(move, carry.params, weight_decay)
        if momentum:
            move = add_scaled(move, {name: carry.extra[_VELOCITY + name] for name in move}, momentum)
            extra |= {_VELOCITY + name: tensor for name, tensor in move.items()}
        return Carry(add_scaled(carry.params, move, -learning_rate), extra)

    def finish(shared: Tensors, carry: Carry) -> Reply:
        steps = float(carry.extra["steps"])
        return Reply(difference(shared, carry.params), {"loss": float(carry.extra["loss"]) / max(steps, 1.0)}, {})

    return LocalUpdate(epochs, start, step, finish)
