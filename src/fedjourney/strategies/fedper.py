"""FedPer: personal layers.

Reference: Arivazhagan et al. 2019, Federated Learning with Personalization Layers, https://arxiv.org/abs/1912.00818,
Algorithms 1 and 2. FedBN (Li et al. 2021, https://arxiv.org/abs/2102.07623) is the same with the names of the
normalisation layers. Per sampled client and round the shared tensors up and down; the personal ones down once.
"""

from typing import Annotated

from annotated_types import MinLen

from fedjourney.strategies import Setting
from fedjourney.strategies._local import group, under
from fedjourney.strategies._personal import SharedPart, check_patterns
from fedjourney.tasks import Task
from fedjourney.tensors import Tensors
from fedjourney.updates import Carry, LocalUpdate, Reply, Work


class FedPer(SharedPart):
    """FedAvg over some tensors; the named ones stay at home, trained together with the others.

    A client that has never been heard of is sent the start values of its personal tensors, once. Its own model (the
    shared tensors with its own) is evaluated as `personal/…`; what is delivered has the start values in their place,
    so that only the shared part of it says anything.

    Args:
        setting: not an option.
        personal: patterns (`*`, `?`, `[…]`) of names that stay at home, such as `["6.*"]` for the last layer, or
            `["*norm*"]` as in FedBN.
    """

    def __init__(self, setting: Setting, /, *, personal: Annotated[list[str], MinLen(1)]) -> None:
        super().__init__(setting, personal)

    def halves(self, task: Task, update: LocalUpdate | None) -> dict[str, LocalUpdate | Work]:
        """Clients run `[update]` on shared and own tensors together."""
        assert update is not None
        check_patterns("fedper", self.personal, task)
        local = update

        def start(shared: Tensors, row: Tensors, state: Tensors) -> Carry:
            return local.start(shared | (group("personal", state) or row), {}, state)

        def finish(shared: Tensors, carry: Carry) -> Reply:
            own = {name: tensor for name, tensor in carry.params.items() if name not in shared}
            reply = local.finish(shared | own, carry)
            sent = {f"update/{name}": reply.tensors[f"update/{name}"] for name in shared}
            return Reply(sent, reply.metrics, reply.state | under("personal", own))

        def personal(shared: Tensors, state: Tensors) -> Tensors:
            return shared | group("personal", state)

        return {"train": LocalUpdate(local.passes, start, local.step, finish, personal)}
