"""Next-character prediction."""

from math import exp
from typing import Annotated

import torch
from annotated_types import Ge

from fedjourney.errors import ConfigError
from fedjourney.tasks import MakeModel, Signature, Task
from fedjourney.tasks._prediction import CrossEntropy
from fedjourney.tensors import Tensors


class _NextCharacter(CrossEntropy):
    """Cross-entropy per character, with perplexity."""

    def summary(self, sums: Tensors) -> dict[str, float]:
        """Return `accuracy`, `loss` (nats per character) and `perplexity` = exp(loss)."""
        metrics = super().summary(sums)
        return {**metrics, "perplexity": exp(min(metrics["loss"], 700.0))} if metrics else {}


def next_character(
    make_model: MakeModel,
    signature: Signature,
    dtype: torch.dtype,
    /,
    *,
    batch_size: Annotated[int, Ge(1)] = 10,
) -> Task:
    """The next character at every position of a sequence; cross-entropy, accuracy, perplexity.

    Args:
        make_model: builds the model.
        signature: tokens [T] in, the following tokens [T] out.
        dtype: of parameters.
        batch_size: sequences per local step.
    """
    shape = next(iter(signature.outputs.values()))
    if len(shape) != 1:
        raise ConfigError(
            f"[task] next_character expects sequences of tokens, got targets of shape {list(shape)}. "
            "For labels take classification."
        )
    if signature.classes < 1:
        raise ConfigError("[task] next_character expects characters, got numbers as targets. Take regression.")
    return _NextCharacter(make_model, signature, batch_size, dtype)
