"""LSTM layers of compiled steps are what PyTorch computes in float64, and stay one operation of a traced step."""

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from fedjourney import lstm_layers
from fedjourney.models._recurrent import PeepholeLSTM, Recurrent
from fedjourney.tensors import Tensors

SHAPES = [(1, 10, 20, 8, 64), (3, 5, 7, 3, 20), (2, 13, 3, 40, 33), (2, 1, 1, 1, 1), (1, 30, 2, 17, 16)]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    assert torch.get_num_threads() == 1


def _drawn(kind: str, lanes: int, inputs: int, width: int) -> tuple[nn.Module, Tensors]:
    torch.manual_seed(width)
    model = PeepholeLSTM(inputs, width, 2) if kind == "peephole" else Recurrent("lstm", inputs, width, 2)
    return model, {name: 0.2 * torch.randn(lanes, *given.shape) for name, given in model.named_parameters()}


@pytest.mark.compile
@pytest.mark.parametrize("kind", ["lstm", "peephole"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_layers_in_lanes_are_the_layers(kind: str, shape: tuple[int, ...]) -> None:
    lanes, count, steps, inputs, width = shape
    model, params = _drawn(kind, lanes, inputs, width)
    x, weight = torch.randn(lanes, count, steps, inputs), torch.randn(lanes, count, steps, width)

    def loss(params: Tensors, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return (functional_call(model, params, (x,)) * weight).sum()

    with lstm_layers.in_traced_step():
        assert lstm_layers.is_ours(x)
        found, of_x = vmap(grad(loss, argnums=(0, 1)))(params, x, weight)
    for lane in range(lanes):
        exact = {name: tensor[lane].double().requires_grad_() for name, tensor in params.items()}
        wide = x[lane].double().requires_grad_()
        expected = torch.autograd.grad(loss(exact, wide, weight[lane].double()), [*exact.values(), wide])
        for one, other in zip([*found.values(), of_x], expected, strict=True):
            scale = float(other.abs().max()) + 1e-6
            torch.testing.assert_close(one[lane].double(), other, rtol=0, atol=1e-5 * scale)


@pytest.mark.compile
def test_only_a_traced_step_of_single_precision_computes_them_here() -> None:
    x = torch.zeros(1, 2, 3)
    assert not lstm_layers.is_ours(x)
    with lstm_layers.in_traced_step():
        assert lstm_layers.is_ours(x)
        assert not lstm_layers.is_ours(x.double())
        assert not lstm_layers.is_ours(x[:0])
    assert not lstm_layers.is_ours(x)


@pytest.mark.compile
def test_a_layer_is_one_operation_of_a_traced_step() -> None:
    model, params = _drawn("lstm", 2, 3, 4)

    def loss(params: Tensors, x: torch.Tensor) -> torch.Tensor:
        return functional_call(model, params, (x,)).sum()

    with lstm_layers.in_traced_step():
        traced = make_fx(vmap(grad(loss)), tracing_mode="fake")(params, torch.zeros(2, 5, 50, 3))
    targets = [node.target for node in traced.graph.nodes]
    assert targets.count(torch.ops.fedjourney.lstm.default) == 2
    assert targets.count(torch.ops.fedjourney.lstm_backward.default) == 2
    assert len(targets) < 100  # whatever the sequence's length


@pytest.mark.compile
def test_there_is_no_second_derivative() -> None:
    model, params = _drawn("lstm", 1, 3, 4)
    one = {name: tensor[0] for name, tensor in params.items()}

    def first(params: Tensors) -> torch.Tensor:
        def loss(params: Tensors) -> torch.Tensor:
            return functional_call(model, params, (torch.ones(2, 3, 3),)).sum()

        return sum(tensor.sum() for tensor in grad(loss)(params).values())

    with lstm_layers.in_traced_step(), pytest.raises(RuntimeError, match="no second derivative"):
        grad(first)(one)
