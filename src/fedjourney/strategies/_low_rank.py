"""Perturbations of low rank that are multiplied through, never added to the matrix they perturb."""

from typing import Any

import torch
from torch.nn import functional as F


class LowRank(torch.Tensor):
    """A weight W [a, …] that acts as W + L Rᵀ, with L [a, r] and R [b, r], b the product of the other axes.

    `F.linear` computes x Wᵀ + (x R) Lᵀ, an ungrouped `F.conv2d` W * x + L * (Rᵀ * x); any other operation gets the sum,
    made for that operation alone. Works in lanes: L and R may be batched by vmap where W is not.
    """

    left: torch.Tensor
    right: torch.Tensor

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Dispatch one operation."""
        kwargs = kwargs or {}
        weight = args[1] if len(args) > 2 else None  # as torch's own layers call: input, weight, bias, …
        if isinstance(weight, LowRank) and not (kwargs or isinstance(args[0], LowRank)):
            plain, left, right = _plain(weight), weight.left, weight.right
            if func is F.linear:
                return F.linear(args[0], plain, args[2]) + (args[0] @ right) @ left.mT
            if func is F.conv2d and (len(args) < 7 or args[6] == 1):
                inner = F.conv2d(args[0], right.mT.reshape(-1, *plain.shape[1:]), None, *args[3:6])
                return F.conv2d(args[0], plain, *args[2:6]) + F.conv2d(inner, left[:, :, None, None])
        return func(*_summed(args), **_summed(kwargs))


def low_rank(weight: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Return the weight that acts as W + L Rᵀ."""
    found = weight.as_subclass(LowRank)
    found.left, found.right = left, right
    return found


def _plain(weight: torch.Tensor) -> torch.Tensor:
    with torch._C.DisableTorchFunctionSubclass():
        return weight.as_subclass(torch.Tensor)


def _summed(value: Any) -> Any:
    """Return the same arguments with every low-rank weight as an ordinary tensor."""
    if isinstance(value, LowRank):
        plain = _plain(value)
        return plain + (value.left @ value.right.mT).reshape(plain.shape)
    if isinstance(value, list | tuple):
        return type(value)(_summed(one) for one in value)
    if isinstance(value, dict):
        return {key: _summed(one) for key, one in value.items()}
    return value
