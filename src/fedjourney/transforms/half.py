"""Half precision on the wire."""

import torch

from fedjourney.tensors import Tensors
from fedjourney.transforms import Transform
from fedjourney.transforms._packing import dtype_of, floats


class _Half:
    def encode(self, update: Tensors, state: Tensors, seed: int) -> tuple[Tensors, Tensors]:
        """Round to float16, the nearest, ties to even."""
        return update | {name: tensor.to(torch.float16) for name, tensor in floats(update).items()}, state

    def decode(self, wire: Tensors, like: Tensors) -> Tensors:
        """Widen again."""
        return wire | {name: tensor.to(dtype_of(like)) for name, tensor in floats(wire).items()}


def half() -> Transform:
    """Send updates as float16: half the bytes up, relative error at most 2**-11."""
    return _Half()
