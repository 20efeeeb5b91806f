"""Actors on a Ray cluster: more than one machine, the same blocks, the same bits."""

import os
import socket
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from logging import ERROR
from typing import Annotated, Any, Self, TypeVar

from annotated_types import Ge

from fedjourney.engines import InProcessGrid, Where
from fedjourney.engines._actor import Actor, Arrays, packed, unpacked
from fedjourney.engines._shared import flattened
from fedjourney.errors import RunError
from fedjourney.exchange import Answer, Block, Exchange, Problem, added, evaluation_blocks, forms
from fedjourney.plan import Plan
from fedjourney.storage import ClientStates
from fedjourney.strategies import Accumulator
from fedjourney.tensors import Tensors

TRIES = 2  # deaths with a block before each of its clients is tried alone
LOOK_SECONDS = 10.0
AHEAD = 4  # jobs per actor that may be done before their turn


class _Job(ABC):
    """Something an actor computes, in one call or in several."""

    @abstractmethod
    def submit(self, actor: Any) -> Any:
        """Return the call's future."""

    @abstractmethod
    def finished(self, result: Any) -> bool:
        """Take a call's result; return whether the job is done."""

    @abstractmethod
    def died(self) -> None:
        """Take note that the actor died with the call."""


class _BlockJob(_Job):
    """A block; if actors keep dying with it, each client is tried alone, and those that kill are left out."""

    def __init__(self, exchange: Exchange, shared: Any, states: ClientStates) -> None:
        self.exchange, self._shared, self._states = exchange, shared, states
        self.result: tuple[Any, ...] = ()
        self._deaths, self._excluded = 0, set[int]()
        self._suspects: deque[int] = deque()

    def submit(self, actor: Any) -> Any:
        """Call for the block without those left out, or for the suspect alone."""
        clients = self.exchange.clients
        wanted = {self._suspects[0]} if self._suspects else set(clients) - self._excluded
        part = self.exchange.at(place for place, client in enumerate(clients) if client in wanted)
        loaded = [self._states.load(c, r) for c, r in zip(part.clients, part.states, strict=True)]
        states = {c: None if s is None else packed(s) for c, s in zip(part.clients, loaded, strict=True)}
        header = (part.kind, part.round, part.work, forms(part.like))
        rows = [packed(row) for row in part.rows]
        return actor.block.remote(header, self._shared, part.clients, part.states, rows, states)

    def finished(self, result: Any) -> bool:
        """Take the block's result, or go on to the next suspect."""
        if self._suspects:
            self._suspects.popleft()
            return False
        self.result = result
        return True

    def died(self) -> None:
        """Leave out a suspect that died alone; after two deaths of the whole block suspect everybody."""
        if self._suspects:
            self._excluded.add(self._suspects.popleft())
            return
        self._deaths += 1
        if self._deaths % TRIES == 0:
            self._suspects.extend(client for client in self.exchange.clients if client not in self._excluded)

    def block(self) -> Block:
        """Return the block, and keep the state of its clients."""
        answers, tensors, sums, kept = self.result
        for place, client in enumerate(self.exchange.clients):
            if client in kept:
                state, needed = unpacked(kept[client]), self.exchange.needed(place)
                self._states.save(client, self.exchange.round, state, needed)
        for answer, arrays in zip(answers, tensors, strict=True):
            answer.tensors = unpacked(arrays)
        found = {answer.client: answer for answer in answers}
        died = Problem("died", self.exchange.work, "its worker process ended, alone with it too")
        whole = [found.get(client) or Answer(client, problem=died) for client in self.exchange.clients]
        return Block(whole, Accumulator(unpacked(sums[0]), sums[1]) if sums else None)

    def late(self) -> Block:
        """Return the block of a job that the deadline has cut off."""
        problem = Problem("timeout", self.exchange.work, "not done at the round's deadline")
        return Block([Answer(client, problem=problem) for client in self.exchange.clients])


class _ScoreJob(_Job):
    """One block of central evaluation."""

    def __init__(self, params: Any, split: str, rows: slice) -> None:
        self._told = (params, split, rows.start, rows.stop)
        self.result: Arrays = {}
        self._deaths = 0

    def submit(self, actor: Any) -> Any:
        """Call for it."""
        return actor.score.remote(*self._told)

    def finished(self, result: Any) -> bool:
        """Take it."""
        self.result = result
        return True

    def died(self) -> None:
        """Try again, but not for ever."""
        self._deaths += 1
        if self._deaths > TRIES:
            raise RunError(f"evaluation on {self._told[1]} ended its worker {self._deaths} times. Try --engine serial.")


