"""Engines: how clients are computed, never what. One plug-in per file.

An engine is a function `(plan, where, /, *, options)` that returns an `InProcessGrid`, a Flower `Grid` that is
also a context manager; leaving it ends whatever the engine started.
"""

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from fedjourney.flower_private import Run, ensure_identity, set_message_id

NODE = 1  # the one node of an in-process grid: it holds every client


@dataclass(frozen=True)
class Where:
    """Places an engine's clients need: the root of data sets (or None) and the folder of client state."""

    data_root: Path | None
    states: Path


class InProcessGrid(Grid):
    """A Flower grid without a network: one node that holds all clients, replies in the order asked."""

    def __init__(self) -> None:
        ensure_identity()
        self._run = Run.create_empty(0)
        self._pushed: dict[str, Message] = {}
        self._count = 0

    @abstractmethod
    def compute(self, messages: Iterable[Message], timeout: float | None) -> Iterator[tuple[Message, RecordDict]]:
        """Yield (message, content of its reply) in the order of the messages."""

    def __enter__(self) -> Self:
        """Start."""
        return self

    def __exit__(self, *exception: object) -> None:
        """End whatever was started."""

    def set_run(self, run: Run) -> None:
        """Take over Flower's description of a run."""
        self._run = run

    @property
    def run(self) -> Run:
        """Flower's description of the run."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Build a message."""
        return Message(content, dst_node_id, message_type, group_id=group_id, ttl=ttl)

    def get_node_ids(self) -> Iterable[int]:
        """Return the one node."""
        return [NODE]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Keep messages until their replies are pulled."""
        identified = [self._identify(message) for message in messages]
        self._pushed |= {message.metadata.message_id: message for message in identified}
        return [message.metadata.message_id for message in identified]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Compute the replies to pushed messages."""
        wanted = [self._pushed.pop(name) for name in message_ids if name in self._pushed]
        return list(self.send_and_receive(wanted))

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Yield replies lazily, in the order asked, so that a fold never holds a whole cohort."""
        for message, content in self._answers(map(self._identify, messages), timeout):
            yield self._identify(Message(content, reply_to=message))

    def _answers(self, messages: Iterable[Message], timeout: float | None) -> Iterator[tuple[Message, RecordDict]]:
        held = list(messages)
        queries = [message for message in held if message.metadata.message_type == "query"]
        for message in queries:
            yield message, RecordDict({"node": ConfigRecord({"partition-id": 0, "num-partitions": 1})})
        if len(held) > len(queries):
            yield from self.compute([message for message in held if message not in queries], timeout)

    def _identify(self, message: Message) -> Message:
        if not message.metadata.message_id:
            self._count += 1
            set_message_id(message, str(self._count))
        return message
