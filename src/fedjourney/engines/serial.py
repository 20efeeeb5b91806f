"""The reference engine."""

from collections.abc import Iterable, Iterator

from flwr.app import Message, RecordDict

from fedjourney import messages as records
from fedjourney.client import ClientSide
from fedjourney.engines import InProcessGrid, Where
from fedjourney.plan import Plan
from fedjourney.storage import ClientStates


class _Serial(InProcessGrid):
    def __init__(self, plan: Plan, where: Where) -> None:
        super().__init__()
        self._side = ClientSide(plan, ClientStates(where.states))

    def compute(self, messages: Iterable[Message], timeout: float | None) -> Iterator[tuple[Message, RecordDict]]:
        """Answer one after the other; a client that never returns cannot be cut off here."""
        encoded, shared = None, {}
        for message in messages:
            arrays, category = records.arrays_of(message.content, "arrays"), message.metadata.message_type
            if arrays is not encoded:
                encoded, shared = arrays, records.to_tensors(arrays)
            asks = records.read_asks(message.content)
            answers = {ask["client"]: self._side.answer(category, shared, row, ask) for row, ask in asks}
            yield message, records.write_answers(answers)


def serial(plan: Plan, where: Where, /) -> InProcessGrid:
    """One client after the other in this process: the reference, and a breakpoint in a client stops."""
    return _Serial(plan, where)
