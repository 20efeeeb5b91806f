"""The convolutional network of McMahan et al., and smaller ones of its kind."""

from typing import Annotated

from annotated_types import Ge, Le
from torch import nn

from fedjourney.tasks import Signature, image_shape


def cnn(
    signature: Signature,
    /,
    *,
    filters: list[Annotated[int, Ge(1), Le(65_536)]] = [32, 64],  # noqa: B006
    hidden: Annotated[int, Ge(1), Le(65_536)] = 512,
) -> nn.Module:
    """Two 5x5 convolutions (32, 64), each with 2x2 pooling, then 512 units; 1,663,370 parameters on MNIST.

    The ReLU comes after the pooling: the same function and gradient, computed on a quarter of the numbers.

    Args:
        signature: one image.
        filters: of each convolution.
        hidden: units after them.

    Reference: McMahan et al. 2017, Communication-Efficient Learning of Deep Networks from Decentralized Data,
    https://arxiv.org/abs/1602.05629, section 3.
    """
    smaller = 2 ** len(filters)
    channels, height, width = image_shape(signature, "cnn", at_least=smaller)
    layers: list[nn.Module] = []
    for count in filters:
        layers += [nn.Conv2d(channels, count, 5, padding=2), nn.MaxPool2d(2), nn.ReLU()]
        channels = count
    layers += [nn.Flatten(), nn.Linear(channels * (height // smaller) * (width // smaller), hidden), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(hidden, signature.classes))
