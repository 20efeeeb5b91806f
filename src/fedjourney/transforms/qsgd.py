"""Quantised updates."""

from typing import Annotated

import torch
from annotated_types import Ge, Le

from fedjourney.seeds import uniforms
from fedjourney.tensors import Tensors
from fedjourney.transforms import Transform
from fedjourney.transforms._packing import DERIVED, dtype_of, floats, pack, unpack

_NORMS, _COUNT = f"{DERIVED}norms", f"{DERIVED}count"


class _QSGD:
    def __init__(self, levels: int, bucket: int) -> None:
        self.levels, self.bucket = levels, bucket
        self.bits = (2 * levels).bit_length()  # ceil(log2(2 levels + 1))

    def encode(self, update: Tensors, state: Tensors, seed: int) -> tuple[Tensors, Tensors]:
        """Round each number up or down to a level of its bucket's norm, at random, unbiased."""
        wire = {name: tensor for name, tensor in update.items() if not tensor.is_floating_point()}
        chances = torch.from_numpy(uniforms(seed, sum(tensor.numel() for tensor in floats(update).values())))
        for name, tensor in floats(update).items():
            count = tensor.numel()
            chance, chances = chances[:count], chances[count:]
            x = tensor.double().flatten()
            norms = torch.stack([part.norm() for part in x.split(self.bucket)]) if count else x
            # float32 on the wire, rounded up so that no number is larger than its norm
            norms = torch.nextafter(norms.float(), torch.tensor(torch.inf))
            scaled = self.levels * x.abs() / norms.double().repeat_interleave(self.bucket)[:count]
            level = (scaled.floor() + (chance < scaled - scaled.floor())).clamp(max=self.levels)
            codes = self.levels + (torch.sign(x) * level).long()
            wire |= {name: pack(codes, self.bits), name + _NORMS: norms}
            if DERIVED in name:  # the server's model does not tell how many there are
                wire[name + _COUNT] = torch.tensor([count])
        return wire, state

    def decode(self, wire: Tensors, like: Tensors) -> Tensors:
        """Return levels times norms."""
        names = [name for name in wire if name + _NORMS in wire]
        update = {name: t for name, t in wire.items() if not any(name in (n, n + _NORMS, n + _COUNT) for n in names)}
        for name in names:
            count = int(wire[name + _COUNT]) if name + _COUNT in wire else like[name].numel()
            level = unpack(wire[name], self.bits, count) - self.levels
            norms = wire[name + _NORMS].double().repeat_interleave(self.bucket)[:count]
            x = (level * norms / self.levels).to(dtype_of(like))
            update[name] = x.view(like[name].shape) if name in like else x
        return update


def qsgd(
    *, levels: Annotated[int, Ge(1), Le(32767)] = 7, bucket: Annotated[int, Ge(1), Le(10_000_000)] = 512
) -> Transform:
    """Send each number as one of a few levels of its bucket's norm, rounded at random so that the mean is right.

    ξ ∈ {l, l+1}/s with P(up) = s|x|/‖b‖ - l, the number is ‖b‖ sign(x) ξ (equation 3), b its bucket of consecutive
    numbers of one tensor. Unbiased; variance at most min(D/s², √D/s) ‖b‖² for a bucket of D. Bytes up:
    ceil(log2(2 s + 1)) bits a number, packed without gaps, and 4 a bucket; no entropy coder, so none is charged. Down
    it stays the whole model. After `topk` or `randk` their numbers are quantised (8 bytes more, for their count).

    Args:
        levels: s; 1, 3, 7, 127 give 2, 3, 4, 8 bits.
        bucket: D.

    Reference: Alistarh et al. 2017, QSGD: Communication-Efficient SGD via Gradient Quantization and Encoding,
    https://arxiv.org/abs/1610.02132, section 3.1.
    """
    return _QSGD(levels, bucket)
