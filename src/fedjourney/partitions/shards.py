"""McMahan's pathological split."""

from typing import Annotated

import numpy as np
from annotated_types import Ge, Le

from fedjourney.errors import ConfigError
from fedjourney.partitions import Columns
from fedjourney.partitions._common import column
from fedjourney.seeds import permutation


def shards(
    columns: Columns,
    num_examples: int,
    seed: int,
    /,
    *,
    clients: Annotated[int, Ge(1), Le(1_000_000_000)] = 100,
    shards_per_client: Annotated[int, Ge(1), Le(1_000_000_000)] = 2,
    by: str = "label",
) -> list[np.ndarray]:
    """Sort by label, cut into equal shards, deal each client a few: most clients see two classes.

    Args:
        columns: of the training examples.
        num_examples: rows to deal.
        seed: of the deal.
        clients: how many.
        shards_per_client: shards each is dealt.
        by: the column that is sorted.

    Reference: McMahan et al. 2017, https://arxiv.org/abs/1602.05629, section 3 ("pathological non-IID").
    """
    if clients * shards_per_client > num_examples:
        raise ConfigError(
            f"[partition] clients x shards_per_client: expected at most {num_examples} (an example for each shard), "
            f"got {clients} x {shards_per_client}. Lower one of them."
        )
    order = np.argsort(column(columns, by), kind="stable")
    pieces = np.array_split(order, clients * shards_per_client)
    dealt = permutation(seed, len(pieces)).reshape(clients, shards_per_client)
    return [np.sort(np.concatenate([pieces[piece] for piece in row])) for row in dealt]
