"""A pool of worker processes: jobs in, results out in order; deaths and deadlines are part of it."""

import contextlib
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, Listener, wait
from pathlib import Path
from typing import Any, TypeVar

from fedjourney.engines._arena import Arena, Placed
from fedjourney.engines._pipe import Failed, receive, send
from fedjourney.environment import worker_environment
from fedjourney.errors import RunError

START_SECONDS = 120.0
STARTS = 2  # workers in a row that end before they could work: then something is wrong with starting
SLOTS = 2  # jobs a worker has at most: one under way, one waiting, each with memory of its own for its result
LONGEST_WAIT = 86400.0  # seconds; the system counts milliseconds in 32 bits
AHEAD = 4  # jobs per worker that may be done before their turn


class StillbornError(RunError):
    """A worker ended before it could work."""


class Job(ABC):
    """Something a worker computes."""

    @abstractmethod
    def message(self, slot: int) -> tuple[Any, ...]:
        """Return (kind, …) as the worker reads it; its result goes to the arena of that slot."""

    @abstractmethod
    def read(self, result: Any, arena: Arena, copy: bool) -> Any:
        """Return a worker's result, as views of its memory or copied out of it."""

    @abstractmethod
    def died(self, client: int) -> None:
        """Note that a worker died at that client; raise to give up."""


AnyJob = TypeVar("AnyJob", bound=Job)


@dataclass
class Result:
    """A job's result.

    Attributes:
        value: what `Job.read` made of it, or None at the deadline.
        begun: whether a worker was at it then.
        freed: called once the value has been looked at.
    """

    value: Any
    begun: bool = True
    freed: Callable[[], None] = lambda: None


class _Worker:
    """One process, its connection, its memory; `jobs` are the numbers of those it has, by slot."""

    def __init__(self, common: Arena, first: dict[str, Any], gpu: int | None) -> None:
        self.gpu = gpu
        key = secrets.token_bytes(32)
        self._folder, address = _address()
        self._listener = Listener(address, authkey=key)
        self.arenas = [Arena() for _ in range(SLOTS)]
        handles = [common.handle, *(arena.handle for arena in self.arenas)]
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "fedjourney.engines._worker"],
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the parent, which then ends its workers
            env=worker_environment(first["threads"], gpu),
            pass_fds=[handle for handle in handles if isinstance(handle, int)],
        )
        assert self.process.stdin is not None
        self.process.stdin.write(" ".join([address.replace("\0", "@"), key.hex(), *map(str, handles)]).encode() + b"\n")
        self.process.stdin.flush()
        self._first = first
        self._connection: Connection | None = None
        self._progress: list[Placed] = []
        self.jobs: dict[int, int] = {}
        self.order: deque[int] = deque()
        self.context: object = None

    @property
    def connection(self) -> "Connection":
        """The connection, accepted on first use: the process starts while others work."""
        if self._connection is None:
            self._connection = self._accept()
            try:
                send(self._connection, self._first)
                self._progress = _unfailed(receive(self._connection))
            except (EOFError, OSError):
                raise self._stillborn() from None
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
            raise self._stillborn()
        return found[0]

    def _stillborn(self) -> StillbornError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(1.0)
        return StillbornError(
            f"a worker process ended before it could work (exit status {self.process.poll()}). Does [engine] memory "
            "leave enough? Try --engine serial."
        )

    def give(self, number: int, job: Job, context: tuple[Any, ...]) -> None:
        """Give it a job, and before it the context, where it has not got that yet."""
        if self.context is not context:
            send(self.connection, context)
            self.context = context
        slot = next(slot for slot in range(SLOTS) if slot not in self.jobs)
        kind, *told = job.message(slot)
        send(self.connection, (kind, number, *told))
        self.jobs[slot] = number
        self.order.append(number)

    def take(self) -> tuple[int, int, Any]:
        """Return (number, slot, result) of the job it has finished."""
        number, *result = receive(self.connection)
        _unfailed(result[0])
        self.order.remove(number)
        return number, next(slot for slot, held in self.jobs.items() if held == number), result

    def free(self, slot: int) -> None:
        """Let a slot's memory be used again."""
        self.jobs.pop(slot, None)

    def at(self) -> int:
        """Return the client it is at."""
        return int(self.arenas[0].read(self._progress)["client"][0]) if self._progress else -1

    def end(self) -> None:
        """End the process and remove what belongs to it."""
        self.process.kill()
        self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()
        if self._connection is not None:
            self._connection.close()
        self._listener.close()
        if self._folder is not None:
            self._folder.cleanup()
        for arena in self.arenas:
            arena.close()


def _address() -> tuple[tempfile.TemporaryDirectory[str] | None, str]:
    """Return where a worker connects to, and the folder it lies in, if it lies in one."""
    name = f"fedjourney-{secrets.token_hex(8)}"
    if sys.platform == "linux":
        return None, f"\0{name}"  # an abstract socket: nothing is left behind, however we end
    if sys.platform == "win32":
        return None, rf"\\.\pipe\{name}"
    folder = tempfile.TemporaryDirectory(prefix="fedjourney-")
    return folder, str(Path(folder.name) / "s")


