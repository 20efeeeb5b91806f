"""A grid of Flower's whose only node is at times too late: some clients' replies come when their exchange is over."""

from collections.abc import Callable, Iterable
from pathlib import Path

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from fedjourney import messages as wire
from fedjourney.client import ClientSide
from fedjourney.flower_private import Run, ensure_identity
from fedjourney.plan import Plan
from fedjourney.storage import ClientStates

NODE = 1


class LateGrid(Grid):
    """Answers in this process; `late(round, client)` says whose replies miss the deadline.

    With `delivered` they are the first to arrive in the next exchange, else they never arrive.
    """

    def __init__(self, plan: Plan, states: Path, late: Callable[[int, int], bool], delivered: bool) -> None:
        ensure_identity()
        self._side, self._late, self._delivered = ClientSide(plan, ClientStates(states)), late, delivered
        self._held: list[Message] = []
        self.arrived_late = 0

    def set_run(self, run: Run) -> None:
        raise AssertionError("nobody asks for this")

    @property
    def run(self) -> Run:
        raise AssertionError("nobody asks for this")

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        return Message(content, dst_node_id, message_type, group_id=group_id, ttl=ttl)

    def get_node_ids(self) -> Iterable[int]:
        return [NODE]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        raise AssertionError("exchanges are sent and received at once")

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        raise AssertionError("exchanges are sent and received at once")

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        for message in messages:
            if message.metadata.message_type == "query":
                held = {"partition-id": 0, "num-partitions": 1}
                yield Message(RecordDict({"node": ConfigRecord(held)}), reply_to=message)
                continue
            early, self._held = self._held, []
            self.arrived_late += len(early)
            yield from early
            exchange = wire.read_exchange(message.content, message.metadata.message_type)
            answers = list(self._side.answers(exchange))
            late = [a for a in answers if exchange.kind == "train" and self._late(exchange.round, a.client)]
            if late and self._delivered:
                self._held.append(Message(wire.write_answers(late), reply_to=message))
            yield Message(wire.write_answers(a for a in answers if a not in late), reply_to=message)
