"""Clients of unequal size."""

from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Le

from fedjourney.partitions import Columns
from fedjourney.partitions._common import enough, shards_of
from fedjourney.seeds import permutation


def sizes(
    columns: Columns,
    num_examples: int,
    seed: int,
    /,
    *,
    clients: Annotated[int, Ge(1), Le(1_000_000_000)] = 10,
    skew: Literal["linear", "square", "exponential"] = "linear",
) -> list[np.ndarray]:
    """Random examples, unequal sizes: client i holds a share that grows like i, i squared or exp(i).

    Args:
        columns: not looked at.
        num_examples: rows to deal.
        seed: of the shuffle.
        clients: how many.
        skew: how sizes grow with the index.
    """
    from flwr_datasets import partitioner

    enough(clients, num_examples)
    order = permutation(seed, num_examples)
    kinds = {
        "linear": partitioner.LinearPartitioner,
        "square": partitioner.SquarePartitioner,
        "exponential": partitioner.ExponentialPartitioner,
    }
    found = shards_of(kinds[skew](num_partitions=clients), order)
    return [np.sort(order[rows]) for rows in found]
