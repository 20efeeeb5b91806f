"""Adaptive federated optimisation with Adagrad on the server.

Reference: Reddi et al. 2021, Adaptive Federated Optimization, https://arxiv.org/abs/2003.00295, Algorithm 2, line
"v_t = v_{t-1} + Δ_t²". Per sampled client and round P floats up, P floats down.
"""

from typing import Annotated

import torch
from annotated_types import Ge, Gt, Lt

from fedjourney.strategies import Setting
from fedjourney.strategies._adaptive import Adaptive


class FedAdagrad(Adaptive):
    """Mean update scaled coordinate-wise by the root of all squared updates so far.

    m ← β1 m + (1 - β1) Δ; v ← v + Δ²; x ← x + η m / (√v + τ), Δ the mean update weighted by numbers of examples.
    β1 = 0 is what the paper's experiments use.

    Args:
        setting: not needed.
        learning_rate: η.
        beta_1: momentum of the mean update.
        tau: τ, the degree of adaptivity.
        initial: v before the first round; the paper asks for at least τ², Flower's own starts at 0.
    """

    def __init__(
        self,
        setting: Setting,
        /,
        *,
        learning_rate: Annotated[float, Gt(0)] = 0.1,
        beta_1: Annotated[float, Ge(0), Lt(1)] = 0.0,
        tau: Annotated[float, Gt(0)] = 1e-3,
        initial: Annotated[float, Ge(0)] = 1e-6,
    ) -> None:
        super().__init__(learning_rate, beta_1, tau, initial)

    def second(self, v: torch.Tensor, square: torch.Tensor) -> torch.Tensor:
        """Add up."""
        return v + square
