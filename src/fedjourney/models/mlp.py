"""Fully connected network."""

from itertools import pairwise
from typing import Annotated

from annotated_types import Ge
from torch import nn

from fedjourney.tasks import Signature


def mlp(signature: Signature, /, *, hidden: list[Annotated[int, Ge(1)]] = [200, 200]) -> nn.Module:  # noqa: B006
    """Fully connected ReLU network; with 784 inputs and 10 classes the 2NN of McMahan et al. (199,210 parameters).

    Args:
        signature: one input of any shape, flattened.
        hidden: widths of the hidden layers.

    Reference: McMahan et al. 2017, Communication-Efficient Learning of Deep Networks from Decentralized Data,
    https://arxiv.org/abs/1602.05629, section 3.
    """
    widths = [signature.features, *hidden]
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], signature.classes))
