"""Sparse updates: random places."""

from typing import Annotated

import numpy as np
import torch
from annotated_types import Gt, Le

from fedjourney.seeds import words
from fedjourney.tensors import Tensors
from fedjourney.transforms import Transform
from fedjourney.transforms._packing import dtype_of, shaped, size, vector

_VALUES, _SEED = "update//values", "update//seed"


def places(seed: int, count: int, k: int) -> torch.Tensor:
    """Return k of 0 … count-1, ascending, int64: where the smallest of `count` raw Philox words stand."""
    chosen = np.argpartition(words(seed, count), k - 1)[:k] if k < count else np.arange(count)
    return torch.from_numpy(np.sort(chosen))


class _RandK:
    def __init__(self, share: float, error_feedback: bool) -> None:
        self.share, self.error_feedback = share, error_feedback

    def encode(self, update: Tensors, state: Tensors, seed: int) -> tuple[Tensors, Tensors]:
        """Send the numbers at k seeded places of Δ (times P/k), or of u = Δ + e (as they are)."""
        flat = vector(update, "randk")
        if self.error_feedback and "error" in state:
            flat = flat + state["error"]
        k = max(1, round(self.share * flat.numel()))
        indices = places(seed, flat.numel(), k)
        sent = {_VALUES: flat[indices], _SEED: torch.tensor([seed])}
        if not self.error_feedback:
            return sent | {_VALUES: sent[_VALUES] * (flat.numel() / k)}, state
        return sent, {"error": flat.index_fill(0, indices, 0.0)}

    def decode(self, wire: Tensors, like: Tensors) -> Tensors:
        """Return zeros but at the seed's places."""
        flat = torch.zeros(size(like), dtype=dtype_of(like))
        values = wire[_VALUES]
        flat[places(int(wire[_SEED]), flat.numel(), values.numel())] = values.to(flat.dtype)
        return shaped(flat, like)


def randk(*, share: Annotated[float, Gt(0), Le(1)] = 0.01, error_feedback: bool = False) -> Transform:
    """Send numbers at random places that a seed names: no places travel.

    k = share x P, at least 1, over all tensors together. Bytes up: 4 k for the numbers (8 k in float64) and 8 for the
    seed, from which the server draws the same places. Down it stays the whole model. Without error feedback the
    numbers are multiplied by P/k, so that the mean is unbiased, with P/k times the second moment.

    Args:
        share: k / P.
        error_feedback: keep what was not sent and add it the next time; numbers are then sent as they are.

    Reference: Stich et al. 2018, Sparsified SGD with Memory, https://arxiv.org/abs/1809.07599, section 2; Konečný et
    al. 2016, Federated Learning: Strategies for Improving Communication Efficiency, https://arxiv.org/abs/1610.05492,
    section 3 ("subsampling").
    """
    return _RandK(share, error_feedback)
