"""The course of a simulation: check, start workers, load the ServerApp, run it, end."""

import contextlib
import functools
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from flwr.app import Context, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import Result, Strategy

from fedjourney import flower_private
from fedjourney.errors import ConfigError
from fedjourney.flower_private import SUPERLINK_NODE_ID
from fedjourney.simulation import Simulated
from fedjourney.simulation import app as apps
from fedjourney.simulation.answer import Setting, described
from fedjourney.simulation.desk import Desk, StoppedError
from fedjourney.simulation.grid import SimulatedGrid, describe
from fedjourney.simulation.here import Here
from fedjourney.simulation.pool import AppError, Pool
from fedjourney.simulation.randomness import kept_globals, number, seed_globals
from fedjourney.simulation.terminal import Terminal

Objects = tuple[ServerApp, ClientApp]


def run(
    app: str | os.PathLike[str] | Objects,
    *,
    nodes: int | None = None,
    run_config: Mapping[str, Any] | Sequence[str] | None = None,
    workers: int | None = None,
    seed: int = 0,
    terminal: Terminal | None = None,
) -> Simulated:
    """Run an app; arguments and errors as in `fedjourney.simulate`, `terminal` shows and counts."""
    begun = time.monotonic()
    if nodes is not None and nodes < 1:
        raise ConfigError(f"nodes: expected 1 or more, got {nodes}.")
    if workers is not None and workers < 0:
        raise ConfigError(f"workers: expected 0 (in this process) or more, got {workers}.")
    objects = app if isinstance(app, tuple) else None
    found, config = _in_memory(objects, run_config, workers) if objects else _in_folder(app, run_config)  # type: ignore[arg-type]
    nodes = nodes or found.nodes
    workers = 0 if objects else min(_processors() if workers is None else workers, nodes)
    ids = tuple(number(63, seed, "node", partition) | 2 for partition in range(nodes))  # 0 and 1 are Flower's own
    setting = Setting(number(63, seed, "run"), config, ids, seed)
    shown = terminal or Terminal()
    shown.begin(found.name, nodes, workers, seed)
    context = Context(setting.run_id, SUPERLINK_NODE_ID, {}, RecordDict(), dict(config))
    with contextlib.ExitStack() as stack:
        stack.enter_context(kept_globals())
        stack.enter_context(flower_private.legacy_replies_in_order())
        stack.enter_context(flower_private.identity(setting.run_id, SUPERLINK_NODE_ID))
        results = stack.enter_context(_strategy_results())
        if not objects:
            stack.enter_context(apps.at_home(found))
        desk = Desk()
        stack.enter_context(_interruptible(desk))
        pool, step = None, None
        if workers:
            pool = stack.enter_context(Pool(desk, shown, workers, (found, setting)))
        else:
            step = Here(desk, objects[1] if objects else _loaded(found, "client"), setting).step
        server = objects[0] if objects else _loaded(found, "server")
        if pool is not None:
            pool.wait()
        description = describe(found.name, found.version, found.publisher, setting.run_id, config)
        grid = SimulatedGrid(description, setting, desk, shown, step)
        seed_globals(seed, "server")
        _serve(server, grid, context, desk)
    return Simulated(
        app=found.name,
        nodes=nodes,
        workers=workers,
        seed=seed,
        seconds=time.monotonic() - begun,
        messages=shown.sent,
        failed=shown.failed,
        metrics=_metrics(results[-1]) if results else {},
        context=context,
    )


def _serve(server: ServerApp, grid: SimulatedGrid, context: Context, desk: Desk) -> None:
    """Run the ServerApp; its error becomes the cause of an AppError."""
    try:
        server(grid=grid, context=context)
    except AppError:
        raise
    except StoppedError:
        raise KeyboardInterrupt from None
    except (Exception, SystemExit) as error:
        if isinstance(error, SystemExit) and not error.code:
            return  # an app's way to end well
        failure = described(error)
        raise AppError(f"the ServerApp failed: {failure.line}", failure.trace) from error
    finally:
        grid.settle()
    if isinstance(desk.problem, StoppedError):  # `flwr.server` takes it for a client's failure and goes on
        raise KeyboardInterrupt
    if desk.problem is not None:
        raise desk.problem


def _in_folder(
    folder: str | os.PathLike[str], given: Mapping[str, Any] | Sequence[str] | None
) -> tuple[apps.App, dict[str, Any]]:
    found = apps.find(folder)
    return found, apps.run_config(found, given)


def _in_memory(
    objects: Objects, given: Mapping[str, Any] | Sequence[str] | None, workers: int | None
) -> tuple[apps.App, dict[str, Any]]:
    kinds = [type(one).__name__ for one in objects]
    if len(objects) != 2 or not isinstance(objects[0], ServerApp) or not isinstance(objects[1], ClientApp):
        raise ConfigError(f"app: expected a folder or (ServerApp, ClientApp), got ({', '.join(kinds)}).")
    if workers:
        raise ConfigError(
            f"workers: expected 0 for an app of objects, got {workers}. Worker processes need its folder."
        )
    if given is not None and not isinstance(given, Mapping):
        raise ConfigError("run_config: expected a mapping for an app of objects: there is no pyproject.toml to check.")
    return apps.App(Path(), "app", "", "", "", ""), flower_private.flat(dict(given or {}))


def _loaded(found: apps.App, side: str) -> Any:
    try:
        return apps.load(found, side)
    except (Exception, SystemExit) as error:
        failure, kind = described(error), "ServerApp" if side == "server" else "ClientApp"
        raise AppError(f"the {kind} cannot be loaded: {failure.line}", failure.trace) from error


def _processors() -> int:
    """Return how many processors this process may use."""
    usable = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable else os.cpu_count() or 1


@contextlib.contextmanager
def _interruptible(desk: Desk) -> Iterator[None]:
    """Let Ctrl-C wake every thread that waits for a reply: `flwr.server` would otherwise wait for all of them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        desk.stop(StoppedError("stopped"))
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _strategy_results() -> Iterator[list[Result]]:
    """Keep what strategies return to the ServerApp, which alone would know it."""
    results: list[Result] = []
    original = Strategy.start

    @functools.wraps(original)
    def start(self: Strategy, *arguments: Any, **named: Any) -> Result:
        result = original(self, *arguments, **named)
        results.append(result)
        return result

    Strategy.start = start  # type: ignore[method-assign]
    try:
        yield results
    finally:
        Strategy.start = original  # type: ignore[method-assign]


def _metrics(result: Result) -> dict[str, dict[int, dict[str, Any]]]:
    tables = {
        "train": result.train_metrics_clientapp,
        "evaluate": result.evaluate_metrics_clientapp,
        "server": result.evaluate_metrics_serverapp,
    }
    return {name: {round_: dict(record) for round_, record in table.items()} for name, table in tables.items() if table}
