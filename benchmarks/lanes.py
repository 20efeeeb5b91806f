"""A sweep over lanes: how fast clients are computed, and how busy that keeps the processor or the GPU.

python benchmarks/lanes.py [--model cifar] [--device cuda] [--lanes 1 8 32 128] [--compile]
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import tomli_w
from machine import _ticks, machine
from ours import config
from work import MODELS, Work, prepare

SAMPLE_SECONDS = 0.5


def busy(device: str, stop: threading.Event, found: list[float]) -> None:
    """Note again and again which share of the device is at work, until told to stop."""
    before = _ticks()
    while not stop.wait(SAMPLE_SECONDS):
        if device == "cuda":
            asked = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--id=0"]
            found.append(float(subprocess.run(asked, capture_output=True, text=True, check=True).stdout) / 100)
        else:
            after = _ticks()
            idle, total = (new - old for new, old in zip(after, before, strict=True))
            before = after
            found.append(1 - idle / total if total else 0.0)


def measure(work: Work, lanes: int, compiled: bool) -> dict[str, float | str]:
    """Run `fedjourney run` with so many lanes; return its rate after the warm-up, and how busy the device was."""
    with tempfile.TemporaryDirectory(prefix="lanes-") as temporary:
        file, run = Path(temporary) / "experiment.toml", Path(temporary) / "run"
        said = config(work)
        said["numerics"] |= {"lanes": lanes, "compile": compiled}
        file.write_text(tomli_w.dumps(said))
        command = [sys.executable, "-m", "fedjourney.cli", "run", str(file), "--quiet", "--out", str(run)]
        stop, shares = threading.Event(), list[float]()
        watching = threading.Thread(target=busy, args=(work.device, stop, shares))
        watching.start()
        try:
            done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
        finally:
            stop.set()
            watching.join()
        if done.returncode:
            return {"error": done.stderr.strip().splitlines()[-1]}
        rounds = [json.loads(line) for line in (run / "rounds.jsonl").read_text().splitlines()]
        seconds = sum(row["seconds"] for row in rounds[1 + work.warmup :])
    steady = sorted(shares)[len(shares) // 2] if shares else 0.0
    return {"examples_per_second": work.samples * work.rounds / seconds, "busy": steady}


def main() -> None:
    """Print a line for each number of lanes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=MODELS, default="cifar")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--lanes", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 50])
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--rounds", type=int, default=10)
    parsed = parser.parse_args()
    print(json.dumps(machine()))
    with tempfile.TemporaryDirectory(prefix="lanes-") as scratch:
        sizes = {"batch": 10, "learning_rate": 0.05, "rounds": parsed.rounds, "warmup": 2, "workers": 0}
        work = prepare(parsed.model, Path(scratch) / "work", device=parsed.device, **sizes)
        for lanes in parsed.lanes:
            print(json.dumps({"lanes": lanes, **measure(work, lanes, parsed.compile)}), flush=True)


if __name__ == "__main__":
    main()
