"""What must hold of data, shards, model and task together before any work begins."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from fedjourney.config import Experiment
from fedjourney.data import MOST_CLASSES, Dataset, Examples
from fedjourney.errors import ConfigError, DataError, FedjourneyError
from fedjourney.partitions import Cuts
from fedjourney.tasks import Task
from fedjourney.tasks._prediction import Prediction


def check_data(dataset: Dataset) -> None:
    """Refuse examples that no model could be trained or evaluated on.

    Raises:
        DataError: names the split and what is wrong with it.
    """
    for split in ("train", "validation", "test"):
        given = getattr(dataset, split)
        tensors = given.x | given.y if isinstance(given, Examples) else {"examples": given}
        wrong = [name for name, tensor in tensors.items() if not isinstance(tensor, torch.Tensor)]
        if wrong or len({len(tensor) for tensor in tensors.values()}) > 1:
            came = {n: type(t).__name__ if wrong else len(t) for n, t in tensors.items()}
            raise DataError(f"{dataset.name}, {split}: expected tensors of one length, got {came}.")
    unlike = {name: len(column) for name, column in dataset.columns.items() if len(column) != len(dataset.train)}
    if unlike or not isinstance(dataset.fingerprint, str):
        raise DataError(
            f"{dataset.name}: expected a fingerprint, and in every column a value for each of the "
            f"{len(dataset.train)} training examples, got {unlike or repr(dataset.fingerprint)}."
        )
    if dataset.classes > MOST_CLASSES:
        raise DataError(
            f"{dataset.name}: expected at most {MOST_CLASSES} classes, got labels up to {dataset.classes - 1}."
        )
    for split in ("train", "validation", "test"):
        part: Examples = getattr(dataset, split)
        for name, tensor in (part.x | part.y).items():
            like = (dataset.train.x | dataset.train.y)[name]
            if len(tensor) and (tensor.shape[1:], tensor.dtype) != (like.shape[1:], like.dtype):
                raise DataError(
                    f"{dataset.name}, {split}: expected {name} as in train, {list(like.shape[1:])} {like.dtype}, "
                    f"got {list(tensor.shape[1:])} {tensor.dtype}."
                )
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                raise DataError(f"{dataset.name}, {split}: expected finite numbers in {name}, got NaN or infinity.")
        for name, tensor in part.y.items():
            if (
                not tensor.is_floating_point()
                and len(tensor)
                and not 0 <= int(tensor.min()) <= int(tensor.max()) < dataset.classes
            ):
                raise DataError(
                    f"{dataset.name}, {split}: expected {name} in 0 … {dataset.classes - 1}, "
                    f"got {int(tensor.min())} … {int(tensor.max())}."
                )


def check_column(partition: dict[str, Any], dataset: Dataset) -> None:
    """Refuse to deal by a column that is there but cannot be used.

    Raises:
        ConfigError: says why not.
    """
    by = partition.get("by")
    if isinstance(by, str) and by not in dataset.columns and by in dataset.refused:
        raise ConfigError(f'[partition] by: column "{by}" of {dataset.name} cannot be used: {dataset.refused[by]}')


def check_shards(name: str, shards: Any, count: int) -> None:
    """Hold a partition to its contract: what is dealt is disjoint, ascending, in range, and something for everyone.

    Of clients that are made when they are asked for, the first stands for all.

    Raises:
        ConfigError: names the first client for whom it does not hold.
    """
    place = f'[partition] "{name}"'
    try:
        clients, lazy = len(shards), not isinstance(shards, list | Cuts)
        if lazy and not isinstance(shards.unseen, int):
            raise TypeError("`unseen` is no number")
        taken = np.zeros(count, dtype=bool)
        for client in range(1 if lazy else clients):
            rows = np.asarray(shards[client])
            whole = rows.ndim == 1 and rows.dtype.kind in "iu" and len(rows) > 0
            if not whole or rows[0] < 0 or rows[-1] >= count or (np.diff(rows) <= 0).any() or taken[rows].any():
                raise ConfigError(
                    f"{place}: expected for every client ascending row numbers in 0 … {count - 1} that nobody else "
                    f"holds, got {rows.tolist()[:6]}… for client {client}."
                )
            taken[rows] = True
    except (TypeError, AttributeError) as error:
        raise ConfigError(
            f"{place}: expected row numbers for each client, got {type(shards).__name__} ({error})."
        ) from None
    if clients - getattr(shards, "unseen", 0) < 1:
        raise ConfigError(f"{place}: expected at least one client, got none.")


def check_fit(experiment: Experiment, task: Task, shard: Callable[[], Examples]) -> None:
    """Compute the loss of one batch: a model, a task and data that do not fit show it here, before any work.

    Raises:
        ConfigError: with the first line of what the model said.
    """
    some = None
    try:
        params = task.init(0)
        some = shard().cut(slice(0, 2))
        for batch in task.batches(params, some, 0):
            task.loss(params, batch)
            break
        told = task.summary(task.evaluate(params, some))
        if not isinstance(told, Mapping) or not all(isinstance(value, int | float) for value in told.values()):
            raise ConfigError(
                f'[task] name: expected the summary of "{experiment["task"]["name"]}" to be numbers by name, '
                f"got {told!r}."
            )
    except (FedjourneyError, MemoryError):
        raise
    except Exception as error:
        raise ConfigError(
            f'[model] "{experiment["model"]["name"]}" cannot be trained on [task] "{experiment["task"]["name"]}" with '
            f'[data] "{experiment["data"]["name"]}"{_read(some)}. Take others that fit. '
            f"(The error was: {str(error).partition(chr(10))[0]})"
        ) from None


def _read(examples: Examples | None) -> str:
    """Return what a model has to read: most that do not fit expect another kind of it."""
    kinds = {
        f"{name} {list(tensor.shape[1:])}": "numbers, as gru, mlp and cnn read them (lstm does not)"
        if tensor.is_floating_point()
        else "codes of characters, as lstm reads them (gru and mlp do not)"
        for name, tensor in (examples.x.items() if examples is not None else ())
    }
    return "".join(f", whose {what} holds {kind}" for what, kind in kinds.items())


def check_true_gradient(experiment: Experiment, task: Task, shards: Any) -> None:
    """Refuse `cosine_every` where there is no true gradient to hold a step against.

    Raises:
        ConfigError: the loss is no mean over the examples that clients hold, or nobody holds them all.
    """
    if experiment["experiment"]["cosine_every"] is None:
        return
    place = "[experiment] cosine_every: expected a"
    if not isinstance(task, Prediction) or type(task).batches is not Prediction.batches:
        raise ConfigError(
            f"{place} task whose loss is a mean over the examples of a shard, got "
            f'"{experiment["task"]["name"]}". Remove cosine_every.'
        )
    if not isinstance(shards, Cuts):
        raise ConfigError(
            f'{place} partition that deals the examples out, got "{experiment["partition"]["name"]}", which makes '
            "clients only when they are drawn. Remove cosine_every."
        )
