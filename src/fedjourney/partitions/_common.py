"""What partitions share: feeding flwr-datasets' partitioners, and refusing what cannot be."""

import contextlib
import io
from typing import Any

import numpy as np

from fedjourney.errors import ConfigError, nearest
from fedjourney.partitions import Columns


def enough(clients: int, num_examples: int, each: int = 1) -> None:
    """Refuse more clients than there are examples for, `each` examples a client.

    Raises:
        ConfigError: with both numbers.
    """
    if clients * each > num_examples:
        raise ConfigError(
            f"[partition] clients: expected at most {num_examples // each} ({num_examples} training examples, "
            f"{each} or more for each client), got {clients}. Lower clients, or take more data."
        )


def column(columns: Columns, by: str) -> np.ndarray:
    """Return the column that decides.

    Raises:
        ConfigError: the data set has none of that name.
    """
    if by not in columns:
        raise ConfigError(
            f'[partition] by: the data set has no column "{by}". There are: {", ".join(columns)}.{nearest(by, columns)}'
        )
    return columns[by]


def shards_of(partitioner: Any, values: np.ndarray) -> list[np.ndarray]:
    """Return the rows that a flwr-datasets partitioner gives each client, by handing it row numbers.

    Raises:
        ConfigError: the partitioner refuses.
    """
    import datasets

    table = datasets.Dataset.from_dict({"by": values.tolist(), "row": list(range(len(values)))})
    partitioner.dataset = table
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # its progress bar would stand among our lines
            partitioner.load_partition(0)
        parts = [partitioner.load_partition(client) for client in range(partitioner.num_partitions)]
    except (ValueError, AssertionError) as error:
        raise ConfigError(f"[partition] cannot be drawn: {error}") from None
    found = [np.sort(np.array(part["row"], dtype=np.int64)) for part in parts]
    empty = [client for client, rows in enumerate(found) if len(rows) == 0]
    if empty:
        raise ConfigError(
            f"[partition] expected examples for every client, got none for {len(empty)} (client {empty[0]}, …). "
            "Lower the number of clients, or the skew."
        )
    return found
