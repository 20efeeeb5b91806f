"""`make bench`: fedjourney and its peers take turns; a table and a chart go into `benchmarks/results/`.

python benchmarks/bench.py [--models lenet mlp] [--rounds 20] [--repetitions 3] [--clients 500] …     (see --help)
"""

import argparse
import contextlib
import importlib.util
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from chart import chart
from machine import busy, machine, versions
from table import SYSTEM_TITLES, markdown, rate, samples
from work import MODELS, Work, prepare

from fedjourney.errors import FedjourneyError

HERE = Path(__file__).parent
PROGRAMS = {
    "ours-fast": ("ours.py", "fast"),
    "ours": ("ours.py", "default"),
    "flower": ("flower_runs.py", "flwr"),
    "pfl-1": ("pfl_loop.py", "1"),
    "pfl-2": ("pfl_loop.py", "2"),
    "bare-eager": ("bare_loop.py", "eager"),
    "bare-compiled": ("bare_loop.py", "compiled"),
    "simulate": ("flower_runs.py", "simulate"),
}
"""What measures each system, in the order of their turns: each a process of its own that prints one object."""
NEEDS = {"flower": "ray", "pfl-1": "pfl", "pfl-2": "pfl"}
NOT_MEASURED = {
    "mlp": {"simulate"},
    "cnn": {"simulate"},
    "lstm": {"pfl-1", "pfl-2", "simulate"},
    "cifar": {"flower", "simulate"},
    "noop": {"pfl-1", "pfl-2", "bare-eager", "bare-compiled", "simulate"},
}
BUSY = 0.1  # share of the machine in other hands from which on we say so
TAIL = 15  # lines of a log that are shown


def main(arguments: list[str] | None = None) -> int:
    """Measure, write; return 1 where something failed, 2 where nothing could be begun."""
    parsed = _parser().parse_args(arguments)
    parsed.out.mkdir(parents=True, exist_ok=True)
    place = parsed.out / "bench.json"
    if parsed.render:
        _write(json.loads(place.read_text()), parsed.out)
        return 0
    told: dict[str, Any] = {
        "made": time.strftime("%Y-%m-%d"),
        "command": shlex.join(["python", "benchmarks/bench.py", *(arguments or sys.argv[1:])]),
        "machine": machine(),
        "versions": versions(),
        "repetitions": parsed.repetitions,
        "works": {},
        "measurements": [],
    }
    sizes = {key: getattr(parsed, key) for key in ("clients", "examples", "cohort", "epochs")}
    common = {key: getattr(parsed, key) for key in ("batch", "learning_rate", "rounds", "warmup", "workers", "device")}
    with tempfile.TemporaryDirectory(prefix="bench-") as temporary:
        scratch = Path(temporary)
        try:
            works = [prepare(model, scratch / model, **sizes, **common) for model in parsed.models]
        except FedjourneyError as error:  # no data, or sizes that do not fit
            print(f"bench: {error}", file=sys.stderr)
            return 2
        for work in works:
            model = work.model
            told["works"][model] = {key: value for key, value in asdict(work).items() if key != "folder"}
            wanted = [name for name in parsed.systems if name not in NOT_MEASURED.get(model, ())]
            missing = {name: why for name in wanted if (why := _missing(name))}
            told["measurements"] += [{"model": model, "system": n, "missing": why} for n, why in missing.items()]
            for repetition in range(parsed.repetitions):
                for name in wanted:
                    if name not in missing:
                        found = _turn(work, name, repetition, scratch, parsed.timeout)
                        told["measurements"].append(_checked(found, work, told["measurements"]))
                        place.write_text(json.dumps(told, indent=1))  # nothing is lost if we are stopped
                        _say(told["measurements"][-1])
    _write(told, parsed.out)
    return 1 if any("error" in one for one in told["measurements"]) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__.splitlines()[0])
    choices = {"nargs": "+", "metavar": "NAME"}
    usual = [name for name in MODELS if name != "cifar"]
    parser.add_argument("--models", choices=MODELS, default=usual, help=f"of {', '.join(MODELS)}", **choices)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="that clients compute on")
    parser.add_argument("--systems", choices=PROGRAMS, default=list(PROGRAMS), help=", ".join(PROGRAMS), **choices)
    parser.add_argument("--repetitions", type=_positive, default=3, help="turns of every system (default: 3)")
    parser.add_argument("--rounds", type=_positive, default=20, help="rounds of a turn that count (default: 20)")
    parser.add_argument("--warmup", type=_positive, default=2, help="rounds before them (default: 2)")
    for name, text in (
        ("clients", "N in all"), ("examples", "of each client"), ("cohort", "clients a round"),
        ("epochs", "passes over a client's examples (default: 1)"),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=_positive, help=text)
    parser.add_argument("--batch", type=_positive, default=10, help="examples a step (default: 10)")
    parser.add_argument("--learning-rate", type=float, default=0.05, help="of local SGD (default: 0.05)")
    parser.add_argument(
        "--workers", type=_positive, default=os.cpu_count() or 1, help="processes (default: a core each)"
    )
    parser.add_argument("--timeout", type=float, default=1800.0, help="seconds a turn may take (default: 1800)")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder (default: benchmarks/results)")
    parser.add_argument(
        "--render", action="store_true", help="measure nothing: write table and chart of bench.json anew"
    )
    return parser


