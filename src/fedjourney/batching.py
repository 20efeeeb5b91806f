"""Batches: fixed shapes, padded and masked, in a seeded order."""

from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import NamedTuple, TypeAlias

import torch

from fedjourney.seeds import permutation, seed_for
from fedjourney.tensors import Tensors


class Batch(NamedTuple):
    """One step's examples.

    Attributes:
        x: inputs, each [B, …].
        y: targets, each [B, …].
        mask: [B], 1 = a real example, 0 = padding.
        key: [] int64, this step's noise key (dropout, augmentation: `seeds.uniform(key, count)`).
    """

    x: Tensors
    y: Tensors
    mask: torch.Tensor
    key: torch.Tensor


_GATHERED = 64  # batches whose rows are gathered at once
_KEY_STRIDE = -7046029254386353131  # 2**64 / golden ratio: keys of neighbouring steps share no bits (SplitMix64)

Loss: TypeAlias = Callable[[Tensors, Batch], torch.Tensor]
Gradient: TypeAlias = Callable[[Loss, Tensors, Batch], tuple[Tensors, torch.Tensor]]


def minibatches(x: Tensors, y: Tensors, size: int, seed: int, most: int = 0) -> Iterator[Batch]:
    """Yield one pass over n examples in a seeded order, in ceil(n / size) batches padded to `size`.

    With `most` only so many first batches of it.

    Rows are gathered for many batches at once; a batch is a view of them.
    """
    first = next(iter(x.values()))
    count, device = len(first), first.device
    order = torch.from_numpy(permutation(seed, count)).to(device)
    steps = -(-count // size)
    mask = torch.ones(steps * size, device=device)
    if padding := steps * size - count:
        mask[count:] = 0
        order = torch.cat([order, order.new_zeros(padding)])
    masks = mask.view(steps, size).unbind()  # views of all rows by one call are cheaper than one by one
    keys = (seed_for(seed, "key") + _KEY_STRIDE * torch.arange(steps)).to(device).unbind()
    wanted = min(steps, most) if most else steps
    for start in range(0, wanted, _GATHERED):
        held = range(start, min(start + _GATHERED, wanted))
        rows = order[held.start * size : held.stop * size]
        gathered = [
            {name: t.index_select(0, rows).unflatten(0, (-1, size)).unbind() for name, t in part.items()}
            for part in (x, y)
        ]
        for place, step in enumerate(held):
            inputs, targets = ({name: batches[place] for name, batches in part.items()} for part in gathered)
            yield Batch(inputs, targets, masks[step], keys[step])


WATCHED: ContextVar[Callable[[Batch], None] | None] = ContextVar("watched", default=None)
"""Told of the batch of every gradient taken outside of lanes: whoever takes it, the client pays for it."""


def note(batch: Batch, gradients: int = 1) -> None:
    """Tell whoever counts that so many gradients of a batch are taken; those of `gradient` itself it tells of."""
    if (tell := WATCHED.get()) is not None:
        for _ in range(gradients):
            tell(batch)


def gradient(loss: Loss, params: Tensors, batch: Batch) -> tuple[Tensors, torch.Tensor]:
    """Return (gradients by name, loss []) of one client, by reverse mode outside of any lane."""
    note(batch)
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in params.items()}
    value = loss(leaves, batch)
    grads = torch.autograd.grad(value, list(leaves.values()))
    return dict(zip(leaves, grads, strict=True)), value.detach()


def gradient_in_lanes(loss: Loss, params: Tensors, batch: Batch) -> tuple[Tensors, torch.Tensor]:
    """Return the same as `gradient`, inside of lanes or of a compiled step."""
    grads, value = torch.func.grad_and_value(loss)(params, batch)
    return grads, value.detach()
