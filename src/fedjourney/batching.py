"""Batches: fixed shapes, padded and masked, in a seeded order."""

from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, replace
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
        """Yield batches, views of what is gathered together."""
        for flat in self._gathered():
            if len(flat.mask) == 1:  # nothing to cut
                yield Batch(flat.x, flat.y, flat.mask[0], flat.key[0])
            else:
                yield from _views(flat, len(flat.mask), torch.Tensor.chunk)

    def stacks(self) -> Iterator[Batch]:
        """Yield many batches at once, each tensor of them [steps, B, …]."""
        for flat in self._gathered():
            x, y = ({n: t.unflatten(0, (-1, self.size)) for n, t in part.items()} for part in (flat.x, flat.y))
            yield flat._replace(x=x, y=y)

    def _gathered(self) -> Iterator[Batch]:
        """Yield many batches at once, their examples behind each other [steps * B, …], mask [steps, B], key [steps]."""
        first, size = next(iter(self.x.values())), self.size
        count, device = len(first), first.device
        whole = -(-count // size)
        order, real = np.zeros(whole * size, dtype=np.int64), np.zeros((whole, size), dtype=np.float32)
        order[:count], real.reshape(-1)[:count] = permutation(self.seed, count), 1
        keys = np.arange(whole) * _KEY_STRIDE + seed_for(self.seed, "key")  # modulo 2**64
        for start in range(0, self.steps, _GATHERED):  # cut by NumPy, whose views cost a tenth of torch's
            stop = min(start + _GATHERED, self.steps)
            parts = order[start * size : stop * size], real[start:stop], keys[start:stop]
            rows, mask, key = (torch.from_numpy(part).to(device) for part in parts)
            x, y = ({name: t.index_select(0, rows) for name, t in part.items()} for part in (self.x, self.y))
            yield Batch(x, y, mask, key)


def minibatches(x: Tensors, y: Tensors, size: int, seed: int, most: int = 0) -> Pass:
    """Return one pass over the examples; with `most` only so many first batches of it."""
    steps = -(-len(next(iter(x.values()))) // size)
    return Pass(x, y, size, seed, min(steps, most) if most else steps)


def first(batches: Iterable[Batch]) -> Batch:
    """Return the first batch, without gathering those after it."""
    return next(iter(replace(batches, steps=min(batches.steps, 1)) if isinstance(batches, Pass) else batches))


def apart(stack: Batch) -> Iterator[Batch]:
    """Yield what is stacked along the first dimension, as views: all by one call are cheaper than one by one."""
    yield from _views(stack, len(stack.mask), lambda tensor, steps: tensor.unbind())


def _views(many: Batch, steps: int, cut: Callable[[torch.Tensor, int], tuple[torch.Tensor, ...]]) -> Iterator[Batch]:
    xs = [(name, cut(tensor, steps)) for name, tensor in many.x.items()]
    ys = [(name, cut(tensor, steps)) for name, tensor in many.y.items()]
    for step, (mask, key) in enumerate(zip(many.mask.unbind(), many.key.unbind(), strict=True)):
        yield Batch({name: part[step] for name, part in xs}, {name: part[step] for name, part in ys}, mask, key)


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
