"""Tasks: what is learned. One plug-in per file, each `(make_model, signature, /, *, options) -> Task`."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import prod
from typing import Protocol, TypeAlias, runtime_checkable

import torch
from torch import nn

from fedjourney.batching import Batch
from fedjourney.data import Dataset, Examples
from fedjourney.errors import ConfigError
from fedjourney.tensors import Tensors

MakeModel: TypeAlias = Callable[..., nn.Module]
"""Builds the model of `[model]`: for the data's signature, or for another that a task hands it."""
_GLOBAL_GENERATOR = threading.Lock()


@dataclass(frozen=True)
class Signature:
    """Shapes that a model is built from, without data.

    Attributes:
        inputs: name of an input -> shape of one example.
        outputs: name of a target -> shape of one example.
        classes: number of classes, or characters; a model gives as many numbers. 0 where targets are numbers.
        vocabulary: the characters, in the order of their codes, for text.
    """

    inputs: dict[str, tuple[int, ...]]
    outputs: dict[str, tuple[int, ...]]
    classes: int
    vocabulary: str = ""

    @property
    def features(self) -> int:
        """Numbers in the first input of one example."""
        return prod(next(iter(self.inputs.values())))


class Task(Protocol):
    """What clients learn: loss, batches, fitness and metrics. Pure: parameters come in, numbers go out.

    A task may also have `exhibit(params, examples) -> dict[str, str | np.ndarray]`: texts, and pictures [H, W] or
    [H, W, 3] of uint8 or of floats in 0 … 1, by their captions. It is called once, when a run has finished, with the
    delivered model and the test examples; the report shows what it returns (see `fedjourney.exhibit`).
    """

    signature: Signature

    def init(self, seed: int) -> Tensors:
        """Return fresh parameters."""

    def loss(self, params: Tensors, batch: Batch) -> torch.Tensor:
        """Return the masked mean loss [] of a batch."""

    def batches(self, params: Tensors, shard: Examples, seed: int) -> Iterable[Batch]:
        """Yield one pass over a shard."""

    def fitness(self, population: Tensors, shard: Examples, seed: int) -> torch.Tensor:
        """Return one number per candidate [M], higher is better; all see the same examples."""

    def evaluate(self, params: Tensors, shard: Examples) -> Tensors:
        """Return sums that add up over examples, blocks and clients."""

    def summary(self, sums: Tensors) -> dict[str, float]:
        """Return metrics from sums, the headline first; `fedjourney.metrics` reads from a name how it is told."""


@runtime_checkable
class Metered(Protocol):
    """A task whose training costs something besides examples, such as an environment's steps.

    Attributes:
        spent: by name, what this copy has spent; it stands among the client's metrics of the round.
    """

    spent: dict[str, float]

    def metered(self) -> Task:
        """Return a copy whose `spent` begins at 0: one client's."""


@runtime_checkable
class Embedding(Protocol):
    """A task with one label per example and a model that ends in a linear layer; what that sees is the embedding.

    Attributes:
        signature: tells how many classes.
        last: name of the linear layer: `<last>.weight` [classes, width] and `<last>.bias` are parameters.
    """

    signature: Signature
    last: str

    def embedded(
        self, params: Tensors, x: Tensors, key: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (outputs [B, classes], embeddings [B, width])."""

    def losses(self, outputs: torch.Tensor, y: Tensors) -> torch.Tensor:
        """Return one loss for each example [B]."""


def signature_of(dataset: Dataset) -> Signature:
    """Return the shapes of a data set's examples."""
    return Signature(
        {name: tuple(tensor.shape[1:]) for name, tensor in dataset.train.x.items()},
        {name: tuple(tensor.shape[1:]) for name, tensor in dataset.train.y.items()},
        dataset.classes,
        dataset.vocabulary,
    )


def image_shape(signature: Signature, model: str, at_least: int) -> tuple[int, int, int]:
    """Return (channels, height, width) of the first input.

    Raises:
        ConfigError: the input is not an image, or too small for the model.
    """
    shape = next(iter(signature.inputs.values()))
    if len(shape) != 3 or min(shape[1:]) < at_least:
        raise ConfigError(
            f'[model] name: "{model}" expects images [channels, height, width] of at least '
            f"{at_least}x{at_least}, got examples of shape {list(shape)}. Take mlp, or other data."
        )
    return shape[0], shape[1], shape[2]


def initial_parameters(make_model: MakeModel, seed: int, dtype: torch.dtype) -> Tensors:
    """Return the parameters of a newly built model.

    `nn.Module` draws from the global generator, so it is forked here, under a lock: the one place.
    """
    with _GLOBAL_GENERATOR, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = make_model()
    return {name: tensor.detach().clone().to(dtype) for name, tensor in model.named_parameters()}


def refuse_buffers(model: nn.Module) -> None:
    """Refuse a model with buffers: averaging running statistics would be a choice nobody made.

    Raises:
        ConfigError: names the buffers.
    """
    names = [name for name, _ in model.named_buffers()]
    if names:
        raise ConfigError(
            f"[model] expected no buffers that training changes, got {', '.join(names[:3])}. "
            "Use GroupNorm, or BatchNorm with track_running_stats=False."
        )
