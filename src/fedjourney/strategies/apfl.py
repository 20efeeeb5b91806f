"""APFL: adaptive personalised federated learning.

Reference: Deng et al. 2020, Adaptive Personalized Federated Learning, https://arxiv.org/abs/2003.13461, Algorithm 1,
equations 4 and 5. Per sampled client and round P floats up, P floats down: neither v nor α ever travels.
"""

from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le

from fedjourney.batching import Batch, Gradient, Loss
from fedjourney.strategies import Cohort, Rounds, Setting, update_of
from fedjourney.strategies._local import group, under
from fedjourney.tasks import Task
from fedjourney.tensors import Tensors, add_scaled
from fedjourney.updates import Carry, LocalUpdate, Reply, Work


def mixed(own: Tensors, shared: Tensors, weight: torch.Tensor) -> Tensors:
    """Return α v + (1 - α) w; α []."""
    return {name: weight * own[name] + (1 - weight) * tensor for name, tensor in shared.items()}


class APFL(Rounds):
    """FedAvg, and at each client a mixture v̄ = α v + (1 - α) w of a model of its own and the shared one.

    Per step w ← w - η ∇F(w) and v ← v - η α ∇F(v̄), both by `[update]` (α by the chain rule, as in the paper's text;
    its code leaves it out). Once a round α ← clip(α - ζ ⟨v - w, ∇F(v̄)⟩, 0, 1), the product taken at the round's first
    step and used from the client's next round on. v̄ is evaluated as `personal/…`. α = 0 is FedAvg, α = 1 local_only.

    Args:
        setting: not needed.
        mixture: α at first.
        mixture_learning_rate: ζ; 0 keeps α. The paper takes η.
        server_learning_rate: factor of the mean update.
    """

    def __init__(
        self,
        setting: Setting,
        /,
        *,
        mixture: Annotated[float, Ge(0), Le(1)] = 0.5,
        mixture_learning_rate: Annotated[float, Ge(0)] = 0.1,
        server_learning_rate: Annotated[float, Gt(0)] = 1.0,
    ) -> None:
        super().__init__()
        self.mixture, self.rate, self.server_learning_rate = mixture, mixture_learning_rate, server_learning_rate

    def halves(self, task: Task, update: LocalUpdate | None) -> dict[str, LocalUpdate | Work]:
        """Clients run `[update]` on the shared model and on their own through the mixture."""
        assert update is not None
        local = update

        def start(shared: Tensors, row: Tensors, state: Tensors) -> Carry:
            ours = local.start(shared, row, state)
            mine = local.start(group("personal", state) or shared, row, {})
            one = next(iter(shared.values()))
            told = {"mixture": state.get("mixture", one.new_full((), self.mixture)), "slope": one.new_zeros(())}
            told["begun"] = one.new_zeros(())
            return Carry(ours.params, _kept(ours, mine, told))

        def step(carry: Carry, batch: Batch, gradient: Gradient) -> Carry:
            own, extra = group("model", carry.extra), carry.extra
            grads, value = gradient(task.loss, mixed(own, carry.params, extra["mixture"]), batch)
            product = torch.stack([((own[n] - carry.params[n]) * g).sum() for n, g in grads.items()]).sum()
            told = {
                "mixture": extra["mixture"],
                "slope": torch.where(extra["begun"] > 0, extra["slope"], product),
                "begun": torch.ones_like(extra["begun"]),
            }

            def through(loss: Loss, params: Tensors, batch: Batch) -> tuple[Tensors, torch.Tensor]:
                return {name: extra["mixture"] * g for name, g in grads.items()}, value

            ours = local.step(Carry(carry.params, group("ours", extra)), batch, gradient)
            mine = local.step(Carry(own, group("mine", extra)), batch, through)
            return Carry(ours.params, _kept(ours, mine, told))

        def finish(shared: Tensors, carry: Carry) -> Reply:
            reply = local.finish(shared, Carry(carry.params, group("ours", carry.extra)))
            weight = (carry.extra["mixture"] + (-self.rate * carry.extra["slope"])).clamp(0, 1)
            own = under("personal", group("model", carry.extra)) | {"mixture": weight}
            return Reply(reply.tensors, reply.metrics | {"mixture": float(weight)}, reply.state | own)

        def personal(shared: Tensors, state: Tensors) -> Tensors:
            own = group("personal", state)
            return mixed(own, shared, state["mixture"]) if own else shared

        return {"train": LocalUpdate(local.passes, start, step, finish, personal)}

    def tell(self, round: int, params: Tensors, cohort: Cohort) -> Tensors:
        """Step along the mean update."""
        assert cohort.tensors is not None
        return add_scaled(params, update_of(cohort.tensors), self.server_learning_rate)


def _kept(ours: Carry, mine: Carry, told: Tensors) -> Tensors:
    return under("ours", ours.extra) | under("mine", mine.extra) | under("model", mine.params) | told
