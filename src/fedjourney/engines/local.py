"""Worker processes on this machine: data, parameters and folded blocks in shared memory, control over pipes."""

import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Self

import torch
from annotated_types import Ge, Le

from fedjourney import numerics
from fedjourney.engines import InProcessGrid, Where
from fedjourney.engines._arena import Arena
from fedjourney.engines._pool import Job, Pool
from fedjourney.engines._shared import flattened
from fedjourney.engines._worker import NOBODY
from fedjourney.errors import RunError
from fedjourney.exchange import Answer, Block, Exchange, Problem, added, evaluation_blocks, forms
from fedjourney.plan import Plan
from fedjourney.strategies import Accumulator
from fedjourney.tensors import Tensors

TRIES = 2  # a client that took a worker down with it twice is not tried again


@dataclass
class _BlockJob(Job):
    """One block of an exchange; a client that ends its worker twice is left out."""

    exchange: Exchange
    deaths: Counter[int] = field(default_factory=Counter)
    alone: bool = False

    def message(self, slot: int) -> tuple[Any, ...]:
        """Return what a worker is told, without the clients that are left out."""
        part = self.exchange.at(i for i, client in enumerate(self.exchange.clients) if self.deaths[client] < TRIES)
        return "block", slot, self.alone, part.clients, part.states, part.rows, part.resumes

    def died(self, client: int) -> None:
        """Note where a worker died; from now on clients are computed alone, so that it is known whose fault it is."""
        self.deaths[client] += 1
        self.alone = True
        if client == NOBODY and self.deaths[NOBODY] > TRIES:
            raise RunError("worker processes end by themselves between two clients. Try --engine serial.")

    def read(self, result: Any, arena: Arena, copy: bool) -> Block:
        """Return the block, with those left out in their places."""
        answers, sums, each = result
        for answer, placed in zip(answers, each, strict=True):
            answer.tensors = {name: tensor.clone() for name, tensor in arena.read(placed).items()}
        found = {answer.client: answer for answer in answers}
        died = Problem("died", self.exchange.work, "its worker process ended twice")
        whole = [found.get(client) or Answer(client, problem=died) for client in self.exchange.clients]
        if sums is None:
            return Block(whole)
        tensors = arena.read(sums[0])
        if copy:
            tensors = {name: tensor.clone() for name, tensor in tensors.items()}
        return Block(whole, Accumulator(tensors, sums[1]))

    def late(self, begun: bool) -> Block:
        """Return the block of a job that the deadline has cut off."""
        said = "still at work at the round's deadline" if begun else "not begun before the round's deadline"
        return Block([Answer(client, problem=Problem("timeout", "train", said)) for client in self.exchange.clients])


@dataclass
class _ScoreJob(Job):
    """One block of central evaluation."""

    split: str
    rows: slice
    deaths: int = 0

    def message(self, slot: int) -> tuple[Any, ...]:
        """Return what a worker is told."""
        return "score", self.split, self.rows

    def read(self, result: Any, arena: Arena, copy: bool) -> Tensors:
        """Return the sums."""
        (sums,) = result
        return dict(sums)

    def died(self, client: int) -> None:
        """Try again, but not for ever."""
        self.deaths += 1
        if self.deaths > TRIES:
            raise RunError(
                f"evaluation on [data] {self.split} ended its worker {self.deaths} times. Try --engine serial."
            )


class _Local(InProcessGrid):
    def __init__(self, plan: Plan, where: Where, workers: int, memory: int) -> None:
        super().__init__()
        self._memory = memory
        self._plan, self._where = plan, where
        device = plan.numerics.device
        self._gpus = numerics.accelerators(device) if device == torch.device("cuda") else 0
        self._number = workers or (numerics.accelerators(device) if device.type != "cpu" else os.cpu_count()) or 1

    def __enter__(self) -> Self:
        """Share the data and start the workers; they come up in parallel."""
        experiment = self._plan.experiment
        self._common = Arena()
        tensors, rest = flattened(self._plan.dataset, self._plan.shards)
        placed, self._end = self._common.write(tensors)
        first = {
            "text": experiment.text(),
            "base_dir": str(experiment.base_dir),
            "states": str(self._where.states),
            "threads": experiment["numerics"]["threads"],
            "memory": self._memory,
            "placed": placed,
            "rest": rest,
        }
        self._pool = Pool(self._number, self._common, first, self._gpus)
        return self

    def __exit__(self, *exception: object) -> None:
        """End every worker and give the memory back."""
        self._pool.end()
        self._common.close()

    def compute(self, exchange: Exchange, timeout: float | None) -> Iterator[Block]:
        """Write what all share once, keep every worker busy, yield blocks in order."""
        placed, _ = self._common.write(exchange.shared, self._end)
        told = (exchange.kind, exchange.round, exchange.work, placed, forms(exchange.like))
        jobs = [_BlockJob(block) for block in exchange.cut(self._plan.experiment["numerics"]["lanes"])]
        deadline = None if timeout is None else time.monotonic() + timeout
        for job, result in self._pool.map(jobs, ("exchange", *told), deadline):
            yield result.value or job.late(result.begun)

    def score(self, params: Tensors, split: str) -> Tensors:
        """Evaluate on all workers."""
        placed, _ = self._common.write(params, self._end)
        jobs = [_ScoreJob(split, rows) for rows in evaluation_blocks(len(getattr(self._plan.dataset, split)))]
        timeout = self._plan.experiment["experiment"]["timeout"]

        def sums() -> Iterator[Tensors]:
            for _, result in self._pool.map(jobs, ("params", placed), time.monotonic() + timeout):
                if result.value is None:
                    raise RunError(
                        f"evaluation on {split}: not done within the {timeout:g} s of [experiment] timeout. Raise it."
                    )
                yield result.value

        return added(sums())


def local(
    plan: Plan,
    where: Where,
    /,
    *,
    workers: Annotated[int, Ge(0), Le(1024)] = 0,
    memory: Annotated[int, Ge(0)] = 0,
) -> InProcessGrid:
    """Worker processes, one thread each: data and parameters in shared memory, blocks folded where they are computed.

    Args:
        plan: the experiment, built.
        where: data root and client state.
        workers: how many; 0 = one per processor, or one per GPU where clients compute on GPUs.
        memory: MB that a worker may take for itself beside what all share, where the system can enforce it; a client
            that needs more fails, rather than the machine. 0 = no limit.
    """
    return _Local(plan, where, workers, memory)
