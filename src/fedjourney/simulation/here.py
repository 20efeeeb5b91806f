"""Clients in this process, one after the other: a breakpoint stops, nothing is hidden behind a process."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from flwr.app import Context, Message
from threadpoolctl import ThreadpoolController

from fedjourney.simulation import codec
from fedjourney.simulation.answer import Setting, answer
from fedjourney.simulation.desk import Desk
from fedjourney.simulation.randomness import kept_globals


class Here:
    """Answers the desk's messages in this process, in the order sent, with one thread, as a worker has."""

    def __init__(self, desk: Desk, client: Callable[[Message, Context], Message], setting: Setting) -> None:
        self._desk, self._client, self._setting = desk, client, setting
        self._threads, self._modules = ThreadpoolController(), len(sys.modules)

    def step(self) -> bool:
        """Answer the next message; return whether there was one."""
        taken = self._desk.take(wait=False)
        if taken is None:
            return False
        job, context = taken
        found = {blob.token: blob.data for blob in job.blobs}
        if len(sys.modules) != self._modules:  # a library may have come with its own threads
            self._threads, self._modules = ThreadpoolController(), len(sys.modules)
        with kept_globals(), self._threads.limit(limits=1), _one_torch_thread():
            got = answer(
                self._client,
                self._setting,
                job.partition,
                job.count,
                context,
                lambda: codec.loads(job.pickled, found.__getitem__),
                interruptible=True,
            )
        self._desk.finish(job, got)
        return True


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    torch: Any = sys.modules.get("torch")
    threads = torch.get_num_threads() if torch is not None else 0
    if threads > 1:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if threads > 1:
            torch.set_num_threads(threads)
