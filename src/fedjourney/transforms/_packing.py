"""What transforms share: small whole numbers packed into bytes, an update as one vector, seeded draws."""

import numpy as np
import torch

from fedjourney.tensors import Tensors

DERIVED = "//"  # in the name of an array that a transform made of several, or put beside another


def pack(codes: torch.Tensor, bits: int) -> torch.Tensor:
    """Return codes [n] (0 … 2**bits - 1) as uint8 [ceil(n bits / 8)], lowest bit first, without gaps.

    >>> pack(torch.tensor([1, 0, 1, 1, 0, 0, 0, 0, 1]), 1).tolist()
    [13, 1]
    """
    places = np.arange(bits, dtype=np.int64)
    rows = (codes.cpu().numpy().astype(np.int64)[:, None] >> places) & 1
    return torch.from_numpy(np.packbits(rows.astype(np.uint8).reshape(-1), bitorder="little"))


def unpack(packed: torch.Tensor, bits: int, count: int) -> torch.Tensor:
    """Return the codes [count] as int64: `pack` undone.

    Raises:
        ValueError: there are not as many bytes as that takes.
    """
    if packed.dtype != torch.uint8 or packed.numel() != -(-count * bits // 8):
        raise ValueError(f"expected {-(-count * bits // 8)} bytes, got {packed.numel()} of {packed.dtype}")
    rows = np.unpackbits(packed.cpu().numpy(), count=count * bits, bitorder="little").reshape(count, bits)
    return torch.from_numpy((rows.astype(np.int64) << np.arange(bits, dtype=np.int64)).sum(1))


def floats(update: Tensors) -> Tensors:
    """Return the arrays of numbers that a transform may change; whole numbers are another transform's codes."""
    return {name: tensor for name, tensor in update.items() if tensor.is_floating_point()}


def vector(update: Tensors, name: str) -> torch.Tensor:
    """Return a whole update as one vector [P], tensors in order.

    Raises:
        ValueError: another transform has been at it, so that there are no tensors to take coordinates of.
    """
    if any(DERIVED in key for key in update):
        raise ValueError(f"{name} must be the first [[transform]] that encodes, got {sorted(update)[:2]}…")
    return torch.cat([tensor.flatten() for tensor in update.values()])


def shaped(flat: torch.Tensor, like: Tensors) -> Tensors:
    """Return a vector [P] as the tensors of `like`'s `"update/"` group."""
    wanted = {name: tensor for name, tensor in like.items() if name.startswith("update/")}
    parts = flat.split([tensor.numel() for tensor in wanted.values()])
    return {n: part.view(t.shape).to(t.dtype) for part, (n, t) in zip(parts, wanted.items(), strict=True)}


def size(like: Tensors) -> int:
    """Return the numbers P in `like`'s `"update/"` group."""
    return sum(tensor.numel() for name, tensor in like.items() if name.startswith("update/"))


def dtype_of(like: Tensors) -> torch.dtype:
    """Return the dtype of parameters."""
    return next(tensor.dtype for tensor in like.values() if tensor.is_floating_point())
