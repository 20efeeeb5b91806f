"""Character LSTM."""

from typing import Annotated

from annotated_types import Ge
from torch import Tensor, nn

from fedjourney.tasks import Signature


class _CharacterLSTM(nn.Module):
    def __init__(self, classes: int, embedding: int, width: int, layers: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(classes, embedding)
        self.lstm = nn.LSTM(embedding, width, layers, batch_first=True)
        self.head = nn.Linear(width, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens [B, T] to logits [B, T, classes]."""
        hidden, _ = self.lstm(self.embedding(tokens))
        return self.head(hidden)


def lstm(
    signature: Signature,
    /,
    *,
    embedding: Annotated[int, Ge(1)] = 8,
    width: Annotated[int, Ge(1)] = 256,
    layers: Annotated[int, Ge(1)] = 2,
) -> nn.Module:
    """Character LSTM: embedding, stacked LSTM layers, one logit per character at every position.

    Args:
        signature: one input of tokens [B, T].
        embedding: numbers per character.
        width: units of each layer.
        layers: stacked layers.

    Reference: McMahan et al. 2017, https://arxiv.org/abs/1602.05629, section 3 (8-dimensional embedding, 2 x 256).
    """
    return _CharacterLSTM(signature.classes, embedding, width, layers)
