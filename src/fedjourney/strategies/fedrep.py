"""FedRep: a shared representation, personal heads.

Reference: Collins et al. 2021, Exploiting Shared Representations for Personalized Federated Learning,
https://arxiv.org/abs/2102.07078, Algorithm 1. Per sampled client and round the shared tensors up and down; the
personal ones down once.
"""

from dataclasses import dataclass, replace
from typing import Annotated

from annotated_types import Ge, Le, MinLen

from fedjourney.strategies import Setting, update_of
from fedjourney.strategies._local import group, under, with_frozen
from fedjourney.strategies._personal import SharedPart, check_patterns, stays
from fedjourney.tasks import Task
from fedjourney.tensors import Tensors
from fedjourney.updates import Client, LocalUpdate, Reply, Work


@dataclass(frozen=True)
class _Alternating:
    """Trains the head with the body frozen, then the body with the head frozen; not a single loop of steps."""

    head: LocalUpdate
    body: LocalUpdate

    def __call__(self, client: Client) -> Reply:
        """Answer with the body's update; keep the head."""
        own = group("personal", client.state) or client.row
        first = replace(client, shared=client.shared | own, row={}).train(self.head)
        change = update_of(first.tensors)
        own = {name: tensor + change[name] for name, tensor in own.items()}
        second = replace(client, shared=client.shared | own, row={}).train(self.body)
        return Reply(second.tensors, second.metrics, second.state | under("personal", own))

    def personal(self, shared: Tensors, state: Tensors) -> Tensors:
        """Return the shared body with the client's own head."""
        return shared | group("personal", state)


class FedRep(SharedPart):
    """FedPer in two phases: first the named tensors alone are trained, then the shared ones alone.

    Args:
        setting: not an option.
        personal: patterns (`*`, `?`, `[…]`) of names that stay at home, such as `["6.*"]` for the last layer.
        head_epochs: passes of the first phase; those of the second are `[update]`'s.
    """

    def __init__(
        self,
        setting: Setting,
        /,
        *,
        personal: Annotated[list[str], MinLen(1)],
        head_epochs: Annotated[int, Ge(1), Le(100_000)] = 5,
    ) -> None:
        super().__init__(setting, personal)
        self.head_epochs = head_epochs

    def halves(self, task: Task, update: LocalUpdate | None) -> dict[str, LocalUpdate | Work]:
        """Clients run `[update]` twice, on the head and on the body."""
        assert update is not None
        check_patterns("fedrep", self.personal, task)
        head = with_frozen(update, lambda name: stays(name, self.personal))
        body = with_frozen(update, lambda name: not stays(name, self.personal))
        return {"train": _Alternating(replace(head, passes=self.head_epochs), body)}
