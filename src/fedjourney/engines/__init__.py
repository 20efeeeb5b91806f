"""Engines: how clients are computed, never what. One plug-in per file.

An engine is a function `(plan, where, /, *, options)` that returns an `InProcessGrid`, a Flower `Grid` that is
also a context manager; leaving it ends whatever the engine started. One that brings a runtime of its own (`flower`)
returns instead a function of the run folder, which has the run served into it.
"""

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from fedjourney.exchange import Block, Exchange
from fedjourney.flower_private import Run, ensure_identity, set_message_id
from fedjourney.tensors import Tensors

NODE = 1  # the one node of an in-process grid: it holds every client


@dataclass(frozen=True)
class Where:
    """Places an engine's clients need: the root of data sets (or None) and the folder of client state."""

    data_root: Path | None
    states: Path


class InProcessGrid(Grid):
    """A Flower grid without a network: one node that holds all clients.

    Nothing is encoded: a message carries the number of an exchange, its replies the numbers of that exchange's
    blocks, computed while they are iterated over, so that a fold never holds a whole cohort.
    """

    def __init__(self) -> None:
        ensure_identity()
        self._run = Run.create_empty(0)
        self._pushed: dict[str, Message] = {}
        self._exchanges: dict[int, Exchange] = {}
        self._block: Block | None = None
        self._count = 0

    @abstractmethod
    def compute(self, exchange: Exchange, timeout: float | None) -> Iterator[Block]:
        """Yield the exchange's blocks in order; a block's sums may be reused once the next is asked for."""

    @abstractmethod
    def score(self, params: Tensors, split: str) -> Tensors:
        """Return the sums of a model on the server's "validation" or "test" examples, block by block in order."""

    def __enter__(self) -> Self:
        """Start."""
        return self

    def __exit__(self, *exception: object) -> None:
        """End whatever was started."""

    def send(self, exchange: Exchange) -> list[Message]:
        """Return the message that stands for an exchange."""
        self._count += 1
        self._exchanges[self._count] = exchange
        content = RecordDict({"exchange": ConfigRecord({"number": self._count})})
        return [Message(content, dst_node_id=NODE, message_type=exchange.kind, group_id=str(exchange.round))]

    def receive(self, replies: Iterable[Message]) -> Iterator[Block]:
        """Yield the blocks that replies stand for."""
        for _ in replies:
            if self._block is not None:
                yield self._block

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
        return self.send_and_receive([self._pushed.pop(name) for name in message_ids if name in self._pushed])

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Yield a reply for each block, lazily."""
        for message in map(self._identify, messages):
            told: ConfigRecord = message.content["exchange"]  # type: ignore[assignment]
            reply = self._identify(Message(RecordDict(), reply_to=message))  # one for all blocks: it carries nothing
            for block in self.compute(self._exchanges.pop(int(told["number"])), timeout):  # type: ignore[arg-type]
                self._block = block
                yield reply
        self._block = None

    def _identify(self, message: Message) -> Message:
        if not message.metadata.message_id:
            self._count += 1
            set_message_id(message, str(self._count))
        return message