def _unfailed(result: Any) -> Any:
    """Return a result, unless it says that the worker's own code failed.

    Raises:
        RunError: with the worker's traceback.
    """
    if isinstance(result, Failed):
        if "MemoryError" in result.trace or "can't allocate memory" in result.trace:
            raise RunError(
                "[engine] memory: expected enough MB for a worker's own code, data and model, got too few "
                f"({result.trace.strip().splitlines()[-1]}). Raise it, or leave it at 0 for no limit."
            )
        raise RunError(f"a worker process failed outside of any client:\n{result.trace}")
    return result


class Pool:
    """Worker processes that outlive every job, and are replaced when they die."""

    def __init__(self, number: int, common: Arena, first: dict[str, Any], gpus: int = 0) -> None:
        """Start so many workers; where there are `gpus` to share, each sees one of them."""
        self._common, self._first = common, first
        self._workers: list[_Worker] = []
        self._stillborn = 0
        try:
            for place in range(number):
                self._workers.append(_Worker(common, first, place % gpus if gpus else None))
        except BaseException:
            self.end()
            raise

    def end(self) -> None:
        """End every worker."""
        for worker in self._workers:
            worker.end()
        self._workers = []

    def map(
        self, jobs: Sequence[AnyJob], context: tuple[Any, ...], deadline: float | None
    ) -> Iterator[tuple[AnyJob, Result]]:
        """Yield (job, result) in order; a result's memory is used again once the next is asked for.

        Args:
            jobs: what is to be computed.
            context: sent to every worker before its first of these jobs.
            deadline: by `time.monotonic`; jobs that are not done then have no result.
        """
        todo, done = deque(range(len(jobs))), dict[int, Result]()
        for upcoming, job in enumerate(jobs):
            while upcoming not in done:
                if deadline is not None and time.monotonic() >= deadline:
                    yield from self._cut_off(jobs, upcoming, done)
                    return
                self._hand_out(jobs, context, todo, upcoming)
                self._collect(jobs, todo, done, deadline, upcoming)
            result = done.pop(upcoming)
            yield job, result
            result.freed()

    def _hand_out(self, jobs: Sequence[Job], context: tuple[Any, ...], todo: deque[int], upcoming: int) -> None:
        """Give every worker with a free slot the next jobs, the least busy first, but run only so far ahead."""
        limit = upcoming + AHEAD * len(self._workers)
        while todo and todo[0] < limit:
            worker = min(self._workers, key=lambda worker: (len(worker.order), len(worker.jobs)))
            if len(worker.jobs) == SLOTS or (worker.order and len(todo) < len(self._workers)):
                return  # the last jobs wait for whoever is free first
            number = todo.popleft()
            try:
                worker.give(number, jobs[number], context)
                self._stillborn = 0
            except StillbornError:  # killed while it started, or it cannot start
                todo.appendleft(number)
                self._stillborn += 1
                if self._stillborn == STARTS:
                    raise
                self._replace(worker)
            except (OSError, EOFError):
                todo.appendleft(number)
                self._buried(worker, jobs, todo)

    def _collect(
        self, jobs: Sequence[Job], todo: deque[int], done: dict[int, Result], deadline: float | None, upcoming: int
    ) -> None:
        """Wait for a result, a death or the deadline; what is early is copied, so that its worker can go on."""
        busy = {worker.connection: worker for worker in self._workers if worker.order}
        left = None if deadline is None else min(max(deadline - time.monotonic(), 0.0), LONGEST_WAIT)
        for connection in wait(list(busy), timeout=left):
            worker = busy[connection]  # type: ignore[index]
            try:
                number, slot, result = worker.take()
            except (EOFError, OSError):
                self._buried(worker, jobs, todo)
                continue
            early = number != upcoming
            done[number] = Result(jobs[number].read(result, worker.arenas[slot], copy=early))
            if early:
                worker.free(slot)
            else:
                done[number].freed = partial(worker.free, slot)

    def _buried(self, worker: _Worker, jobs: Sequence[Job], todo: deque[int]) -> None:
        """Replace a worker that died; what it was at notes it, and all that it had goes to others."""
        if worker.order:
            jobs[worker.order[0]].died(worker.at())
        todo.extendleft(sorted(worker.order, reverse=True))
        self._replace(worker)

    def _cut_off(
        self, jobs: Sequence[AnyJob], upcoming: int, done: dict[int, Result]
    ) -> Iterator[tuple[AnyJob, Result]]:
        """Yield what is done; give up on the rest, and on whoever is still at work."""
        begun = {worker.order[0] for worker in self._workers if worker.order}
        for number in range(upcoming, len(jobs)):
            result = done.get(number) or Result(None, begun=number in begun)
            yield jobs[number], result
            result.freed()
        for worker in list(self._workers):
            if worker.order:
                self._replace(worker)

    def _replace(self, worker: _Worker) -> None:
        worker.end()
        self._workers[self._workers.index(worker)] = _Worker(self._common, self._first, worker.gpu)
