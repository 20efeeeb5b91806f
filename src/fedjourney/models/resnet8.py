"""The smallest residual network for small images, with group normalisation."""

from typing import Annotated

from annotated_types import Ge, Le
from torch import Tensor, nn
from torch.nn import functional as F

from fedjourney.errors import ConfigError
from fedjourney.tasks import Signature, image_shape


class _Block(nn.Module):
    """relu(shortcut(x) + norm(conv(relu(norm(conv(x)))))), He et al. 2016, figure 2."""

    def __init__(self, inputs: int, width: int, stride: int, groups: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.first_norm = nn.GroupNorm(groups, width)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.second_norm = nn.GroupNorm(groups, width)
        self.shortcut = nn.Conv2d(inputs, width, 1, stride, bias=False) if inputs != width or stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu(self.first_norm(self.first(x)))
        inner = self.second_norm(self.second(inner))
        return F.relu(inner + (x if self.shortcut is None else self.shortcut(x)))


def resnet8(
    signature: Signature,
    /,
    *,
    width: Annotated[int, Ge(1), Le(65_536)] = 16,
    groups: Annotated[int, Ge(1), Le(65_536)] = 8,
) -> nn.Module:
    """ResNet-8 with GroupNorm: three residual blocks of two 3x3 convolutions; 77,850 parameters on CIFAR-10.

    GroupNorm normalises within one example: no running statistics that clients of unlike data would disagree on,
    nothing that depends on who else is in the batch.

    Args:
        signature: one image input.
        width: channels of the first block; the second has twice, the third four times as many.
        groups: of channels that are normalised together; divides `width`.

    References: He et al. 2016, Deep Residual Learning for Image Recognition, https://arxiv.org/abs/1512.03385, section
    4.2 with n = 1 (here with 1x1 convolutions as shortcuts where the shape changes); Wu and He 2018, Group
    Normalization, https://arxiv.org/abs/1803.08494; Hsieh et al. 2020, The Non-IID Data Quagmire of Decentralized
    Machine Learning, https://arxiv.org/abs/1910.00189, on what batch normalisation costs where clients differ.
    """
    channels, _, _ = image_shape(signature, "resnet8", at_least=4)
    if width % groups:
        raise ConfigError(f"[model] groups: expected a divisor of width = {width}, got {groups}.")
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1, bias=False),
        nn.GroupNorm(groups, width),
        nn.ReLU(),
        _Block(width, width, 1, groups),
        _Block(width, 2 * width, 2, groups),
        _Block(2 * width, 4 * width, 2, groups),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4 * width, signature.classes),
    )
