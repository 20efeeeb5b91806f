"""Federated averaging with server momentum.

Reference: Hsu et al. 2019, Measuring the Effects of Non-Identical Data Distribution for Federated Visual
Classification, https://arxiv.org/abs/1909.06335, section 4.3 ("v ← βv + Δw; w ← w - v").
Per sampled client and round P floats up, P floats down.
"""

from typing import Annotated

from annotated_types import Ge, Gt, Lt

from fedjourney.strategies import Cohort, Rounds, Setting, update_of
from fedjourney.tasks import Task
from fedjourney.tensors import Tensors, add_scaled
from fedjourney.updates import LocalUpdate, Work, zeros


class FedAvgM(Rounds):
    """FedAvg whose server remembers its direction: v ← β v + Δ, x ← x + η v.

    Args:
        setting: not needed.
        momentum: β; 0 is FedAvg.
        server_learning_rate: η; the step settles at η / (1 - β) mean updates.
    """

    def __init__(
        self,
        setting: Setting,
        /,
        *,
        momentum: Annotated[float, Ge(0), Lt(1)] = 0.9,
        server_learning_rate: Annotated[float, Gt(0)] = 1.0,
    ) -> None:
        super().__init__()
        self.momentum, self.server_learning_rate = momentum, server_learning_rate

    def halves(self, task: Task, update: LocalUpdate | None) -> dict[str, LocalUpdate | Work]:
        """Clients run `[update]`."""
        assert update is not None
        return {"train": update}

    def tell(self, round: int, params: Tensors, cohort: Cohort) -> Tensors:
        """Step along the velocity."""
        assert cohort.tensors is not None
        velocity = add_scaled(update_of(cohort.tensors), self.state or zeros(params), self.momentum)
        self.state = velocity
        return add_scaled(params, velocity, self.server_learning_rate)
