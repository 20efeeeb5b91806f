"""Fully connected network."""

from itertools import pairwise
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Le
from torch import nn

from fedjourney.tasks import Signature


def mlp(
    signature: Signature,
    /,
    *,
    hidden: list[Annotated[int, Ge(1), Le(65_536)]] = [200, 200],  # noqa: B006
    activation: Literal["relu", "sign", "straight_through"] = "relu",
) -> nn.Module:
    """Fully connected network (ReLU); with 784 inputs and 10 classes the 2NN of McMahan et al. (199,210 parameters).

    Args:
        signature: one input of any shape, flattened.
        hidden: widths of the hidden layers.
        activation: of them. "sign" has no gradient of any use (it is 0 almost everywhere); "straight_through" computes
            the same outputs, and its backward takes sign for clamp(x, -1, 1) (Bengio et al. 2013,
            https://arxiv.org/abs/1308.3432).

    Reference: McMahan et al. 2017, Communication-Efficient Learning of Deep Networks from Decentralized Data,
    https://arxiv.org/abs/1602.05629, section 3.
    """
    make = {"relu": nn.ReLU, "sign": _Sign, "straight_through": _StraightThrough}[activation]
    widths = [signature.features, *hidden]
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), make()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], signature.classes))


class _Sign(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sign(x)


class _StraightThrough(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        near = x.clamp(-1, 1)
        return torch.sign(x).detach() + (near - near.detach())  # the bracket is exactly 0 going forward
