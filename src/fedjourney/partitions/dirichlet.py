"""Label skew from a Dirichlet distribution."""

from typing import Annotated

import numpy as np
from annotated_types import Ge, Gt, Le

from fedjourney.errors import ConfigError
from fedjourney.partitions import Columns
from fedjourney.partitions._common import column, enough, shards_of


def dirichlet(
    columns: Columns,
    num_examples: int,
    seed: int,
    /,
    *,
    clients: Annotated[int, Ge(1), Le(1_000_000_000)] = 10,
    alpha: Annotated[float, Gt(0)] = 0.5,
    by: str = "label",
    at_least: Annotated[int, Ge(1), Le(1_000_000_000)] = 5,
) -> list[np.ndarray]:
    """Label skew: each class is dealt in Dirichlet(alpha) shares; small alpha = few classes a client.

    Args:
        columns: of the training examples.
        num_examples: rows to deal.
        seed: of the draw.
        clients: how many.
        alpha: concentration; 0.1 is strong skew, 100 nearly none.
        by: the column of classes.
        at_least: examples of the smallest client; drawn anew until it holds.

    Reference: Hsu et al. 2019, https://arxiv.org/abs/1909.06335; drawn by flwr-datasets' DirichletPartitioner.
    """
    from flwr_datasets.partitioner import DirichletPartitioner

    values = column(columns, by)
    enough(clients, num_examples, at_least)
    partitioner = DirichletPartitioner(
        num_partitions=clients,
        partition_by="by",
        alpha=alpha,
        min_partition_size=at_least,
        self_balancing=False,
        shuffle=False,
        seed=seed % 2**32,
    )
    try:
        return shards_of(partitioner, values)
    except ConfigError:
        raise ConfigError(
            f"[partition] alpha: expected a draw that gives each of {clients} clients {at_least} examples or more, "
            f"got none in ten draws with alpha = {alpha:g}. Raise alpha, or lower at_least or clients."
        ) from None
