"""Anybody's Flower app, unchanged, on this machine without Ray: `fedjourney simulate APP_DIR`.

    app.py     the app in its folder: found, checked, loaded as Flower does
    grid.py    the Grid that its ServerApp talks to: messages in, replies out, in the order asked
    desk.py    which message may run next, and each node's context
    pool.py    worker processes, `_worker.py` on their side; here.py: in this process instead
    answer.py  one message through the ClientApp: context, seeds, errors

This file imports nothing heavy: `--help` and worker processes begin with it.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flwr.app import Context
    from flwr.clientapp import ClientApp
    from flwr.serverapp import ServerApp

__all__ = ["Simulated", "simulate"]


@dataclass(frozen=True)
class Simulated:
    """What a simulation came to.

    Attributes:
        app: the app's name.
        nodes: how many there were.
        workers: processes that ran clients; 0: this one.
        seed: of node ids, sampling and clients.
        seconds: wall time of all, start-up included.
        messages: sent to clients.
        failed: those without a good reply.
        metrics: by "train", "evaluate" and "server", then by round, where the ServerApp ran a strategy of Flower's
            message API: what the strategy's `start` returned.
        context: the ServerApp's context as it was left.
    """

    app: str
    nodes: int
    workers: int
    seed: int
    seconds: float
    messages: int
    failed: int
    metrics: dict[str, dict[int, dict[str, Any]]] = field(default_factory=dict)
    context: "Context | None" = field(default=None, repr=False)

    @property
    def clients_per_second(self) -> float:
        """Good replies per second of wall time, start-up included."""
        return (self.messages - self.failed) / self.seconds


def simulate(
    app: "str | os.PathLike[str] | tuple[ServerApp, ClientApp]",
    *,
    nodes: int | None = None,
    run_config: Mapping[str, Any] | Sequence[str] | None = None,
    workers: int | None = None,
    seed: int = 0,
) -> Simulated:
    """Run a Flower app: its ServerApp in this process, its clients in worker processes.

    Two runs with the same seed give the same: node ids come from it, replies are handed over in the order asked,
    and the generators of `random`, `numpy.random` and torch are seeded for the ServerApp once, for a client by
    (seed, partition, messages that it had before). The number of workers changes nothing. What cannot be the
    same is an app that looks at the clock or polls with `pull_messages`.

    Args:
        app: the app's folder, or its ServerApp and ClientApp (then in this process).
        nodes: how many simulated nodes; default: num-supernodes in the app's pyproject.toml, else 10.
        run_config: over the app's own: a mapping, or texts as `flwr run --run-config` takes them.
        workers: processes, one thread each; 0: in this process, where a breakpoint stops; default: one a processor.
        seed: of everything random.

    Raises:
        ConfigError: no such app, or an argument out of range; nothing was begun.
        AppError: the ServerApp raised (its error is the cause), or the ClientApp cannot be loaded.
    """
    from fedjourney.simulation.run import run

    return run(app, nodes=nodes, run_config=run_config, workers=workers, seed=seed)
