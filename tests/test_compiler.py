"""What the compiler of steps makes is what PyTorch computes."""

import pytest
import torch
from torch.func import grad, vmap

from fedjourney.batching import Batch
from fedjourney.compiler import compiled
from fedjourney.tensors import Tensors


@pytest.mark.compile
@pytest.mark.parametrize("options", [(2, 2, 0, 1, False), (3, 2, 1, 1, True), (2, 1, 0, 2, False)])
def test_the_gradient_of_max_pooling_is_pytorchs_in_every_lane(options: tuple[int, int, int, int, bool]) -> None:
    def loss(weight: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        channels = torch.nn.functional.conv2d(images, weight)
        return torch.nn.functional.max_pool2d(channels.relu(), *options).square().sum()

    def step(params: Tensors, extra: Tensors, batch: Batch) -> tuple[Tensors, Tensors]:
        return {"weight": vmap(grad(loss))(params["weight"], batch.x["image"])}, {"steps": extra["steps"] + 1}

    batch = Batch({"image": torch.randn(4, 5, 2, 11, 12, dtype=torch.float64)}, {}, torch.ones(4, 5), torch.zeros(4))
    weight, steps = torch.randn(4, 3, 2, 3, 3, dtype=torch.float64), torch.zeros(4)
    run = compiled(step)
    for count in range(2):  # the first call compiles
        params, extra = run({"weight": weight}, {"steps": steps + count}, batch)
        expected = [grad(loss)(w, i) for w, i in zip(weight, batch.x["image"], strict=True)]
        torch.testing.assert_close(params["weight"], torch.stack(expected), rtol=0, atol=1e-9)
        torch.testing.assert_close(extra["steps"], steps + count + 1)


@pytest.mark.compile
@pytest.mark.parametrize("keeps", [False, True])
def test_a_dense_weight_moves_in_place_unless_it_is_still_needed(keeps: bool) -> None:
    def loss(weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(x, weight).square().sum()

    def step(params: Tensors, extra: Tensors, batch: Batch) -> tuple[Tensors, Tensors]:
        gradients = vmap(grad(loss))(params["weight"], batch.x["x"])
        return {"weight": params["weight"] + (-0.1 * gradients)}, {name: params["weight"] for name in extra}

    batch = Batch({"x": torch.randn(2, 4, 5, dtype=torch.float64)}, {}, torch.ones(2, 4), torch.zeros(2))
    weight = torch.randn(2, 3, 5, dtype=torch.float64)
    expected = weight + (-0.1 * torch.stack([grad(loss)(w, x) for w, x in zip(weight, batch.x["x"], strict=True)]))
    given = weight.clone()
    params, extra = compiled(step)({"weight": given}, {"before": torch.zeros_like(weight)} if keeps else {}, batch)
    torch.testing.assert_close(params["weight"], expected, rtol=0, atol=1e-9)
    assert (params["weight"] is given) is not keeps
    for kept in extra.values():
        assert torch.equal(kept, weight)
