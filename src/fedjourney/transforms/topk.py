"""Sparse updates: the largest numbers."""

from typing import Annotated

import torch
from annotated_types import Gt, Le

from fedjourney.tensors import Tensors
from fedjourney.transforms import Transform
from fedjourney.transforms._packing import dtype_of, shaped, size, vector

_VALUES, _INDICES = "update//values", "update//indices"


class _TopK:
    def __init__(self, share: float, error_feedback: bool) -> None:
        self.share, self.error_feedback = share, error_feedback

    def encode(self, update: Tensors, state: Tensors, seed: int) -> tuple[Tensors, Tensors]:
        """Send the k largest of u = Δ + e; keep e ← u - what is sent."""
        flat = vector(update, "topk")
        if self.error_feedback and "error" in state:
            flat = flat + state["error"]
        k = max(1, round(self.share * flat.numel()))
        # ties: the lowest index first
        indices = flat.abs().argsort(descending=True, stable=True)[:k].sort().values
        sent = {_VALUES: flat[indices], _INDICES: indices.to(torch.int32)}
        if not self.error_feedback:
            return sent, state
        return sent, {"error": flat.index_fill(0, indices, 0.0)}

    def decode(self, wire: Tensors, like: Tensors) -> Tensors:
        """Return zeros but at the indices."""
        flat = torch.zeros(size(like), dtype=dtype_of(like))
        flat[wire[_INDICES].long()] = wire[_VALUES].to(flat.dtype)
        return shaped(flat, like)


def topk(*, share: Annotated[float, Gt(0), Le(1)] = 0.01, error_feedback: bool = True) -> Transform:
    """Send only the largest numbers of an update and where they stand; the rest waits at the client.

    k = share x P, at least 1, over all tensors together. Bytes up: 4 k for the numbers (8 k in float64) and 4 k for
    the places (int32). Down it stays the whole model. |u - C(u)|² <= (1 - k/P) |u|².

    Args:
        share: k / P.
        error_feedback: keep what was not sent and add it the next time; else it is dropped, and the mean is biased. A
            client that is seldom asked adds what is old by then.

    Reference: Stich et al. 2018, Sparsified SGD with Memory, https://arxiv.org/abs/1809.07599, Algorithm 1.
    """
    return _TopK(share, error_feedback)
