"""Signs of updates."""

import torch

from fedjourney.seeds import uniforms
from fedjourney.tensors import Tensors
from fedjourney.transforms import Transform
from fedjourney.transforms._packing import DERIVED, dtype_of, floats, pack, unpack

_SCALE, _COUNT = f"{DERIVED}scale", f"{DERIVED}count"


class _Sign:
    def __init__(self, error_feedback: bool) -> None:
        self.error_feedback = error_feedback

    def encode(self, update: Tensors, state: Tensors, seed: int) -> tuple[Tensors, Tensors]:
        """Send sign(u) and the mean |u| of each tensor, u = Δ + e; keep e ← u - what is sent."""
        wire = {name: tensor for name, tensor in update.items() if not tensor.is_floating_point()}
        coins = torch.from_numpy(uniforms(seed, sum(tensor.numel() for tensor in floats(update).values())) < 0.5)
        kept = dict(state)
        for name, tensor in floats(update).items():
            u = tensor + state[name] if name in state else tensor
            coin, coins = coins[: u.numel()], coins[u.numel() :]
            up = torch.where(u.flatten() == 0, coin, u.flatten() > 0)
            scale = u.abs().mean().float().view(1)
            wire |= {name: pack(up.long(), 1), name + _SCALE: scale}
            if DERIVED in name:  # the server's model does not tell how many there are
                wire[name + _COUNT] = torch.tensor([u.numel()])
            if self.error_feedback:
                kept[name] = u - ((up.to(u.dtype) * 2 - 1) * scale.to(u.dtype)).view(u.shape)
        return wire, kept

    def decode(self, wire: Tensors, like: Tensors) -> Tensors:
        """Return ± the scale."""
        names = [name for name in wire if name + _SCALE in wire]
        update = {name: t for name, t in wire.items() if not any(name in (n, n + _SCALE, n + _COUNT) for n in names)}
        for name in names:
            count = int(wire[name + _COUNT]) if name + _COUNT in wire else like[name].numel()
            signs = (unpack(wire[name], 1, count) * 2 - 1).to(dtype_of(like))
            x = signs * wire[name + _SCALE].to(signs.dtype)
            update[name] = x.view(like[name].shape) if name in like else x
        return update


def sign(*, error_feedback: bool = True) -> Transform:
    """Send one bit a number, and each tensor's mean size.

    C(u) = (‖u‖₁ / d) sign(u), d the numbers of a tensor; the sign of 0 is a seeded coin, so nothing on average. Bytes
    up: d/8 and 4 a tensor. Down it stays the whole model.

    Args:
        error_feedback: keep what was not sent and add it the next time; else it is signSGD with a scale, which need
            not converge (least of all under label skew, where many small clients of one class outvote the others).

    Reference: Karimireddy et al. 2019, Error Feedback Fixes SignSGD and other Gradient Compression Schemes,
    https://arxiv.org/abs/1901.09847, Algorithm 1; Bernstein et al. 2018, signSGD, https://arxiv.org/abs/1802.04434.
    """
    return _Sign(error_feedback)
