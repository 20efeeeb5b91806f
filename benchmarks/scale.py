"""How a run grows: a million clients, cohorts of thousands, thousands of rounds, the first line. Prints JSON lines.

    python benchmarks/scale.py                          # all four
    python benchmarks/scale.py population rounds --turns 3

`population`  seconds a round and peak memory of N clients, 100 a round (virtual shards of 60 MNIST images, LeNet);
`cohort`      peak memory of cohorts of 20 and 2,000 on the 1.66 M CNN (ten examples each: memory is what is asked);
`rounds`      memory after 200, 1,000 and 2,000 rounds of quick clients (digits);
`first`       seconds from the command to the first line of a result on the screen (quickstart, no compiler).

Memory is the sum of proportional shares (PSS) over the run's processes, looked at every fifth of a second: what is
shared counts once. Linux only.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tomli_w

MNIST = {"name": "huggingface", "set": "ylecun/mnist", "validation": 0.0}


class Memory(threading.Thread):
    """Looks at the memory of a process and all that it started."""

    def __init__(self, process: int) -> None:
        super().__init__(daemon=True)
        self.process, self.peak, self.now, self._done = process, 0.0, 0.0, threading.Event()

    def run(self) -> None:
        """Look until told to stop."""
        while not self._done.wait(0.2):
            self.now = sum(_pss(one) for one in _family(self.process)) / 1024
            self.peak = max(self.peak, self.now)

    def stop(self) -> float:
        """Return the peak in MiB."""
        self._done.set()
        self.join()
        return round(self.peak, 1)


def _family(process: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            parent = int(Path(f"/proc/{entry}/stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:  # it has ended
            continue
        parents.setdefault(parent, []).append(int(entry))
    found, todo = [], [process]
    while todo:
        found.append(todo.pop())
        todo += parents.get(found[-1], [])
    return found


def _pss(process: int) -> int:
    """Return KiB."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def run(tables: dict[str, dict[str, Any]], at: Sequence[int] = ()) -> dict[str, Any]:
    """Run an experiment; return when each round's line came, peak memory, and memory after the rounds `at`."""
    with tempfile.TemporaryDirectory(prefix="scale-") as folder:
        file = Path(folder) / "scale.toml"
        file.write_text(tomli_w.dumps(tables))
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "fedjourney.cli", "run", str(file), "--json", "--out", f"{folder}/run"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        memory = Memory(process.pid)
        memory.start()
        stamps, seen = list[float](), dict[int, float]()
        for line in process.stdout:
            words = line.split()
            if len(words) > 1 and words[0].isdigit() and words[1].count("/") == 2:
                stamps.append(time.monotonic() - began)
                if int(words[0]) in at:
                    time.sleep(0.5)  # what is looked at is of this round or one soon after
                    seen[int(words[0])] = round(memory.now, 1)
        peak = memory.stop()
        if process.wait():
            raise SystemExit(f"fedjourney ended with status {process.returncode}")
    return {"stamps": stamps, "peak": peak, "seen": seen}


def pace(stamps: Sequence[float]) -> float:
    """Return the median of seconds a round, the first two left out."""
    steps = sorted(later - earlier for earlier, later in itertools.pairwise(stamps[2:]))
    return round(steps[len(steps) // 2], 4)


def tables(model: dict[str, Any], partition: dict[str, Any], cohort: int, rounds: int) -> dict[str, dict[str, Any]]:
    """Return an experiment on MNIST that evaluates at its end alone."""
    return {
        "experiment": {"rounds": rounds, "cohort": cohort, "evaluate_every": 0, "holdout": 0.0},
        "data": MNIST,
        "partition": partition,
        "model": model,
        "update": {"name": "sgd", "learning_rate": 0.05},
    }


def population(turns: int) -> None:
    """The same cohort of ever more clients, by turns."""
    paces: dict[int, list[float]] = {1_000: [], 1_000_000: []}
    for turn in range(turns):
        for count, found in paces.items():
            shards = {"name": "virtual", "clients": count, "examples": 60}
            got = run(tables({"name": "lenet"}, shards, 100, 12))
            found.append(pace(got["stamps"]))
            tell(part="population", turn=turn, clients=count, seconds_a_round=found[-1], peak_mib=got["peak"])
    few, many = paces.values()
    tell(part="population", ratios=[round(b / a, 3) for a, b in zip(few, many, strict=True)])


def cohort(turns: int) -> None:
    """Ever larger cohorts of a large model."""
    for size in (20, 2_000):
        shards = {"name": "virtual", "clients": 100_000, "examples": 10}
        got = run(tables({"name": "cnn"}, shards, size, 2))
        tell(part="cohort", cohort=size, peak_mib=got["peak"])


def rounds(turns: int) -> None:
    """Ever more rounds."""
    quick = tables({"name": "mlp", "hidden": [16]}, {"name": "iid", "clients": 100}, 4, 2_000)
    got = run(quick | {"data": {"name": "digits"}}, at=(200, 1_000, 1_800))
    tell(part="rounds", mib_after=got["seen"], peak_mib=got["peak"])


def first(turns: int) -> None:
    """The first result."""
    for turn in range(turns):
        quickstart = tomllib.loads((Path(__file__).parents[1] / "configs" / "quickstart.toml").read_text())
        quickstart["experiment"]["rounds"] = 3
        got = run(quickstart)
        tell(part="first", turn=turn, seconds=round(got["stamps"][0], 2))


def tell(**words: Any) -> None:
    """Print a line."""
    print(json.dumps(words), flush=True)


PARTS: dict[str, Callable[[int], None]] = {"population": population, "cohort": cohort, "rounds": rounds, "first": first}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--turns", type=int, default=3)
    said = parser.parse_args()
    if strange := set(said.parts) - set(PARTS):
        parser.error(f"expected parts of {', '.join(PARTS)}, got {', '.join(sorted(strange))}")
    for part in said.parts or PARTS:
        PARTS[part](said.turns)
