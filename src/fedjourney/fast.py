"""`--fast`: measure on this machine how clients are best computed, once for a machine and a model.

What it chooses decides bits, so it is opt-in, told, and written into the resolved experiment: a resume, or anybody
else who runs that file, makes the same choice. Measuring happens in a process of its own, with the threads of a worker.
"""

import hashlib
import json
import logging
import math
import os
import platform
import subprocess
import sys
import time
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any

from fedjourney.config import Experiment
from fedjourney.environment import worker_environment
from fedjourney.plan import Plan
from fedjourney.storage import cache_dir, write_atomically

_log = logging.getLogger("fedjourney")

CANDIDATES = ((1, False), (1, True), (5, True), (10, True))
"""(lanes, compile); on a CPU lanes pay only when they are compiled."""
ON_ACCELERATORS = ((1, False), *((lanes, compiled) for lanes in (8, 32, 128) for compiled in (False, True)))
"""Where one client cannot fill the chip; the rule's own number is measured beside them."""
BATCHES = 20  # of a client's pass that are measured, at most
TURNS = 5  # the candidates take turns, and the best of each counts: what disturbs a machine passes
SECONDS = 0.3  # that a candidate is measured for in its turn
TIMEOUT = 300.0  # seconds, for the whole measurement
MOST = 20  # clients that are measured; more where the lanes are more
STEPPED = ("batching", "compiler", "kernels", "lanes", "lstm_layers", "products", "stateless", "tensors")  # modules
MARGIN = 1.03  # by which a candidate must beat the one before: less is noise, and plainer is better


def choose(built: Plan, data_root: Path | None) -> Plan:
    """Return the plan with lanes and compilation as they are fastest here.

    The measurement is kept, so that it is made once for machine, model, task, update and numerics.
    """
    experiment = built.experiment
    place = cache_dir() / "fast" / f"{_key(experiment)}.json"
    try:
        measured = json.loads(place.read_text())
    except (OSError, ValueError):
        _log.info("fast: measuring %d ways to compute a client (once for this machine and model) …", len(CANDIDATES))
        measured = _measured(experiment, data_root)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(place, json.dumps(measured, indent=1).encode())
        except OSError:
            pass  # measured again next time
    best = measured[0]
    for other in measured[1:]:
        if other["examples_per_second"] > MARGIN * best["examples_per_second"]:
            best = other
    _log.info("fast: %s", _said(best, measured[0]))
    numerics = experiment["numerics"] | {"lanes": best["lanes"], "compile": best["compile"]}
    return replace(built, experiment=replace(experiment, tables=experiment.tables | {"numerics": numerics}))


def _said(best: dict[str, Any], plain: dict[str, Any]) -> str:
    rate, other = best["examples_per_second"], plain["examples_per_second"]
    chosen = f"lanes = {best['lanes']}, compile = {str(best['compile']).lower()}"
    if best is plain:
        return f"{chosen}: the plain loop is fastest here, {rate:,.0f} examples a second in each worker"
    return f"{chosen}: {rate / other:.2f} times the plain loop's {other:,.0f} examples a second in each worker"


def _key(experiment: Experiment) -> str:
    """Return what a measurement holds for."""
    import torch

    tables = [experiment.tables.get(name) for name in ("data", "model", "task", "update", "strategy")]
    numerics = {key: value for key, value in experiment["numerics"].items() if key not in ("lanes", "compile")}
    machine = [platform.machine(), _processor(), os.cpu_count(), torch.backends.cpu.get_cpu_capability()]
    workers = [experiment.tables.get("engine", {}).get("workers", 0), experiment.tables["experiment"].get("cohort")]
    said = [machine, workers, torch.__version__, _code(), tables, numerics, CANDIDATES]
    return hashlib.sha256(json.dumps(said, default=str, sort_keys=True).encode()).hexdigest()[:32]


def _code() -> str:
    """Return what stands for our own code that a client's steps run through: another is measured anew."""
    here, found = Path(__file__).parent, hashlib.sha256()
    for path in sorted([*(here / f"{name}.py" for name in STEPPED), *(here / "native").iterdir()]):
        if path.is_file():
            found.update(path.read_bytes())
    return found.hexdigest()


def _processor() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    except OSError:
        return platform.processor()


