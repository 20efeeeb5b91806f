"""Named tensors, the one shape that parameters, updates and batches have."""

import hashlib
from typing import TypeAlias

import torch

Tensors: TypeAlias = dict[str, torch.Tensor]
"""Tensors by name; the order of insertion is the order on the wire."""


def subtract(left: Tensors, right: Tensors) -> Tensors:
    """Return left - right, name by name of the right one; outside of lanes all at once, as in `add_scaled`."""
    if not right or in_lanes(right) or in_lanes(left):
        return {name: left[name] - right[name] for name in right}
    found = torch._foreach_sub([left[name] for name in right], list(right.values()))
    return dict(zip(right, found, strict=True))


def add_scaled(left: Tensors, right: Tensors, factor: float) -> Tensors:
    """Return left + factor * right, name by name (never through `alpha=`, see CONTRIBUTING).

    Outside of lanes all names go to torch at once: the same bits, for a third of the calls.
    """
    if in_lanes(left):
        return {name: tensor + (factor * right[name]) for name, tensor in left.items()}
    scaled = [right[name] for name in left]
    if factor != 1.0:  # a server's step is as large as the model: not written out for nothing
        scaled = list(torch._foreach_mul(scaled, factor))
    return dict(zip(left, torch._foreach_add(list(left.values()), scaled), strict=True))


def placed(tensors: Tensors, device: torch.device) -> Tensors:
    """Return the tensors on a device; those that are there already are not copied."""
    return {name: tensor.to(device) for name, tensor in tensors.items()}


def accumulate(sums: Tensors, tensors: Tensors, weight: float) -> None:
    """Add weight * tensors to `sums`, in place and in one pass over memory: outside of lanes and of the compiler.

    Only here is `alpha=` right, and several times faster than a product that is written out before it is added.
    """
    torch._foreach_add_([sums[name] for name in tensors], list(tensors.values()), alpha=weight)


def in_lanes(tensors: Tensors) -> bool:
    """Return whether these are seen by `torch.func.vmap` or the compiler, which know no `_foreach` operations."""
    if torch.compiler.is_compiling():
        return True
    if torch._C._functorch.peek_interpreter_stack() is None:
        return False  # nobody is: said without a look at each
    return any(torch._C._functorch.is_functorch_wrapped_tensor(tensor) for tensor in tensors.values())


def digest_update(state: "hashlib._Hash", tensors: Tensors) -> None:
    """Feed name, dtype, shape and little-endian bytes of each tensor, in sorted order of names."""
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        array = tensor.numpy()
        state.update(f"{name}|{array.dtype.str.lstrip('<>=|')}|{tuple(array.shape)}|".encode())
        state.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
