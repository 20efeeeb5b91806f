"""A data set and its shards as plain tensors and a few facts, so that processes can share them, decoded once."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from fedjourney.data import Dataset, Examples
from fedjourney.partitions import Cuts, Shards
from fedjourney.tensors import Tensors

SPLITS = ("train", "validation", "test")


def flattened(dataset: Dataset, shards: Shards) -> tuple[Tensors, dict[str, Any]]:
    """Return (tensors, the rest), from which `joined` makes both again.

    Training examples are laid out client by client, so that what a client holds need not be gathered each time.
    """
    if isinstance(shards, Cuts):
        dataset = replace(dataset, train=dataset.train.take(torch.from_numpy(shards.rows)))
        shards = replace(shards, rows=np.arange(len(shards.rows)))
    tensors = {
        f"{split}/{group}/{name}": tensor
        for split in SPLITS
        for group in ("x", "y")
        for name, tensor in getattr(getattr(dataset, split), group).items()
    }
    if isinstance(shards, Cuts):
        tensors |= {"shards/rows": torch.from_numpy(shards.rows), "shards/starts": torch.from_numpy(shards.starts)}
    empty = Examples({}, {})
    bare = replace(dataset, train=empty, validation=empty, test=empty, columns={})
    return tensors, {"dataset": bare, "shards": shards.unseen if isinstance(shards, Cuts) else shards}


def joined(tensors: Tensors, rest: dict[str, Any]) -> tuple[Dataset, Shards]:
    """Return data set and shards over those tensors."""

    def part(split: str, group: str) -> Tensors:
        prefix = f"{split}/{group}/"
        return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}

    parts = {split: Examples(part(split, "x"), part(split, "y")) for split in SPLITS}
    shards = rest["shards"]
    if isinstance(shards, int):
        shards = Cuts(tensors["shards/rows"].numpy(), tensors["shards/starts"].numpy(), unseen=shards)
    return replace(rest["dataset"], **parts), shards
