"""SCAFFOLD.

Reference: Karimireddy et al. 2020, SCAFFOLD: Stochastic Controlled Averaging for Federated Learning,
https://arxiv.org/abs/1910.06378, Algorithm 1 with option II, equations 3 to 5.
Per sampled client and round 2P floats up (Δy_i, Δc_i), 2P floats down (x, c).
"""

from collections.abc import Sequence
from typing import Annotated

from annotated_types import Gt

from fedjourney.strategies import Ask, Cohort, Rounds, Setting, update_of
from fedjourney.strategies._local import Probe, extended, group, under
from fedjourney.tasks import Task
from fedjourney.tensors import Tensors, add_scaled, subtract
from fedjourney.updates import LocalUpdate, Reply, Work, zeros


class Scaffold(Rounds):
    """Clients correct their gradients by control variates, the difference of their own drift and everybody's.

    y ← y - λ (g - c_i + c) (equation 3); c_i⁺ = c_i - c + (x - y) / (K_i λ) (equation 4, option II);
    x ← x + η mean Δy_i, c ← c + (|S|/N) mean Δc_i (equation 5), S those who answered. Means do not look at numbers of
    examples, as published. c_i is kept by the client and counts only with its reply, so c = mean of all c_i always.
    `[update]` must be plain gradient steps, of which λ is measured: with momentum, (x - y) / (K λ) is no gradient.

    Args:
        setting: tells N.
        server_learning_rate: η.
    """

    weighted = False

    def __init__(self, setting: Setting, /, *, server_learning_rate: Annotated[float, Gt(0)] = 1.0) -> None:
        super().__init__()
        self.clients, self.server_learning_rate = setting.clients, server_learning_rate

    def halves(self, task: Task, update: LocalUpdate | None) -> dict[str, LocalUpdate | Work]:
        """Clients run `[update]` with corrected gradients."""
        assert update is not None
        rate = Probe(task, update).learning_rate("scaffold", "(x - y) / (K λ) would be no mean gradient")

        def remember(shared: Tensors, row: Tensors, state: Tensors) -> Tensors:
            own, everybody = group("control", state), group("control", shared)
            own = own or zeros(everybody)
            return under("own", own) | under("correction", subtract(everybody, own))

        def correct(grads: Tensors, params: Tensors, own: Tensors) -> Tensors:
            return add_scaled(grads, group("correction", own), 1.0)

        def finish(reply: Reply, shared: Tensors, own: Tensors, steps: float) -> Reply:
            # equation 4 with x - y = -Δy and c_i - c = -correction
            moved = add_scaled(group("correction", own), update_of(reply.tensors), 1.0 / (steps * rate))
            control = {name: -tensor for name, tensor in moved.items()}
            change = under("control", subtract(control, group("own", own)))
            return Reply(reply.tensors | change, reply.metrics, reply.state | under("control", control))

        return {"train": extended(update, remember, correct, finish, model=_model)}

    def ask(self, round: int, params: Tensors, clients: Sequence[int]) -> Ask:
        """Everyone gets x and c."""
        return Ask(params | (self.state or under("control", zeros(params))), clients)

    def weight(self, reply: Reply) -> float:
        """All count the same."""
        return 1.0

    def like(self, params: Tensors, work: str = "train") -> Tensors:
        """A reply is Δy and Δc."""
        return under("update", params) | under("control", params)

    def tell(self, round: int, params: Tensors, cohort: Cohort) -> Tensors:
        """Step along the mean update; move the mean control by what those who answered have moved theirs."""
        assert cohort.tensors is not None
        change, share = group("control", cohort.tensors), len(cohort.clients) / self.clients
        self.state = under("control", add_scaled(group("control", self.state) or zeros(change), change, share))
        return add_scaled(params, update_of(cohort.tensors), self.server_learning_rate)


def _model(shared: Tensors) -> Tensors:
    return {name: tensor for name, tensor in shared.items() if not name.startswith("control/")}
