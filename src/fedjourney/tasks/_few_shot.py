"""What few-shot tasks share: episodes, of which some points are learned from and the others asked about."""

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from math import prod
from typing import NamedTuple

import torch

from fedjourney.batching import Batch, minibatches
from fedjourney.data import Examples
from fedjourney.errors import ConfigError
from fedjourney.seeds import permutation, seed_for
from fedjourney.tasks import MakeModel, Signature
from fedjourney.tasks._prediction import PerExample
from fedjourney.tensors import Tensors


class Points(NamedTuple):
    """Some points of one episode."""

    inputs: torch.Tensor  # [n, …]
    targets: torch.Tensor  # [n] int64: the place of the class on its sheet; or numbers [n, …]


class FewShot(PerExample):
    """An example is an episode: a sheet of images [groups, images, …] by class, or points [n, …] with numbers [n, …].

    The first `shots` of each class (or of the points) are its support, which a model adapts to; the others are its
    query. A class is called by its place on the sheet, so that what it is called says nothing.

    Attributes:
        shots: how many.
        ways: classes of an episode, 0 where targets are numbers.
    """

    def __init__(
        self,
        make_model: MakeModel,
        signature: Signature,
        batch_size: int,
        dtype: torch.dtype,
        shots: int,
        outputs: int = 0,
    ) -> None:
        """Build the model for single points.

        Args:
            make_model: builds it for a signature.
            signature: of the episodes.
            batch_size: episodes in a step.
            dtype: of parameters.
            shots: points of the support (of each class).
            outputs: numbers that the model gives; 0: one for each class of an episode, or for each number of a target.

        Raises:
            ConfigError: these are no episodes, or have nothing besides the support.
        """
        shape, target = next(iter(signature.inputs.values())), next(iter(signature.outputs.values()))
        grouped = signature.classes > 0
        depth = 2 if grouped else 1
        if len(shape) <= depth or shape[:depth] != target[:depth] or (grouped and len(target) != 2):
            raise ConfigError(
                "[task] expected episodes as examples: sheets of images [classes, images, …] with their classes, or "
                f"points [n, …] with numbers [n, …], got inputs {list(shape)} and targets {list(target)}. "
                "Take [data] unseen_classes or sinusoids."
            )
        if shots >= shape[depth - 1]:
            raise ConfigError(
                f"[task] shots: expected fewer than the {shape[depth - 1]} points {'of a class ' if grouped else ''}"
                f"in an episode, so that some are left to be asked about, got {shots}."
            )
        self.shots, self.ways = shots, shape[0] if grouped else 0
        width = outputs or self.ways or prod(target[1:])
        alone = replace(signature, inputs={"point": shape[depth:]}, classes=width)
        super().__init__(partial(make_model, alone), signature, batch_size, dtype)

    def parts(self, x: torch.Tensor, y: torch.Tensor) -> tuple[Points, Points]:
        """Return (support, query) of one episode: support and query go through the classes in their order."""
        if not self.ways:
            return Points(x[: self.shots], y[: self.shots]), Points(x[self.shots :], y[self.shots :])
        place = torch.arange(self.ways, device=x.device)
        return tuple(  # type: ignore[return-value]
            Points(some.flatten(0, 1), place.repeat_interleave(some.shape[1]))
            for some in (x[:, : self.shots], x[:, self.shots :])
        )

    def told(self, params: Tensors, inputs: torch.Tensor) -> torch.Tensor:
        """Return what the model gives for single points [n, …]."""
        return self.outputs(params, {"point": inputs})

    def batches(self, params: Tensors, shard: Examples, seed: int) -> Iterable[Batch]:
        """Yield one pass; which points are the support is drawn anew, and classes meet on new sheets."""
        axis, mixed, one = 2 if self.ways else 1, [], next(iter(shard.x.values()))
        order = torch.from_numpy(permutation(seed_for(seed, "support"), one.shape[axis])).to(one.device)
        if self.ways:
            groups = torch.from_numpy(permutation(seed_for(seed, "mixed"), len(one) * self.ways)).to(one.device)
        for part in (shard.x, shard.y):
            (name, tensor), *_ = part.items()
            points = tensor.index_select(axis, order)
            mixed.append({name: points.flatten(0, 1)[groups].view(tensor.shape) if self.ways else points})
        return minibatches(mixed[0], mixed[1], self.batch_size, seed)


def spread(sums: Tensors, name: str, count: float) -> tuple[float, float]:
    """Return (mean, standard deviation between episodes) from the sums `name` and `name_square`."""
    mean = float(sums[name]) / count
    return mean, max(float(sums[f"{name}_square"]) / count - mean * mean, 0.0) ** 0.5
