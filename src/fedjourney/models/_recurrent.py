"""What recurrent models share: PyTorch's own kernels, also in lanes; LSTM layers with peepholes."""

from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

Cell: TypeAlias = Literal["gru", "lstm", "rnn"]

_MODULES: dict[str, type[nn.RNNBase]] = {"gru": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}


def recurrent(cell: Cell, inputs: int, width: int, layers: int) -> nn.RNNBase:
    """Return stacked layers of a cell, tensors [B, T, …]; to be called by `hidden`."""
    return _MODULES[cell](inputs, width, layers, batch_first=True)


def hidden(module: nn.RNNBase, x: Tensor) -> Tensor:
    """Return the last layer's hidden states [B, T, width] from x [B, T, inputs], the first state being zero.

    PyTorch knows no rule for its recurrent kernels under `vmap`, and the recurrence written out in its place is ten
    times slower than one kernel call a lane. So lanes are computed one after the other, by the kernel.
    """
    weights = [tensor for layer in module.all_weights for tensor in layer]
    kind = "lstm" if isinstance(module, nn.LSTM) else "gru" if isinstance(module, nn.GRU) else "rnn"
    if any(torch._C._functorch.is_functorch_wrapped_tensor(tensor) for tensor in (x, *weights)):
        return _Lanes.apply(kind, x, *weights)
    return _kernel(kind, x, weights)


def _kernel(kind: str, x: Tensor, weights: list[Tensor]) -> Tensor:
    layers, width = len(weights) // 4, weights[1].shape[1]
    zero = x.new_zeros(layers, len(x), width)
    options = (weights, True, layers, 0.0, torch.is_grad_enabled(), False, True)
    if kind == "lstm":
        return torch._VF.lstm(x, (zero, zero), *options)[0]  # type: ignore[attr-defined]
    return (torch._VF.gru if kind == "gru" else torch._VF.rnn_tanh)(x, zero, *options)[0]  # type: ignore[attr-defined]


def _each_lane(function: Any, info: Any, in_dims: tuple[int | None, ...], arguments: tuple[Any, ...]) -> list[Any]:
    """Return what a function gives for each lane's arguments."""
    return [
        function(
            *(
                argument if dim is None else argument.select(dim, lane)
                for argument, dim in zip(arguments, in_dims, strict=True)
            )
        )
        for lane in range(info.batch_size)
    ]


class _Lanes(torch.autograd.Function):
    """The kernel as something that `vmap` and `grad` know. Its backward computes the forward once more."""

    @staticmethod
    def forward(kind: str, x: Tensor, *weights: Tensor) -> Tensor:
        return _kernel(kind, x, list(weights))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.kind = inputs[0]
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return None, *_LanesBackward.apply(ctx.kind, grads[0], *ctx.saved_tensors)

    @staticmethod
    def vmap(info: Any, in_dims: Any, *arguments: Any) -> Any:
        return torch.stack(_each_lane(_Lanes.apply, info, in_dims, arguments)), 0


class _LanesBackward(torch.autograd.Function):
    @staticmethod
    def forward(kind: str, grad: Tensor, x: Tensor, *weights: Tensor) -> Any:
        leaves = [tensor.detach().requires_grad_() for tensor in (x, *weights)]
        with torch.enable_grad():
            output = _kernel(kind, leaves[0], leaves[1:])
        return torch.autograd.grad(output, leaves, grad)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        raise RuntimeError("recurrent kernels have no second derivative; take a model without recurrence")

    @staticmethod
    def vmap(info: Any, in_dims: Any, *arguments: Any) -> Any:
        found = _each_lane(_LanesBackward.apply, info, in_dims, arguments)
        stacked = tuple(torch.stack(tensors) for tensors in zip(*found, strict=True))
        return stacked, (0,) * len(stacked)


class PeepholeLSTM(nn.Module):
    """Stacked LSTM layers [B, T, inputs] -> [B, T, width] whose gates see the cell, with one bias.

    i = σ(W_i [x, h] + b_i + p_i c), f = σ(W_f [x, h] + b_f + p_f c), c' = f c + i tanh(W_g [x, h] + b_g),
    o = σ(W_o [x, h] + b_o + p_o c'), h' = o tanh(c'); p are vectors, products are elementwise.

    Reference: Gers, Schraudolph and Schmidhuber 2002, Learning Precise Timing with LSTM Recurrent Networks, JMLR 3;
    as TensorFlow's `LSTMCell(use_peepholes=True)`. Written out in operations that every transform knows.
    """

    def __init__(self, inputs: int, width: int, layers: int) -> None:
        super().__init__()
        self.layers, bound = layers, width**-0.5  # drawn as in nn.LSTM
        for layer in range(layers):
            shapes = {
                "weight_ih": (4 * width, width if layer else inputs),
                "weight_hh": (4 * width, width),
                "bias": (4 * width,),
                "peephole": (3, width),
            }
            for name, shape in shapes.items():
                setattr(self, f"{name}_l{layer}", nn.Parameter(torch.empty(shape).uniform_(-bound, bound)))

    def forward(self, x: Tensor) -> Tensor:
        """Return the last layer's hidden states."""
        for layer in range(self.layers):
            inward, across, bias, peephole = (
                getattr(self, f"{name}_l{layer}") for name in ("weight_ih", "weight_hh", "bias", "peephole")
            )
            of_i, of_f, of_o = peephole.unbind(0)
            from_x, back = (x @ inward.mT + bias).unbind(1), across.mT
            h = c = x.new_zeros(len(x), across.shape[1])
            found = []
            for gates in from_x:
                i, f, g, o = (gates + h @ back).chunk(4, -1)
                c = torch.sigmoid(f + of_f * c) * c + torch.sigmoid(i + of_i * c) * torch.tanh(g)
                h = torch.sigmoid(o + of_o * c) * torch.tanh(c)
                found.append(h)
            x = torch.stack(found, 1)
        return x
