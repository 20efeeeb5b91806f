"""The Flower app of `flower_app/`, by `flwr run` (Flower's simulation on Ray) or by `fedjourney simulate`.

python benchmarks/flower_runs.py WORK.json flwr|simulate     prints one measurement as JSON
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import tomli_w
from work import Work, flower_config, read

APP = Path(__file__).parent / "flower_app"
PATIENCE = 3600.0  # seconds a run may take; whoever measures gives up earlier


def by_flwr(work: Work, config: dict[str, Any]) -> None:
    """Run it as Flower does, one actor a core, with a SuperLink of its own that is ended afterwards."""
    from fedjourney.engines.flower import Simulation

    with Simulation(work.clients, app=APP, processors=work.workers) as superlink:
        superlink.submit(config, "flower_app", timeout=PATIENCE)


def by_simulate(work: Work, config: dict[str, Any]) -> None:
    """Run it as `fedjourney simulate` does."""
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(tomli_w.dumps(config))
        file.flush()
        command = [sys.executable, "-m", "fedjourney.cli", "simulate", str(APP), "--nodes", str(work.clients)]
        command += ["--run-config", file.name, "--workers", str(work.workers), "--json"]
        subprocess.run(command, check=True, stdout=sys.stderr)


def measure(work: Work, how: str) -> dict[str, Any]:
    """Run the app; it notes itself when each round has ended and how many examples were trained on."""
    with tempfile.TemporaryDirectory(prefix="bench-flower-") as temporary:
        result = Path(temporary) / "result.json"
        {"flwr": by_flwr, "simulate": by_simulate}[how](work, flower_config(work, result))
        told = json.loads(result.read_text())
    first, counted = told["samples"][0], told["samples"][work.warmup :]
    return {
        "tracks": [{"stamps": told["stamps"], "samples": min(counted)}],
        "parameters": told["parameters"],
        "note": "" if first == work.samples else f"first round: {first} examples of {work.samples}",
    }


if __name__ == "__main__":
    print(json.dumps(measure(read(sys.argv[1]), sys.argv[2])))
