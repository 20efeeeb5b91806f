"""Who may run next: messages of one node one at a time and in order, of different nodes in any order."""

import threading
import time
from collections import deque
from dataclasses import dataclass

from flwr.app import Message

from fedjourney.simulation.answer import Answer
from fedjourney.simulation.codec import Blob


class StoppedError(Exception):
    """The simulation has ended while somebody waited for a reply."""


@dataclass(eq=False)
class Job:
    """A message on its way: pickled when it was sent, so that nobody can change it any more."""

    partition: int
    count: int  # messages that its node had before
    sent: Message  # its metadata; without content
    pickled: bytes
    blobs: list[Blob]
    answer: Answer | None = None
    given_up: bool = False

    @property
    def expires(self) -> float:
        """Unix time at which nobody wants the reply any more."""
        return float(self.sent.metadata.created_at + self.sent.metadata.ttl)


class Desk:
    """Jobs that wait, nodes that are at work, and each node's context, which is nowhere else.

    A context (with the client's state) travels with each message and comes back with its reply. So any worker may
    serve any node, which keeps all of them busy, and a worker that is killed takes nothing with it.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.problem: Exception | None = None
        self._ready: deque[Job] = deque()
        self._waiting: dict[int, deque[Job]] = {}  # by node at work
        self._contexts: dict[int, bytes] = {}

    def add(self, job: Job) -> None:
        """Take a message in."""
        with self.changed:
            if job.partition in self._waiting:
                self._waiting[job.partition].append(job)
            else:
                self._waiting[job.partition] = deque()
                self._ready.append(job)
            self.changed.notify_all()

    def take(self, wait: bool = True) -> tuple[Job, bytes | None] | None:
        """Return the next job and its node's context; None when there is none, or the desk is closed."""
        with self.changed:
            while self.problem is None:
                if self._ready:
                    job = self._ready.popleft()
                    if not job.given_up and time.time() < job.expires:
                        return job, self._contexts.get(job.partition)
                    self._next(job.partition)
                elif wait:
                    self.changed.wait()
                else:
                    break
            return None

    def finish(self, job: Job, answer: Answer) -> None:
        """Take an answer in; as in Flower, a failed message leaves its node's context as it was."""
        with self.changed:
            if answer.context is not None:
                self._contexts[job.partition] = answer.context
                answer.context = None
            job.answer = answer
            job.blobs = []
            job.pickled = b""
            self._next(job.partition)
            self.changed.notify_all()

    def stop(self, problem: Exception) -> None:
        """Wake everybody: there will be no more answers."""
        with self.changed:
            self.problem = self.problem or problem
            self.changed.notify_all()

    def _next(self, partition: int) -> None:
        waiting = self._waiting[partition]
        if waiting:
            self._ready.append(waiting.popleft())
        else:
            del self._waiting[partition]
