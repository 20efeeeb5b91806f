"""Bulyan.

Reference: El Mhamdi et al. 2018, The Hidden Vulnerability of Distributed Learning in Byzantium,
https://arxiv.org/abs/1802.07927, section 4. Per sampled client and round P floats up, P floats down.
"""

from typing import Annotated

import torch
from annotated_types import Ge, Le

from fedjourney.errors import ConfigError
from fedjourney.strategies import Cohort, Setting
from fedjourney.strategies._robust import Robust, krum_order, matrix, squared_distances, stepped
from fedjourney.tensors import Tensors


class Bulyan(Robust):
    """Krum's choices, taken one after the other, then a mean around their median, coordinate by coordinate.

    θ = n - 2f times Krum's choice moves from the pool to S; then, per coordinate, the mean of the θ - 2f values of S
    nearest to S's median. f = 0 is the mean. All who answered count the same. A round in which fewer than 4f + 3
    answered keeps its parameters. Towards the end of the selection Krum's scores tie; see its tie-break.

    Args:
        setting: tells the cohort n.
        byzantine: f, how many of a cohort may be bad; needs n >= 4f + 3.
    """

    def __init__(self, setting: Setting, /, *, byzantine: Annotated[int, Ge(0), Le(1_000_000)] = 1) -> None:
        super().__init__()
        n, f = setting.cohort, byzantine
        if n < 4 * f + 3:
            raise ConfigError(
                f"[strategy] byzantine: bulyan needs cohort >= 4 x byzantine + 3, got {n} < 4 x {f} + 3 = {4 * f + 3}. "
                "Lower byzantine, or raise [experiment] cohort."
            )
        self.byzantine = byzantine

    def tell(self, round: int, params: Tensors, cohort: Cohort) -> Tensors:
        """Select, then step along the mean around the median."""
        count, f = len(cohort.rows), self.byzantine
        if count < 4 * f + 3:
            return params
        x = matrix(cohort.rows)
        distances, pool, selected = squared_distances(x), list(range(count)), list[int]()
        while len(selected) < count - 2 * f:
            rows = torch.tensor(pool)
            selected.append(pool.pop(krum_order(distances[rows][:, rows], f)[0]))
        ordered = x[selected].sort(dim=0).values
        middle = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
        nearest = (ordered - middle).abs().argsort(dim=0, stable=True)[: len(ordered) - 2 * f]
        return stepped(params, ordered.gather(0, nearest).mean(0))