def _look(address: str) -> None:
    """Refuse an address where nobody listens; Ray itself would try for minutes.

    Raises:
        RunError: nobody listens there.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit():
        return
    try:
        socket.create_connection((host.rpartition("/")[2], int(port)), timeout=LOOK_SECONDS).close()
    except OSError as error:
        raise RunError(
            f'[engine] address: no Ray cluster at "{address}" ({error}). Is `ray start --head` up?'
        ) from None


AnyJob = TypeVar("AnyJob", bound=_Job)


class _Ray(InProcessGrid):
    def __init__(self, plan: Plan, where: Where, address: str, workers: int) -> None:
        super().__init__()
        self._plan, self._address, self._number = plan, address, workers
        self._states = ClientStates(where.states)
        self._idle: list[Any] = []
        self._starting: dict[Any, Any] = {}

    def __enter__(self) -> Self:
        """Join the cluster (or start Ray here); put data and experiment where every node finds them."""
        try:
            import ray as cluster
        except ImportError:
            raise RunError('engine "ray" needs the extra "ray": pip install "fedjourney[ray]"') from None
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray's coming default; it warns otherwise
        self._ray = cluster
        self._joined = not cluster.is_initialized()
        if self._joined:
            _look(self._address)
            try:
                cluster.init(address=self._address or "local", log_to_driver=False, logging_level=ERROR)
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise RunError(f'[engine] address: no Ray cluster at "{self._address}" ({error}).') from None
        experiment = self._plan.experiment
        tensors, rest = flattened(self._plan.dataset, self._plan.shards)
        first = {"text": experiment.text(), "base_dir": str(experiment.base_dir), "rest": rest}
        self._first = cluster.put(first | {"threads": experiment["numerics"]["threads"], "arrays": packed(tensors)})
        unit = "CPU" if self._plan.numerics.device.type == "cpu" else "GPU"
        gpus = int(unit == "GPU")  # Ray shows an actor the one that it has, and no other
        self._class = cluster.remote(num_cpus=1, num_gpus=gpus, scheduling_strategy="SPREAD")(Actor)
        for _ in range(self._number or int(cluster.cluster_resources().get(unit, 1))):
            self._start()
        return self

    def __exit__(self, *exception: object) -> None:
        """End the actors; leave the cluster if it was joined here."""
        for actor in [*self._idle, *self._starting.values()]:
            self._ray.kill(actor)
        if self._joined:
            self._ray.shutdown()

    def _start(self) -> None:
        actor = self._class.remote(self._first)
        self._starting[actor.ready.remote()] = actor  # type: ignore[attr-defined]

    def compute(self, exchange: Exchange, timeout: float | None) -> Iterator[Block]:
        """Broadcast what all share once, hand out blocks, run again what a lost node was at."""
        shared = self._ray.put(packed(exchange.shared))
        blocks = exchange.cut(self._plan.experiment["numerics"]["lanes"])
        jobs = [_BlockJob(block, shared, self._states) for block in blocks]
        for job, done in self._map(jobs, None if timeout is None else time.monotonic() + timeout):
            yield job.block() if done else job.late()

    def score(self, params: Tensors, split: str) -> Tensors:
        """Evaluate on all actors."""
        given, timeout = self._ray.put(packed(params)), self._plan.experiment["experiment"]["timeout"]
        rows = evaluation_blocks(len(getattr(self._plan.dataset, split)))
        jobs, parts = [_ScoreJob(given, split, part) for part in rows], []
        for job, done in self._map(jobs, time.monotonic() + timeout):
            if not done:
                raise RunError(
                    f"evaluation on {split}: not done within [experiment] timeout ({timeout:g} s). Raise it."
                )
            parts.append(unpacked(job.result))
        return added(parts)

    def _map(self, jobs: Sequence[AnyJob], deadline: float | None) -> Iterator[tuple[AnyJob, bool]]:
        """Yield (job, whether it is done) in order; at the deadline the rest is given up."""
        todo, done, running = deque(range(len(jobs))), set[int](), dict[Any, tuple[Any, int]]()
        for upcoming, job in enumerate(jobs):
            while upcoming not in done:
                ahead = upcoming + AHEAD * (len(self._idle) + len(running) + 1)
                while todo and self._idle and todo[0] < ahead:
                    actor, number = self._idle.pop(), todo.popleft()
                    running[jobs[number].submit(actor)] = (actor, number)
                left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
                ready, _ = self._ray.wait([*running, *self._starting], num_returns=1, timeout=left)
                if not ready:
                    yield from ((late, number in done) for number, late in enumerate(jobs) if number >= upcoming)
                    self._give_up(running)
                    return
                for future in ready:
                    self._arrived(future, jobs, todo, done, running)
            yield job, True

    def _arrived(
        self, future: Any, jobs: Sequence[_Job], todo: deque[int], done: set[int], running: dict[Any, tuple[Any, int]]
    ) -> None:
        """Take a result, a newly started actor, or the news that one has died."""
        from ray.exceptions import RayActorError

        if future in self._starting:
            actor = self._starting.pop(future)
            try:
                self._ray.get(future)
            except RayActorError as error:
                raise RunError(f"an actor could not start on the cluster: {error}") from None
            self._idle.append(actor)
            return
        actor, number = running.pop(future)
        try:
            finished = jobs[number].finished(self._ray.get(future))
        except RayActorError:
            jobs[number].died()
            todo.appendleft(number)
            self._start()  # waits until the cluster has room; whoever is left goes on meanwhile
            return
        self._idle.append(actor)
        if finished:
            done.add(number)
        else:
            todo.appendleft(number)

    def _give_up(self, running: dict[Any, tuple[Any, int]]) -> None:
        """End the actors that are still at work at the deadline, and start others."""
        for actor, _ in running.values():
            self._ray.kill(actor)
            self._start()


def ray(plan: Plan, where: Where, /, *, address: str = "", workers: Annotated[int, Ge(0)] = 0) -> InProcessGrid:
    """Actors on a Ray cluster: parameters broadcast once a round, folded blocks back, lost nodes survived.

    Args:
        plan: the experiment, built.
        where: client state stays in the run folder, on the machine that runs the command.
        address: of the cluster, such as "auto" or "10.0.0.1:6379"; empty: Ray is started on this machine.
        workers: actors of one processor each, and of one GPU where clients compute on GPUs; 0 = as many as there are.
    """
    return _Ray(plan, where, address, workers)
