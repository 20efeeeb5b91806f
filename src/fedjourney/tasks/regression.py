"""Regression."""

from dataclasses import replace
from functools import partial
from math import prod, sqrt
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Gt, Le

from fedjourney.data import Examples
from fedjourney.errors import ConfigError
from fedjourney.tasks import MakeModel, Signature, Task
from fedjourney.tasks._prediction import Prediction
from fedjourney.tasks._scatter import scattered
from fedjourney.tensors import Tensors

SHOWN = 2000  # examples of the exhibit


class _Regression(Prediction):
    """Squared error of (output - target / scale) [B, …]; the root of its mean, in the target's unit, as metric."""

    scale: float = 1.0
    rmse: str = "rmse"

    def _predicted(self, outputs: torch.Tensor, y: Tensors) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (predictions, targets) [B, …], both divided by the scale."""
        target = next(iter(y.values()))
        return outputs.view(target.shape), target.to(outputs.dtype) / self.scale

    def losses(self, outputs: torch.Tensor, y: Tensors) -> torch.Tensor:
        """Return the squared error [B], averaged over the numbers of one target."""
        predicted, target = self._predicted(outputs, y)
        errors = (predicted - target).square()
        return errors.flatten(1).mean(1) if errors.dim() > 1 else errors

    def block_sums(self, outputs: torch.Tensor, y: Tensors) -> Tensors:
        """Return `loss`, `target` and `square` (sums of targets and of their squares, scaled) and `examples`."""
        _, target = self._predicted(outputs, y)
        return {
            "loss": self.losses(outputs, y).double().sum(),
            "target": target.double().sum(0),
            "square": target.double().square().sum(0),
            "examples": torch.tensor(float(len(target)), dtype=torch.float64),
        }

    def summary(self, sums: Tensors) -> dict[str, float]:
        """Return the root mean squared error, that of the best constant on the same examples, and the scaled `loss`."""
        count = float(sums["examples"])
        if count == 0:
            return {}
        loss = float(sums["loss"]) / count
        spread = float((sums["square"] / count - (sums["target"] / count).square()).clamp(min=0).mean())
        return {self.rmse: self.scale * sqrt(loss), f"constant_{self.rmse}": self.scale * sqrt(spread), "loss": loss}

    def exhibit(self, params: Tensors, examples: Examples) -> dict[str, str | np.ndarray]:
        """Return predictions over targets as a picture, where a target is one number."""
        part = examples.cut(slice(0, SHOWN))
        if len(part) == 0 or prod(next(iter(self.signature.outputs.values()))) != 1:
            return {}
        with torch.no_grad():
            predicted, target = self._predicted(self.outputs(params, part.x), part.y)
        return scattered(self.scale * target.flatten().numpy(), self.scale * predicted.flatten().numpy())


def regression(
    make_model: MakeModel,
    signature: Signature,
    dtype: torch.dtype,
    /,
    *,
    batch_size: Annotated[int, Ge(1), Le(1_000_000)] = 10,
    scale: Annotated[float, Gt(0)] = 1.0,
    unit: str = "",
) -> Task:
    """Numbers as targets; squared error, and its root in the target's unit beside that of the best constant.

    `constant_rmse` is what predicting the mean of the very examples that are evaluated would give: a floor that no
    constant can pass. The model has an output for each number of a target.

    Args:
        make_model: builds the model.
        signature: targets of numbers, of any shape.
        dtype: of parameters.
        batch_size: examples per local step.
        scale: targets are divided by it before the model sees them; about their spread, so that the loss begins near 1.
        unit: of the targets; `rmse` becomes `rmse_<unit>`.
    """
    if signature.classes > 0:
        raise ConfigError("[task] regression expects numbers as targets, got classes. Take classification.")
    numbers = prod(next(iter(signature.outputs.values())))
    task = _Regression(partial(make_model, replace(signature, classes=numbers)), signature, batch_size, dtype)
    task.scale, task.rmse = scale, f"rmse_{unit}" if unit else "rmse"
    return task
