"""Federated averaging.

Reference: McMahan et al. 2017, Communication-Efficient Learning of Deep Networks from Decentralized Data,
https://arxiv.org/abs/1602.05629, Algorithm 1. Per sampled client and round P floats up, P floats down.
"""

from typing import Annotated

from annotated_types import Gt

from fedjourney.strategies import Cohort, Rounds, Setting, update_of
from fedjourney.tasks import Task
from fedjourney.tensors import Tensors, add_scaled
from fedjourney.updates import LocalUpdate, Work


class FedAvg(Rounds):
    """Average of the clients' updates, weighted by their numbers of examples.

    With `server_learning_rate` η the step is x + η Σ (n_k / n) (y_k - x); η = 1 is Algorithm 1.
    """

    def __init__(self, setting: Setting, /, *, server_learning_rate: Annotated[float, Gt(0)] = 1.0) -> None:
        super().__init__()
        self.server_learning_rate = server_learning_rate

    def halves(self, task: Task, update: LocalUpdate | None) -> dict[str, LocalUpdate | Work]:
        """Clients run `[update]`."""
        assert update is not None
        return {"train": update}

    def tell(self, round: int, params: Tensors, cohort: Cohort) -> Tensors:
        """Step along the mean update."""
        assert cohort.tensors is not None
        return add_scaled(params, update_of(cohort.tensors), self.server_learning_rate)
