"""FedProx.

Reference: Li et al. 2020, Federated Optimization in Heterogeneous Networks, https://arxiv.org/abs/1812.06127,
Algorithm 2, equation 2. Per sampled client and round P floats up, P floats down.
"""

from typing import Annotated

from annotated_types import Ge, Gt

from fedjourney.strategies import Cohort, Rounds, Setting, update_of
from fedjourney.strategies._local import proximal
from fedjourney.tasks import Task
from fedjourney.tensors import Tensors, add_scaled
from fedjourney.updates import LocalUpdate, Work


class FedProx(Rounds):
    """FedAvg whose clients are held back: local loss + μ/2 |w - w_t|², w_t as received.

    The proximal term enters the gradient of every local step of `[update]`, whatever that does with it. The mean is
    weighted by numbers of examples (the paper samples clients by theirs and takes the plain mean).

    Args:
        setting: not needed.
        mu: μ; 0 is FedAvg. The paper tunes it over 0.001, 0.01, 0.1, 1.
        server_learning_rate: factor of the mean update.
    """

    def __init__(
        self,
        setting: Setting,
        /,
        *,
        mu: Annotated[float, Ge(0)] = 0.01,
        server_learning_rate: Annotated[float, Gt(0)] = 1.0,
    ) -> None:
        super().__init__()
        self.mu, self.server_learning_rate = mu, server_learning_rate

    def halves(self, task: Task, update: LocalUpdate | None) -> dict[str, LocalUpdate | Work]:
        """Clients run `[update]` on the proximal loss."""
        assert update is not None
        return {"train": proximal(update, self.mu)}

    def tell(self, round: int, params: Tensors, cohort: Cohort) -> Tensors:
        """Step along the mean update."""
        assert cohort.tensors is not None
        return add_scaled(params, update_of(cohort.tensors), self.server_learning_rate)
