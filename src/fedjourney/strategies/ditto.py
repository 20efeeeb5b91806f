"""Ditto.

Reference: Li et al. 2021, Ditto: Fair and Robust Federated Learning Through Personalization,
https://arxiv.org/abs/2012.04221, Algorithm 1. Per sampled client and round P floats up, P floats down: the personal
model never travels.
"""

from typing import Annotated

import torch
from annotated_types import Ge, Gt

from fedjourney.batching import Batch, Gradient, Loss
from fedjourney.strategies import Cohort, Rounds, Setting, update_of
from fedjourney.strategies._local import group, under
from fedjourney.tasks import Task
from fedjourney.tensors import Tensors, add_scaled
from fedjourney.updates import Carry, LocalUpdate, Reply, Work


class Ditto(Rounds):
    """FedAvg, and beside it each client's own model, tied to the shared one.

    On the same batches w by `[update]`, and v ← v - η (∇F_k(v) + λ (v - w_t)), w_t as received, by `[update]` too. v is
    kept at home, begins as the first w_t received, and is evaluated as `personal/…`. λ = 0 is local_only.

    Args:
        setting: not needed.
        tie: λ; tune it on validation data. With plain SGD η λ should stay below 1.
        server_learning_rate: factor of the mean update.
    """

    def __init__(
        self,
        setting: Setting,
        /,
        *,
        tie: Annotated[float, Ge(0)] = 0.1,
        server_learning_rate: Annotated[float, Gt(0)] = 1.0,
    ) -> None:
        super().__init__()
        self.tie, self.server_learning_rate = tie, server_learning_rate

    def halves(self, task: Task, update: LocalUpdate | None) -> dict[str, LocalUpdate | Work]:
        """Clients run `[update]` on both models."""
        assert update is not None
        local = update

        def start(shared: Tensors, row: Tensors, state: Tensors) -> Carry:
            ours = local.start(shared, row, state)
            mine = local.start(group("personal", state) or shared, row, {})
            kept = under("ours", ours.extra) | under("mine", mine.extra)
            return Carry(ours.params, kept | under("model", mine.params) | under("received", shared))

        def step(carry: Carry, batch: Batch, gradient: Gradient) -> Carry:
            received = group("received", carry.extra)

            def tied(loss: Loss, params: Tensors, batch: Batch) -> tuple[Tensors, torch.Tensor]:
                grads, value = gradient(loss, params, batch)
                return {n: g + self.tie * (params[n] - received[n]) for n, g in grads.items()}, value

            ours = local.step(Carry(carry.params, group("ours", carry.extra)), batch, gradient)
            mine = local.step(Carry(group("model", carry.extra), group("mine", carry.extra)), batch, tied)
            kept = under("ours", ours.extra) | under("mine", mine.extra)
            return Carry(ours.params, kept | under("model", mine.params) | under("received", received))

        def finish(shared: Tensors, carry: Carry) -> Reply:
            reply = local.finish(shared, Carry(carry.params, group("ours", carry.extra)))
            return reply._replace(state=reply.state | under("personal", group("model", carry.extra)))

        def personal(shared: Tensors, state: Tensors) -> Tensors:
            return group("personal", state) or shared

        return {"train": LocalUpdate(local.passes, start, step, finish, personal)}

    def tell(self, round: int, params: Tensors, cohort: Cohort) -> Tensors:
        """Step along the mean update."""
        assert cohort.tensors is not None
        return add_scaled(params, update_of(cohort.tensors), self.server_learning_rate)
