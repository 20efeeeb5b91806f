"""Partitions: who holds what. One plug-in per file.

Each is a function `(columns, num_examples, seed, /, *, options)` that returns for each client the rows of the training
examples that it holds, ascending, never none: a list of arrays, disjoint; or a `Shards` of its own, which makes a
client's rows when they are asked for, so that a million clients cost nothing until they are drawn.
A partition may hold out whole clients, which never train: they tell how the model does with somebody new.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np

Columns: TypeAlias = dict[str, np.ndarray]


class Shards(Protocol):
    """For each of N clients the rows it holds, int64; the last `unseen` of them never train."""

    @property
    def unseen(self) -> int:
        """How many."""

    def __len__(self) -> int:
        """Return N."""

    def __getitem__(self, client: int, /) -> np.ndarray:
        """Return one client's rows."""

    def __iter__(self) -> Iterator[np.ndarray]:
        """Go over all clients."""


@dataclass(frozen=True)
class Cuts:
    """Shards as one array of rows and where each client's begin: two tensors, however many clients.

    Attributes:
        rows: of all clients, one after the other [sum of sizes].
        starts: client i holds `rows[starts[i] : starts[i + 1]]`, [N + 1].
        unseen: how many clients, the last ones, never train: the model is evaluated on all that they hold.
    """

    rows: np.ndarray
    starts: np.ndarray
    unseen: int = 0

    @classmethod
    def of(cls, shards: Sequence[np.ndarray], unseen: int = 0) -> "Cuts":
        """Join one array a client."""
        starts = np.concatenate([[0], np.cumsum([len(rows) for rows in shards])]).astype(np.int64)
        return cls(np.concatenate(shards).astype(np.int64), starts, unseen)

    def __len__(self) -> int:
        """Return N."""
        return len(self.starts) - 1

    def __getitem__(self, client: int) -> np.ndarray:
        """Return one client's rows."""
        if not 0 <= client < len(self):
            raise IndexError(client)
        return self.rows[self.starts[client] : self.starts[client + 1]]

    def __iter__(self) -> Iterator[np.ndarray]:
        """Go over all clients."""
        return (self[client] for client in range(len(self)))
