"""Every client for itself.

The floor of every comparison (Smith et al. 2017, Federated Multi-Task Learning, https://arxiv.org/abs/1705.10467,
call it "local"). Per client the start model down once (P floats); after that no tensor travels in either direction.
"""

from collections.abc import Sequence

from fedjourney.strategies import Ask, Cohort, Rounds, Setting
from fedjourney.strategies._local import group, under
from fedjourney.strategies._personal import first_rows, note
from fedjourney.tasks import Task
from fedjourney.tensors import Tensors
from fedjourney.updates import Carry, LocalUpdate, Reply, Work


class LocalOnly(Rounds):
    """No communication: each client goes on with its own model, round by round, by `[update]`.

    Its model is its kept state; look at `personal/accuracy`, each client's own model on its own held-out part. The
    model that is delivered stays the one everybody began with, so the test accuracy is chance. A client that was
    never asked still has the start model.
    """

    fold = None

    def __init__(self, setting: Setting, /) -> None:
        super().__init__()
        self.setting = setting

    def halves(self, task: Task, update: LocalUpdate | None) -> dict[str, LocalUpdate | Work]:
        """Clients run `[update]` from their own model."""
        assert update is not None
        local = update

        def start(shared: Tensors, row: Tensors, state: Tensors) -> Carry:
            return local.start(group("model", state) or row, {}, state)

        def finish(shared: Tensors, carry: Carry) -> Reply:
            reply = local.finish(carry.params, carry)  # for its metrics: there is nothing to differ from
            return Reply({}, reply.metrics, reply.state | under("model", carry.params))

        def personal(shared: Tensors, state: Tensors) -> Tensors:
            return group("model", state) or shared

        return {"train": LocalUpdate(local.passes, start, local.step, finish, personal)}

    def ask(self, round: int, params: Tensors, clients: Sequence[int]) -> Ask:
        """Nobody gets anything but the start model, once."""
        return Ask({}, clients, first_rows(self.setting, self.state, clients, params))

    def like(self, params: Tensors, work: str = "train") -> Tensors:
        """A reply has no tensors."""
        return {}

    def tell(self, round: int, params: Tensors, cohort: Cohort) -> Tensors:
        """Change nothing."""
        note(self.setting, self.state, cohort)
        return params
