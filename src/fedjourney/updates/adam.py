"""Adam."""

import math
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le, Lt

from fedjourney.batching import Batch, Gradient
from fedjourney.tasks import Task
from fedjourney.tensors import Tensors
from fedjourney.updates import Carry, LocalUpdate, Reply, difference, zeros

_FIRST, _SECOND = "first/", "second/"


def adam(
    task: Task,
    /,
    *,
    learning_rate: Annotated[float, Gt(0)] = 0.001,
    epochs: Annotated[int, Ge(1), Le(100_000)] = 1,
    first: Annotated[float, Ge(0), Lt(1)] = 0.9,
    second: Annotated[float, Ge(0), Lt(1)] = 0.999,
    epsilon: Annotated[float, Gt(0)] = 1e-8,
    clip: Annotated[float, Ge(0)] = 0.0,
) -> LocalUpdate:
    """Adam from the shared parameters; its moments start at zero each round.

    Args:
        task: supplies loss and batches.
        learning_rate: step size.
        epochs: passes over the shard; of task `control`, rollouts.
        first: decay of the mean gradient (β1).
        second: decay of the mean squared gradient (β2).
        epsilon: added to its square root.
        clip: the gradient's norm over all parameters is scaled down to this; 0 = never.

    Reference: Kingma and Ba 2015, Adam: A Method for Stochastic Optimization, https://arxiv.org/abs/1412.6980,
    Algorithm 1.
    """

    def start(shared: Tensors, row: Tensors, state: Tensors) -> Carry:
        one = next(iter(shared.values()))
        extra = {"loss": one.new_zeros(()), "steps": one.new_zeros(())}
        for prefix in (_FIRST, _SECOND):
            extra |= {prefix + name: tensor for name, tensor in zeros(shared).items()}
        return Carry(dict(shared), extra)

    def step(carry: Carry, batch: Batch, gradient: Gradient) -> Carry:
        grads, loss = gradient(task.loss, carry.params, batch)
        if clip:
            norm = torch.stack([(tensor * tensor).sum() for tensor in grads.values()]).sum().sqrt()
            scale = (clip / (norm + 1e-6)).clamp(max=1.0)  # as torch.nn.utils.clip_grad_norm_
            grads = {name: scale * tensor for name, tensor in grads.items()}
        steps = carry.extra["steps"] + 1
        extra, params = {"loss": carry.extra["loss"] + loss, "steps": steps}, {}
        root, rate = _share(second, steps).sqrt(), learning_rate / _share(first, steps)
        for name, tensor in carry.params.items():
            m = first * carry.extra[_FIRST + name] + (1 - first) * grads[name]
            v = second * carry.extra[_SECOND + name] + (1 - second) * (grads[name] * grads[name])
            params[name] = tensor + (-rate * (m / (v.sqrt() / root + epsilon)))
            extra |= {_FIRST + name: m, _SECOND + name: v}
        return Carry(params, extra)

    def finish(shared: Tensors, carry: Carry) -> Reply:
        steps = float(carry.extra["steps"])
        return Reply(difference(shared, carry.params), {"loss": float(carry.extra["loss"]) / max(steps, 1.0)}, {})

    return LocalUpdate(epochs, start, step, finish)


def _share(decay: float, steps: torch.Tensor) -> torch.Tensor:
    """Return 1 - decay^steps [], without cancellation."""
    return -torch.expm1(steps * math.log(decay)) if decay else torch.ones_like(steps)
