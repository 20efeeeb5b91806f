"""Which share of a run's time is spent outside of model and environment: prints one JSON line a config.

    python benchmarks/outside.py configs/quickstart.toml configs/cartpole-ppo.toml --seconds 5

A config is run in one process of one thread (`engine = "serial"`), without evaluation. The clock of the model runs in
gradients (forward and backward), in scoring and evaluating, and while an environment is acted in; that of the optimizer
in the rest of a local step (momentum, moving the parameters), which any training loop has. Everything else is outside:
drawing batches and noise, folding, the server, messages, records, files. Start-up is left out: the first round does not
count. A share is the median of the rounds', of which there are as many as the seconds hold, at least five: what else a
machine does makes single rounds long.
"""

import argparse
import functools
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from fedjourney import batching, config, experiment, updates
from fedjourney.tasks import _control, _policy_gradient, _prediction

CONFIGS = Path(__file__).parents[1] / "configs"
SMALL = (
    *("quickstart", "digits-resnet8", "digits-angle", "digits-verification", "python-topics-lstm", "digits-rows-gru"),
    *("fertility-gru", "cartpole-ppo", "cartpole-open-es", "acrobot-ppo", "sinusoid-maml", "glyphs-prototypes"),
    *("bandits-ppo", "functions-gru", "digits-mps", "digits-circuit", "cluster-qcnn", "ising-shadows"),
    "digits-cnn-genetic",
)
LEAST = 5  # rounds
TIMED = ("outputs", "fitness", "evaluate", "_play")  # methods of tasks; the last one acts in bandits


class Clock:
    """Counts the time in which at least one of the timed functions is under way.

    `optimizer` counts what a local step takes beside it.
    """

    def __init__(self) -> None:
        self.seconds, self.optimizer, self._depth = 0.0, 0.0, 0

    def stepped(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """Return a local step with what it takes beside the timed functions counted."""

        def counted(*arguments: Any) -> Any:
            began, inside = time.perf_counter(), self.seconds
            try:
                return step(*arguments)
            finally:
                self.optimizer += time.perf_counter() - began - (self.seconds - inside)

        return counted

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

        @functools.cache  # else the measure would cost a small client more than folding does
        def counted(update: updates.LocalUpdate) -> updates.LocalUpdate:
            return replace(update, step=clock.stepped(update.step))

        def trained(client: updates.Client, update: updates.LocalUpdate) -> updates.Reply:
            return train(client, counted(update), gradient)

        updates.Client.train = trained  # type: ignore[method-assign, assignment]
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


class Enough(Exception):  # noqa: N818 - nothing is wrong
    """The seconds are over."""


def share(file: Path, seconds: float) -> dict[str, Any]:
    """Run a config; return the shares of time outside and in the optimizer, and a client's milliseconds a round."""
    planned = config.load(str(file), ["experiment.rounds=1000000", "experiment.evaluate_every=0"], engine="serial")
    clock, marks = Clock(), list[tuple[float, float, float]]()
    with tempfile.TemporaryDirectory() as folder, watched(clock), suppress(Enough):
        answered: list[int] = []

        def watch(row: dict[str, Any]) -> None:
            marks.append((time.perf_counter(), clock.seconds, clock.optimizer))
            answered.append(row["clients"]["answered"])
            if len(marks) >= LEAST + 2 and marks[-1][0] - marks[1][0] >= seconds:
                raise Enough

        experiment.run(planned, Path(folder) / "run", watch=watch)
    if not all(answered[1:]):
        raise SystemExit(f"{file}: no client answered in a round, there is nothing to measure")
    rounds = np.diff(np.array(marks[1:]), axis=0)  # [rounds, 3]; the first is start-up
    whole, model, optimizer = rounds.T
    return {
        "config": file.stem,
        "outside": round(float(np.median(1 - (model + optimizer) / whole)), 3),
        "optimizer": round(float(np.median(optimizer / whole)), 3),
        "ms_a_client": round(float(np.median(1e3 * whole / answered[2:])), 3),
        "rounds": len(rounds),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="*", type=Path, help="default: a small one of every task")
    parser.add_argument("--seconds", type=float, default=5.0)
    told = parser.parse_args()
    torch.set_num_threads(1)
    for file in told.configs or [CONFIGS / f"{name}.toml" for name in SMALL]:
        print(json.dumps(share(file, told.seconds)), flush=True)


if __name__ == "__main__":
    main()
