"""Several real numbers for each example."""

from collections.abc import Callable, Iterable
from math import sqrt
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Le
from torch.func import vmap

from fedjourney.batching import Batch, first, minibatches
from fedjourney.data import Examples
from fedjourney.errors import ConfigError
from fedjourney.stateless import Stateless
from fedjourney.tasks import MakeModel, Signature, Task, initial_parameters, refuse_buffers
from fedjourney.tasks._scatter import scattered
from fedjourney.tensors import Tensors

EVALUATION_BLOCK = 512
SHOWN = 2000  # examples of the exhibit
POPULATION_CHUNK = 16


def correlations(
    make_model: MakeModel,
    signature: Signature,
    dtype: torch.dtype,
    /,
    *,
    batch_size: Annotated[int, Ge(1), Le(1_000_000)] = 10,
) -> Task:
    """Correlations of a quantum state, one or several for each example; squared error, R² and RMSE.

    Args:
        make_model: builds the model; it gives one number for each target.
        signature: one target [E] of real numbers.
        dtype: of parameters.
        batch_size: examples per local step.
    """
    shape = next(iter(signature.outputs.values()))
    if len(shape) != 1 or shape[0] != signature.classes:
        raise ConfigError(
            f"[task] correlations expects a list of real numbers for each example, got targets of shape {list(shape)}. "
            "Take [data] heisenberg; for labels take classification."
        )
    return _Correlations(make_model, signature, batch_size, dtype)


class _Correlations:
    def __init__(self, make_model: MakeModel, signature: Signature, batch_size: int, dtype: torch.dtype) -> None:
        self.signature, self.batch_size, self.dtype = signature, batch_size, dtype
        self._make_model = make_model
        with torch.device("meta"):
            self._model = make_model()
        refuse_buffers(self._model)
        self._call = Stateless(self._model)

    def init(self, seed: int) -> Tensors:
        """Return fresh parameters."""
        return initial_parameters(self._make_model, seed, self.dtype)

    def _errors(self, params: Tensors, x: Tensors, y: Tensors) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (predicted - target, target) [B, E]."""
        inputs = tuple(tensor.to(self.dtype) for tensor in x.values())
        target = next(iter(y.values())).to(self.dtype)
        return self._call(params, *inputs) - target, target

    def loss(self, params: Tensors, batch: Batch) -> torch.Tensor:
        """Return the masked mean squared error []."""
        errors, _ = self._errors(params, batch.x, batch.y)
        mask = batch.mask.to(errors.dtype)
        return (errors.square().mean(1) * mask).sum() / mask.sum().clamp(min=1)

    def batches(self, params: Tensors, shard: Examples, seed: int) -> Iterable[Batch]:
        """Yield one pass of minibatches."""
        return minibatches(shard.x, shard.y, self.batch_size, seed)

    def fitness(
        self, population: Tensors, shard: Examples, seed: int, build: Callable[[Tensors], Tensors] | None = None
    ) -> torch.Tensor:
        """Return minus the loss [M] of every candidate (or of what `build` makes of it) on one common minibatch."""
        batch = first(self.batches({}, shard, seed))

        def loss(candidate: Tensors) -> torch.Tensor:
            return self.loss(candidate if build is None else build(candidate), batch)

        with torch.no_grad():
            return -vmap(loss, chunk_size=POPULATION_CHUNK)(population)

    def evaluate(self, params: Tensors, shard: Examples) -> Tensors:
        """Return float64 sums over examples, for each target [E]: errors squared, targets, targets squared; count."""
        width = self.signature.classes
        sums = {name: torch.zeros(width, dtype=torch.float64) for name in ("error", "target", "square")}
        sums["examples"] = torch.zeros((), dtype=torch.float64)
        with torch.no_grad():
            for start in range(0, len(shard), EVALUATION_BLOCK):
                part = shard.cut(slice(start, start + EVALUATION_BLOCK))
                errors, target = (tensor.double() for tensor in self._errors(params, part.x, part.y))
                for name, tensor in (("error", errors.square()), ("target", target), ("square", target.square())):
                    sums[name] += tensor.sum(0)
                sums["examples"] += len(part)
        return sums

    def summary(self, sums: Tensors) -> dict[str, float]:
        """Return `r2` = 1 - Σ errors² / Σ (target - its mean)², `rmse` and `loss` = rmse².

        Both sums run over examples and targets, a target's mean is its own over the examples that are judged; where
        they do not vary there is no R².
        """
        count = float(sums["examples"])
        if count == 0:
            return {}
        error = float(sums["error"].sum())
        spread = float((sums["square"] - sums["target"].square() / count).sum())
        mean = error / (count * self.signature.classes)
        found = {"r2": 1 - error / spread} if spread > 1e-12 * count else {}
        return {**found, "rmse": sqrt(mean), "loss": mean}

    def exhibit(self, params: Tensors, examples: Examples) -> dict[str, str | np.ndarray]:
        """Return predictions over exact values as a picture."""
        if not len(examples):
            return {}
        part = examples.cut(slice(0, SHOWN))
        with torch.no_grad():
            errors, target = self._errors(params, part.x, part.y)
        return scattered(target.flatten().double().numpy(), (target + errors).flatten().double().numpy())
