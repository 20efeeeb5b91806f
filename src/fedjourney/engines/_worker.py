"""A worker process of the local engine: connects, builds the plan, answers one ask at a time."""

import signal
import sys
from multiprocessing.connection import Client as connect
from pathlib import Path
from typing import Any


def main() -> None:
    """Serve asks until the other end closes; address and key come on standard input."""
    address, key = sys.stdin.readline().strip(), bytes.fromhex(sys.stdin.readline().strip())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    connection = connect(address, authkey=key)
    import torch

    from fedjourney import config, messages
    from fedjourney.client import ClientSide, plan
    from fedjourney.storage import ClientStates

    first = connection.recv()
    torch.set_num_threads(first["threads"])
    experiment = config.parse(first["text"], base_dir=Path(first["base_dir"]))
    root = Path(first["data_root"]) if first["data_root"] else None
    side = ClientSide(plan(experiment, root), ClientStates(Path(first["states"])))
    shared: Any = None
    while True:
        try:
            received = connection.recv()
        except EOFError:
            return
        if received[0] == "shared":
            shared = messages.to_tensors(received[1])
            continue
        _, category, row, ask = received
        answer = side.answer(category, shared, messages.to_tensors(row) if row is not None else {}, ask)
        connection.send(messages.write_answer(ask, answer))


if __name__ == "__main__":
    main()
