"""A worker process of the local engine: builds the plan over shared memory, answers blocks one after the other."""

import os
import sys
import threading
import traceback
from dataclasses import replace
from multiprocessing import connection as pipes
from pathlib import Path
from typing import Any

NOBODY = -1  # the client that a worker is at, between two


def main() -> None:
    """Serve jobs until the other end closes; address, key and memory come on standard input."""
    address, key, *handles = sys.stdin.readline().split()
    address = address.replace("@", "\0")
    threading.Thread(target=_end_with_parent, daemon=True).start()
    connection = pipes.Client(address, authkey=bytes.fromhex(key))
    from fedjourney.engines._pipe import Failed, receive, send

    try:
        worker = _Worker(handles, receive(connection))
    except Exception:
        send(connection, Failed(traceback.format_exc()))
        return
    send(connection, worker.progress)
    while True:
        try:
            kind, *told = receive(connection)
        except (EOFError, OSError):  # the other end has gone, in order or by a kill
            return
        try:
            result = getattr(worker, kind)(*told)
        except Exception:  # no client's fault: those have become problems already
            result = (told[0], Failed(traceback.format_exc()))
        if result is not None:
            send(connection, result)


class _Worker:
    """One client side over shared memory; each method is a kind of message."""

    def __init__(self, handles: list[str], first: dict[str, Any]) -> None:
        import torch

        from fedjourney import config
        from fedjourney.client import ClientSide
        from fedjourney.engines._arena import Arena
        from fedjourney.engines._shared import joined
        from fedjourney.plan import plan
        from fedjourney.storage import ClientStates

        self._common, *self._own = (Arena(int(handle) if handle.isdigit() else handle) for handle in handles)
        torch.set_num_threads(first["threads"])
        _limit(first["memory"])
        experiment = config.parse(first["text"], base_dir=Path(first["base_dir"]))
        given = joined(self._common.read(first["placed"]), first["rest"])
        self._side = ClientSide(plan(experiment, given=given), ClientStates(Path(first["states"])))
        self.progress, self._begin = self._own[0].write({"client": torch.tensor([NOBODY])})
        self._exchange: Any = None
        self._params: Any = None

    def exchange(self, kind: Any, round: int, work: str, placed: list[Any], like: dict[str, Any]) -> None:
        """Take what all blocks of an exchange share."""
        from fedjourney.exchange import Exchange, blank

        shared = self._common.read(placed)
        self._exchange = Exchange(kind, round, work, shared, [], [], [], blank(like))

    def params(self, placed: list[Any]) -> None:
        """Take the model that is to be evaluated."""
        self._params = self._common.read(placed)

    def block(
        self,
        job: int,
        slot: int,
        alone: bool,
        clients: list[int],
        states: list[int],
        rows: list[Any],
        resumes: list[int],
    ) -> tuple[Any, ...]:
        """Answer for a block; what is large goes to the slot's memory."""
        part = replace(self._exchange, clients=clients, states=states, rows=rows, resumes=resumes)
        block = self._side.block(part, self._at, alone)
        self._at(NOBODY)
        sums, arena = block.sums, self._own[slot]
        places, end = arena.write(sums.tensors if sums else {}, self._begin)
        each = []
        for answer in block.answers:
            placed, end = arena.write(answer.tensors, end)
            each.append(placed)
            answer.tensors = {}
        return job, block.answers, (places, sums.weight) if sums else None, each

    def score(self, job: int, split: str, rows: slice) -> tuple[Any, ...]:
        """Evaluate one block of the server's examples."""
        return job, self._side.plan.score(self._params, split, rows)

    def _at(self, client: int) -> None:
        self._own[0].read(self.progress)["client"][0] = client


def _limit(megabytes: int) -> None:
    """Let allocations beyond a limit fail here, where they cost one reply."""
    if megabytes and sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (megabytes << 20, megabytes << 20))


def _end_with_parent() -> None:
    """Wait for the end of standard input, which the parent holds open as long as it lives; then end, whatever runs."""
    while sys.stdin.read(1):
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
