"""Stochastic gradient descent."""

from typing import Annotated

import torch
from annotated_types import Ge, Gt, Lt

from fedjourney.batching import Batch, Gradient
from fedjourney.tasks import Task
from fedjourney.tensors import Tensors
from fedjourney.updates import Carry, LocalUpdate, Reply, difference

_VELOCITY = "velocity/"


def sgd(
    task: Task,
    /,
    *,
    learning_rate: Annotated[float, Gt(0)] = 0.1,
    epochs: Annotated[int, Ge(1)] = 1,
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
        grads, loss = gradient(task.loss, carry.params, batch)
        names, params = list(carry.params), list(carry.params.values())
        moves = [grads[name] for name in names]
        extra = {"loss": carry.extra["loss"] + loss, "steps": carry.extra["steps"] + 1}
        if weight_decay:
            moves = list(torch._foreach_add(moves, torch._foreach_mul(params, weight_decay)))
        if momentum:
            moves = list(
                torch._foreach_add(torch._foreach_mul([carry.extra[_VELOCITY + n] for n in names], momentum), moves)
            )
            extra |= {_VELOCITY + name: move for name, move in zip(names, moves, strict=True)}
        stepped = torch._foreach_add(params, torch._foreach_mul(moves, -learning_rate))
        return Carry(dict(zip(names, stepped, strict=True)), extra)

    def finish(shared: Tensors, carry: Carry) -> Reply:
        steps = float(carry.extra["steps"])
        return Reply(difference(shared, carry.params), {"loss": float(carry.extra["loss"]) / max(steps, 1.0)}, {})

    return LocalUpdate(epochs, start, step, finish)
