"""An evolution round's scoring, in lanes and one candidate after the other, turn by turn: prints one JSON line.

    python benchmarks/population.py --model lenet --population 256 --turns 7

A measurement is `--processes` processes of one thread each, one a core, all at work at once. Each is a client that
answers one ask of `open_es`: it makes the noise, scores every candidate on one minibatch, and replies; `lanes` as a run
does it, `bare` with a fitness that calls the model for one candidate after the other (`functional_call`, no gradients).
The rate is candidates a second of wall-clock time over all processes, warm-up and start-up left out. `ratio` is the
median over turns of lanes / bare, each of one turn. `scoring` is the same without the noise, the candidates given.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from typing import Any

SECONDS = 2.0  # that a process measures for, at least


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="lenet")
    parser.add_argument("--population", type=int, default=256)
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--way", choices=["bare", "lanes"], help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.way:
        print(json.dumps(work(told.model, told.population, told.batch, told.way == "bare")))
        return
    found: dict[str, dict[str, list[float]]] = {kind: {"bare": [], "lanes": []} for kind in ("round", "scoring")}
    for _ in range(told.turns):
        for way in ("bare", "lanes"):
            for kind, rate in measured(told, way).items():
                found[kind][way].append(rate)
    result: dict[str, Any] = {key: getattr(told, key) for key in ("model", "population", "batch", "processes")}
    for kind, rates in found.items():
        ratios = [lanes / bare for bare, lanes in zip(rates["bare"], rates["lanes"], strict=True)]
        result[kind] = {**rates, "ratios": ratios, "ratio": round(statistics.median(ratios), 3)}
    print(json.dumps(result))


def measured(told: argparse.Namespace, way: str) -> dict[str, float]:
    """Return candidates a second over all processes: of whole rounds, and of scoring alone."""
    command = [sys.executable, __file__, "--way", way, "--model", told.model]
    command += ["--population", str(told.population), "--batch", str(told.batch)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    working = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(told.processes)
    ]
    rates = [json.loads(process.communicate()[0]) for process in working]
    return {kind: round(sum(rate[kind] for rate in rates), 1) for kind in rates[0]}


def work(model: str, population: int, batch_size: int, bare: bool) -> dict[str, float]:
    """Return one process's candidates a second."""
    import torch

    from fedjourney import plugins
    from fedjourney.data import Examples
    from fedjourney.strategies import Setting
    from fedjourney.tasks import Signature
    from fedjourney.tensors import Tensors
    from fedjourney.updates import Client

    torch.set_num_threads(1)
    signature = Signature({"image": (1, 28, 28)}, {"label": ()}, 10)
    table = plugins.resolve("model", {"name": model})
    task = plugins.build(
        "task",
        plugins.resolve("task", {"name": "classification", "batch_size": batch_size}),
        lambda: plugins.build("model", table, signature),
        signature,
        torch.float32,
    )
    draw = torch.Generator().manual_seed(0)
    shard = Examples(
        {"image": torch.rand(60, 1, 28, 28, generator=draw)}, {"label": torch.randint(10, (60,), generator=draw)}
    )

    class Bare:
        """The task, scoring one candidate after the other."""

        def fitness(self, candidates: Tensors, shard: Examples, seed: int) -> torch.Tensor:
            batch, count = next(iter(task.batches({}, shard, seed))), len(next(iter(candidates.values())))
            with torch.no_grad():
                losses = [task.loss({name: t[i] for name, t in candidates.items()}, batch) for i in range(count)]
            return -torch.stack(losses)

    strategy = plugins.resolve("strategy", {"name": "open_es", "population": population})
    half = plugins.build("strategy", strategy, Setting(0, 10, 10)).halves(task, None)["train"]
    scorer: Any = Bare() if bare else task
    params = task.init(0)
    client = Client(0, 1, params, {}, {}, shard, scorer, 0)
    noise = {name: torch.randn(population, *t.shape, generator=draw) for name, t in params.items()}
    candidates = {name: t + 0.05 * noise[name] for name, t in params.items()}
    return {
        "round": rate(lambda number: half(replace(client, round=number)), population),
        "scoring": rate(lambda number: scorer.fitness(candidates, shard, number), population),
    }


def rate(once: Any, population: int) -> float:
    """Return candidates a second, after one warm-up."""
    once(0)
    began, done = time.perf_counter(), 0
    while (lasted := time.perf_counter() - began) < SECONDS or not done:
        done += 1
        once(done)
    return population * done / lasted


if __name__ == "__main__":
    main()
