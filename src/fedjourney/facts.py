"""What a run folder tells of its run: who holds what, on what platform, and what came out."""

import json
import platform
import secrets
import sys
from pathlib import Path
from typing import Any

import flwr
import numpy as np
import torch

import fedjourney
from fedjourney.errors import RunError
from fedjourney.numerics import device_name
from fedjourney.partitions import Cuts
from fedjourney.plan import Plan


def rounds(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of `rounds.jsonl`.

    Raises:
        RunError: one of them is no round.
    """
    path, found = folder / "rounds.jsonl", []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            row = json.loads(line)
            if row["round"] != number - 1 or not isinstance(row["clients"]["failed"], list):
                raise ValueError("another round")
        except (ValueError, LookupError, TypeError) as error:
            said = f"{type(error).__name__}: {error}"
            raise RunError(
                f"{path}:{number}: expected round {number - 1}, got {line[:40]!r} ({said}). Restore it."
            ) from None
        found.append(row)
    return found


def summary(folder: Path, rounds: list[dict[str, Any]], found: str, seconds: float, trained: bool) -> dict[str, Any]:
    """Return what `--json` prints; `trained`: whether the model delivered is another than the one of the start."""
    answered = sum(row["clients"]["answered"] for row in rounds)
    rows, steps = _read_total(folder, "num-examples"), _read_total(folder, "environment-steps")
    return {
        "run": str(folder),
        "digest": found,
        "rounds": rounds[-1]["round"],
        "seconds": round(seconds, 3),
        "trained": trained,
        "test": rounds[-1]["test"],
        "validation": rounds[-1]["validation"],
        "clients_per_second": round(answered / seconds, 2),
        "examples_per_second": round((rows or 0.0) / seconds, 1),
        **({} if steps is None else {"environment_steps": int(steps)}),
        "bytes_up": sum(row["bytes_up"] for row in rounds),
        "bytes_down": sum(row["bytes_down"] for row in rounds),
        "peak_memory_mb": _peak_memory(),
    }


def _peak_memory() -> float | None:
    """Return the most MB this process has held, and None where the system does not tell."""
    if sys.platform == "win32":
        return None
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(most / (1048576 if sys.platform == "darwin" else 1024), 1)


def _read_total(folder: Path, metric: str) -> float | None:
    """Return a metric's sum over rounds and accepted clients (examples they held, steps they took), or None."""
    from pyarrow import parquet

    table = parquet.read_table(folder / "clients.parquet")
    if metric not in table.column_names:
        return None
    return float(sum(value or 0.0 for value in table[metric].to_pylist()))


def of_run(built: Plan) -> dict[str, Any]:
    """Return `run.json` as it stands before the first round: data, parameters, platform, versions."""
    dataset, shapes = built.dataset, built.task.init(0)
    return {
        "finished": False,
        "id": secrets.token_hex(8),  # client machines keep their state under it, over every resume
        "base_dir": str(built.experiment.base_dir),
        "parameters": sum(tensor.numel() for tensor in shapes.values()),
        "personal": built.personal is not None,  # whether clients have models of their own
        "dataset": {
            "name": dataset.name,
            "classes": dataset.classes,
            "fingerprint": dataset.fingerprint,
            "examples": {
                "train": len(dataset.train),
                "validation": len(dataset.validation),
                "test": len(dataset.test),
            },
        },
        "platform": {
            "machine": platform.machine(),
            "system": platform.system(),
            "isa": torch.backends.cpu.get_cpu_capability(),
            "device": device_name(built.numerics.device),
            "dtype": built.experiment["numerics"]["dtype"],
            "threads": built.experiment["numerics"]["threads"],
        },
        "versions": {
            "fedjourney": fedjourney.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "flwr": flwr.__version__,
        },
    }


def holdings(built: Plan) -> dict[str, Any]:
    """Return who holds what: sizes, and counts per class, or per value of the column that decided who holds what.

    Of clients that are made when they are asked for, the first thousand stand for all.
    """
    dealt = isinstance(built.shards, Cuts)
    told = [built.shards[client] for client in range(len(built.shards) if dealt else min(len(built.shards), 1000))]
    kind, names, codes = _kinds(built)
    counts = None
    if 0 < len(names) <= 1000 and len(told) <= 10_000:
        counts = [np.bincount(codes[rows], minlength=len(names)).tolist() for rows in told]
    return {
        "clients": len(built.shards),
        "unseen": built.shards.unseen,  # the last ones; they never train
        "sizes": [len(rows) for rows in told],
        "kind": kind,
        "classes": names if counts else None,
        "counts": counts,
    }


def _kinds(built: Plan) -> tuple[str, list[str], np.ndarray]:
    """Return what examples are told apart by (class, or a column), its values, and the number of each one's [n]."""
    target = next(iter(built.dataset.train.y.values()))
    if target.dim() == 1 and not target.is_floating_point():
        return "class", [str(number) for number in range(built.dataset.classes)], target.numpy()
    by = built.experiment["partition"].get("by", "")
    column = built.dataset.columns.get(by)
    if column is None:
        return "class", [], target.numpy()
    values, codes = np.unique(column, return_inverse=True)
    return by, [f"{by} {value}" if column.dtype.kind in "iu" else str(value) for value in values], codes
