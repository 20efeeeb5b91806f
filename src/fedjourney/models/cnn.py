"""The convolutional network of McMahan et al."""

from torch import nn

from fedjourney.tasks import Signature, image_shape


def cnn(signature: Signature, /) -> nn.Module:
    """Two 5x5 convolutions (32, 64), each with 2x2 pooling, then 512 units; 1,663,370 parameters on MNIST.

    The ReLU comes after the pooling: the same function and gradient, computed on a quarter of the numbers.

    Reference: McMahan et al. 2017, Communication-Efficient Learning of Deep Networks from Decentralized Data,
    https://arxiv.org/abs/1602.05629, section 3.
    """
    channels, height, width = image_shape(signature, "cnn", at_least=4)
    return nn.Sequential(
        nn.Conv2d(channels, 32, 5, padding=2),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(32, 64, 5, padding=2),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64 * (height // 4) * (width // 4), 512),
        nn.ReLU(),
        nn.Linear(512, signature.classes),
    )
