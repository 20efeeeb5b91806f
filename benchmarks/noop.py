"""Clients that do nothing, as fedjourney's [update] "noop:nothing": what is left is what a simulator costs."""

from fedjourney.tasks import Task
from fedjourney.tensors import Tensors
from fedjourney.updates import Carry, LocalUpdate, Reply, difference


def nothing(task: Task, /) -> LocalUpdate:
    """Answer with the parameters as they came: no pass over the examples, no step.

    Args:
        task: not looked at.
    """

    def start(shared: Tensors, row: Tensors, state: Tensors) -> Carry:
        return Carry(dict(shared), {})

    def step(carry: Carry, batch: object, gradient: object) -> Carry:
        return carry

    def finish(shared: Tensors, carry: Carry) -> Reply:
        return Reply(difference(shared, carry.params), {}, {})

    return LocalUpdate(0, start, step, finish)
