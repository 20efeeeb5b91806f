"""Centred clipping.

Reference: Karimireddy et al. 2021, Learning from History for Byzantine Robust Optimization,
https://arxiv.org/abs/2012.10333, Algorithm 2 ("CClip"). Per sampled client and round P floats up, P floats down.
"""

from typing import Annotated

from annotated_types import Ge, Gt, Le

from fedjourney.strategies import Cohort, Setting
from fedjourney.strategies._robust import Robust, matrix, stepped
from fedjourney.tensors import Tensors


class CentredClipping(Robust):
    """The mean of the updates, each clipped to a ball around what was aggregated the round before.

    v ← v + (1/n) Σ (x_i - v) min(1, τ / |x_i - v|), from the last round's v on (at first 0). τ → ∞ is the mean. All
    who answered count the same. The proof has clients send momenta; ours send `[update]`'s updates.

    Args:
        setting: not needed.
        radius: τ, in the updates' own units: look at their norms before you choose it.
        iterations: of the step above, each round.
    """

    def __init__(
        self,
        setting: Setting,
        /,
        *,
        radius: Annotated[float, Gt(0)] = 1.0,
        iterations: Annotated[int, Ge(1), Le(10_000)] = 1,
    ) -> None:
        super().__init__()
        self.radius, self.iterations = radius, iterations

    def tell(self, round: int, params: Tensors, cohort: Cohort) -> Tensors:
        """Step along the clipped mean, and remember it."""
        x = matrix(cohort.rows)
        centre = self.state.get("centre", x.new_zeros(x.shape[1]))
        for _ in range(self.iterations):
            away = x - centre
            factors = (self.radius / away.norm(dim=1).clamp(min=1e-300)).clamp(max=1.0)
            centre = centre + (factors / len(x)) @ away
        self.state = {"centre": centre}
        return stepped(params, centre)
