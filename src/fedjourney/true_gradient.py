"""How far a step points where the true gradient does, which only somebody who has everybody's data can know.

A strategy never sees it: it is noted beside the step, for `[experiment] cosine_every`. Learning rates of evolution
strategies mean something else in every code (σ, 1/σ, ranks hide in them); angles can be compared.
"""

from collections.abc import Iterator

import numpy as np
import torch

from fedjourney.batching import Batch, gradient
from fedjourney.exchange import EVALUATION_BLOCK
from fedjourney.plan import Plan
from fedjourney.tasks._prediction import Prediction
from fedjourney.tensors import Tensors


def cosines(built: Plan, before: Tensors, after: Tensors, uphill: torch.Tensor | None) -> dict[str, float]:
    """Return the cosine of a step with minus the true gradient, and of the direction that it was made from.

    Args:
        built: the plan.
        before: parameters that the step was made from.
        after: parameters after it.
        uphill: what the strategy says it estimated before its optimiser saw it, [P], or None.
    """
    downhill = -_flat(true_gradient(built, before))
    found = {"cosine": _cosine(_flat(after) - _flat(before), downhill)}
    return found if uphill is None else found | {"estimate_cosine": _cosine(uphill.double(), downhill)}


def true_gradient(built: Plan, params: Tensors) -> Tensors:
    """Return the gradient of the clients' mean loss over all that they train on, in float64, no noise of the model.

    Clients count by their examples, or all the same where the strategy counts them so (`weighted = False`).
    """
    task = built.task
    assert isinstance(task, Prediction)

    def mean_loss(params: Tensors, batch: Batch) -> torch.Tensor:
        return task.losses(task.outputs(params, batch.x), batch.y).mean()

    total = {name: torch.zeros_like(tensor, dtype=torch.float64) for name, tensor in params.items()}
    for rows, weight in _groups(built):
        for start in range(0, len(rows), EVALUATION_BLOCK):
            part = built.dataset.train.take(torch.from_numpy(rows[start : start + EVALUATION_BLOCK]))
            batch = Batch(part.x, part.y, torch.ones(len(part)), torch.zeros((), dtype=torch.int64))
            found, _ = gradient(mean_loss, params, batch)
            for name, tensor in found.items():
                total[name] += weight * len(part) / len(rows) * tensor.double()
    return total


def _groups(built: Plan) -> Iterator[tuple[np.ndarray, float]]:
    """Yield (rows, what they count for together)."""
    each = [built.rows(client)[0] for client in range(built.setting.clients)]
    if built.rounds.weighted:
        yield np.concatenate(each), 1.0
    else:
        yield from ((rows, 1 / len(each)) for rows in each)


def _flat(tensors: Tensors) -> torch.Tensor:
    return torch.cat([tensor.detach().double().reshape(-1) for tensor in tensors.values()])


def _cosine(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return the cosine of two vectors; NaN where one of them has no direction."""
    return float((one @ other) / (one.norm() * other.norm()))
