"""Clipping of a client's update."""

from typing import Annotated

from annotated_types import Gt

from fedjourney.tensors import Tensors
from fedjourney.transforms import Transform


class _NormClip:
    def __init__(self, radius: float) -> None:
        self.radius = radius

    def encode(self, update: Tensors, state: Tensors, seed: int) -> tuple[Tensors, Tensors]:
        """Shorten to the radius; an update inside of it keeps its bits."""
        norm = sum(float((tensor.double() ** 2).sum()) for tensor in update.values()) ** 0.5
        if norm <= self.radius:
            return update, state
        return {name: tensor * (self.radius / norm) for name, tensor in update.items()}, state

    def decode(self, wire: Tensors, like: Tensors) -> Tensors:
        """Nothing is to be undone."""
        return wire


def norm_clip(*, radius: Annotated[float, Gt(0)] = 1.0) -> Transform:
    """Shorten each client's whole update to a norm at most: Δ min(1, radius / |Δ|); changes no bytes.

    Args:
        radius: the norm, over all tensors together.

    Reference: McMahan et al. 2018, Learning Differentially Private Recurrent Language Models,
    https://arxiv.org/abs/1710.06963, section 2 ("flat clipping"). Put it first: what comes later must see it.
    """
    return _NormClip(radius)
