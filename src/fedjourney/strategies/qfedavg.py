"""q-FedAvg.

Reference: Li et al. 2020, Fair Resource Allocation in Federated Learning, https://arxiv.org/abs/1905.10497,
Algorithm 2. Per sampled client and round P floats and two numbers up, P floats down.
"""

from typing import Annotated

import torch
from annotated_types import Ge

from fedjourney.strategies import Cohort, Rounds, Setting, update_of
from fedjourney.strategies._local import Probe
from fedjourney.tasks import Task
from fedjourney.tensors import Tensors, add_scaled
from fedjourney.updates import Client, LocalUpdate, Reply, Work

TINY = 1e-10  # added to a loss, so that a client without any can be raised to a negative power


class QFedAvg(Rounds):
    """Clients with a high loss count more, so that the losses become more alike.

    F_k: loss of w_t on the client's whole shard, before it trains; D_k = L (w_t - w_k);
    w ← w_t - Σ F_k^q D_k / Σ (q F_k^(q-1) |D_k|² + L F_k^q). q = 0 is the plain mean. The paper draws clients by their
    numbers of examples; here the cohort is drawn evenly.

    Args:
        setting: not needed.
        q: how much fairness; the paper tunes it from 0.001 to 5.
        lipschitz: L; 0 takes 1 / the local learning rate, as in the paper, for which `[update]` must be plain SGD.
    """

    def __init__(
        self, setting: Setting, /, *, q: Annotated[float, Ge(0)] = 1.0, lipschitz: Annotated[float, Ge(0)] = 0.0
    ) -> None:
        super().__init__()
        self.q, self.lipschitz = q, lipschitz

    def halves(self, task: Task, update: LocalUpdate | None) -> dict[str, LocalUpdate | Work]:
        """Clients say their loss, then run `[update]`."""
        assert update is not None
        local = update
        if not self.lipschitz:
            why = "L is 1 / learning_rate; or set [strategy] lipschitz"
            self.lipschitz = 1.0 / Probe(task, local).learning_rate("qfedavg", why)

        def train(client: Client) -> Reply:
            total = count = 0.0
            with torch.no_grad():
                for batch in client.task.batches(client.shared, client.shard, client.seed):
                    examples = float(batch.mask.sum())
                    total += float(client.task.loss(client.shared, batch)) * examples
                    count += examples
            reply = client.train(local)
            moved = sum(float((t.double() ** 2).sum()) for t in update_of(reply.tensors).values())
            metrics = {"received-loss": total / max(count, 1.0), "moved-squared": moved}
            return Reply(reply.tensors, reply.metrics | metrics, reply.state)

        return {"train": train}

    def weight(self, reply: Reply) -> float:
        """Return F_k^q."""
        return float((reply.metrics["received-loss"] + TINY) ** self.q)

    def tell(self, round: int, params: Tensors, cohort: Cohort) -> Tensors:
        """Step: D_k = -L Δ_k, and the fold is Σ F_k^q Δ_k / Σ F_k^q."""
        assert cohort.tensors is not None
        losses = [loss + TINY for loss in cohort.metrics["received-loss"]]
        curvature = sum(
            self.q * loss ** (self.q - 1) * self.lipschitz**2 * moved
            for loss, moved in zip(losses, cohort.metrics["moved-squared"], strict=True)
        )
        weights = self.lipschitz * sum(loss**self.q for loss in losses)
        return add_scaled(params, update_of(cohort.tensors), weights / (curvature + weights))
