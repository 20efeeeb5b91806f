"""What supervised tasks share: a model over masked examples, minibatches, fitness as minus the loss, sums by blocks."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable

import torch
from torch import nn
from torch.func import vmap
from torch.nn import functional as F

from fedjourney.batching import Batch, first, minibatches
from fedjourney.data import Examples
from fedjourney.kernels import OwnPooling
from fedjourney.stateless import Stateless
from fedjourney.tasks import MakeModel, Signature, initial_parameters, refuse_buffers
from fedjourney.tensors import Tensors

EVALUATION_BLOCK = 512
POPULATION_CHUNK = 32  # candidates at once; more gain little, and take memory


class PerExample(ABC):
    """A model and a loss for each example; what a task adds is the losses, and the sums its metrics are made of."""

    def __init__(
        self, make_model: MakeModel, signature: Signature, batch_size: int, dtype: torch.dtype, steps: int = 0
    ) -> None:
        self.signature, self.steps = signature, steps
        self.batch_size = batch_size
        self.dtype = dtype
        self._make_model = make_model
        with torch.device("meta"):
            self._model = make_model()
        refuse_buffers(self._model)
        self._call = Stateless(self._model)
        # PyTorch's recurrent layers have no rule for lanes: their candidates are scored one after the other
        self._in_lanes = not any(isinstance(module, nn.RNNBase) for module in self._model.modules())

    def init(self, seed: int) -> Tensors:
        """Return fresh parameters."""
        return initial_parameters(self._make_model, seed, self.dtype)

    def outputs(self, params: Tensors, x: Tensors, key: torch.Tensor | None = None) -> torch.Tensor:
        """Return what the model says of each example [B, …]; one that says `takes_key` gets the step's noise key."""
        inputs = tuple(t.to(self.dtype) if t.is_floating_point() else t for t in x.values())
        noise = {"key": key} if getattr(self._model, "takes_key", False) else {}
        return self._call(params, *inputs, **noise)

    @abstractmethod
    def example_losses(self, params: Tensors, batch: Batch) -> torch.Tensor:
        """Return one loss for each example [B]."""

    @abstractmethod
    def sums(self, params: Tensors, part: Examples) -> Tensors:
        """Return what is summed over examples, for metrics; one of the sums is `examples`."""

    @abstractmethod
    def summary(self, sums: Tensors) -> dict[str, float]:
        """Return metrics from sums, the headline first."""

    def loss(self, params: Tensors, batch: Batch) -> torch.Tensor:
        """Return the masked mean loss []."""
        losses = self.example_losses(params, batch)
        mask = batch.mask.to(losses.dtype)
        return (losses * mask).sum() / mask.sum().clamp(min=1)

    def batches(self, params: Tensors, shard: Examples, seed: int) -> Iterable[Batch]:
        """Yield one pass of minibatches, or its first `steps`."""
        return minibatches(shard.x, shard.y, self.batch_size, seed, self.steps)

    def fitness(
        self, population: Tensors, shard: Examples, seed: int, build: Callable[[Tensors], Tensors] | None = None
    ) -> torch.Tensor:
        """Return minus the loss [M] of every candidate on one common minibatch.

        With `build` the population holds, for each candidate, whatever `build` makes its parameters from inside its
        lane, so that what candidates share need not be copied (low-rank perturbations).
        """
        batch = first(self.batches({}, shard, seed))

        def loss(candidate: Tensors) -> torch.Tensor:
            return self.loss(candidate if build is None else build(candidate), batch)

        with torch.no_grad(), OwnPooling():  # vmap's own pooling takes the channels apart: half of a LeNet's time
            if self._in_lanes:
                return -vmap(loss, chunk_size=POPULATION_CHUNK)(population)
            count = len(next(iter(population.values())))
            each = ({name: tensor[place] for name, tensor in population.items()} for place in range(count))
            return -torch.stack([loss(candidate) for candidate in each])

    def scored(self, shard: Examples) -> int:
        """Return how many examples one candidate's fitness looks at: those of one minibatch."""
        return min(self.batch_size, len(shard))

    def evaluate(self, params: Tensors, shard: Examples) -> Tensors:
        """Return float64 sums, by blocks of 512 in order."""
        sums: Tensors = {}
        with torch.no_grad():
            for start in range(0, max(len(shard), 1), EVALUATION_BLOCK):
                part = shard.cut(slice(start, start + EVALUATION_BLOCK))
                found = self.sums(params, part)
                sums = {name: sums[name] + total if sums else total for name, total in found.items()}
        return sums


class Prediction(PerExample):
    """A model's output for each example, and a loss for each; what a task adds is `losses` and its sums."""

    @abstractmethod
    def losses(self, outputs: torch.Tensor, y: Tensors) -> torch.Tensor:
        """Return one loss for each example [B]."""

    @abstractmethod
    def block_sums(self, outputs: torch.Tensor, y: Tensors) -> Tensors:
        """Return what is summed over examples, for metrics; one of the sums is `examples`."""

    def example_losses(self, params: Tensors, batch: Batch) -> torch.Tensor:
        """Return the loss of each example's output [B]."""
        return self.losses(self.outputs(params, batch.x, batch.key), batch.y)

    def sums(self, params: Tensors, part: Examples) -> Tensors:
        """Return the sums over the outputs."""
        return self.block_sums(self.outputs(params, part.x), part.y)


def answered_right(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return 1 where the largest of [..., classes] logits is that of the target [...], else 0; NaN where one is NaN.

    argmax names a class all the same, and a network that gives nothing but NaN would be right on all of that class.
    """
    right = (logits.argmax(-1) == target).to(logits.dtype)
    return torch.where(logits.isnan().any(-1), torch.nan, right)


class CrossEntropy(Prediction):
    """Cross-entropy of logits [B, …, classes] against integer targets [B, …]; accuracy and loss as metrics."""

    def losses(self, outputs: torch.Tensor, y: Tensors) -> torch.Tensor:
        """Return cross-entropy [B], averaged over positions within an example."""
        target = next(iter(y.values()))
        losses = F.cross_entropy(outputs.flatten(0, -2), target.flatten(), reduction="none").view(target.shape)
        return losses.flatten(1).mean(1) if target.dim() > 1 else losses

    def block_sums(self, outputs: torch.Tensor, y: Tensors) -> Tensors:
        """Return `loss`, `right` (shares of right answers within an example) and `examples`."""
        target = next(iter(y.values()))
        right = answered_right(outputs, target)
        right = right.flatten(1).mean(1) if target.dim() > 1 else right
        return {
            "loss": self.losses(outputs, y).cpu().double().sum(),
            "right": right.cpu().double().sum(),
            "examples": torch.tensor(float(len(target)), dtype=torch.float64),
        }

    def summary(self, sums: Tensors) -> dict[str, float]:
        """Return `accuracy` and `loss` (nats per example or character)."""
        count = float(sums["examples"])
        if count == 0:
            return {}
        return {"accuracy": float(sums["right"]) / count, "loss": float(sums["loss"]) / count}
