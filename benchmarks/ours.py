"""fedjourney, as a user runs it: `fedjourney run CONFIG --json`, with `--fast` or with its defaults.

python benchmarks/ours.py WORK.json fast|default     prints one measurement as JSON
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import tomli_w
from work import MODELS, Work, read


def config(work: Work) -> dict[str, Any]:
    """Return the experiment: no evaluation, nothing held out."""
    task = "next_character" if work.model == "lstm" else "classification"
    update = {"name": "sgd", "learning_rate": work.learning_rate, "epochs": work.epochs}
    return {
        "experiment": {
            "name": f"bench-{work.model}",
            "rounds": work.total_rounds,
            "cohort": work.cohort,
            "evaluate_every": 0,
            "holdout": 0.0,
        },
        "data": {"name": "work:prepared", "path": work.folder},
        "partition": {"name": "iid", "clients": work.clients},
        "model": MODELS[work.model]["model"],
        "task": {"name": task, "batch_size": work.batch},
        "update": update if work.epochs else {"name": "noop:nothing"},
        "numerics": {"device": work.device},
        "engine": {"name": "local", "workers": work.workers if work.device == "cpu" else 0},
    }


def measure(work: Work, fast: bool) -> dict[str, Any]:
    """Run it; a round has ended when its line is on the screen."""
    with tempfile.TemporaryDirectory(prefix="bench-ours-") as temporary:
        file, run = Path(temporary) / "experiment.toml", Path(temporary) / "run"
        file.write_text(tomli_w.dumps(config(work)))
        command = [sys.executable, "-m", "fedjourney.cli", "run", str(file), "--json", "--out", str(run)]
        process = subprocess.Popen([*command, *(["--fast"] if fast else [])], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        stamps: list[float] = []
        for line in process.stdout:
            words = line.split()
            if len(words) > 1 and words[0].isdigit() and words[1].count("/") == 2:  # round, asked/answered/failed
                stamps.append(time.monotonic())
        if process.wait() != 0:
            raise SystemExit(f"fedjourney ended with status {process.returncode}")
        rounds = [json.loads(line) for line in (run / "rounds.jsonl").read_text().splitlines()][1:]
        answered = {row["clients"]["answered"] for row in rounds}
        told = json.loads((run / "run.json").read_text())
        chosen = [
            line for line in (run / "experiment.toml").read_text().splitlines() if line.startswith(("lanes", "comp"))
        ]
    return {
        "tracks": [{"stamps": stamps, "samples": work.examples * max(work.epochs, 1) * min(answered)}],
        "parameters": told["parameters"],
        "note": ", ".join(chosen),
    }


if __name__ == "__main__":
    print(json.dumps(measure(read(sys.argv[1]), sys.argv[2] == "fast")))
