"""Equal shares at random."""

from typing import Annotated

import numpy as np
from annotated_types import Ge, Le

from fedjourney.partitions import Columns
from fedjourney.partitions._common import enough
from fedjourney.seeds import permutation


def iid(
    columns: Columns, num_examples: int, seed: int, /, *, clients: Annotated[int, Ge(1), Le(1_000_000_000)] = 10
) -> list[np.ndarray]:
    """Shuffle, then deal equal shares (sizes differ by one at most): every client looks like the whole.

    Args:
        columns: not looked at.
        num_examples: rows to deal.
        seed: of the shuffle.
        clients: how many.
    """
    enough(clients, num_examples)
    return [np.sort(rows) for rows in np.array_split(permutation(seed, num_examples), clients)]
