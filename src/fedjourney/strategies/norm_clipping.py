"""Norm clipping on the server.

Reference: Sun et al. 2019, Can You Really Backdoor Federated Learning?, https://arxiv.org/abs/1911.07963, section 5.
Per sampled client and round P floats up, P floats down.
"""

from typing import Annotated

from annotated_types import Gt

from fedjourney.strategies import Cohort, Setting
from fedjourney.strategies._robust import Robust, matrix, stepped
from fedjourney.tensors import Tensors


class NormClipping(Robust):
    """The mean of the updates, each shortened to a norm at most: no client can pull further than that.

    Δ = (1/n) Σ x_i min(1, τ / |x_i|); all who answered count the same. The transform of a similar name does it at the
    clients, who would have to be trusted.

    Args:
        setting: not needed.
        radius: τ, in the updates' own units: look at their norms before you choose it.
    """

    def __init__(self, setting: Setting, /, *, radius: Annotated[float, Gt(0)] = 1.0) -> None:
        super().__init__()
        self.radius = radius

    def tell(self, round: int, params: Tensors, cohort: Cohort) -> Tensors:
        """Step along the mean of clipped updates."""
        x = matrix(cohort.rows)
        factors = (self.radius / x.norm(dim=1).clamp(min=1e-300)).clamp(max=1.0)
        return stepped(params, (factors / len(x)) @ x)
