"""The small convolutional networks of EvoFed and of DeComFL."""

from typing import Annotated, Literal

from annotated_types import Ge, Le
from torch import nn

from fedjourney.tasks import Signature, image_shape


def evofed_cnn(
    signature: Signature,
    /,
    *,
    channels: Annotated[int, Ge(1), Le(1024)] = 8,
    pooling: Literal["average", "max"] = "average",
) -> nn.Module:
    """Two 5x5 convolutions (8, 16), each with 2x2 pooling, then the classes: 11,274 parameters on MNIST.

    The size that EvoFed reports for MNIST. With `channels = 16` and `pooling = "max"` it is the released code's network
    of DeComFL, 28,938 parameters.

    Args:
        signature: shapes of the data.
        channels: of the first convolution; the second has twice as many.
        pooling: after each ReLU.

    References: Rahimi et al. 2023, EvoFed, https://arxiv.org/abs/2311.07485; Li et al. 2025, DeComFL,
    https://arxiv.org/abs/2405.15861, https://github.com/ZidongLiu/DeComFL.
    """
    depth, height, width = image_shape(signature, "evofed_cnn", at_least=4)
    pool = nn.AvgPool2d if pooling == "average" else nn.MaxPool2d
    return nn.Sequential(
        nn.Conv2d(depth, channels, 5, padding=2),
        nn.ReLU(),
        pool(2),
        nn.Conv2d(channels, 2 * channels, 5, padding=2),
        nn.ReLU(),
        pool(2),
        nn.Flatten(),
        nn.Linear(2 * channels * (height // 4) * (width // 4), signature.classes),
    )
