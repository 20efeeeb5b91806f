"""Robust federated aggregation by the geometric median.

Reference: Pillutla et al. 2022, Robust Aggregation for Federated Learning, https://arxiv.org/abs/1912.13445,
Algorithm 2 (smoothed Weiszfeld). Per sampled client and round P floats up, P floats down.
"""

from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le

from fedjourney.strategies import Cohort, Setting
from fedjourney.strategies._robust import Robust, matrix, stepped
from fedjourney.tensors import Tensors


class GeometricMedian(Robust):
    """The point whose distances to all updates sum to the least: robust while less than half of the weight is bad.

    v ← Σ β_i x_i / Σ β_i with β_i = w_i / max(ν, |x_i - v|), from the mean on.

    Args:
        setting: not needed.
        iterations: R; the paper finds 3 enough.
        smoothing: ν, keeps a weight finite where v meets an update.
        weighted: w_i = the number of examples that the client says it has, as in the paper; else all count the same,
            because a bad client may say anything.
    """

    def __init__(
        self,
        setting: Setting,
        /,
        *,
        iterations: Annotated[int, Ge(1), Le(10_000)] = 8,
        smoothing: Annotated[float, Gt(0)] = 1e-6,
        weighted: bool = False,
    ) -> None:
        super().__init__()
        self.iterations, self.smoothing, self.weighted = iterations, smoothing, weighted

    def tell(self, round: int, params: Tensors, cohort: Cohort) -> Tensors:
        """Step along the geometric median."""
        x = matrix(cohort.rows)
        weights = torch.ones(len(x), dtype=x.dtype)
        if self.weighted:
            weights = torch.tensor(cohort.metrics["num-examples"], dtype=x.dtype)
        middle = (weights / weights.sum()) @ x
        for _ in range(self.iterations):
            pull = weights / (x - middle).norm(dim=1).clamp(min=self.smoothing)
            middle = (pull / pull.sum()) @ x
        return stepped(params, middle)
