"""A worker process of the local engine: connects, builds the plan, answers one ask at a time."""

import os
import sys
import threading
from multiprocessing import connection as pipes
from pathlib import Path
from typing import Any


def main() -> None:
    """Serve asks until the other end closes; address and key come on standard input."""
    address, key = sys.stdin.readline().strip(), bytes.fromhex(sys.stdin.readline().strip())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    connection = pipes.Client(address, authkey=key)
    import torch

    from fedjourney import config, messages
    from fedjourney.client import ClientSide
    from fedjourney.plan import plan
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
        _, category, content = received
        asks = messages.read_asks(content)
        answers = {ask["client"]: side.answer(category, shared, row, ask) for row, ask in asks}
        connection.send(messages.write_answers(answers))


def _end_with_parent() -> None:
    """Wait for the end of standard input, which the parent holds open as long as it lives; then end, whatever runs."""
    while sys.stdin.read(1):
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
