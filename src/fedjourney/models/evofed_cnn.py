"""The small convolutional network of EvoFed."""

from torch import nn

from fedjourney.tasks import Signature, image_shape


def evofed_cnn(signature: Signature, /) -> nn.Module:
    """Two 5x5 convolutions (8, 16), each with 2x2 pooling, then the classes: 11,274 parameters on MNIST.

    The size that is reported for MNIST; average pooling after the ReLU.

    Reference: Rahimi et al. 2023, EvoFed, https://arxiv.org/abs/2311.07485.
    """
    channels, height, width = image_shape(signature, "evofed_cnn", at_least=4)
    return nn.Sequential(
        nn.Conv2d(channels, 8, 5, padding=2),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Conv2d(8, 16, 5, padding=2),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * (height // 4) * (width // 4), signature.classes),
    )
