"""Recurrent models against PyTorch's own modules, and against the recurrence written out."""

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from fedjourney import plugins
from fedjourney.models._recurrent import PeepholeLSTM, Recurrent
from fedjourney.tasks import Signature

TORCH = {"gru": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}
ROWS = Signature({"image": (1, 5, 4)}, {"label": ()}, 3)
CHARACTERS = Signature({"tokens": (6,)}, {"next": (6,)}, 7)


@pytest.mark.parametrize("cell", TORCH)
def test_cells_are_drawn_and_computed_as_pytorchs(cell: str) -> None:
    torch.manual_seed(3)
    ours = Recurrent(cell, 4, 6, 2).double()  # type: ignore[arg-type]
    torch.manual_seed(3)
    theirs = TORCH[cell](4, 6, 2, batch_first=True).double()
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in theirs.named_parameters()]
    x = torch.randn(3, 5, 4, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x)[0], rtol=0, atol=0)


def written_out(x: Tensor, inward: Tensor, across: Tensor, bias: Tensor, peephole: Tensor) -> Tensor:
    h = c = torch.zeros(len(x), across.shape[1], dtype=x.dtype)
    found = []
    for now in x.unbind(1):
        i, f, g, o = (inward @ now.mT + across @ h.mT + bias[:, None]).mT.chunk(4, 1)
        i, f = torch.sigmoid(i + peephole[0] * c), torch.sigmoid(f + peephole[1] * c)
        c = f * c + i * torch.tanh(g)
        h = torch.sigmoid(o + peephole[2] * c) * torch.tanh(c)
        found.append(h)
    return torch.stack(found, 1)


def test_peepholes_are_their_equations_and_so_is_the_gradient() -> None:
    torch.manual_seed(0)
    ours = PeepholeLSTM(4, 6, 2).double()
    for tensor in ours.parameters():  # peepholes begin at zero, where they would not be tested
        nn.init.normal_(tensor, std=0.5)
    x = torch.randn(3, 5, 4, dtype=torch.float64, requires_grad=True)
    wanted = x
    for layer in range(2):
        names = ("weight_ih", "weight_hh", "bias", "peephole")
        wanted = written_out(wanted, *(getattr(ours, f"{name}_l{layer}") for name in names))
    torch.testing.assert_close(ours(x), wanted, rtol=0, atol=1e-12)
    leaves, direction = [x, *ours.parameters()], torch.randn_like(wanted)
    found = torch.autograd.grad(ours(x), leaves, direction)
    for mine, theirs in zip(found, torch.autograd.grad(wanted, leaves, direction), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12)


def test_without_peepholes_it_is_an_lstm_with_one_bias() -> None:
    ours, theirs = PeepholeLSTM(4, 6, 1).double(), nn.LSTM(4, 6, batch_first=True).double()
    with torch.no_grad():
        theirs.weight_ih_l0.copy_(ours.weight_ih_l0)
        theirs.weight_hh_l0.copy_(ours.weight_hh_l0)
        theirs.bias_ih_l0.copy_(ours.bias_l0)
        theirs.bias_hh_l0.zero_()
    x = torch.randn(3, 5, 4, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x)[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "options", "signature"),
    [
        ("gru", {"width": 4}, ROWS),
        ("gru", {"width": 4, "cell": "lstm", "layers": 2}, ROWS),
        ("gru", {"width": 4, "cell": "rnn"}, ROWS),
        ("lstm", {"width": 4, "layers": 2}, CHARACTERS),
        ("lstm", {"width": 4, "peepholes": True}, CHARACTERS),
    ],
)
def test_lanes_are_the_models_one_by_one(name: str, options: dict[str, object], signature: Signature) -> None:
    torch.manual_seed(1)
    model = plugins.build("model", {"name": name, **options}, signature).double()
    params = {key: tensor.detach() for key, tensor in model.named_parameters()}
    population = {key: tensor + torch.randn(3, *tensor.shape).double() for key, tensor in params.items()}
    x = torch.randn(2, 1, 5, 4).double() if signature is ROWS else torch.randint(0, 7, (2, 6))

    def loss(candidate: dict[str, Tensor]) -> Tensor:
        return functional_call(model, candidate, (x,)).square().mean()

    scored, grads = vmap(loss)(population), vmap(grad(loss))(population)
    for lane in range(3):
        alone = {key: tensor[lane].clone().requires_grad_() for key, tensor in population.items()}
        value = loss(alone)
        torch.testing.assert_close(scored[lane], value, rtol=0, atol=1e-12)
        wanted = torch.autograd.grad(value, list(alone.values()))
        for key, tensor in zip(alone, wanted, strict=True):
            torch.testing.assert_close(grads[key][lane], tensor, rtol=0, atol=1e-12)


def test_the_published_size_follows_from_bytes_and_two_markers() -> None:
    from fedjourney.data import BYTES

    signature = Signature({"tokens": (80,)}, {"next": (80,)}, len(BYTES), BYTES)
    model = plugins.build("model", {"name": "lstm", "peepholes": True}, signature)
    assert sum(tensor.numel() for tensor in model.parameters()) == 866_578  # McMahan et al. 2017, section 3


@pytest.mark.parametrize("cell", TORCH)
def test_input_by_input_is_the_whole_sequence(cell: str) -> None:
    torch.manual_seed(4)
    sequences = Signature({"pairs": (5, 3)}, {"answer": (5,)}, 2)
    model = plugins.build(
        "model", {"name": "gru", "cell": cell, "width": 6, "layers": 2, "answers": "every"}, sequences
    )
    model = model.double()
    x = torch.randn(4, 5, 3, dtype=torch.float64)
    state, kept = model.begin(x[:, 0]), []
    for seen in x.unbind(1):
        outputs, state = model(seen, state)
        kept.append(outputs)
    torch.testing.assert_close(torch.stack(kept, 1), model(x), rtol=0, atol=1e-12)
