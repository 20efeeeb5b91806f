"""Products of matrices are what PyTorch computes in float64, whatever form they come in."""

import logging

import pytest
import torch
from torch.func import grad, vmap

from fedjourney import native, products
from fedjourney.batching import Batch
from fedjourney.compiler import compiled
from fedjourney.tensors import Tensors

SIZES = [1, 2, 3, 5, 6, 7, 15, 16, 17, 31, 64, 65, 100, 130]


@pytest.mark.compile
@pytest.mark.parametrize("lanes", [1, 3])
@pytest.mark.parametrize("rows", [1, 4, 5, 6, 7, 10, 13, 40, 70])
def test_a_product_is_the_product(lanes: int, rows: int) -> None:
    generator = torch.Generator().manual_seed(rows)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    for depth in SIZES:
        for columns in SIZES:
            lefts = [
                drawn(lanes, rows, depth),
                drawn(lanes, depth, rows).mT,
                drawn(1, rows, depth).expand(lanes, -1, -1),
            ]
            for left in lefts:
                for right in (drawn(lanes, depth, columns), drawn(lanes, columns, depth).mT):
                    expected = left.double() @ right.double()
                    found = torch.ops.fedjourney.matrix_product(left, right)
                    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-4)
                    sums = drawn(lanes, rows, columns)
                    expected = sums.double() - 0.3 * expected
                    torch.ops.fedjourney.add_matrix_product_(sums, left, right, -0.3)
                    torch.testing.assert_close(sums.double(), expected, rtol=1e-5, atol=1e-4)


def _loss(weights: Tensors, x: torch.Tensor) -> torch.Tensor:
    hidden = torch.nn.functional.linear(x, weights["first"]).relu()
    return torch.nn.functional.linear(hidden, weights["second"]).square().sum()


def _step(params: Tensors, extra: Tensors, batch: Batch) -> tuple[Tensors, Tensors]:
    gradients = vmap(grad(_loss))(params, batch.x["x"])
    return {name: params[name] + (-0.1 * gradients[name]) for name in params}, {}


def _given(dtype: torch.dtype) -> tuple[Tensors, Batch]:
    generator = torch.Generator().manual_seed(0)
    params = {
        "first": torch.randn(3, 20, 30, generator=generator),
        "second": torch.randn(3, 9, 20, generator=generator),
    }
    x = torch.randn(3, 10, 30, generator=generator)
    scaled = {name: (0.1 * tensor).to(dtype) for name, tensor in params.items()}
    return scaled, Batch({"x": x.to(dtype)}, {}, torch.ones(3, 10), torch.zeros(3))


@pytest.mark.compile
@pytest.mark.parametrize("buildable", [True, False])
def test_a_compiled_step_with_them_is_the_step(
    buildable: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if not buildable:
        from torch._inductor.codecache import CppCodeCache

        monkeypatch.setattr(products, "_built", products._built.__wrapped__)
        monkeypatch.setattr(native, "built", native.built.__wrapped__)
        monkeypatch.setattr(CppCodeCache, "load", _refused)
    exact, wide = _given(torch.float64)
    expected, _ = _step(exact, {}, wide)
    given, batch = _given(torch.float32)
    with caplog.at_level(logging.WARNING), monkeypatch.context() as patch:
        called: list[int] = []

        def places(*tensors: torch.Tensor) -> tuple[int, ...]:
            called.append(len(tensors))
            return _places(*tensors)

        patch.setattr(products, "_places", places)
        found, _ = compiled(_step)(given, {}, batch)
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name].double(), tensor, rtol=0, atol=1e-6)
    assert len(called) == (5 if buildable else 0)  # forward twice, backward once, both weights moved in place
    assert ("our products cannot be built" in caplog.text) is not buildable


_places = products._places


def _refused(source: str) -> None:
    raise OSError("no compiler here")
