"""Partitions: who holds what. One plug-in per file.

Each is a function `(columns, num_examples, seed, /, *, options) -> list[np.ndarray]`: for each client the
rows of the training examples that it holds, ascending; disjoint, each non-empty.
"""

from typing import TypeAlias

import numpy as np

Shards: TypeAlias = list[np.ndarray]
Columns: TypeAlias = dict[str, np.ndarray]
