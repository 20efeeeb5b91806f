"""Worker processes on this machine."""

import os
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection, Listener, wait
from pathlib import Path
from typing import Annotated, Any, Self

from annotated_types import Ge, Le
from flwr.app import ArrayRecord, Message, RecordDict

from fedjourney import messages as records
from fedjourney.client import Answer
from fedjourney.engines import InProcessGrid, Where
from fedjourney.errors import RunError
from fedjourney.plan import Plan

START_SECONDS = 120.0
TRIES = 2  # a client that took a worker down with it twice is not tried again


class _Worker:
    """One process and its connection; `job` is what it computes now."""

    def __init__(self, first: dict[str, Any]) -> None:
        key = secrets.token_bytes(32)
        self._folder = tempfile.TemporaryDirectory(prefix="fedjourney-")
        pipe = sys.platform == "win32"
        address = rf"\\.\pipe\fedjourney-{secrets.token_hex(8)}" if pipe else str(Path(self._folder.name) / "s")
        self._listener = Listener(address, authkey=key)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fedjourney.engines._worker"],
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the parent, which then ends its workers
            env=os.environ | {"OMP_NUM_THREADS": str(first["threads"]), "MKL_NUM_THREADS": str(first["threads"])},
        )
        assert self.process.stdin is not None
        self.process.stdin.write(f"{address}\n{key.hex()}\n".encode())
        self.process.stdin.flush()
        self._first: dict[str, Any] = first
        self._connection: Connection | None = None
        self.job: int | None = None
        self.shared: ArrayRecord | None = None

    @property
    def connection(self) -> "Connection":
        """The connection, accepted on first use: the process starts while others work."""
        if self._connection is None:
            self._connection = self._accept()
            self._connection.send(self._first)
        return self._connection

    def _accept(self) -> "Connection":
        found: list[Any] = []
        thread = threading.Thread(target=lambda: found.append(self._listener.accept()), daemon=True)
        thread.start()
        deadline = time.monotonic() + START_SECONDS
        while thread.is_alive() and time.monotonic() < deadline and self.process.poll() is None:
            thread.join(0.05)
        thread.join(0.2)
        if not found:
            raise RunError(
                f"a worker process ended before it could work (exit status {self.process.poll()}). "
                "Try --engine serial, which shows why."
            )
        return found[0]

    def send(self, number: int, message: Message) -> None:
        """Give it a job; the shared tensors travel once."""
        rest = RecordDict({name: record for name, record in message.content.items() if name != "arrays"})
        shared = records.arrays_of(message.content, "arrays")
        if shared is not self.shared:
            self.connection.send(("shared", shared))
            self.shared = shared
        self.connection.send(("ask", message.metadata.message_type, rest))
        self.job = number

    def end(self) -> None:
        """End the process and remove what belongs to it."""
        self.process.kill()
        self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()
        if self._connection is not None:
            self._connection.close()
        self._listener.close()
        self._folder.cleanup()


class _Local(InProcessGrid):
    def __init__(self, plan: Plan, where: Where, workers: int) -> None:
        super().__init__()
        experiment = plan.experiment
        self._first = {
            "text": experiment.text(),
            "base_dir": str(experiment.base_dir),
            "data_root": str(where.data_root or ""),
            "states": str(where.states),
            "threads": experiment["numerics"]["threads"],
        }
        self._number = workers or os.cpu_count() or 1
        self._workers: list[_Worker] = []

    def __enter__(self) -> Self:
        """Start the workers; they come up in parallel."""
        try:
            for _ in range(self._number):
                self._workers.append(_Worker(self._first))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        """End every worker."""
        for worker in self._workers:
            worker.end()
        self._workers = []

    def compute(self, messages: Iterable[Message], timeout: float | None) -> Iterator[tuple[Message, RecordDict]]:
        """Keep every worker busy; yield in the order of the messages as soon as the next is there."""
        asked = list(messages)
        todo, tries = deque(range(len(asked))), [0] * len(asked)
        done: dict[int, RecordDict] = {}
        deadline = time.monotonic() + timeout if timeout is not None else None
        for upcoming in range(len(asked)):
            while upcoming not in done:
                self._hand_out(asked, todo, upcoming)
                left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
                self._collect(asked, todo, tries, done, left)
                if deadline is not None and time.monotonic() >= deadline:
                    self._cut_off(asked, todo, done)
            yield asked[upcoming], done.pop(upcoming)

    def _hand_out(self, asked: list[Message], todo: deque[int], upcoming: int) -> None:
        """Give idle workers the next jobs, but run at most a few blocks ahead of what has been folded."""
        ahead = 8 * len(self._workers)
        for place, worker in enumerate(self._workers):
            while worker.job is None and todo and todo[0] < upcoming + ahead:
                number = todo.popleft()
                try:
                    worker.send(number, asked[number])
                except (OSError, EOFError):
                    todo.appendleft(number)
                    worker = self._replace(place)

    def _collect(
        self,
        asked: list[Message],
        todo: deque[int],
        tries: list[int],
        done: dict[int, RecordDict],
        left: float | None,
    ) -> None:
        """Wait for a reply, a death or the deadline."""
        busy = {worker.connection: place for place, worker in enumerate(self._workers) if worker.job is not None}
        for connection in wait(list(busy), timeout=left):
            place = busy[connection]  # type: ignore[index]
            number = self._workers[place].job
            assert number is not None
            try:
                done[number] = self._workers[place].connection.recv()
                self._workers[place].job = None
            except (EOFError, OSError):
                self._replace(place)
                tries[number] += 1
                if tries[number] < TRIES:
                    todo.appendleft(number)
                else:
                    done[number] = _error(asked[number], "died", "its worker process ended twice")

    def _cut_off(self, asked: list[Message], todo: deque[int], done: dict[int, RecordDict]) -> None:
        """Give up on whoever is still at work when the deadline has passed."""
        for place, worker in enumerate(self._workers):
            if worker.job is not None:
                done[worker.job] = _error(asked[worker.job], "timeout", "still at work at the round's deadline")
                self._replace(place)
        for number in todo:
            done[number] = _error(asked[number], "timeout", "not begun before the round's deadline")
        todo.clear()

    def _replace(self, place: int) -> _Worker:
        self._workers[place].end()
        self._workers[place] = _Worker(self._first)
        return self._workers[place]


def _error(message: Message, kind: str, said: str) -> RecordDict:
    answer = Answer({}, {}, f"{kind}|{message.metadata.message_type}|{said}")
    return records.write_answers({ask["client"]: answer for _, ask in records.read_asks(message.content)})


def local(plan: Plan, where: Where, /, *, workers: Annotated[int, Ge(0), Le(1024)] = 0) -> InProcessGrid:
    """Worker processes, one thread each: parameters travel once a round, replies come back in order.

    Args:
        plan: the experiment, built.
        where: data root and client state.
        workers: how many; 0 = one per processor.
    """
    return _Local(plan, where, workers)
