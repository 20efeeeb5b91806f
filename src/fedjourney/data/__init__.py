"""Data sets: one plug-in per file, each a function `(source, /, *, options) -> Dataset`.

Train, validation and test are split here, before anything is partitioned; strategies never see test.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from fedjourney.tensors import Tensors

BYTES = "".join(map(chr, range(256))) + "\ue000\ue001"
"""The vocabulary of text as UTF-8 bytes, with markers where a text begins and ends: 258 codes."""
MOST_CLASSES = 100_000
"""Labels from there on are taken for a mistake: a model would get that many outputs."""


@dataclass(frozen=True)
class Examples:
    """Aligned examples: every tensor of `x` and `y` has the same first dimension [n, …]."""

    x: Tensors
    y: Tensors

    def __len__(self) -> int:
        """Return the number of examples n."""
        return next(iter(self.x.values())).shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes of all the values."""
        return sum(tensor.nbytes for part in (self.x, self.y) for tensor in part.values())

    def cut(self, rows: slice) -> "Examples":
        """Return the examples of a slice, as views."""
        return Examples({k: v[rows] for k, v in self.x.items()}, {k: v[rows] for k, v in self.y.items()})

    def take(self, rows: torch.Tensor) -> "Examples":
        """Return the examples at `rows` [m], in that order, as copies; the rows may be on another device."""
        rows = rows.to(next(iter(self.x.values())).device)
        x, y = ({k: v.index_select(0, rows) for k, v in part.items()} for part in (self.x, self.y))  # v[rows] is slower
        return Examples(x, y)

    def laid_out(self) -> "Examples":
        """Return the examples as they lie after a copy, one behind the other.

        A dimension of one may have any stride and the tensor counts as contiguous all the same; but by the stride of a
        single channel PyTorch chooses how it convolves, and so the bits.
        """
        x, y = ({name: _laid_out(tensor) for name, tensor in part.items()} for part in (self.x, self.y))
        return Examples(x, y)

    def on(self, device: torch.device) -> "Examples":
        """Return the examples on a device; what is there already is not copied."""
        return Examples({k: v.to(device) for k, v in self.x.items()}, {k: v.to(device) for k, v in self.y.items()})


def _laid_out(tensor: torch.Tensor) -> torch.Tensor:
    tensor = tensor.contiguous()
    return tensor.as_strided(tensor.shape, torch.empty(tensor.shape, device="meta").stride())


@dataclass(frozen=True)
class Source:
    """Where a data plug-in may look.

    Attributes:
        data_dir: a root that is looked at first for data sets in the hub's layout, or None.
        cache_dir: where decoded tensors may be kept.
        seed: decides splits.
        base_dir: relative paths in options are relative to this folder (the config file's).
    """

    data_dir: Path | None
    cache_dir: Path
    seed: int
    base_dir: Path


@dataclass(frozen=True)
class Dataset:
    """A decoded data set, split before it is partitioned.

    Attributes:
        name: what reports call it.
        train, validation, test: examples; validation may be empty (0 rows) where the config says so.
        columns: for each column a partition may use, one value per train example, [n_train].
        classes: number of classes, characters of the vocabulary, or numbers to be forecast; 0: targets are numbers.
        fingerprint: sha256 over everything that shaped the examples.
        vocabulary: the characters, in the order of their codes, for text.
        refused: for each column that is there and that no partition may use, why not, as ends a sentence.
    """

    name: str
    train: Examples
    validation: Examples
    test: Examples
    columns: dict[str, np.ndarray]
    classes: int
    fingerprint: str
    vocabulary: str = ""
    refused: dict[str, str] = field(default_factory=dict)


def written(codes: Iterable[int], vocabulary: str) -> str:
    """Return codes as text; bytes that are no UTF-8 are shown as �, markers of begin and end not at all.

    >>> written([1, 0], "ab")
    'ba'
    >>> written([256, 195, 169, 257], BYTES)
    'é'
    """
    if vocabulary == BYTES:
        return bytes(code for code in codes if code < 256).decode("utf-8", "replace")
    return "".join(vocabulary[code] for code in codes)
