"""What the compiler of steps makes is what PyTorch computes."""

import pytest
import torch
from torch.func import grad, vmap

from fedjourney.compiler import compiled


@pytest.mark.compile
@pytest.mark.parametrize("options", [(2, 2, 0, 1, False), (3, 2, 1, 1, True), (2, 1, 0, 2, False)])
def test_the_gradient_of_max_pooling_is_pytorchs_in_every_lane(options: tuple[int, int, int, int, bool]) -> None:
    def loss(weight: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        channels = torch.nn.functional.conv2d(images, weight)
        return torch.nn.functional.max_pool2d(channels.relu(), *options).square().sum()

    weight = torch.randn(4, 3, 2, 3, 3, dtype=torch.float64)
    images = torch.randn(4, 5, 2, 11, 12, dtype=torch.float64)
    torch._dynamo.reset()
    got = compiled(vmap(grad(loss)))(weight, images)
    expected = torch.stack([grad(loss)(w, i) for w, i in zip(weight, images, strict=True)])
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-9)
