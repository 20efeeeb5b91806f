"""Classification."""

from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Le
from torch import nn

from fedjourney.data import Examples
from fedjourney.errors import ConfigError
from fedjourney.tasks import MakeModel, Signature, Task
from fedjourney.tasks._prediction import CrossEntropy
from fedjourney.tensors import Tensors

SHOWN, ROWS, ROW = 2000, 2, 6  # examples that the exhibit is chosen from; rows of images that it shows


class _Classification(CrossEntropy):
    """Cross-entropy; where the input is an image, shows those that it gets most wrong."""

    @property
    def last(self) -> str:
        """The name of the model's last linear layer.

        Raises:
            ConfigError: it does not end in one that has a bias and an output for each class.
        """
        found = [(name, layer) for name, layer in self._model.named_modules() if isinstance(layer, nn.Linear)]
        if not found or found[-1][1].bias is None or found[-1][1].out_features != self.signature.classes:
            raise ConfigError(
                "[model] expected one that ends in a linear layer with a bias and an output for each class, whose "
                "input is an embedding, got none. Take mlp, cnn, lenet or resnet8."
            )
        return found[-1][0]

    def embedded(
        self, params: Tensors, x: Tensors, key: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (outputs [B, classes], what the last linear layer sees [B, width])."""
        seen: list[torch.Tensor] = []
        layer = self._model.get_submodule(self.last)
        handle = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        try:
            outputs = self.outputs(params, x, key)
        finally:
            handle.remove()
        return outputs, seen[-1]

    def exhibit(self, params: Tensors, examples: Examples) -> dict[str, str | np.ndarray]:
        """Return the images of the highest loss, and what was said of them."""
        part = examples.cut(slice(0, SHOWN))
        images = next(iter(part.x.values()))
        if len(part) == 0 or images.dim() != 4 or images.shape[1] not in (1, 3):
            return {}
        with torch.no_grad():
            outputs = self.outputs(params, part.x)
            losses = self.losses(outputs, part.y)
        worst = losses.argsort(descending=True, stable=True)[: ROWS * ROW]
        low, high = images.min(), images.max()
        shown = ((images[worst] - low) / (high - low).clamp(min=1e-6)).permute(0, 2, 3, 1).double().numpy()
        framed = [np.pad(one, ((1, 1), (1, 1), (0, 0)), constant_values=0.5) for one in shown]
        framed += [np.ones_like(framed[0])] * (-len(framed) % ROW if len(framed) > ROW else 0)
        lines = [np.concatenate(framed[start : start + ROW], 1) for start in range(0, len(framed), ROW)]
        picture = np.concatenate(lines, 0)
        target, said = next(iter(part.y.values()))[worst].tolist(), outputs[worst].argmax(-1).tolist()
        words = [f"{one} as {other}" for one, other in zip(target, said, strict=True)]
        told = "\n".join(", ".join(words[start : start + ROW]) for start in range(0, len(words), ROW))
        kind = next(iter(part.x))
        what = "images" if kind in ("image", "img") else f'inputs "{kind}", drawn as images,'
        first = f"of the first {len(part)}" if len(examples) > len(part) else "of all"
        return {
            f"The test {what} with the highest loss, {first}": picture[..., 0] if picture.shape[2] == 1 else picture,
            "What they are, and what they were taken for, row by row": told,
        }


def classification(
    make_model: MakeModel,
    signature: Signature,
    dtype: torch.dtype,
    /,
    *,
    batch_size: Annotated[int, Ge(1), Le(1_000_000)] = 10,
    steps: Annotated[int, Ge(0), Le(1_000_000_000)] = 0,
) -> Task:
    """One label per example; cross-entropy, accuracy.

    Args:
        make_model: builds the model.
        signature: one target without further dimensions.
        dtype: of parameters.
        batch_size: examples per local step (McMahan's B); the last batch of a pass may be smaller.
        steps: batches in a pass, 0 = all of the shard; then clients with unequal shards take equal steps.
    """
    shape = next(iter(signature.outputs.values()))
    if shape != ():
        raise ConfigError(
            f"[task] classification expects one label per example, got targets of shape {list(shape)}. "
            "For text take next_character."
        )
    if signature.classes < 1:
        raise ConfigError("[task] classification expects classes, got numbers as targets. Take regression.")
    return _Classification(make_model, signature, batch_size, dtype, steps)
