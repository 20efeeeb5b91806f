"""Coordinate-wise trimmed mean.

Reference: Yin et al. 2018, Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates,
https://arxiv.org/abs/1803.01498, Definition 2. Per sampled client and round P floats up, P floats down.
"""

import math
from typing import Annotated

from annotated_types import Ge

from fedjourney.errors import ConfigError
from fedjourney.strategies import Cohort, Setting
from fedjourney.strategies._robust import Robust, matrix, stepped
from fedjourney.tensors import Tensors


class TrimmedMean(Robust):
    """The mean of the updates without the largest and the smallest, coordinate by coordinate.

    Of n answers ⌊share n⌋ are dropped at each end; it withstands so many bad ones. All who answered count the same. A
    round in which so few answered that nobody would be dropped keeps its parameters: the plain mean withstands nobody.

    Args:
        setting: tells the cohort.
        share: dropped at each end, below 0.5; 0 drops nobody.
    """

    def __init__(self, setting: Setting, /, *, share: Annotated[float, Ge(0)] = 0.2) -> None:
        super().__init__()
        if share >= 0.5:
            raise ConfigError(
                f"[strategy] share: expected share < 0.5, for that much is dropped at each end, got {share}. "
                "Lower share; median is what 0.5 tends to."
            )
        if share > 0 and _dropped(share, setting.cohort) == 0:
            raise ConfigError(
                f"[strategy] share: expected to drop somebody, floor(share x cohort) >= 1, got "
                f"floor({share} x {setting.cohort}) = 0. Raise share or [experiment] cohort; 0 is the plain mean."
            )
        self.share = share

    def tell(self, round: int, params: Tensors, cohort: Cohort) -> Tensors:
        """Step along the trimmed mean."""
        ordered = matrix(cohort.rows).sort(dim=0).values
        drop = _dropped(self.share, len(ordered))
        if self.share > 0 and drop == 0:
            return params
        return stepped(params, ordered[drop : len(ordered) - drop].mean(0))


def _dropped(share: float, count: int) -> int:
    return math.floor(share * count + 1e-9)  # 0.29 x 100 is 28.999… in binary
