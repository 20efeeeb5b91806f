"""FedDyn.

Reference: Acar et al. 2021, Federated Learning Based on Dynamic Regularization, https://arxiv.org/abs/2111.04263,
Algorithm 1, in the form of the authors' code (h_i = -∇L_i(θ_i) / α). Per sampled client and round P floats up, P
floats down: the server keeps the mean of all h_i itself.
"""

from typing import Annotated

from annotated_types import Gt

from fedjourney.strategies import Cohort, Rounds, Setting, update_of
from fedjourney.strategies._local import extended, group, under
from fedjourney.tasks import Task
from fedjourney.tensors import Tensors, add_scaled
from fedjourney.updates import LocalUpdate, Reply, Work, zeros


class FedDyn(Rounds):
    """Clients' losses are bent, round by round, until their optima agree with the optimum of the mean loss.

    Client: minimise L_i(θ) + α ⟨θ, h_i - θ_t⟩ + (α/2) |θ|² by `[update]`, then h_i ← h_i + θ_i - θ_t (kept at home;
    it counts only with its reply). Server: h̄ ← h̄ + (1/N) Σ_S (θ_i - θ_t), θ_{t+1} = mean_S θ_i + h̄, S those who
    answered. What is evaluated and delivered is the plain mean_S θ_i, as in the authors' code. Means do not look at
    numbers of examples: what is minimised is the mean of the clients' mean losses (Algorithm 1).

    Args:
        setting: tells N.
        alpha: α. It cancels in the server's step: α → 0 is not FedAvg.
    """

    weighted = False

    def __init__(self, setting: Setting, /, *, alpha: Annotated[float, Gt(0)] = 0.1) -> None:
        super().__init__()
        self.clients, self.strength = setting.clients, alpha

    def halves(self, task: Task, update: LocalUpdate | None) -> dict[str, LocalUpdate | Work]:
        """Clients run `[update]` on the bent loss."""
        assert update is not None

        def remember(shared: Tensors, row: Tensors, state: Tensors) -> Tensors:
            dual = group("dual", state) or zeros(shared)
            return under("dual", dual) | under("shared", shared)

        def correct(grads: Tensors, params: Tensors, own: Tensors) -> Tensors:
            dual, shared = group("dual", own), group("shared", own)
            return {n: g + self.strength * (dual[n] + (params[n] - shared[n])) for n, g in grads.items()}

        def finish(reply: Reply, shared: Tensors, own: Tensors, steps: float) -> Reply:
            dual = add_scaled(group("dual", own), update_of(reply.tensors), 1.0)
            return reply._replace(state=reply.state | under("dual", dual))

        return {"train": extended(update, remember, correct, finish)}

    def weight(self, reply: Reply) -> float:
        """All count the same."""
        return 1.0

    def tell(self, round: int, params: Tensors, cohort: Cohort) -> Tensors:
        """Return the mean of the answers plus the mean of all h_i."""
        assert cohort.tensors is not None
        change = update_of(cohort.tensors)
        dual = add_scaled(group("dual", self.state) or zeros(change), change, len(cohort.clients) / self.clients)
        average = add_scaled(params, change, 1.0)
        self.state = under("dual", dual) | under("average", average)
        return add_scaled(average, dual, 1.0)

    def model(self, params: Tensors) -> Tensors:
        """Return the plain average of the last round's answers."""
        return group("average", self.state) or params
