"""A data set and its shards in shared memory: decoded once, however many processes look at it."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from fedjourney.data import Dataset, Examples
from fedjourney.engines._arena import Arena
from fedjourney.partitions import Cuts, Shards

SPLITS = ("train", "validation", "test")


def share_data(arena: Arena, dataset: Dataset, shards: Shards) -> tuple[dict[str, Any], int]:
    """Write them to the beginning of an arena; return what `open_data` needs, and the end."""
    tensors = {
        f"{split}/{group}/{name}": tensor
        for split in SPLITS
        for group in ("x", "y")
        for name, tensor in getattr(getattr(dataset, split), group).items()
    }
    if isinstance(shards, Cuts):
        tensors |= {"shards/rows": torch.from_numpy(shards.rows), "shards/starts": torch.from_numpy(shards.starts)}
    placed, end = arena.write(tensors)
    empty = Examples({}, {})
    bare = replace(dataset, train=empty, validation=empty, test=empty, columns={})
    return {"placed": placed, "dataset": bare, "shards": shards.unseen if isinstance(shards, Cuts) else shards}, end


def open_data(arena: Arena, shared: dict[str, Any]) -> tuple[Dataset, Shards]:
    """Return data set and shards as views of an arena."""
    tensors = arena.read(shared["placed"])

    def part(split: str, group: str) -> dict[str, torch.Tensor]:
        prefix = f"{split}/{group}/"
        return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}

    parts = {split: Examples(part(split, "x"), part(split, "y")) for split in SPLITS}
    shards = shared["shards"]
    if isinstance(shards, int):
        shards = Cuts(np.asarray(tensors["shards/rows"]), np.asarray(tensors["shards/starts"]), unseen=shards)
    return replace(shared["dataset"], **parts), shards
