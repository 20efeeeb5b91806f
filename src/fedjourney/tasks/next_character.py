"""Next-character prediction."""

from math import exp
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Gt, Le

from fedjourney.data import Examples, written
from fedjourney.errors import ConfigError
from fedjourney.seeds import seed_for, uniforms
from fedjourney.tasks import MakeModel, Signature, Task
from fedjourney.tasks._prediction import CrossEntropy
from fedjourney.tensors import Tensors

PROMPTS = 3
MARK = "▸"  # where the model takes over


class _NextCharacter(CrossEntropy):
    """Cross-entropy per character, with perplexity; writes text."""

    temperature: float
    characters: int

    def summary(self, sums: Tensors) -> dict[str, float]:
        """Return `accuracy`, `loss` (nats per character) and `perplexity` = exp(loss)."""
        metrics = super().summary(sums)
        return {**metrics, "perplexity": exp(min(metrics["loss"], 700.0))} if metrics else {}

    def exhibit(self, params: Tensors, examples: Examples) -> dict[str, str | np.ndarray]:
        """Return up to three texts: how an example of each third of the test set begins, and how the model goes on."""
        if not len(examples) or not self.signature.vocabulary or not self.characters:
            return {}
        tokens = next(iter(examples.x.values()))
        places = sorted({third * len(examples) // PROMPTS for third in range(PROMPTS)})
        prompts = tokens[torch.tensor(places)]
        found = self.continued(params, prompts)
        return {
            f"text {number} (temperature {self.temperature:g})": (
                f"{written(prompt.tolist(), self.signature.vocabulary)}{MARK}"
                f"{written(text.tolist(), self.signature.vocabulary)}"
            )
            for number, (prompt, text) in enumerate(zip(prompts, found, strict=True), start=1)
        }

    def continued(self, params: Tensors, prompts: torch.Tensor) -> torch.Tensor:
        """Return how the model goes on after prompts [n, T], codes [n, characters].

        Each character is drawn from softmax(logits / temperature), given the T before it, as in training. The draws
        are those of a fixed seed, so that the same model writes the same text.
        """
        length, text = prompts.shape[1], prompts
        draws = uniforms(seed_for(0, "text"), len(prompts) * self.characters)
        with torch.no_grad():
            for draw in torch.from_numpy(draws).view(self.characters, -1, 1):
                logits = self.outputs(params, {"tokens": text[:, -length:]})[:, -1].double()
                cumulative = torch.softmax(logits / self.temperature, -1).cumsum(-1)
                drawn = torch.searchsorted(cumulative, draw, right=True).clamp(max=cumulative.shape[1] - 1)
                text = torch.cat([text, drawn], 1)
        return text[:, length:]


def next_character(
    make_model: MakeModel,
    signature: Signature,
    dtype: torch.dtype,
    /,
    *,
    batch_size: Annotated[int, Ge(1), Le(1_000_000)] = 10,
    temperature: Annotated[float, Gt(0)] = 0.7,
    text_length: Annotated[int, Ge(0), Le(100_000)] = 300,
) -> Task:
    """The next character at every position of a sequence; cross-entropy, accuracy, perplexity; writes text at the end.

    Args:
        make_model: builds the model.
        signature: tokens [T] in, the following tokens [T] out.
        dtype: of parameters.
        batch_size: sequences per local step.
        temperature: of the text that the model writes at the end; logits are divided by it: below 1 more of the likely.
        text_length: characters that it writes after each of three beginnings.
    """
    shape = next(iter(signature.outputs.values()))
    if len(shape) != 1:
        raise ConfigError(
            f"[task] next_character expects sequences of tokens, got targets of shape {list(shape)}. "
            "For labels take classification."
        )
    if signature.classes < 1:
        raise ConfigError("[task] next_character expects characters, got numbers as targets. Take regression.")
    task = _NextCharacter(make_model, signature, batch_size, dtype)
    task.temperature, task.characters = temperature, text_length
    return task
