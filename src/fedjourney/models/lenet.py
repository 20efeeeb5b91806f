"""LeNet-5 with ReLU and max-pooling."""

from torch import nn

from fedjourney.tasks import Signature, image_shape


def lenet(signature: Signature, /) -> nn.Module:
    """LeNet-5 with ReLU and max-pooling; 44,426 parameters on MNIST.

    The ReLU comes after the pooling: the same function and gradient, computed on a quarter of the numbers.

    Reference: LeCun et al. 1998, Gradient-based learning applied to document recognition.
    """
    channels, height, width = image_shape(signature, "lenet", at_least=16)
    across = (((height - 4) // 2) - 4) // 2 * ((((width - 4) // 2) - 4) // 2)
    return nn.Sequential(
        nn.Conv2d(channels, 6, 5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(6, 16, 5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * across, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, signature.classes),
    )
