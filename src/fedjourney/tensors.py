"""Named tensors, the one shape that parameters, updates and batches have."""

import hashlib
from typing import TypeAlias

import torch

Tensors: TypeAlias = dict[str, torch.Tensor]
"""Tensors by name; the order of insertion is the order on the wire."""


def subtract(left: Tensors, right: Tensors) -> Tensors:
    """Return left - right, name by name."""
    return {name: left[name] - right[name] for name in right}


def add_scaled(left: Tensors, right: Tensors, factor: float) -> Tensors:
    """Return left + factor * right, name by name (never through `alpha=`, see CONTRIBUTING)."""
    return {name: left[name] + (factor * right[name]) for name in left}


def digest_update(state: "hashlib._Hash", tensors: Tensors) -> None:
    """Feed name, dtype, shape and little-endian bytes of each tensor, in sorted order of names."""
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        array = tensor.numpy()
        state.update(f"{name}|{array.dtype.str.lstrip('<>=|')}|{tuple(array.shape)}|".encode())
        state.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
