"""Which share of a run's time is spent outside of model and environment: prints one JSON line a config.

    python benchmarks/outside.py configs/quickstart.toml configs/cartpole-ppo.toml --rounds 5

A config is run in one process of one thread (`engine = "serial"`), without evaluation. The clock of the model runs in
gradients (forward and backward), in scoring and evaluating, and while an environment is acted in; everything else is
outside: drawing batches and noise, the update's own arithmetic, folding, the server, messages, records, files. Start-up
is left out: the first round does not count.
"""

import argparse
import functools
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from fedjourney import batching, config, experiment, updates
from fedjourney.tasks import _control, _policy_gradient, _prediction

TIMED = ("outputs", "fitness", "evaluate", "_play")  # methods of tasks; the last one acts in bandits


class Clock:
    """Counts the time in which at least one of the timed functions is under way."""

    def __init__(self) -> None:
        self.seconds, self._depth = 0.0, 0

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with its time counted."""

        @functools.wraps(function)
        def counted(*arguments: Any, **named: Any) -> Any:
            began, self._depth = time.perf_counter(), self._depth + 1
            try:
                return function(*arguments, **named)
            finally:
                self._depth -= 1
                if not self._depth:
                    self.seconds += time.perf_counter() - began

        return counted


@contextmanager
def watched(clock: Clock) -> Iterator[None]:
    """Time all that computes with a model or an environment."""
    parts = [(kind, name) for kind in _tasks() for name in TIMED if name in vars(kind)]
    with mock.patch.object(_control, "rollout", clock.timed(_control.rollout)):
        gradient, train = clock.timed(batching.gradient), updates.Client.train
        before = [(kind, name, vars(kind)[name]) for kind, name in parts]
        for kind, name, function in before:
            setattr(kind, name, clock.timed(function))
        updates.Client.train = lambda self, update, gradient=gradient: train(self, update, gradient)  # type: ignore[method-assign]
        try:
            yield
        finally:
            updates.Client.train = train  # type: ignore[method-assign]
            for kind, name, function in before:
                setattr(kind, name, function)


def _tasks() -> list[type[Any]]:
    """Return every class of a task whose module is imported here."""
    found: list[type[Any]] = [_prediction.PerExample, _policy_gradient.PolicyGradient]
    for kind in found:
        found += [one for one in kind.__subclasses__() if one not in found]
    return found


def share(file: Path, rounds: int) -> dict[str, Any]:
    """Run a config; return the share of time outside, and the milliseconds of a client's round."""
    planned = config.load(
        str(file), [f"experiment.rounds={rounds + 2}", "experiment.evaluate_every=0"], engine="serial"
    )
    clock, marks = Clock(), list[tuple[float, float]]()
    with tempfile.TemporaryDirectory() as folder, watched(clock):
        began: list[float] = []

        def watch(row: dict[str, Any]) -> None:
            marks.append((time.perf_counter(), clock.seconds))
            began.append(row["clients"]["answered"])

        experiment.run(planned, Path(folder) / "run", watch=watch)
    # the last round evaluates: it is left out, as well as the first
    (start, inside), (end, until) = marks[1], marks[-2]
    whole, clients = end - start, sum(began[2:-1])
    return {
        "config": file.stem,
        "outside": round(1 - (until - inside) / whole, 3),
        "ms_a_client": round(1e3 * whole / max(clients, 1), 3),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    told = parser.parse_args()
    torch.set_num_threads(1)
    for file in told.configs:
        print(json.dumps(share(file, told.rounds)), flush=True)


if __name__ == "__main__":
    main()
