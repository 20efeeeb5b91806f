"""The data's own owners."""

from typing import Annotated

import numpy as np
from annotated_types import Ge, Le, Lt

from fedjourney.errors import ConfigError
from fedjourney.partitions import Columns, Cuts, Shards
from fedjourney.partitions._common import column
from fedjourney.seeds import permutation


def natural(
    columns: Columns,
    num_examples: int,
    seed: int,
    /,
    *,
    by: str,
    at_least: Annotated[int, Ge(1), Le(1_000_000_000)] = 1,
    clients: Annotated[int, Ge(0), Le(1_000_000_000)] = 0,
    unseen: Annotated[float, Ge(0), Lt(1)] = 0.1,
) -> Shards:
    """A client for each value of a column: the speaker, the topic, the drawer.

    Args:
        columns: of the training examples.
        num_examples: rows there are.
        seed: picks owners where `clients` is smaller than their number.
        by: the column whose values own the examples, as `speaker`; of a wrong name those are told that there are.
        at_least: owners with fewer examples are left out.
        clients: how many owners, 0 = all.
        unseen: share of them that never train; the model is evaluated on all that they hold.
    """
    _, owner = np.unique(column(columns, by), return_inverse=True)  # flwr-datasets filters all rows for each owner
    rows = np.argsort(owner, kind="stable")
    each = np.split(rows, np.flatnonzero(np.diff(owner[rows])) + 1)
    found = [rows for rows in each if len(rows) >= at_least]
    if not found:
        raise ConfigError(
            f"[partition] at_least: expected at most {max(map(len, each))}, the examples of the largest of {len(each)} "
            f'values of "{by}", got {at_least}. Lower it.'
        )
    if clients > len(found):
        raise ConfigError(
            f'[partition] clients: expected at most the {len(found)} values of "{by}"'
            + (f" with {at_least} examples or more" if at_least > 1 else "")
            + f", or 0 for all of them, got {clients}. Lower clients{' or at_least' if at_least > 1 else ''}."
        )
    found.sort(key=lambda rows: int(rows[0]))
    drawn = permutation(seed, len(found))[: clients or None]
    held_out = min(round(unseen * len(drawn)), len(drawn) - 1)
    train, rest = sorted(drawn[held_out:]), sorted(drawn[:held_out])
    return Cuts.of([found[place] for place in [*train, *rest]], unseen=len(rest))
