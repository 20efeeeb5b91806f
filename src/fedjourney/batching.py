"""Batches: fixed shapes, padded and masked, in a seeded order."""

from collections.abc import Callable, Iterator
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


Loss: TypeAlias = Callable[[Tensors, Batch], torch.Tensor]
Gradient: TypeAlias = Callable[[Loss, Tensors, Batch], tuple[Tensors, torch.Tensor]]


def minibatches(x: Tensors, y: Tensors, size: int, seed: int) -> Iterator[Batch]:
    """Yield one pass over n examples in a seeded order, in ceil(n / size) batches padded to `size`."""
    count = len(next(iter(x.values())))
    order = torch.from_numpy(permutation(seed, count))
    for start in range(0, count, size):
        rows = order[start : start + size]
        mask = torch.ones(size)
        if len(rows) < size:
            mask[len(rows) :] = 0
            rows = torch.cat([rows, rows.new_zeros(size - len(rows))])
        yield Batch(
            {name: tensor[rows] for name, tensor in x.items()},
            {name: tensor[rows] for name, tensor in y.items()},
            mask,
            torch.tensor(seed_for(seed, "key", start)),
        )


def gradient(loss: Loss, params: Tensors, batch: Batch) -> tuple[Tensors, torch.Tensor]:
    """Return (gradients by name, loss []) of one client, by reverse mode outside of any lane."""
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in params.items()}
    value = loss(leaves, batch)
    grads = torch.autograd.grad(value, list(leaves.values()))
    return dict(zip(leaves, grads, strict=True)), value.detach()
