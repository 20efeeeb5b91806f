"""FedNova.

Reference: Wang et al. 2020, Tackling the Objective Inconsistency Problem in Heterogeneous Federated Optimization,
https://arxiv.org/abs/2007.07481, equations 6 and 7 (normalised averaging), section 4 (momentum and proximal steps).
Per sampled client and round P floats and two numbers up, P floats down.
"""

from typing import Annotated

from annotated_types import Ge, Gt

from fedjourney.strategies import Cohort, Rounds, Setting, update_of
from fedjourney.strategies._local import Probe, extended, proximal
from fedjourney.tasks import Task
from fedjourney.tensors import Tensors, add_scaled
from fedjourney.updates import LocalUpdate, Reply, Work


class FedNova(Rounds):
    """Mean of the clients' updates per unit of local work, so that who does more steps does not count more.

    x ← x + η τ_eff Σ p_i Δ_i / |a_i|₁ (equation 7), p_i shares of the examples of those who answered. |a_i|₁ is what
    the client's own update makes of τ_i unit gradients: τ_i for SGD, (τ - ρ(1-ρ^τ)/(1-ρ))/(1-ρ) for momentum ρ,
    a ← (1 - λ μ) a + 1 for a proximal term (λ the local learning rate; a weight decay counts as one towards 0). It is
    measured by running `[update]` on unit gradients, hence right for any update that is linear in its gradients.
    τ_eff = Σ p_i |a_i|₁, and Σ p_i τ_i with a proximal term, as in the authors' code.

    Args:
        setting: not needed.
        mu: factor of a proximal term in the local loss; 0: none.
        server_learning_rate: η. At equal steps and μ = 0 the strategy is FedAvg.
    """

    def __init__(
        self,
        setting: Setting,
        /,
        *,
        mu: Annotated[float, Ge(0)] = 0.0,
        server_learning_rate: Annotated[float, Gt(0)] = 1.0,
    ) -> None:
        super().__init__()
        self.mu, self.server_learning_rate = mu, server_learning_rate

    def halves(self, task: Task, update: LocalUpdate | None) -> dict[str, LocalUpdate | Work]:
        """Clients run `[update]` and say how much work it was."""
        assert update is not None
        local = proximal(update, self.mu) if self.mu else update
        probe = Probe(task, local)

        def finish(reply: Reply, shared: Tensors, own: Tensors, steps: float) -> Reply:
            work = probe.moved(int(steps)) / probe.moved(1)
            return reply._replace(metrics=reply.metrics | {"steps": steps, "local-work": work})

        return {"train": extended(local, lambda shared, row, state: {}, finish=finish)}

    def weight(self, reply: Reply) -> float:
        """Return n_i / |a_i|₁: the fold is then Σ (n_i / |a_i|) Δ_i over Σ n_i / |a_i|."""
        return reply.metrics["num-examples"] / reply.metrics["local-work"]

    def tell(self, round: int, params: Tensors, cohort: Cohort) -> Tensors:
        """Step along the mean of normalised updates, τ_eff of them."""
        assert cohort.tensors is not None
        sizes, work = cohort.metrics["num-examples"], cohort.metrics["local-work"]
        done = cohort.metrics["steps"] if self.mu else work
        effective = sum(n * each for n, each in zip(sizes, done, strict=True)) / sum(sizes)
        normalised = sum(n / each for n, each in zip(sizes, work, strict=True)) / sum(sizes)
        return add_scaled(params, update_of(cohort.tensors), self.server_learning_rate * effective * normalised)
