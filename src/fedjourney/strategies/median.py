"""Coordinate-wise median.

Reference: Yin et al. 2018, Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates,
https://arxiv.org/abs/1803.01498, Definition 1. Per sampled client and round P floats up, P floats down.
"""

from fedjourney.strategies import Cohort, Setting
from fedjourney.strategies._robust import Robust, matrix, stepped
from fedjourney.tensors import Tensors


class Median(Robust):
    """The median of the updates, coordinate by coordinate: robust while fewer than half of a cohort are bad.

    All who answered count the same; of an even number the two in the middle are averaged. Under label skew the median
    of honest updates is not their mean either: expect to lose accuracy where nobody attacks.
    """

    def __init__(self, setting: Setting, /) -> None:
        super().__init__()

    def tell(self, round: int, params: Tensors, cohort: Cohort) -> Tensors:
        """Step along the median."""
        ordered = matrix(cohort.rows).sort(dim=0).values
        count = len(ordered)
        return stepped(params, (ordered[(count - 1) // 2] + ordered[count // 2]) / 2)
