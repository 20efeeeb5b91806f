"""Character LSTM."""

from typing import Annotated

from annotated_types import Ge, Le
from torch import Tensor, nn

from fedjourney.models._recurrent import PeepholeLSTM, Recurrent
from fedjourney.tasks import Signature


class _CharacterLSTM(nn.Module):
    def __init__(self, classes: int, embedding: int, width: int, layers: int, peepholes: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(classes, embedding)
        if peepholes:
            self.lstm: nn.Module = PeepholeLSTM(embedding, width, layers)
        else:
            self.lstm = Recurrent("lstm", embedding, width, layers)
        self.head = nn.Linear(width, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens [B, T] to logits [B, T, classes]."""
        return self.head(self.lstm(self.embedding(tokens)))


def lstm(
    signature: Signature,
    /,
    *,
    embedding: Annotated[int, Ge(1), Le(65_536)] = 8,
    width: Annotated[int, Ge(1), Le(65_536)] = 256,
    layers: Annotated[int, Ge(1), Le(100)] = 2,
    peepholes: bool = False,
) -> nn.Module:
    """Character LSTM: embedding, stacked LSTM layers, one logit per character at every position.

    The 866,578 parameters of McMahan et al. are those of the defaults with `peepholes` and 258 characters (all bytes
    and two markers: `characters = "bytes"` in the data), and of no other number of characters, biases and peepholes:
    258·8 + (4·256·(8 + 256 + 1) + 3·256) + (4·256·(256 + 256 + 1) + 3·256) + 257·258. The paper gives only the sum.

    Args:
        signature: one input of tokens [B, T].
        embedding: numbers per character.
        width: units of each layer.
        layers: stacked layers.
        peepholes: gates see the cell too, and have one bias where PyTorch's own have two; several times slower, but in
            compiled steps.

    Reference: McMahan et al. 2017, https://arxiv.org/abs/1602.05629, section 3 (8-dimensional embedding, 2 x 256).
    """
    return _CharacterLSTM(signature.classes, embedding, width, layers, peepholes)
