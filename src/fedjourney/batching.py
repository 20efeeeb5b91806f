"""Batches: fixed shapes, padded and masked, in a seeded order."""

from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
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


_GATHERED = 16  # batches whose rows are gathered at once
_KEY_STRIDE = -7046029254386353131  # 2**64 / golden ratio: keys of neighbouring steps share no bits (SplitMix64)

Loss: TypeAlias = Callable[[Tensors, Batch], torch.Tensor]
Gradient: TypeAlias = Callable[[Loss, Tensors, Batch], tuple[Tensors, torch.Tensor]]


@dataclass(frozen=True)
class Pass:
    """One pass over n examples in a seeded order, in ceil(n / size) batches padded to `size`; `steps` of them.

    Iterating gives batch by batch; `stacks` the same many at a time, which is how lanes take them.
    """

    x: Tensors
    y: Tensors
    size: int
    seed: int
    steps: int

    def __iter__(self) -> Iterator[Batch]:
        """Yield batches, each a view of a stack."""
        for stack in self.stacks():
            yield from apart(stack)

    def stacks(self) -> Iterator[Batch]:
        """Yield many batches at once, each tensor of them [steps, B, …]."""
        first = next(iter(self.x.values()))
        count, device, size = first.shape[0], first.device, self.size
        whole = -(-count // size)
        padded, real = np.zeros(whole * size, dtype=np.int64), np.zeros(whole * size, dtype=np.float32)
        padded[:count], real[:count] = permutation(self.seed, count), 1
        numbered = np.arange(whole) * _KEY_STRIDE + seed_for(self.seed, "key")  # modulo 2**64
        order, mask, keys = (torch.from_numpy(made).to(device) for made in (padded, real, numbered))
        for start in range(0, self.steps, _GATHERED):
            stop = min(start + _GATHERED, self.steps)
            rows = order[start * size : stop * size]
            x, y = (
                {name: t.index_select(0, rows).view(-1, size, *t.shape[1:]) for name, t in part.items()}
                for part in (self.x, self.y)
            )
            yield Batch(x, y, mask[start * size : stop * size].view(-1, size), keys[start:stop])


def minibatches(x: Tensors, y: Tensors, size: int, seed: int, most: int = 0) -> Pass:
    """Return one pass over the examples; with `most` only so many first batches of it."""
    steps = -(-len(next(iter(x.values()))) // size)
    return Pass(x, y, size, seed, min(steps, most) if most else steps)


def apart(stack: Batch) -> Iterator[Batch]:
    """Yield what is stacked along the first dimension, as views: all by one call are cheaper than one by one."""
    steps = len(stack.mask)
    x, y = (_rows({name: t.unbind() for name, t in part.items()}, steps) for part in (stack.x, stack.y))
    yield from map(Batch, x, y, stack.mask.unbind(), stack.key.unbind())


def _rows(columns: dict[str, tuple[torch.Tensor, ...]], count: int) -> Iterator[Tensors]:
    return (
        (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
        if columns
        else ({} for _ in range(count))
    )


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
