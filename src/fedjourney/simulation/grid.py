"""A Flower grid whose nodes are simulated on this machine: all there from the start, replies in the order asked."""

import functools
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import replace

from flwr.app import Error, Message, RecordDict, UserConfig
from flwr.serverapp import Grid

from fedjourney import flower_private
from fedjourney.flower_private import SUPERLINK_NODE_ID, ErrorCode, Run
from fedjourney.simulation import codec
from fedjourney.simulation.answer import Setting
from fedjourney.simulation.desk import Desk, Job
from fedjourney.simulation.randomness import number
from fedjourney.simulation.terminal import Terminal

LOOK = 0.2  # seconds between two looks at deadlines and at Ctrl-C
BREATH = 0.005  # seconds that a pull waits for a first reply, so that polling apps leave the processor to clients


class SimulatedGrid(Grid):
    """Sends messages to simulated nodes.

    Args:
        run: Flower's description of the run.
        setting: node ids and seed.
        desk: where messages wait.
        terminal: shows what clients print, and their failures.
        step: computes one message in this process; None: worker processes do.
    """

    def __init__(
        self, run: Run, setting: Setting, desk: Desk, terminal: Terminal, step: Callable[[], bool] | None = None
    ) -> None:
        self._run, self._setting, self._desk, self._terminal, self._step = run, setting, desk, terminal, step
        self._partitions = {node: partition for partition, node in enumerate(setting.nodes)}
        self._counts = [0] * len(setting.nodes)
        self._blobs, self._sending, self._running = codec.Blobs(), threading.Lock(), threading.Lock()
        self._jobs: dict[str, Job] = {}  # by message id, until the reply is pulled

    def set_run(self, run: Run) -> None:
        """Take over Flower's description of a run."""
        self._run = run

    @property
    def run(self) -> Run:
        """Flower's description of the run."""
        return replace(self._run)

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Build a message (deprecated in Flower; `Message(…)` is the way)."""
        return Message(content, dst_node_id, message_type, group_id=group_id, ttl=ttl)

    def get_node_ids(self) -> Iterable[int]:
        """Return all nodes, always in the same order."""
        return list(self._setting.nodes)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send messages; each is copied, so what the app changes later does not reach the client."""
        return [name for message in messages if (name := self._send(message))]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies that are there, in the order in which their messages were sent."""
        wanted = set(message_ids)
        if self._step is not None and any(self._waits(name) for name in wanted):
            self._compute()
        with self._desk.changed:
            if wanted and all(self._waits(name) for name in wanted):
                self._desk.changed.wait(BREATH)
            self._check()
            held = [name for name in self._jobs if name in wanted and not self._waits(name)]
        replies = [self._collect(name) for name in held]
        unknown = [name for name in message_ids if name in wanted - self._jobs.keys() - set(held)]
        return replies + [flower_private.unavailable(name, self._run.run_id) for name in unknown]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Send messages, wait, and return the replies in the order asked; after `timeout` those that are there.

        As in Flower, a client that is late goes on, and its node's next message waits for it.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        names = list(self.push_messages(messages))
        replies: list[Message] = []
        with self._terminal.waiting(len(names)) as progress:
            for done, name in enumerate(names):
                while self._waits(name) and (deadline is None or time.monotonic() < deadline):
                    self._await(name, deadline)
                    progress(functools.partial(self._count_done, names, done))
                if not self._waits(name):
                    replies.append(self._collect(name))
        return replies

    def settle(self) -> None:
        """Show what clients printed whose replies nobody has pulled."""
        for name in [name for name in self._jobs if not self._waits(name)]:
            self._collect(name)

    def _count_done(self, names: list[str], first: int) -> int:
        return first + sum(not self._waits(name) for name in names[first:])

    def _send(self, message: Message) -> str:
        told = message.metadata
        if told.reply_to_message_id or told.ttl <= 0:
            raise ValueError(f"Invalid message: {message}")  # Flower's own words
        if told.dst_node_id not in self._partitions:
            logging.getLogger("flwr").error("Invalid destination node ID for Message: %s", told.dst_node_id)
            return ""
        partition = self._partitions[told.dst_node_id]
        with self._sending:
            count = self._counts[partition]
            self._counts[partition] += 1
            name = self._name("message", partition, count)
            flower_private.set_message_id(message, name)
            blobs: dict[int, codec.Blob] = {}

            def token(data: bytes) -> int:
                blob = self._blobs.of(data)
                return blobs.setdefault(blob.token, blob).token

            pickled = codec.dumps(message, token)
            job = Job(partition, count, flower_private.instruction(message), pickled, list(blobs.values()))
            self._jobs[name] = job
            self._terminal.sent += 1
            self._desk.add(job)
        return name

    def _name(self, *parts: int | str) -> str:
        return str(uuid.UUID(int=number(128, self._setting.seed, *parts), version=4))

    def _waits(self, name: str) -> bool:
        """Whether a reply is still to come."""
        job = self._jobs.get(name)
        return job is not None and job.answer is None and time.time() < job.expires

    def _await(self, name: str, deadline: float | None) -> None:
        """Wait for something to happen, or compute a message here."""
        if self._step is not None:
            self._compute()
            return
        with self._desk.changed:
            self._check()
            if self._waits(name):
                left = LOOK if deadline is None else min(LOOK, max(deadline - time.monotonic(), 0.0))
                self._desk.changed.wait(left)

    def _compute(self) -> None:
        assert self._step is not None
        with self._running:  # `flwr.server` asks from many threads; clients run one after the other all the same
            self._check()
            self._step()

    def _check(self) -> None:
        if self._desk.problem is not None:
            raise self._desk.problem

    def _collect(self, name: str) -> Message:
        job = self._jobs.pop(name)
        if job.answer is None:
            job.given_up = True
            reason = f"no reply within the message's time to live of {job.sent.metadata.ttl:g} s"
            self._terminal.expired(job, reason)
            reply = Message(Error(ErrorCode.MESSAGE_UNAVAILABLE, reason), reply_to=job.sent)
        else:
            self._terminal.arrived(job, job.answer)
            found = codec.loads(job.answer.reply, job.answer.blobs.__getitem__)
            reply = Message(found, reply_to=job.sent) if isinstance(found, Error) else found
        flower_private.set_message_id(reply, self._name("reply", job.partition, job.count))
        return reply


def describe(app_name: str, version: str, publisher: str, run_id: int, overrides: UserConfig) -> Run:
    """Return Flower's description of a simulated run."""
    run = Run.create_empty(run_id)
    return replace(
        run,
        fab_id=f"{publisher}/{app_name}" if publisher else "",
        fab_version=version,
        override_config=dict(overrides),
        primary_task_id=SUPERLINK_NODE_ID,
    )
