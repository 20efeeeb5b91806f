"""A run's folder: how it begins, who may write to it, and what it says of its run."""

import contextlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock, Timeout

from fedjourney import config, facts, results
from fedjourney.config import Experiment
from fedjourney.errors import RunError
from fedjourney.plan import Plan
from fedjourney.results import Checkpoint
from fedjourney.seeds import seed_for
from fedjourney.storage import write_atomically
from fedjourney.tensors import Tensors

LOCK = ".lock"
BEGUN = {LOCK, "partition.json", "run.json"}
"""What a folder holds before `experiment.toml` makes it a run's; a kill may leave it so."""


def _lock(folder: Path) -> BaseFileLock:
    """Be the only process that writes to a run; the lock goes with the process, however it ends.

    Raises:
        RunError: another one writes.
        OSError: the folder cannot be written.
    """
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise RunError(f"{folder}: another process is at work on this run. Wait for it, or end it.") from None
    return lock


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Be the only process that writes to a run, meanwhile.

    Raises:
        RunError: another one writes, or the folder cannot be written.
    """
    with results.writing(folder):
        lock = _lock(folder)
    try:
        yield
    finally:
        lock.release()


def create(folder: Path, built: Plan, data_root: Path | None = None) -> None:
    """Make a run folder: who holds what, versions, and at last the resolved experiment.

    Raises:
        RunError: the folder is used already, or cannot be written.
    """
    made = False
    try:
        if folder.exists() and not folder.is_dir():
            raise RunError(f"{folder}: expected a new or empty folder, got a file. Choose another --out.")
        made = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        with _lock(folder):
            if any(path.name not in BEGUN and path.suffix != ".tmp" for path in folder.iterdir()):
                raise RunError(
                    f"{folder}: expected a new or empty folder, got one in use. "
                    f"Choose another --out, or go on with `fedjourney resume {folder}`."
                )
            told = facts.of_run(built) | {"data_dir": None if data_root is None else str(data_root)}
            write_atomically(folder / "partition.json", json.dumps(facts.holdings(built)).encode())
            write_atomically(folder / "run.json", json.dumps(told, indent=1).encode())
            write_atomically(folder / "experiment.toml", built.experiment.text().encode())
    except OSError as error:
        if made:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            _emptied(folder)
        raise RunError(
            f"{folder}: cannot be written ({error.strerror}). Make room or make it writable, or choose another --out."
        ) from None


def _emptied(folder: Path) -> None:
    """Leave a folder that the user made as it was found."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if path.name in BEGUN or path.name.endswith(".tmp"):
                path.unlink()


def told(folder: Path) -> dict[str, Any]:
    """Return what `run.json` tells of a run.

    Raises:
        RunError: it is missing or damaged.
    """
    path = folder / "run.json"
    try:
        found = json.loads(path.read_text())
        if isinstance(found, dict):
            forms = {"id": str, "finished": bool, "base_dir": str, "data_dir": str | None}
            if all(isinstance(found[key], form) for key, form in forms.items()):
                return found
        raise ValueError("other contents")
    except (OSError, ValueError, KeyError) as error:
        raise RunError(
            f"{path}: expected what a run writes there, got {type(error).__name__} ({error}). "
            "Restore it, or start a new run."
        ) from None


def experiment_of(folder: Path) -> Experiment:
    """Return the experiment of a run.

    Raises:
        RunError: there is no run.
    """
    if not (folder / "experiment.toml").is_file():
        raise RunError(f"{folder}: expected a run folder with experiment.toml, found none. Name one of runs/.")
    return config.load(folder / "experiment.toml")


def forget(folder: Path) -> None:
    """Remove what `create` made, where nothing was computed."""
    with contextlib.suppress(OSError):
        (folder / "experiment.toml").unlink()
    _emptied(folder)
    with contextlib.suppress(OSError):
        folder.rmdir()


def fresh(built: Plan) -> Tensors:
    """Return the parameters that a run begins with."""
    return built.task.init(seed_for(built.experiment.seed, "model"))


def begin(built: Plan, folder: Path) -> Checkpoint:
    """Return where to start: fresh parameters (round -1), or the checkpoint, if it belongs to this experiment.

    Raises:
        RunError: configuration or data have changed since the run began.
    """
    bits = json.loads(json.dumps(built.experiment.bits()))
    path = folder / results.CHECKPOINT
    if not path.exists():
        return Checkpoint(-1, fresh(built), {}, bits=bits, fingerprint=built.dataset.fingerprint)
    found = Checkpoint.read(path)
    changed = _differences(found.bits, bits)
    if found.fingerprint != built.dataset.fingerprint:
        changed.append(f"data: {found.fingerprint[:12]}… then, {built.dataset.fingerprint[:12]}… now")
    if changed:
        raise RunError(
            f"{folder}: cannot be resumed, it has changed since it began:\n  " + "\n  ".join(changed) + "\n"
            "Change it back, or start a new run."
        )
    return found


def _differences(then: dict[str, Any], now: dict[str, Any], at: str = "") -> list[str]:
    found = []
    for key in sorted({*then, *now}):
        old, new = then.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            found += _differences(old, new, f"{at}{key}.")
        elif old != new:
            found.append(f"{at}{key}: {old!r} then, {new!r} now")
    return found
