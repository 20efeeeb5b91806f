"""Federated stochastic gradient descent.

Reference: McMahan et al. 2017, Communication-Efficient Learning of Deep Networks from Decentralized Data,
https://arxiv.org/abs/1602.05629, section 2 (FederatedSGD). Per sampled client and round P floats up, P floats down.
"""

from typing import Annotated, Literal

from annotated_types import Gt

from fedjourney.strategies import Cohort, Rounds, Setting, update_of
from fedjourney.strategies._adaptive import adam
from fedjourney.strategies._local import shard_gradient
from fedjourney.tasks import Task
from fedjourney.tensors import Tensors, add_scaled
from fedjourney.updates import LocalUpdate, Work


class FedSGD(Rounds):
    """One gradient of each client's whole shard a round, one step of the server: the baseline without client drift.

    w ← w - η Σ (n_k / n) ∇F_k(w), or Adam on the same mean. With everybody asked and sgd it is gradient descent on the
    pooled examples. A shard is gone through in the task's batches at fixed parameters; `[update]` is not used.

    Args:
        setting: not needed.
        learning_rate: η.
        optimizer: the server's; adam with its usual constants (Kingma and Ba 2015).
    """

    uses_update = False

    def __init__(
        self,
        setting: Setting,
        /,
        *,
        learning_rate: Annotated[float, Gt(0)] = 0.1,
        optimizer: Literal["sgd", "adam"] = "sgd",
    ) -> None:
        super().__init__()
        self.learning_rate, self.optimizer = learning_rate, optimizer

    def halves(self, task: Task, update: LocalUpdate | None) -> dict[str, LocalUpdate | Work]:
        """Clients answer minus the gradient of their shard's mean loss."""
        return {"train": shard_gradient(task)}

    def tell(self, round: int, params: Tensors, cohort: Cohort) -> Tensors:
        """Step downhill."""
        assert cohort.tensors is not None
        downhill = update_of(cohort.tensors)
        if self.optimizer == "adam":
            downhill, self.state = adam(self.state, downhill)
        return add_scaled(params, downhill, self.learning_rate)
