"""Adaptive federated optimisation with Adam on the server.

Reference: Reddi et al. 2021, Adaptive Federated Optimization, https://arxiv.org/abs/2003.00295, Algorithm 2, line
"v_t = β2 v_{t-1} + (1 - β2) Δ_t²". Per sampled client and round P floats up, P floats down.
"""

from typing import Annotated

import torch
from annotated_types import Ge, Gt, Lt

from fedjourney.strategies import Setting
from fedjourney.strategies._adaptive import Adaptive


class FedAdam(Adaptive):
    """Mean update scaled coordinate-wise by a running mean of squared updates.

    m ← β1 m + (1 - β1) Δ; v ← β2 v + (1 - β2) Δ²; x ← x + η m / (√v + τ), Δ the mean update weighted by
    numbers of examples.
    There is no bias correction, as in the paper (Flower's own FedAdam multiplies η by one, a round late).

    Args:
        setting: not needed.
        learning_rate: η.
        beta_1: momentum of the mean update.
        beta_2: memory of squared updates.
        tau: τ, the degree of adaptivity.
        initial: v before the first round; the paper asks for at least τ², Flower's own starts at 0.
    """

    def __init__(
        self,
        setting: Setting,
        /,
        *,
        learning_rate: Annotated[float, Gt(0)] = 0.1,
        beta_1: Annotated[float, Ge(0), Lt(1)] = 0.9,
        beta_2: Annotated[float, Ge(0), Lt(1)] = 0.99,
        tau: Annotated[float, Gt(0)] = 1e-3,
        initial: Annotated[float, Ge(0)] = 1e-6,
    ) -> None:
        super().__init__(learning_rate, beta_1, tau, initial)
        self.beta_2 = beta_2

    def second(self, v: torch.Tensor, square: torch.Tensor) -> torch.Tensor:
        """Average over rounds."""
        return self.beta_2 * v + (1 - self.beta_2) * square
