"""What recurrent models share: stacked layers of a cell, by PyTorch's own kernels where it has one, also in lanes."""

from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from fedjourney.lstm_layers import Last, LSTMLayer, is_ours

Cell: TypeAlias = Literal["gru", "lstm", "rnn"]

GATES = {"gru": 3, "lstm": 4, "rnn": 1}


class Recurrent(nn.Module):
    """Stacked layers of a cell [B, T, inputs] -> [B, T, width], the first state being zero.

    Tensors, their names and how they are drawn are those of `nn.GRU`, `nn.LSTM` and `nn.RNN`, and so are the kernels.
    PyTorch knows no rule for them under `vmap`, and the recurrence written out in their place is five to ten times
    slower than a kernel call for each lane. So lanes are computed one after the other, by the kernel; LSTM layers of a
    compiled step by our own (`fedjourney.lstm_layers`).
    """

    def __init__(self, cell: Cell, inputs: int, width: int, layers: int) -> None:
        super().__init__()
        self.cell, rows = cell, GATES[cell] * width
        self.names = [
            f"{name}_l{n}" for n in range(layers) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        ]
        for name in self.names:
            across = inputs if name == "weight_ih_l0" else width
            shape = (rows, across) if name.startswith("weight") else (rows,)
            setattr(self, name, nn.Parameter(torch.empty(shape).uniform_(-(width**-0.5), width**-0.5)))

    def forward(self, x: Tensor) -> Tensor:
        """Return the last layer's hidden states."""
        return _states(self.cell, x, [getattr(self, name) for name in self.names])

    def begin(self, like: Tensor) -> Tensor:
        """Return the state before anything was read [S, B, width] for B inputs [B, inputs]; S numbers of layers."""
        rows = len(self.names) // 4 * (2 if self.cell == "lstm" else 1)
        return like.new_zeros(rows, len(like), self.get_parameter("weight_hh_l0").shape[1])

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Read one input more [B, inputs]; return the last layer's hidden state [B, width] and the state [S, B, width].

        Written out, in operations that lanes know: what acts in a world cannot wait for the end of a sequence.
        """
        kept, each = [], 2 if self.cell == "lstm" else 1
        for layer in range(len(self.names) // 4):
            inward, across, bias, other = (getattr(self, name) for name in self.names[4 * layer : 4 * layer + 4])
            h = state[each * layer]
            seen, held = x @ inward.mT + bias, h @ across.mT + other
            if self.cell == "gru":
                (r, z, n), (of_r, of_z, of_n) = seen.chunk(3, -1), held.chunk(3, -1)
                z = torch.sigmoid(z + of_z)
                x = (1 - z) * torch.tanh(n + torch.sigmoid(r + of_r) * of_n) + z * h
                kept.append(x)
            elif self.cell == "lstm":
                i, f, g, o = (seen + held).chunk(4, -1)
                c = torch.sigmoid(f) * state[each * layer + 1] + torch.sigmoid(i) * torch.tanh(g)
                x = torch.sigmoid(o) * torch.tanh(c)
                kept += [x, c]
            else:
                x = torch.tanh(seen + held)
                kept.append(x)
        return x, torch.stack(kept)


class PeepholeLSTM(nn.Module):
    """Stacked LSTM layers [B, T, inputs] -> [B, T, width] whose gates see the cell, with one bias.

    i = σ(W_i [x, h] + b_i + p_i c), f = σ(W_f [x, h] + b_f + p_f c), c' = f c + i tanh(W_g [x, h] + b_g),
    o = σ(W_o [x, h] + b_o + p_o c'), h' = o tanh(c'); p are vectors, products are elementwise. Biases begin at 0, those
    of forget gates at 1, and peepholes at 0.

    Reference: Gers, Schraudolph and Schmidhuber 2002, Learning Precise Timing with LSTM Recurrent Networks, JMLR 3;
    as TensorFlow's `LSTMCell(use_peepholes=True)`.
    """

    def __init__(self, inputs: int, width: int, layers: int) -> None:
        super().__init__()
        self.names = [f"{name}_l{n}" for n in range(layers) for name in ("weight_ih", "weight_hh", "bias", "peephole")]
        for name in self.names:
            if name.startswith("weight"):
                across = inputs if name == "weight_ih_l0" else width
                drawn = torch.empty(4 * width, across).uniform_(-(width**-0.5), width**-0.5)
            elif name.startswith("bias"):
                drawn = torch.tensor([0.0, 1.0, 0.0, 0.0]).repeat_interleave(width)
            else:
                drawn = torch.zeros(3, width)
            setattr(self, name, nn.Parameter(drawn))

    def forward(self, x: Tensor) -> Tensor:
        """Return the last layer's hidden states."""
        return _states("peephole", x, [getattr(self, name) for name in self.names])


def _states(kind: str, x: Tensor, weights: list[Tensor]) -> Tensor:
    if kind in ("lstm", "peephole") and is_ours(x):
        return _layers(kind, x, weights)
    if any(torch._C._functorch.is_functorch_wrapped_tensor(tensor) for tensor in (x, *weights)):
        return _Lanes.apply(kind, x, *weights)
    return _kernel(kind, x, weights)


def _layers(kind: str, x: Tensor, weights: list[Tensor]) -> Tensor:
    x = x.transpose(-3, -2)
    for layer in range(len(weights) // 4):
        inward, across, *rest = weights[4 * layer : 4 * layer + 4]
        bias, peephole = rest if kind == "peephole" else (rest[0] + rest[1], None)
        x = LSTMLayer.apply(x, inward, across, bias, peephole)[0]
    return x.transpose(-3, -2)


def _kernel(kind: str, x: Tensor, weights: list[Tensor]) -> Tensor:
    """Return the last layer's states from the weights of all layers, four to each."""
    layers, width = len(weights) // 4, weights[1].shape[1]
    if kind == "peephole":
        for layer in range(layers):
            x = _PeepholeLayer.apply(x, *weights[4 * layer : 4 * layer + 4])
        return x
    zero = x.new_zeros(layers, len(x), width)
    options = (weights, True, layers, 0.0, torch.is_grad_enabled(), False, True)
    if kind == "lstm":
        return torch._VF.lstm(x, (zero, zero), *options)[0]
    return (torch._VF.gru if kind == "gru" else torch._VF.rnn_tanh)(x, zero, *options)[0]


class _PeepholeLayer(torch.autograd.Function):
    """A layer of `PeepholeLSTM`; its gradient by hand is three times faster than what autograd makes of the loop."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, inward: Tensor, across: Tensor, bias: Tensor, peephole: Tensor) -> Tensor:
        count, steps, width = *x.shape[:2], across.shape[1]
        gates = (x.transpose(0, 1) @ inward.mT + bias).view(steps, count, 4, width)
        h, c = x.new_zeros(2, steps + 1, count, width)
        squashed, back = x.new_empty(steps, count, width), across.mT.contiguous()
        for t in range(steps):
            now = gates[t]
            now.view(count, -1).addmm_(h[t], back)
            now[:, :2].addcmul_(peephole[:2], c[t].unsqueeze(1)).sigmoid_()
            now[:, 2].tanh_()
            torch.addcmul(now[:, 1] * c[t], now[:, 0], now[:, 2], out=c[t + 1])
            now[:, 3].addcmul_(peephole[2], c[t + 1]).sigmoid_()
            torch.tanh(c[t + 1], out=squashed[t])
            torch.mul(now[:, 3], squashed[t], out=h[t + 1])
        ctx.save_for_backward(x, inward, across, peephole, gates, h, c, squashed)
        return h[1:].transpose(0, 1).contiguous()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, inward, across, peephole, gates, h, c, squashed = ctx.saved_tensors
        grad = grads[0].transpose(0, 1)
        i, f, g, o = gates.unbind(2)
        to_o, to_c = squashed * o * (1 - o), o * (1 - squashed * squashed)
        to_rest = torch.stack([g * i * (1 - i), c[:-1] * f * (1 - f), i * (1 - g * g)], 2)
        moved, later_h, later_c = torch.empty_like(gates), torch.zeros_like(h[0]), torch.zeros_like(h[0])
        for t in reversed(range(len(gates))):
            now, of_h = moved[t], grad[t] + later_h
            torch.mul(of_h, to_o[t], out=now[:, 3])
            of_c = torch.addcmul(later_c, of_h, to_c[t]).addcmul_(now[:, 3], peephole[2])
            torch.mul(of_c.unsqueeze(1), to_rest[t], out=now[:, :3])
            later_c = (now[:, :2] * peephole[:2]).sum(1).addcmul_(of_c, f[t])
            later_h = now.view(len(now), -1) @ across
        flat = moved.flatten(2)  # [T, B, 4 width]
        rows = flat.flatten(0, 1)
        seen = torch.stack([c[:-1], c[:-1], c[1:]], 2)
        return (
            (flat @ inward).transpose(0, 1),
            rows.mT @ x.transpose(0, 1).flatten(0, 1),
            rows.mT @ h[:-1].flatten(0, 1),
            rows.sum(0),
            (moved[:, :, [0, 1, 3]] * seen).sum((0, 1)),
        )


class _Lanes(torch.autograd.Function):
    """A kernel as something that `vmap` and `grad` know. Its gradient computes the states once more."""

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
        return torch.stack([_Lanes.apply(*lane) for lane in _by_lane(info, in_dims, arguments)]), 0


class _LanesBackward(Last):
    @staticmethod
    def forward(kind: str, grad: Tensor, x: Tensor, *weights: Tensor) -> Any:
        leaves = [tensor.detach().requires_grad_() for tensor in (x, *weights)]
        with torch.enable_grad():
            states = _kernel(kind, leaves[0], leaves[1:])
        return torch.autograd.grad(states, leaves, grad)

    @staticmethod
    def vmap(info: Any, in_dims: Any, *arguments: Any) -> Any:
        found = [_LanesBackward.apply(*lane) for lane in _by_lane(info, in_dims, arguments)]
        stacked = tuple(torch.stack(tensors) for tensors in zip(*found, strict=True))
        return stacked, (0,) * len(stacked)


def _by_lane(info: Any, in_dims: tuple[int | None, ...], arguments: tuple[Any, ...]) -> list[list[Any]]:
    """Return the arguments of each lane."""
    return [
        [one if dim is None else one.select(dim, lane) for one, dim in zip(arguments, in_dims, strict=True)]
        for lane in range(info.batch_size)
    ]