def _measured(experiment: Experiment, data_root: Path | None) -> list[dict[str, Any]]:
    """Measure in a process of its own; the plain loop alone if that fails."""
    told = {"text": experiment.text(), "base_dir": str(experiment.base_dir), "data_root": str(data_root or "")}
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "fedjourney.fast"],
            input=json.dumps(told),
            stdout=subprocess.PIPE,
            text=True,
            timeout=TIMEOUT,
            env=worker_environment(experiment["numerics"]["threads"]),
        )
        found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
        return found
    except subprocess.TimeoutExpired:
        _log.warning("fast: the measurement took more than %.0f s; taking the plain loop", TIMEOUT)
    except (IndexError, ValueError):
        _log.warning("fast: the measurement ended with status %d; taking the plain loop", done.returncode)
    return [{"lanes": 1, "compile": False, "examples_per_second": 0.0}]


def _measurements(built: Plan) -> list[dict[str, Any]]:
    """Return each candidate that agrees with eager, and its examples a second."""
    import torch

    from fedjourney.lanes import Lanes
    from fedjourney.tensors import placed
    from fedjourney.updates import Client, LocalUpdate

    half = built.halves.get("train")
    device, candidates = built.numerics.device, _candidates(built)
    count = min(built.setting.cohort, max(MOST, *(number for number, _ in candidates)))
    plain = {"lanes": 1, "compile": False, "examples_per_second": 0.0}
    if not isinstance(half, LocalUpdate) or not half.passes:
        return [plain]  # clients take no steps: nothing to choose
    shared, most = placed(built.task.init(0), device), BATCHES * int(getattr(built.task, "batch_size", 10))
    shards = [built.shard(index)[0].cut(slice(0, most)) for index in range(count)]
    clients = [Client(i, 1, shared, {}, {}, shard, built.task, 0) for i, shard in enumerate(shards)]

    def once(lanes: Lanes) -> int:
        """Train full groups of clients; return the examples that went through."""
        groups = range(0, count - count % lanes.number, lanes.number)
        for start in groups:
            some = clients[start : start + lanes.number]
            deque(lanes.train(half, some) if lanes.vectorised else (client.train(half) for client in some), maxlen=0)
        return half.passes * sum(map(len, shards[: len(groups) * lanes.number]))

    tried = []
    for number, compiled in candidates:
        lanes = Lanes(replace(built.numerics, lanes=number, compile=compiled))
        try:
            if number <= count and not (once(lanes) and lanes.fell_back):
                tried.append((lanes, {**plain, "lanes": number, "compile": compiled}))
        except torch.OutOfMemoryError:
            _log.warning("fast: %d lanes find no memory on %s", number, device)
    for _ in range(TURNS):
        for lanes, measured in tried:
            began, done = time.perf_counter(), 0
            while (lasted := time.perf_counter() - began) < SECONDS or not done:
                done += once(lanes)
            measured["examples_per_second"] = max(measured["examples_per_second"], round(done / lasted, 1))
    for lanes, measured in tried:
        busy = _busy(built, lanes.number)
        measured["examples_per_second"] = round(busy * measured["examples_per_second"], 1)
    return [measured for _, measured in tried]


def _candidates(built: Plan) -> list[tuple[int, bool]]:
    """Return the ways to try, plainest first; a cohort that is smaller than the lanes cannot fill them."""
    if built.numerics.device.type == "cpu":
        return list(CANDIDATES)
    rule = (built.numerics.lanes, False)
    return sorted({rule, *(one for one in ON_ACCELERATORS if one[0] <= built.setting.cohort)})


def _busy(built: Plan, lanes: int) -> float:
    """Return the share of all workers' lanes that a cohort fills: wide lanes are of no use to one worker alone."""
    from fedjourney.numerics import accelerators

    device, cohort = built.numerics.device, built.setting.cohort
    units = os.cpu_count() if device.type == "cpu" else accelerators(device)
    workers = built.experiment.tables.get("engine", {}).get("workers", 0) or units or 1
    return cohort / (math.ceil(math.ceil(cohort / lanes) / workers) * workers * lanes)


def main() -> None:
    """Read an experiment from standard input, print the measurements."""
    from fedjourney import config
    from fedjourney.plan import plan

    told = json.load(sys.stdin)
    experiment = config.parse(told["text"], base_dir=Path(told["base_dir"]))
    built = plan(experiment, Path(told["data_root"]) if told["data_root"] else None)
    with built.numerics.applied():
        print(json.dumps(_measurements(built)))


if __name__ == "__main__":
    main()
