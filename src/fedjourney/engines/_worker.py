"""A worker process of the local engine: builds the plan over shared memory, answers blocks one after the other."""

import os
import sys
import threading
from dataclasses import replace
from multiprocessing import connection as pipes
from pathlib import Path
from typing import Any

NOBODY = -1  # the client that a worker is at, between two


def main() -> None:
    """Serve jobs until the other end closes; address, key and memory come on standard input."""
    address, key, *handles = sys.stdin.readline().split()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    connection = pipes.Client(address, authkey=bytes.fromhex(key))
    import torch

    from fedjourney import config
    from fedjourney.client import ClientSide
    from fedjourney.engines._arena import Arena
    from fedjourney.engines._pipe import receive, send
    from fedjourney.engines._shared import joined
    from fedjourney.exchange import Exchange, blank
    from fedjourney.plan import plan
    from fedjourney.storage import ClientStates

    common, *own = (Arena(int(handle) if handle.isdigit() else handle) for handle in handles)
    first = receive(connection)
    torch.set_num_threads(first["threads"])
    _limit(first["memory"])
    experiment = config.parse(first["text"], base_dir=Path(first["base_dir"]))
    built = plan(experiment, given=joined(common.read(first["placed"]), first["rest"]))
    side = ClientSide(built, ClientStates(Path(first["states"])))
    progress, begin = own[0].write({"client": torch.tensor([NOBODY])})
    send(connection, progress)
    exchange: Any = None
    params: Any = None

    def at(client: int) -> None:
        own[0].read(progress)["client"][0] = client

    while True:
        try:
            kind, *told = receive(connection)
        except EOFError:
            return
        if kind == "exchange":
            category, round_, work, placed, like = told
            shared = {name: tensor.clone() for name, tensor in common.read(placed).items()}
            exchange = Exchange(category, round_, work, shared, [], [], [], blank(like))
        elif kind == "params":
            params = common.read(told[0])
        elif kind == "block":
            job, slot, alone, clients, states, rows = told
            block = side.block(replace(exchange, clients=clients, states=states, rows=rows), at, alone)
            at(NOBODY)
            sums, arena = block.sums, own[slot]
            places, end = arena.write(sums.tensors if sums else {}, begin)
            each = []
            for answer in block.answers:
                placed, end = arena.write(answer.tensors, end)
                each.append(placed)
                answer.tensors = {}
            send(connection, (job, block.answers, (places, sums.weight) if sums else None, each))
        elif kind == "score":
            job, split, rows = told
            send(connection, (job, side.score(params, split, rows)))


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
