"""The reference engine."""

from collections.abc import Iterator

from fedjourney.client import ClientSide
from fedjourney.engines import InProcessGrid, Where
from fedjourney.exchange import Block, Exchange, added, evaluation_blocks
from fedjourney.plan import Plan
from fedjourney.storage import ClientStates
from fedjourney.tensors import Tensors


class _Serial(InProcessGrid):
    def __init__(self, plan: Plan, where: Where) -> None:
        super().__init__()
        self._plan, self._side = plan, ClientSide(plan, ClientStates(where.states))

    def compute(self, exchange: Exchange, timeout: float | None) -> Iterator[Block]:
        """Compute one block after the other; a client that never returns cannot be cut off here."""
        for block in exchange.cut(self._plan.experiment["numerics"]["lanes"]):
            yield self._side.block(block)

    def score(self, params: Tensors, split: str) -> Tensors:
        """Evaluate one block after the other."""
        count = len(getattr(self._plan.dataset, split))
        return added(self._plan.score(params, split, rows) for rows in evaluation_blocks(count))


def serial(plan: Plan, where: Where, /) -> InProcessGrid:
    """One client after the other in this process: the reference, and a breakpoint in a client stops."""
    return _Serial(plan, where)
