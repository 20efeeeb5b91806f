"""Krum and Multi-Krum.

Reference: Blanchard et al. 2017, Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent,
https://papers.nips.cc/paper/2017/hash/f4b9ec30ad9f68f89b29639786cb62ef-Abstract.html, section 4 (scores) and
section 5 (m-Krum). Per sampled client and round P floats up, P floats down.
"""

from typing import Annotated

from annotated_types import Ge, Le

from fedjourney.errors import ConfigError
from fedjourney.strategies import Cohort, Setting
from fedjourney.strategies._robust import Robust, krum_order, matrix, squared_distances, stepped
from fedjourney.tensors import Tensors


class Krum(Robust):
    """The update that lies closest to its neighbours (or the mean of several such), whoever sent it.

    s_i = Σ |x_i - x_j|² over the n - f - 2 nearest j; the update of the smallest s is taken (ties:
    the smaller sum over all j, then the lower index).
    All who answered count the same. A round in which fewer than 2f + 3 answered keeps its parameters. The bound f is
    per cohort: with sampling, a cohort may hold more bad clients than their share in the population suggests.

    Args:
        setting: tells the cohort n.
        byzantine: f, how many of a cohort may be bad; needs n >= 2f + 3.
        select: m; above 1 it is Multi-Krum, the mean of the m updates with the smallest scores. The proof wants
            m <= n - f - 2; up to n - f is allowed, which is usual.
    """

    def __init__(
        self,
        setting: Setting,
        /,
        *,
        byzantine: Annotated[int, Ge(0), Le(1_000_000)] = 1,
        select: Annotated[int, Ge(1), Le(1_000_000)] = 1,
    ) -> None:
        super().__init__()
        n, f = setting.cohort, byzantine
        if n < 2 * f + 3:
            raise ConfigError(
                f"[strategy] byzantine: krum needs cohort >= 2 x byzantine + 3, got {n} < 2 x {f} + 3 = {2 * f + 3}. "
                "Lower byzantine, or raise [experiment] cohort."
            )
        if select > n - f:
            raise ConfigError(
                f"[strategy] select: krum needs select <= cohort - byzantine, got {select} > {n} - {f} = {n - f}. "
                "Lower select."
            )
        self.byzantine, self.select = byzantine, select

    def tell(self, round: int, params: Tensors, cohort: Cohort) -> Tensors:
        """Step along what is selected."""
        count = len(cohort.rows)
        if count < 2 * self.byzantine + 3:
            return params
        x = matrix(cohort.rows)
        best = krum_order(squared_distances(x), self.byzantine)
        return stepped(params, x[best[: min(self.select, count - self.byzantine)]].mean(0))
