"""Prototypes: a class is where its examples lie on average."""

from typing import Annotated

import torch
from annotated_types import Ge, Le
from torch.nn import functional as F

from fedjourney.batching import Batch
from fedjourney.data import Examples
from fedjourney.errors import ConfigError
from fedjourney.tasks import MakeModel, Signature, Task
from fedjourney.tasks._few_shot import FewShot, spread
from fedjourney.tasks._prediction import answered_right
from fedjourney.tensors import Tensors


class _Prototypes(FewShot):
    """Cross-entropy of minus the squared distances between a query's embedding and the mean of each class's support."""

    def _logits(self, points: torch.Tensor) -> torch.Tensor:
        """Return minus squared distances [B, ways * queries, ways] from embedded sheets [B, ways, images, width]."""
        means = points[:, :, : self.shots].mean(2)
        query = points[:, :, self.shots :].flatten(1, 2)
        return -(query[:, :, None] - means[:, None]).square().sum(-1)

    def _embedded(self, params: Tensors, sheets: torch.Tensor, key: torch.Tensor | None = None) -> torch.Tensor:
        """Return embeddings [B, ways, images, width] of sheets [B, ways, images, …]."""
        flat = self.outputs(params, {"point": sheets.flatten(0, 2)}, key)
        return flat.unflatten(0, sheets.shape[:3])

    def _losses(self, logits: torch.Tensor) -> torch.Tensor:
        """Return each episode's mean cross-entropy [B]."""
        target = self._targets(logits)
        each = F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none")
        return each.view(target.shape).mean(1)

    def _right(self, logits: torch.Tensor) -> torch.Tensor:
        """Return each episode's accuracy [B]."""
        return answered_right(logits, self._targets(logits)).double().mean(1)

    def _targets(self, logits: torch.Tensor) -> torch.Tensor:
        """Return the class of each query [B, ways * queries]: its place on the sheet."""
        place = torch.arange(self.ways, device=logits.device).repeat_interleave(logits.shape[1] // self.ways)
        return place.expand(len(logits), -1)

    def example_losses(self, params: Tensors, batch: Batch) -> torch.Tensor:
        """Return the loss of each episode [B]."""
        return self._losses(self._logits(self._embedded(params, next(iter(batch.x.values())), batch.key)))

    def sums(self, params: Tensors, part: Examples) -> Tensors:
        """Return sums over episodes of the accuracy, of its square, of that of bare pixels, and of the loss."""
        sheets = next(iter(part.x.values())).to(self.dtype)
        logits = self._logits(self._embedded(params, sheets))
        right = self._right(logits)
        each = {"score": right, "score_square": right.square(), "pixels": self._right(self._logits(sheets.flatten(3))),
                "loss": self._losses(logits).double(), "examples": torch.ones_like(right)}  # fmt: skip
        return {name: values.sum() for name, values in each.items()}

    def summary(self, sums: Tensors) -> dict[str, float]:
        """Return `accuracy`, `pixels_accuracy` (the floor), the deviation between episodes, and `loss`."""
        count = float(sums["examples"])
        if count == 0:
            return {}
        mean, deviation = spread(sums, "score", count)
        return {
            "accuracy": mean,
            "pixels_accuracy": float(sums["pixels"]) / count,
            "accuracy_deviation": deviation,
            "loss": float(sums["loss"]) / count,
        }


def prototypes(
    make_model: MakeModel,
    signature: Signature,
    dtype: torch.dtype,
    /,
    *,
    shots: Annotated[int, Ge(1), Le(100_000)] = 1,
    embedding: Annotated[int, Ge(1), Le(65_536)] = 32,
    batch_size: Annotated[int, Ge(1), Le(1_000_000)] = 1,
) -> Task:
    """Prototypical network: a new class is the mean of its k shots' embeddings, and the nearest one is meant.

    The loss of an episode is the cross-entropy of softmax(-|h(x) - c|²) over its query, c a class's mean embedding over
    its support. Nothing is adapted to new classes but the means. Beside stands the accuracy of bare pixels in the place
    of h, which a network has to pass.

    Args:
        make_model: builds the model of single images.
        signature: sheets of images by class, as of data `unseen_classes`.
        dtype: of parameters.
        shots: k, images of each class that its mean is taken of; the others on the sheet are asked about.
        embedding: numbers that an image becomes.
        batch_size: sheets per local step.

    Reference: Snell et al. 2017, Prototypical Networks for Few-shot Learning, https://arxiv.org/abs/1703.05175,
    equations 1 and 2.
    """
    if signature.classes < 1:
        raise ConfigError("[task] prototypes expects classes, got numbers as targets. Take adaptation.")
    return _Prototypes(make_model, signature, batch_size, dtype, shots, embedding)
