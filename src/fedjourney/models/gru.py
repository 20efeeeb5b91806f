"""A recurrent network that reads a sequence to its end."""

from typing import Annotated, Literal

from annotated_types import Ge, Le
from torch import Tensor, nn

from fedjourney.errors import ConfigError
from fedjourney.models._recurrent import Cell, Recurrent
from fedjourney.tasks import Signature


class _Reader(nn.Module):
    def __init__(self, cell: Cell, inputs: int, width: int, layers: int, outputs: int) -> None:
        super().__init__()
        self.cell = Recurrent(cell, inputs, width, layers)
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [B, C, H, W] by rows, or sequences [B, T] or [B, T, F], to outputs [B, outputs]."""
        if x.dim() == 4:
            x = x.transpose(1, 2).flatten(2)  # [B, H, C W]
        elif x.dim() == 2:
            x = x.unsqueeze(-1)
        return self.head(self.cell(x)[:, -1])


class _Teller(nn.Module):
    """Answers after every input, and goes on from a state where a task acts between inputs."""

    def __init__(self, cell: Cell, inputs: int, width: int, layers: int, outputs: int) -> None:
        super().__init__()
        self.cell = Recurrent(cell, inputs, width, layers)
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor, state: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """Map sequences [B, T] or [B, T, F] to outputs [B, T, outputs].

        With a state [S, B, width] (`begin`) the next inputs [B, F], to their outputs [B, outputs] and the state after.
        """
        if state is None:
            return self.head(self.cell(x if x.dim() == 3 else x.unsqueeze(-1)))
        hidden, state = self.cell.step(x, state)
        return self.head(hidden), state

    def begin(self, x: Tensor) -> Tensor:
        """Return the state [S, B, width] before the first of some inputs [B, F]."""
        return self.cell.begin(x)


def gru(
    signature: Signature,
    /,
    *,
    cell: Cell = "gru",
    width: Annotated[int, Ge(1), Le(65_536)] = 64,
    layers: Annotated[int, Ge(1), Le(100)] = 1,
    answers: Literal["last", "every"] = "last",
) -> nn.Module:
    """GRU that reads a sequence, or an image row by row, and answers from its last state; also LSTM and plain RNN.

    Args:
        signature: one input: an image [C, H, W], read as H rows of C·W numbers, or a sequence [T] or [T, F].
        cell: "gru", "lstm", or "rnn" (tanh; Elman 1990).
        width: units of each layer.
        layers: stacked layers.
        answers: from the "last" state, or after "every" input of a sequence (tasks `bandits` and `in_context`).

    Reference: Cho et al. 2014, Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine
    Translation, https://arxiv.org/abs/1406.1078 (PyTorch's variant, with the reset gate after the product).
    """
    shape = next(iter(signature.inputs.values()))
    if not 1 <= len(shape) <= 3:
        raise ConfigError(
            '[model] name: "gru" expects sequences [steps] or [steps, features], or images [channels, height, width], '
            f"got examples of shape {list(shape)}. Take other data."
        )
    inputs = 1 if len(shape) == 1 else shape[1] if len(shape) == 2 else shape[0] * shape[2]
    if answers == "every":
        if len(shape) == 3:
            raise ConfigError('[model] answers: "every" expects sequences, got images. Take answers = "last".')
        return _Teller(cell, inputs, width, layers, signature.classes)
    return _Reader(cell, inputs, width, layers, signature.classes)
