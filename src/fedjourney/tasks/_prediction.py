"""What classification and next-character prediction share: cross-entropy over masked examples."""

from collections.abc import Callable, Iterable

import torch
from torch.func import functional_call, vmap
from torch.nn import functional as F

from fedjourney.batching import Batch, minibatches
from fedjourney.data import Examples
from fedjourney.kernels import OwnPooling
from fedjourney.tasks import MakeModel, Signature, initial_parameters, refuse_buffers
from fedjourney.tensors import Tensors

EVALUATION_BLOCK = 512
POPULATION_CHUNK = 32  # candidates at once; more gain little, and take memory


class CrossEntropy:
    """Cross-entropy of logits [B, …, classes] against integer targets [B, …]; accuracy and loss as metrics."""

    def __init__(self, make_model: MakeModel, signature: Signature, batch_size: int, dtype: torch.dtype) -> None:
        self.signature = signature
        self.batch_size = batch_size
        self.dtype = dtype
        self._make_model = make_model
        with torch.device("meta"):
            self._model = make_model()
        refuse_buffers(self._model)

    def init(self, seed: int) -> Tensors:
        """Return fresh parameters."""
        return initial_parameters(self._make_model, seed, self.dtype)

    def logits(self, params: Tensors, x: Tensors) -> torch.Tensor:
        """Return logits [B, …, classes]."""
        inputs = tuple(t.to(self.dtype) if t.is_floating_point() else t for t in x.values())
        return functional_call(self._model, params, inputs)

    def _losses(self, params: Tensors, x: Tensors, y: Tensors) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (losses [B], shares of right answers [B]), averaged over positions within an example."""
        logits, target = self.logits(params, x), next(iter(y.values()))
        losses = F.cross_entropy(logits.flatten(0, -2), target.flatten(), reduction="none").view(target.shape)
        right = (logits.argmax(-1) == target).to(losses.dtype)
        return losses.flatten(1).mean(1) if target.dim() > 1 else losses, (
            right.flatten(1).mean(1) if target.dim() > 1 else right
        )

    def loss(self, params: Tensors, batch: Batch) -> torch.Tensor:
        """Return the masked mean loss []."""
        logits, target = self.logits(params, batch.x), next(iter(batch.y.values()))
        losses = F.cross_entropy(logits.flatten(0, -2), target.flatten(), reduction="none")
        losses = losses.view(target.shape[0], -1).mean(1)
        mask = batch.mask.to(losses.dtype)
        return (losses * mask).sum() / mask.sum().clamp(min=1)

    def batches(self, params: Tensors, shard: Examples, seed: int) -> Iterable[Batch]:
        """Yield one pass of minibatches."""
        return minibatches(shard.x, shard.y, self.batch_size, seed)

    def fitness(
        self, population: Tensors, shard: Examples, seed: int, build: Callable[[Tensors], Tensors] | None = None
    ) -> torch.Tensor:
        """Return minus the loss [M] of every candidate on one common minibatch.

        With `build` the population holds, for each candidate, whatever `build` makes its parameters from inside its
        lane, so that what candidates share need not be copied (low-rank perturbations).
        """
        batch = next(iter(self.batches({}, shard, seed)))

        def loss(candidate: Tensors) -> torch.Tensor:
            return self.loss(candidate if build is None else build(candidate), batch)

        with torch.no_grad(), OwnPooling():  # vmap's own pooling takes the channels apart: half of a LeNet's time
            scored = vmap(loss, chunk_size=POPULATION_CHUNK)(population)
        return -scored

    def evaluate(self, params: Tensors, shard: Examples) -> Tensors:
        """Return float64 sums `loss`, `right` and `examples`, by blocks of 512 in order."""
        sums = {name: torch.zeros((), dtype=torch.float64) for name in ("loss", "right", "examples")}
        with torch.no_grad():
            for start in range(0, len(shard), EVALUATION_BLOCK):
                rows = slice(start, start + EVALUATION_BLOCK)
                x = {name: tensor[rows] for name, tensor in shard.x.items()}
                y = {name: tensor[rows] for name, tensor in shard.y.items()}
                losses, right = self._losses(params, x, y)
                sums["loss"] += losses.double().sum()
                sums["right"] += right.double().sum()
                sums["examples"] += len(losses)
        return sums

    def summary(self, sums: Tensors) -> dict[str, float]:
        """Return `accuracy` and `loss` (nats per example or character)."""
        count = float(sums["examples"])
        if count == 0:
            return {}
        return {"accuracy": float(sums["right"]) / count, "loss": float(sums["loss"]) / count}