def _positive(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {text}")
    return int(text)


def _missing(name: str) -> str:
    """Return why a system cannot be measured here, or an empty string."""
    if name in NEEDS and importlib.util.find_spec(NEEDS[name]) is None:
        return f'not installed: pip install -c constraints.txt ".[bench]" brings {NEEDS[name]}'
    if name == "simulate":
        asked = [sys.executable, "-m", "fedjourney.cli", "simulate", "--help"]
        if subprocess.run(asked, capture_output=True, check=False).returncode != 0:
            return "not there: this version has no `fedjourney simulate`"
    return ""


def _turn(work: Work, name: str, repetition: int, scratch: Path, timeout: float) -> dict[str, Any]:
    """Measure one system once, in processes of its own, all of which are ended."""
    program, argument = PROGRAMS[name]
    threads = "2" if name == "pfl-2" else "1"
    environment = os.environ | {
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "PYTHONPATH": os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "FEDJOURNEY_CACHE": str(scratch / "cache"),  # so that the first turn of --fast measures, as a user's does
        "TORCHINDUCTOR_CACHE_DIR": str(scratch / "inductor"),
        "TORCHINDUCTOR_COMPILE_THREADS": "1",  # helper processes would stay while we measure
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    if work.device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""  # some take a GPU unasked
    found = {
        "model": work.model,
        "device": work.device,
        "system": name,
        "repetition": repetition,
        "warmup": work.warmup,
        "busy": busy(),
    }
    with (scratch / "log").open("w+") as log:
        command = [sys.executable, str(HERE / program), str(Path(work.folder) / "work.json"), argument]
        found["launched"] = time.monotonic()
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
        )
        try:
            output, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            return found | {"error": f"not done within {timeout:g} s"}
        finally:
            _end(process)
        if process.returncode != 0:
            log.seek(0)
            print("".join(log.readlines()[-TAIL:]), file=sys.stderr)
            return found | {"error": f"ended with status {process.returncode}"}
    return found | json.loads(output.splitlines()[-1])


def _end(process: subprocess.Popen[str]) -> None:
    """End a turn's whole process group; what starts sessions of its own (Flower, our workers) ends with its parent."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
    process.wait()


def _checked(found: dict[str, Any], work: Work, before: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a measurement, with an error where it was not the same work as everybody else's."""
    if "error" in found:
        return found
    known = {m["parameters"] for m in before if m["model"] == work.model and "parameters" in m and "error" not in m}
    if samples(found) != work.samples:
        return found | {"error": f"trained on {samples(found)} examples a round, expected {work.samples}"}
    if any(len(track["stamps"]) != work.total_rounds for track in found["tracks"]):
        return found | {"error": f"expected {work.total_rounds} rounds"}
    if known and found["parameters"] not in known:
        return found | {"error": f"has {found['parameters']} parameters, the others {known.pop()}"}
    return found


def _say(one: dict[str, Any]) -> None:
    what = one.get("error") or f"{rate(one):,.0f} examples a second"
    warning = f"  (the machine was {one['busy']:.0%} busy before)" if (one["busy"] or 0) > BUSY else ""
    print(f"{one['repetition'] + 1}  {one['model']:<6} {SYSTEM_TITLES[one['system']]:<24} {what}{warning}", flush=True)


def _write(told: dict[str, Any], out: Path) -> None:
    (out / "bench.json").write_text(json.dumps(told, indent=1) + "\n")
    (out / "bench.md").write_text(markdown(told))
    (out / "bench.svg").write_text(chart(told["measurements"]))
    print(f"\n{(out / 'bench.md').read_text()}")


if __name__ == "__main__":
    sys.exit(main())
