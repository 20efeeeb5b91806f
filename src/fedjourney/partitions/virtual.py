"""Clients that cost nothing until they are drawn."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge, Le

from fedjourney.errors import ConfigError
from fedjourney.partitions import Columns, Shards
from fedjourney.partitions._common import column
from fedjourney.seeds import seed_for, words


@dataclass(frozen=True)
class _Drawn:
    """Shards made from a client's seed each time they are asked for."""

    clients: int
    examples: int
    classes: int
    by_class: list[np.ndarray]
    seed: int
    unseen: int = 0

    def __len__(self) -> int:
        return self.clients

    def __getitem__(self, client: int) -> np.ndarray:
        if not 0 <= client < self.clients:
            raise IndexError(client)
        groups = _distinct(seed_for(self.seed, "classes", client), self.classes, len(self.by_class))
        rows = [
            self.by_class[group][
                _distinct(seed_for(self.seed, "rows", client, int(group)), size, len(self.by_class[group]))
            ]
            for group, size in zip(groups, _shares(self.examples, self.classes), strict=True)
        ]
        return np.sort(np.concatenate(rows))

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[client] for client in range(self.clients))


def _shares(total: int, parts: int) -> list[int]:
    return [total // parts + (place < total % parts) for place in range(parts)]


def _distinct(seed: int, count: int, below: int) -> np.ndarray:
    """Return `count` different numbers below a bound, in a seeded order, in time that does not depend on the bound."""
    wanted = 2 * count + 8
    while True:
        drawn = (words(seed, wanted) % np.uint64(below)).astype(np.int64)
        _, first = np.unique(drawn, return_index=True)
        if len(first) >= count:
            return drawn[np.sort(first)[:count]]
        wanted *= 2


def virtual(
    columns: Columns,
    num_examples: int,
    seed: int,
    /,
    *,
    clients: Annotated[int, Ge(1), Le(2**53)] = 1_000_000,
    examples: Annotated[int, Ge(1), Le(1_000_000_000)] = 60,
    classes: Annotated[int, Ge(0), Le(100_000)] = 0,
    by: str = "label",
) -> Shards:
    """Any number of clients, each a fresh draw from the data when it is asked: a million cost nothing until sampled.

    A client's examples are all different; those of two clients may be the same.

    Args:
        columns: of the training examples.
        num_examples: rows there are.
        seed: of all draws; a client's shard depends on it and on the client's index alone.
        clients: how many.
        examples: of each client.
        classes: how many classes each client sees, equally often; 0 = rows are drawn whatever their class.
        by: the column of classes.
    """
    values = column(columns, by) if classes else np.zeros(num_examples, dtype=np.int64)
    by_class = [np.flatnonzero(values == value) for value in np.unique(values)]
    if classes > len(by_class):
        raise ConfigError(f'[partition] classes: expected at most the {len(by_class)} of "{by}", got {classes}.')
    smallest, most = min(map(len, by_class)), -(-examples // max(classes, 1))
    if most > smallest:
        raise ConfigError(
            f"[partition] examples: expected at most {smallest * max(classes, 1)} (the smallest class has {smallest} "
            f"examples), got {examples}. Lower it, or take more data."
        )
    return _Drawn(clients, examples, max(classes, 1), by_class, seed)
